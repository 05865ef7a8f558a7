package remote_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/tests/remote"
)

// TestMutants holds the lines about processes to theirs: each fails on servers that share something between processes, and do
// it wrongly.
func TestMutants(t *testing.T) {
	t.Parallel()
	const soon, late = time.Millisecond, time.Hour
	outboxes := func(line, name string, change func(m *outbox)) {
		hunt(t, estest.OutboxLines(), line, name, harness[es.Outbox]{role: (*remote.Client).Outbox, change: once(func(b *backend) {
			change(&b.outbox)
		})})
	}
	outboxes("O2/processes_do_each_entry_once", "takes the first completion for a release", func(m *outbox) {
		var lied atomic.Bool
		m.complete = func(ctx context.Context, o es.Outbox, entries []es.Entry) error {
			if len(entries) > 0 && lied.CompareAndSwap(false, true) {
				return o.Release(ctx, entries)
			}
			return o.Complete(ctx, entries)
		}
	})
	outboxes("O2/processes_do_each_entry_once", "has leases that end at once", leasing(soon))
	outboxes("O2/a_killed_process_loses_nothing", "has leases that end at once", leasing(soon))
	outboxes("O2/a_killed_process_loses_nothing", "has leases that never end", leasing(late))
	outboxes("O2/a_killed_process_loses_nothing", "does not count the ends of leases", func(m *outbox) {
		m.claim = func(ctx context.Context, o es.Outbox, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := o.Claim(ctx, dst, opts)
			for i := range dst[:n] {
				dst[i].Attempt = 1
			}
			return n, err
		}
	})
	outboxes("O1/enqueued_survives_kill_9", "stores a call when others have come", func(m *outbox) {
		const others = 4 // one would not do: it may have come, unacknowledged, when the process is killed
		var mu sync.Mutex
		var kept [][]*es.Message
		m.enqueue = func(ctx context.Context, o es.Outbox, msgs []*es.Message) error {
			mu.Lock()
			defer mu.Unlock()
			if kept = append(kept, msgs); len(kept) <= others {
				return nil
			}
			first := kept[0]
			kept = kept[1:]
			return o.Enqueue(ctx, first...)
		}
	})
	outboxes("O1/enqueued_survives_kill_9", "stores a call in the wrong order", func(m *outbox) {
		m.enqueue = func(ctx context.Context, o es.Outbox, msgs []*es.Message) error {
			return errors.Join(o.Enqueue(ctx, msgs[1:]...), o.Enqueue(ctx, msgs[0]))
		}
	})

	dedupes := func(line, name string, change func(m *dedupe)) {
		hunt(t, estest.DedupeLines(), line, name, harness[es.Dedupe]{role: (*remote.Client).Dedupe, change: once(func(b *backend) {
			change(&b.dedupe)
		})})
	}
	dedupes("R6/one_of_many_processes_is_new", "calls new what is busy", func(m *dedupe) { m.busy = es.ReserveNew })
	dedupes("R6/one_of_many_processes_is_new", "calls done what is busy", func(m *dedupe) { m.busy = es.ReserveDone })
	dedupes("R6/a_killed_process_leaves_a_reservation_that_ends", "has leases that end at once", func(m *dedupe) { m.lease = soon })
	dedupes("R6/a_killed_process_leaves_a_reservation_that_ends", "has leases that never end", func(m *dedupe) { m.lease = late })

	leased := func(line, name string, change func(m *leases)) {
		hunt(t, estest.LeasesLines(), line, name, harness[es.Leases]{role: (*remote.Client).Leases, change: once(func(b *backend) {
			change(&b.leases)
		})})
	}
	leased("J7/one_of_many_processes_holds_it", "lets all of them hold it", func(m *leases) { m.shared = true })
	leased("J7/one_of_many_processes_holds_it", "gives the same token again", func(m *leases) { m.token = 1 })
	leased("J7/taken_over_after_kill_9", "gives the same token again", func(m *leases) { m.token = 1 })
	leased("J7/taken_over_after_kill_9", "has leases that end at once", func(m *leases) { m.ttl = soon })
	leased("J7/taken_over_after_kill_9", "has leases that never end", func(m *leases) { m.ttl = late })

	models := func(line, name string, commit func(ctx context.Context, r es.ReadModels, c es.Commit) error) {
		hunt(t, estest.ReadModelsLines(), line, name, harness[es.ReadModels]{
			role: (*remote.Client).ReadModels, change: once(func(b *backend) { b.models.commit = commit }),
		})
	}
	models("J2/processes_apply_each_event_once", "compares no checkpoint", func(ctx context.Context, r es.ReadModels, c es.Commit) error {
		now, err := r.Progress(ctx, c.Progress.Projection)
		c.Progress.From = now
		return errors.Join(err, r.Commit(ctx, c))
	})
	models("J2/processes_apply_each_event_once", "takes a conflict for done", func(ctx context.Context, r es.ReadModels, c es.Commit) error {
		if err := r.Commit(ctx, c); !errors.Is(err, es.ErrConflict) {
			return err
		}
		return nil
	})
}

// backend is a backend with roles that go wrong.
type backend struct {
	es.Backend

	outbox outbox
	dedupe dedupe
	leases leases
	models models
}

