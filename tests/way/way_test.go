// Package way_test sends messages the whole way of the toolkit, from the outbox to a read model.
package way_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

var messages = flag.Int("messages", 20_000, "how many messages go the whole way; `make million` sends 1,000,000")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	streams = 1000
	payload = 256
	window  = 20_000 // how far the sender is ahead of the handler at most: the outbox has no bound of its own
	slack   = 48 << 20
)

// TestWholeWay sends messages through outbox, processor, event store, pub/sub, router, middleware and a projection. Each has its
// effect once, in the order of its stream; at the end the heap is no larger than that of a store which was only appended to, and
// no goroutine is left.
func TestWholeWay(t *testing.T) {
	before := heap()
	events := memory.New()
	appendOnly(t, events.Events())
	baseline := heap() - before
	runtime.KeepAlive(events)

	before = heap()
	began := time.Now()
	w := newWay(t)
	w.run(t)
	took := time.Since(began)
	w.check(t)
	used := heap() - before
	runtime.KeepAlive(w)

	t.Logf("%d messages the whole way in %v, %.0f a second", *messages, took.Round(time.Millisecond), float64(*messages)/took.Seconds())
	t.Logf("heap: %d MiB for the events alone, %d MiB with all that they went through", baseline>>20, used>>20)
	if used > baseline+slack {
		t.Errorf("the heap holds %d MiB more than the events, at most %d are allowed for bounded buffers", (used-baseline)>>20, slack>>20)
	}
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one empties the pools, the second one frees what was in them
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func message(i int) *es.Message {
	data := make([]byte, payload)
	binary.BigEndian.PutUint64(data, uint64(i/streams))
	m := es.NewMessage(fmt.Sprintf("account-%d", i%streams), "Deposited", data)
	m.ContentType = "application/octet-stream"
	return m
}

func appendOnly(t *testing.T, store es.EventStore) {
	t.Helper()
	for i := range *messages {
		m := message(i)
		m.CorrelationID = m.ID.String()
		if _, err := store.Append(t.Context(), es.AppendTo(m.Stream, es.Any, m)); err != nil {
			t.Fatal(err)
		}
	}
}

// way is everything that a message passes.
type way struct {
	backend *memory.Backend
	pubsub  *memory.PubSub
	group   *es.Group

	mu      sync.Mutex
	next    map[string]uint64 // the number that each stream has to bring next
	handled atomic.Int64
	room    chan struct{} // has something in it when the handler has come forward
}

func newWay(t *testing.T) *way {
	t.Helper()
	backend, err := memory.Open(memory.Config{DedupeEntries: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	pubsub, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w := &way{backend: backend, pubsub: pubsub, next: map[string]uint64{}, room: make(chan struct{}, 1)}
	forward, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events(), Publisher: pubsub})
	if err != nil {
		t.Fatal(err)
	}
	handle, err := router.New(router.Config{Subscriber: pubsub, Emit: router.ToOutbox(backend.Outbox())})
	if err != nil {
		t.Fatal(err)
	}
	err = handle.Use(
		middleware.Logging(middleware.LoggingConfig{}),
		middleware.Metrics(middleware.MetricsConfig{Recorder: &middleware.Counters{}}),
		middleware.Retry(middleware.RetryConfig{}),
		middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{}),
		middleware.Recover(middleware.RecoverConfig{}),
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := handle.Route("account", es.HandlerFunc(w.project), router.Options{Concurrency: 4}); err != nil {
		t.Fatal(err)
	}
	w.group = es.NewGroup("way", handle, forward)
	return w
}

// project keeps the newest deposit of each account, and fails for one that comes out of turn.
func (w *way) project(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	number := binary.BigEndian.Uint64(d.Data)
	w.mu.Lock()
	want := w.next[d.Stream]
	w.next[d.Stream] = number + 1
	w.mu.Unlock()
	if number != want {
		return nil, es.DeadLetter(fmt.Errorf("message %d of %s came when %d was due", number, d.Stream, want))
	}
	write := es.Write{Model: "accounts", Key: d.Stream, Data: d.Data}
	if err := w.backend.ReadModels().Commit(ctx, es.Commit{Writes: []es.Write{write}}); err != nil {
		return nil, err
	}
	w.handled.Add(1)
	select {
	case w.room <- struct{}{}:
	default:
	}
	return nil, nil
}

func (w *way) run(t *testing.T) {
	t.Helper()
	if err := w.group.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	batch := make([]*es.Message, 0, 100)
	for i := range *messages {
		m := message(i)
		m.CorrelationID = m.ID.String()
		if batch = append(batch, m); len(batch) < cap(batch) && i < *messages-1 {
			continue
		}
		w.await(t, int64(i-window))
		if err := w.backend.Outbox().Enqueue(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
		batch = batch[:0]
	}
	w.await(t, int64(*messages))
	if err := w.group.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.pubsub.Close(); err != nil {
		t.Fatal(err)
	}
}

// await returns when so many messages were handled.
func (w *way) await(t *testing.T, handled int64) {
	t.Helper()
	const patience = time.Minute // without any progress
	for w.handled.Load() < handled {
		select {
		case <-w.room:
		case <-w.group.Done():
			t.Fatalf("it ended: %v", w.group.Err())
		case <-time.After(patience):
			t.Fatalf("nothing was handled for %v; %d of %d were", patience, w.handled.Load(), *messages)
		}
	}
}

func (w *way) check(t *testing.T) {
	t.Helper()
	if got := w.handled.Load(); got != int64(*messages) {
		t.Errorf("%d messages had their effect %d times", *messages, got)
	}
	head, err := w.backend.Events().Head(t.Context())
	if err != nil || head.Position < int64(*messages) {
		t.Errorf("the event store ends at %d: %v", head.Position, err)
	}
	for m, err := range w.backend.Events().Read(t.Context(), es.Query{Stream: "dead", Limit: 1}) {
		t.Errorf("there is a dead letter: %s, %v", m.Data, err)
	}
	stats, err := w.backend.Outbox().Stats(t.Context())
	if err != nil || stats.Depth != 0 || stats.Dead != 0 {
		t.Errorf("the outbox is left with %+v, %v", stats, err)
	}
	docs, err := w.backend.ReadModels().List(t.Context(), es.ListQuery{Model: "accounts", Limit: 2 * streams})
	if err != nil || len(docs) != min(streams, *messages) {
		t.Errorf("the read model has %d documents, %v", len(docs), err)
	}
}
