package estest_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// outboxMutant is an outbox with calls that go wrong: those that are set.
type outboxMutant struct {
	es.Outbox
	events es.EventStore

	enqueue  func(ctx context.Context, msgs []*es.Message) error
	claim    func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error)
	complete func(ctx context.Context, entries []es.Entry) error
	fail     func(ctx context.Context, entries []es.Entry, f es.Failure) error
	release  func(ctx context.Context, entries []es.Entry) error
	extend   func(ctx context.Context, entries []es.Entry) error
	wait     func(ctx context.Context) error
	stats    func(ctx context.Context) (es.OutboxStats, error)
	letters  func(ctx context.Context) iter.Seq2[es.DeadEntry, error]
	replay   func(ctx context.Context, ids []uuid.UUID) error
	discard  func(ctx context.Context, ids []uuid.UUID) error
	forward  func(ctx context.Context, entries []es.Entry) []es.Outcome
}

func (m *outboxMutant) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	if m.enqueue != nil {
		return m.enqueue(ctx, msgs)
	}
	return m.Outbox.Enqueue(ctx, msgs...)
}

func (m *outboxMutant) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if m.claim != nil {
		return m.claim(ctx, dst, opts)
	}
	return m.Outbox.Claim(ctx, dst, opts)
}

func (m *outboxMutant) Complete(ctx context.Context, entries []es.Entry) error {
	if m.complete != nil {
		return m.complete(ctx, entries)
	}
	return m.Outbox.Complete(ctx, entries)
}

func (m *outboxMutant) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	if m.fail != nil {
		return m.fail(ctx, entries, f)
	}
	return m.Outbox.Fail(ctx, entries, f)
}

func (m *outboxMutant) Release(ctx context.Context, entries []es.Entry) error {
	if m.release != nil {
		return m.release(ctx, entries)
	}
	return m.Outbox.Release(ctx, entries)
}

func (m *outboxMutant) Extend(ctx context.Context, entries []es.Entry) error {
	if m.extend != nil {
		return m.extend(ctx, entries)
	}
	return m.Outbox.Extend(ctx, entries)
}

func (m *outboxMutant) Wait(ctx context.Context) error {
	if m.wait != nil {
		return m.wait(ctx)
	}
	return m.Outbox.Wait(ctx)
}

func (m *outboxMutant) Stats(ctx context.Context) (es.OutboxStats, error) {
	if m.stats != nil {
		return m.stats(ctx)
	}
	return m.Outbox.Stats(ctx)
}

func (m *outboxMutant) DeadLetters(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
	if m.letters != nil {
		return m.letters(ctx)
	}
	return m.Outbox.DeadLetters(ctx)
}

func (m *outboxMutant) Replay(ctx context.Context, ids ...uuid.UUID) error {
	if m.replay != nil {
		return m.replay(ctx, ids)
	}
	return m.Outbox.Replay(ctx, ids...)
}

func (m *outboxMutant) Discard(ctx context.Context, ids ...uuid.UUID) error {
	if m.discard != nil {
		return m.discard(ctx, ids)
	}
	return m.Outbox.Discard(ctx, ids...)
}

func (m *outboxMutant) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	if m.forward != nil {
		return m.forward(ctx, entries)
	}
	return m.sound(ctx, entries)
}

// sound forwards as the outbox in memory does.
func (m *outboxMutant) sound(ctx context.Context, entries []es.Entry) []es.Outcome {
	forwarder, _ := m.Outbox.(es.Forwarder) // the one in memory is
	return forwarder.Forward(ctx, entries)
}

type forwardMutant struct{ *mutantStorage[es.Outbox] }

func (s forwardMutant) OpenForwarder(t testing.TB, namespace string) (es.Outbox, es.EventStore) {
	t.Helper()
	outbox, b := s.open(t, memory.Config{Namespace: namespace})
	return outbox, b.Events()
}