func (b *backend) Outbox() es.Outbox         { return b.outbox }
func (b *backend) Dedupe() es.Dedupe         { return b.dedupe }
func (b *backend) Leases() es.Leases         { return b.leases }
func (b *backend) ReadModels() es.ReadModels { return b.models }

// once makes what is wrong once for all connections: it is wrong with the server.
func once(wrong func(b *backend)) func(es.Backend) es.Backend {
	var b backend
	wrong(&b)
	return func(sound es.Backend) es.Backend {
		each := b
		each.Backend = sound
		each.outbox.Outbox, each.dedupe.Dedupe = sound.Outbox(), sound.Dedupe()
		each.leases.Leases, each.models.ReadModels = sound.Leases(), sound.ReadModels()
		return &each
	}
}

type outbox struct {
	es.Outbox

	enqueue  func(ctx context.Context, o es.Outbox, msgs []*es.Message) error
	claim    func(ctx context.Context, o es.Outbox, dst []es.Entry, opts es.ClaimOptions) (int, error)
	complete func(ctx context.Context, o es.Outbox, entries []es.Entry) error
}

func (m outbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	if m.enqueue == nil {
		return m.Outbox.Enqueue(ctx, msgs...)
	}
	return m.enqueue(ctx, m.Outbox, msgs)
}

func (m outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if m.claim == nil {
		return m.Outbox.Claim(ctx, dst, opts)
	}
	return m.claim(ctx, m.Outbox, dst, opts)
}

func (m outbox) Complete(ctx context.Context, entries []es.Entry) error {
	if m.complete == nil {
		return m.Outbox.Complete(ctx, entries)
	}
	return m.complete(ctx, m.Outbox, entries)
}

// leasing has claims with another lease than the one that is asked for, which they tell of.
func leasing(lease time.Duration) func(m *outbox) {
	return func(m *outbox) {
		m.claim = func(ctx context.Context, o es.Outbox, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			asked := time.Now().Add(opts.Lease)
			opts.Lease = lease
			n, err := o.Claim(ctx, dst, opts)
			for i := range dst[:n] {
				dst[i].Deadline = asked
			}
			return n, err
		}
	}
}

type dedupe struct {
	es.Dedupe

	busy  es.ReserveState // what it calls busy
	lease time.Duration   // other than the one that is asked for
}

func (m dedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	asked := time.Now().Add(lease)
	if m.lease > 0 {
		lease = m.lease
	}
	err := m.Dedupe.Reserve(ctx, group, rs, lease)
	for i := range rs {
		if m.busy != 0 && rs[i].State == es.ReserveBusy {
			rs[i].State = m.busy
		}
		if m.lease > 0 {
			rs[i].Until = asked
		}
	}
	return err
}

type leases struct {
	es.Leases

	shared bool          // others may hold it as well
	token  int64         // the only one
	ttl    time.Duration // other than the one that is asked for
}

func (m leases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	asked := time.Now().Add(ttl)
	if m.ttl > 0 {
		ttl = m.ttl
	}
	l, err := m.Leases.Acquire(ctx, name, owner, ttl)
	if m.shared && errors.Is(err, es.ErrLeaseHeld) {
		l, err = es.Lease{Name: name, Owner: owner, Token: 1, Until: asked}, nil
	}
	if m.token > 0 && err == nil {
		l.Token = m.token
	}
	if m.ttl > 0 {
		l.Until = asked
	}
	return l, err
}

type models struct {
	es.ReadModels

	commit func(ctx context.Context, r es.ReadModels, c es.Commit) error
}

func (m models) Commit(ctx context.Context, c es.Commit) error { return m.commit(ctx, m.ReadModels, c) }

// hunt fails t unless a line fails on a harness.
func hunt[R any](t *testing.T, lines []estest.Line[estest.Harness[R]], name, what string, h estest.Harness[R]) {
	t.Helper()
	t.Run(name+"/"+what, func(t *testing.T) {
		t.Parallel() // most of the time is spent on waiting for what does not come
		for _, line := range lines {
			if line.Name == name {
				said := outcome(t, line, h)
				for again := 0; again < 2 && said == ""; again++ { // a machine that stands still can hide a fault of time
					said = outcome(t, line, h)
				}
				if said == "" {
					t.Fatalf("line %s passes on a server that %s", name, what)
				} else {
					t.Logf("caught: %s", said)
				}
				return
			}
		}
		t.Fatalf("there is no line %s", name)
	})
}

// outcome runs a line with a stand-in for the test, and returns what the line said when it failed.
func outcome[H any](t *testing.T, line estest.Line[H], h H) string {
	t.Helper()
	var said string
	t.Run("line", func(t *testing.T) { // so that what the line leaves to the end of the test is done before this returns
		s := &standIn{TB: t}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			line.Run(s, h)
		}()
		<-ended
		said = s.said
	})
	return said
}

// standIn takes the place of a test, to see whether a line fails. The lines fail by Fatalf and Errorf alone, in a goroutine of
// their own.
type standIn struct {
	testing.TB

	said string
}

// Patience is short: who never gets something is waited for in vain.
func (*standIn) Patience() time.Duration { return 3 * time.Second }

func (s *standIn) Errorf(format string, args ...any) { s.said = fmt.Sprintf(format, args...) }

func (s *standIn) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

func (s *standIn) Fatal(args ...any) { s.Fatalf("%s", fmt.Sprint(args...)) }
