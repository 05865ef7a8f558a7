package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/router"
)

const shipping = "shipping"

// TestRoutersOnALog lets several processes share the messages of a topic, each with a router of one group on a log of its own,
// over one storage. Handlers fail, take long and give up; routers are stopped and started, and processes killed. Nothing is lost:
// each message is handled, or is a dead letter that comes back when it is replayed. Those of a key are handled in order, one at a
// time, and what was handled comes again after a crash only.
func TestRoutersOnALog(t *testing.T) { //nolint:paralleltest // it changes a flag for a while
	fewer(t)
	synctest.Test(t, func(t *testing.T) {
		// Behind an interface, because rapid asks a *testing.T for its deadline, which is none of fake time.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			f := newFleet(t)
			defer f.stopAll()
			f.disturb()
			f.settle()
		})
	})
}

// order is a message and what is to become of it.
type order struct {
	id       uuid.UUID
	key      int
	failures int // before the handler succeeds, in its first life
	refused  bool
	takes    time.Duration

	calls   int
	handled int
	letters int // it was given up as often, and replayed unless it is the last time
	by      *ship
}

// done tells whether the messages that follow may be handled.
func (o *order) done() bool { return o.handled > 0 || o.letters > 0 }

// ship is a process with a router.
type ship struct {
	backend *memory.Backend
	log     *eventlog.Log
	router  *router.Router
	sunk    bool // it was killed: nothing that it does can be seen any more
}

// fleet is the processes, and what is known of the messages.
type fleet struct {
	t       *rapid.T
	storage *memory.Storage
	config  eventlog.Config
	options router.Options

	mu       sync.Mutex
	ships    []*ship
	orders   []*order
	byID     map[uuid.UUID]*order
	crashed  bool // what was handled may come again
	breaches []string
}

const tries = 3

func newFleet(t *rapid.T) *fleet {
	f := &fleet{t: t, storage: memory.NewStorage(), byID: map[uuid.UUID]*order{}}
	f.config = eventlog.Config{
		Partitions: rapid.IntRange(1, 5).Draw(t, "partitions"),
		Window:     rapid.SampledFrom([]int{1, 3, 256}).Draw(t, "window"),
		Lease:      3 * time.Second,
	}
	f.options = router.Options{
		Name: shipping, Concurrency: rapid.IntRange(1, 3).Draw(t, "concurrency"), Batch: rapid.IntRange(1, 8).Draw(t, "batch"),
		Lease: 2 * time.Second, Start: es.Start{Kind: es.StartBeginning},
	}
	for range rapid.IntRange(1, 3).Draw(t, "processes") {
		f.ships = append(f.ships, f.launch())
	}
	return f
}

func (f *fleet) ok(err error) {
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) open() *memory.Backend {
	b, err := memory.Open(memory.Config{Storage: f.storage})
	f.ok(err)
	return b
}

func (f *fleet) launch() *ship {
	s := &ship{backend: f.open()}
	var err error
	s.log, err = eventlog.New(s.backend, f.config)
	f.ok(err)
	s.router, err = router.New(router.Config{
		Subscriber: s.log, MaxAttempts: tries, Grace: time.Second,
		DeadLetter: func(ctx context.Context, msgs []*es.Message) error {
			return f.bury(s, msgs, router.ToEventStore(s.backend.Events())(ctx, msgs))
		},
	})
	f.ok(err)
	handler := es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) { return nil, f.handle(ctx, s, d) })
	f.ok(s.router.Route(topic, handler, f.options))
	f.ok(s.router.Start(context.Background()))
	return s
}

func (f *fleet) breachf(format string, args ...any) {
	f.breaches = append(f.breaches, fmt.Sprintf(format, args...))
}

func (f *fleet) publish(n int) {
	publisher := f.ships[0].backend.Events()
	for range n {
		key := rapid.IntRange(1, 4).Draw(f.t, "key")
		m := es.NewMessage(fmt.Sprintf("%s-%d", topic, key), "Noted", fmt.Appendf(nil, "%d", len(f.orders)))
		o := &order{
			id: m.ID, key: key,
			failures: rapid.SampledFrom([]int{0, 0, 0, 1, 2, tries}).Draw(f.t, "failures"),
			refused:  rapid.IntRange(0, 9).Draw(f.t, "fate") == 0,
			takes:    rapid.SampledFrom([]time.Duration{0, time.Millisecond, 700 * time.Millisecond, 5 * time.Second}).Draw(f.t, "takes"),
		}
		f.mu.Lock()
		f.orders = append(f.orders, o)
		f.byID[o.id] = o
		f.mu.Unlock()
		_, err := publisher.Append(context.Background(), es.AppendTo(m.Stream, es.Any, m))
		f.ok(err)
	}
}