// outboxWith is a harness whose handles share what change keeps for one storage.
func outboxWith(fault storageFault, change func() func(m *outboxMutant)) estest.Harness[es.Outbox] {
	return roleMutant[es.Outbox]{
		role: (*memory.Backend).Outbox, fault: fault,
		wrap: func() func(es.Outbox, *memory.Backend) es.Outbox {
			each := change()
			return func(o es.Outbox, b *memory.Backend) es.Outbox {
				m := &outboxMutant{Outbox: o, events: b.Events()}
				if each != nil {
					each(m)
				}
				return m
			}
		},
		with: func(s *mutantStorage[es.Outbox]) estest.Storage[es.Outbox] { return forwardMutant{s} },
	}
}

// outboxHunt collects the mutants of an outbox.
type outboxHunt struct {
	mutants []mutant[estest.Harness[es.Outbox]]
}

func (h *outboxHunt) add(line, name string, change func(m *outboxMutant)) {
	h.shared(line, name, func() func(m *outboxMutant) { return change })
}

func (h *outboxHunt) shared(line, name string, change func() func(m *outboxMutant)) {
	h.mutants = append(h.mutants, mutant[estest.Harness[es.Outbox]]{line, name, outboxWith(noFault, change)})
}

func (h *outboxHunt) fault(line, name string, fault storageFault) {
	none := func() func(m *outboxMutant) { return nil }
	h.mutants = append(h.mutants, mutant[estest.Harness[es.Outbox]]{line, name, outboxWith(fault, none)})
}

// claiming changes each entry that is claimed.
func claiming(change func(e *es.Entry, opts es.ClaimOptions)) func(m *outboxMutant) {
	return func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := m.Outbox.Claim(ctx, dst, opts)
			for i := range dst[:n] {
				change(&dst[i], opts)
			}
			return n, err
		}
	}
}

// claimed changes the message of each entry that is claimed.
func claimed(change func(m *es.Message)) func(m *outboxMutant) {
	return claiming(func(e *es.Entry, _ es.ClaimOptions) {
		e.Message = e.Clone()
		change(e.Message)
	})
}

// leasing changes the terms of a claim.
func leasing(change func(opts *es.ClaimOptions)) func(m *outboxMutant) {
	return func(m *outboxMutant) {
		m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			change(&opts)
			return m.Outbox.Claim(ctx, dst, opts)
		}
	}
}

// failing changes what becomes of an entry that failed.
func failing(change func(f *es.Failure)) func(m *outboxMutant) {
	return func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			change(&f)
			return m.Outbox.Fail(ctx, entries, f)
		}
	}
}

// counting changes the stats.
func counting(change func(s *es.OutboxStats)) func(m *outboxMutant) {
	return func(m *outboxMutant) {
		m.stats = func(ctx context.Context) (es.OutboxStats, error) {
			s, err := m.Outbox.Stats(ctx)
			change(&s)
			return s, err
		}
	}
}

// showing changes the dead letters.
func showing(change func(letters []es.DeadEntry) []es.DeadEntry) func(m *outboxMutant) {
	return func(m *outboxMutant) {
		m.letters = func(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
			return func(yield func(es.DeadEntry, error) bool) {
				var letters []es.DeadEntry
				for e, err := range m.Outbox.DeadLetters(ctx) {
					if err != nil {
						yield(es.DeadEntry{}, err)
						return
					}
					letters = append(letters, e)
				}
				for _, e := range change(letters) {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

// streamsAs keeps messages under other streams than theirs, and hands them out under their own.
func streamsAs(other func(stream string, n int) string) func() func(m *outboxMutant) {
	return func() func(m *outboxMutant) {
		var mu sync.Mutex
		own := map[uuid.UUID]string{}
		return func(m *outboxMutant) {
			m.enqueue = func(ctx context.Context, msgs []*es.Message) error {
				mu.Lock()
				defer mu.Unlock()
				for i, msg := range msgs {
					if own[msg.ID] == "" {
						own[msg.ID] = msg.Stream
					}
					msgs[i] = msg.Clone()
					msgs[i].Stream = other(msg.Stream, len(own))
				}
				return m.Outbox.Enqueue(ctx, msgs...)
			}
			claimed(func(msg *es.Message) {
				mu.Lock()
				defer mu.Unlock()
				msg.Stream = own[msg.ID]
			})(m)
		}
	}
}

// entryWise leases entries and not streams, as SKIP LOCKED does.
func entryWise() func(m *outboxMutant) {
	return streamsAs(func(stream string, n int) string { return fmt.Sprint(stream, "#", n) })()
}

// oneQueue has all entries in one queue, where one that fails holds up all the others.
func oneQueue() func(m *outboxMutant) {
	return streamsAs(func(string, int) string { return "one" })()
}

// hidingErr hides an error of one of the calls.
func hidingErr(call string, hidden error) func(m *outboxMutant) {
	hide := func(err error) error { return without(hidden, err) }
	return func(m *outboxMutant) {
		o := m.Outbox
		switch call {
		case "enqueue":
			m.enqueue = func(ctx context.Context, msgs []*es.Message) error { return hide(o.Enqueue(ctx, msgs...)) }
		case "claim":
			m.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
				n, err := o.Claim(ctx, dst, opts)
				return n, hide(err)
			}
		case "complete":
			m.complete = func(ctx context.Context, entries []es.Entry) error { return hide(o.Complete(ctx, entries)) }
		case "fail":
			m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
				return hide(o.Fail(ctx, entries, f))
			}
		case "release":
			m.release = func(ctx context.Context, entries []es.Entry) error { return hide(o.Release(ctx, entries)) }
		case "extend":
			m.extend = func(ctx context.Context, entries []es.Entry) error { return hide(o.Extend(ctx, entries)) }
		case "wait":
			m.wait = func(ctx context.Context) error { return hide(o.Wait(ctx)) }
		case "stats":
			m.stats = func(ctx context.Context) (es.OutboxStats, error) {
				s, err := o.Stats(ctx)
				return s, hide(err)
			}
		case "dead letters":
			m.letters = func(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
				return func(yield func(es.DeadEntry, error) bool) {
					for e, err := range o.DeadLetters(ctx) {
						if hide(err) != err || !yield(e, err) { //nolint:errorlint // hide returns it as it is, or nil
							return
						}
					}
				}
			}
		case "replay":
			m.replay = func(ctx context.Context, ids []uuid.UUID) error { return hide(o.Replay(ctx, ids...)) }
		case "discard":
			m.discard = func(ctx context.Context, ids []uuid.UUID) error { return hide(o.Discard(ctx, ids...)) }
		}
	}
}

// countsFailuresAlone does not count the ends of leases among the attempts.
func countsFailuresAlone() func(m *outboxMutant) {
	var mu sync.Mutex
	failures := map[uuid.UUID]int{}
	return func(m *outboxMutant) {
		m.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range entries {
				failures[e.ID]++
			}
			return m.Outbox.Fail(ctx, entries, f)
		}
		claiming(func(e *es.Entry, _ es.ClaimOptions) {
			mu.Lock()
			defer mu.Unlock()
			e.Attempt = 1 + failures[e.ID]
		})(m)
	}
}

// replayAsNew puts dead letters back at the end.
func replayAsNew(m *outboxMutant) {
	m.replay = func(ctx context.Context, ids []uuid.UUID) error {
		var msgs []*es.Message
		for e, err := range m.Outbox.DeadLetters(ctx) {
			if err != nil {
				return err
			}
			if slices.Contains(ids, e.ID) {
				msgs = append(msgs, e.Message)
			}
		}
		if err := m.Outbox.Discard(ctx, ids...); err != nil {
			return err
		}
		return m.Outbox.Enqueue(ctx, msgs...)
	}
}

// idOneByOne makes a call for each ID, in order, and forgives those that are not there.
func idOneByOne(call func(ctx context.Context, ids ...uuid.UUID) error) func(ctx context.Context, ids []uuid.UUID) error {
	return func(ctx context.Context, ids []uuid.UUID) error {
		var last error
		for _, id := range ids {
			if err := call(ctx, id); err != nil {
				last = err
			}
		}
		return last
	}
}

// cutAtNUL is what is left of data in a text column of C.
func cutAtNUL(data []byte) []byte {
	before, _, _ := strings.Cut(string(data), "\x00")
	return []byte(before)
}