// handle is the handler. What a process that was killed still does is not seen by anybody.
func (f *fleet) handle(ctx context.Context, s *ship, d *es.Delivery) error {
	o, what := f.begin(s, d)
	if o == nil {
		return errors.New("the process was killed")
	}
	select {
	case <-time.After(o.takes):
	case <-ctx.Done():
		what = context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.sunk {
		return what
	}
	o.by = nil
	if what == nil {
		o.handled++
	}
	return what
}

// begin notes that a message is being handled, and returns how that is to end.
func (f *fleet) begin(s *ship, d *es.Delivery) (*order, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.byID[d.ID]
	if s.sunk || o == nil {
		return nil, nil //nolint:nilnil // nothing is to be done
	}
	switch {
	case d.Topic != topic || d.Group != shipping:
		f.breachf("message %s came from topic %q for group %q", d.Data, d.Topic, d.Group)
	case d.Attempt > tries:
		f.breachf("message %s came to the handler as attempt %d", d.Data, d.Attempt)
	case o.handled > 0 && !f.crashed:
		f.breachf("message %s was handled, and came again", d.Data)
	}
	for i, other := range f.orders {
		if other.key != o.key {
			continue
		}
		if other.by != nil {
			f.breachf("message %s was begun while message %d of its key was being handled", d.Data, i)
		}
		if other == o {
			break
		}
		if !other.done() {
			f.breachf("message %s was begun before message %d of its key was handled or given up", d.Data, i)
		}
	}
	o.by = s
	o.calls++
	switch {
	case o.letters > 0:
		return o, nil // it was replayed
	case o.refused:
		return o, es.DeadLetter(errors.New("refused"))
	case o.calls <= o.failures:
		return o, fmt.Errorf("failure %d", o.calls)
	}
	return o, nil
}

// bury notes a dead letter that was sent.
func (f *fleet) bury(s *ship, letters []*es.Message, err error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || s.sunk {
		return err
	}
	for _, letter := range letters {
		id, err := uuid.Parse(letter.CausationID)
		o := f.byID[id]
		if err != nil || o == nil {
			f.breachf("a dead letter was caused by %q", letter.CausationID)
			continue
		}
		o.letters++
		if !o.refused && o.failures < tries && !f.crashed {
			f.breachf("message %d of key %d was given up after %d calls", o.calls, o.key, o.calls)
		}
	}
	return nil
}

// disturb publishes, and stops, kills and starts processes.
func (f *fleet) disturb() {
	f.publish(rapid.IntRange(1, 8).Draw(f.t, "first messages"))
	for range rapid.IntRange(0, 5).Draw(f.t, "events") {
		time.Sleep(rapid.SampledFrom([]time.Duration{
			0, time.Millisecond, 300 * time.Millisecond, 1300 * time.Millisecond, 6 * time.Second,
		}).Draw(f.t, "pause"))
		i := rapid.IntRange(0, len(f.ships)-1).Draw(f.t, "process")
		switch rapid.SampledFrom([]string{"publish", "stop", "kill", "launch"}).Draw(f.t, "event") {
		case "publish":
			f.publish(rapid.IntRange(1, 8).Draw(f.t, "messages"))
		case "stop":
			f.stop(f.ships[i])
			f.ships[i] = f.launch()
		case "kill":
			f.kill(f.ships[i])
			f.ships[i] = f.launch()
		case "launch":
			if len(f.ships) < 4 {
				f.ships = append(f.ships, f.launch())
			}
		}
	}
}

// stop ends a process in order.
func (f *fleet) stop(s *ship) {
	if err := s.router.Stop(context.Background()); !errors.Is(err, context.DeadlineExceeded) { // handlers were broken off
		f.ok(err)
	}
	f.ok(s.log.Close())
	f.ok(s.backend.Close())
}

// kill ends a process at once. What it had in memory goes on for a moment, and reaches nobody.
func (f *fleet) kill(s *ship) {
	f.mu.Lock()
	s.sunk, f.crashed = true, true
	for _, o := range f.orders {
		if o.by == s {
			o.by = nil
		}
	}
	err := s.backend.Close() // before a handler that is not noted any more can be acknowledged
	f.mu.Unlock()
	f.ok(err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.router.Stop(ctx)
	_ = s.log.Close()
}

func (f *fleet) stopAll() {
	for _, s := range f.ships {
		_ = s.router.Stop(context.Background())
		_ = s.log.Close()
		_ = s.backend.Close()
	}
}

// settle waits until everything is handled or given up, replays the dead letters, and looks at what has become of it all.
func (f *fleet) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	f.await(ctx, topic)
	events := f.ships[0].backend.Events()
	letters, err := deadletter.New(deadletter.Config{Events: events})
	f.ok(err)
	if _, err := letters.ReplayAll(ctx, deadletter.Filter{Topic: topic, Group: shipping}); err != nil {
		f.t.Fatalf("replay the dead letters: %v", err)
	}
	f.await(ctx, es.ReplayTopic(topic, shipping))
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, o := range f.orders {
		if o.handled == 0 {
			f.breachf("message %d of key %d was lost after %d calls; it was a dead letter %d times", i, o.key, o.calls, o.letters)
		}
		if o.handled > 1 && !f.crashed {
			f.breachf("message %d of key %d was handled %d times", i, o.key, o.handled)
		}
	}
	if len(f.breaches) > 0 {
		f.t.Fatal(f.breaches)
	}
}

// await waits until the group has handled all that a topic has.
func (f *fleet) await(ctx context.Context, of string) {
	head, err := f.ships[0].backend.Events().Head(ctx)
	f.ok(err)
	for {
		info, err := f.ships[0].log.Group(ctx, of, shipping)
		f.mu.Lock()
		breaches := f.breaches
		f.mu.Unlock()
		switch {
		case err != nil || len(breaches) > 0:
			f.t.Fatalf("the group of topic %q stands at %+v, %v; %v", of, info, err, breaches)
		case info.Mark.Position >= head.Position:
			return
		}
		time.Sleep(time.Second) // of fake time
	}
}
