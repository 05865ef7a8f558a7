package router

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// treadmill is a subscription that costs as little as there can be: it gives the same batch again and again, until it has given
// so many messages.
type treadmill struct {
	batch []es.Delivery
	left  atomic.Int64
	acked atomic.Int64
	total int64
	done  chan struct{}
}

func newTreadmill(keys, total int) *treadmill {
	tm := &treadmill{total: int64(total), done: make(chan struct{})}
	tm.left.Store(int64(total))
	for i := range DefaultBatch {
		m := message(fmt.Sprintf("order-%d", i%keys), "Ordered")
		tm.batch = append(tm.batch, es.Delivery{Message: m, Topic: "order", Group: "order", Attempt: 1})
	}
	return tm
}

func (tm *treadmill) Subscribe(context.Context, string, es.SubscribeOptions) (es.Subscription, error) {
	return tm, nil
}

func (tm *treadmill) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	n := min(int64(len(dst)), tm.left.Load())
	if n <= 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	tm.left.Add(-n)
	return copy(dst[:n], tm.batch), nil
}

func (tm *treadmill) Ack(_ context.Context, ds []es.Delivery) error {
	if tm.acked.Add(int64(len(ds))) == tm.total {
		close(tm.done)
	}
	return nil
}

func (*treadmill) Nack(context.Context, []es.Delivery, time.Duration) error { return nil }
func (*treadmill) Release(context.Context, []es.Delivery) error             { return nil }
func (*treadmill) Extend(context.Context, []es.Delivery) error              { return nil }
func (*treadmill) Close() error                                             { return nil }

// dedupe is a memory of handled messages that costs about as much as a real one in memory: a lock and a map. What it has done it
// forgets, so that the same message can come again.
type dedupe struct {
	mu   sync.Mutex
	seen map[uuid.UUID]es.ReserveState
}

func (d *dedupe) Reserve(_ context.Context, _ string, rs []es.Reservation, _ time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range rs {
		d.seen[rs[i].ID] = es.ReserveBusy
		rs[i].State = es.ReserveNew
	}
	return nil
}

func (d *dedupe) Complete(_ context.Context, _ string, rs []es.Reservation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range rs {
		d.seen[rs[i].ID] = es.ReserveDone
	}
	return nil
}

func (*dedupe) Extend(context.Context, string, []es.Reservation, time.Duration) error { return nil }
func (*dedupe) Release(context.Context, string, []es.Reservation) error               { return nil }

// chains are the middleware that is measured.
func chains() map[string][]es.Middleware {
	return map[string][]es.Middleware{
		"bare": nil,
		"five": {
			middleware.Logging(middleware.LoggingConfig{Logger: slog.New(slog.DiscardHandler)}),
			middleware.Metrics(middleware.MetricsConfig{}),
			middleware.Retry(middleware.RetryConfig{}),
			middleware.Dedupe(&dedupe{seen: map[uuid.UUID]es.ReserveState{}}, middleware.DedupeConfig{}),
			middleware.Recover(middleware.RecoverConfig{}),
		},
	}
}

func tread(tb testing.TB, total, workers, keys int, chain []es.Middleware) {
	tb.Helper()
	tm := newTreadmill(keys, total)
	r, err := New(Config{Subscriber: tm})
	if err != nil {
		tb.Fatal(err)
	}
	h := es.HandlerFunc(nothing)
	if err := r.Route("order", h, Options{Concurrency: workers, Middleware: chain}); err != nil {
		tb.Fatal(err)
	}
	if err := r.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	<-tm.done
	if err := r.Stop(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkRouter is the time from one message to the next, of batches of 256, with a handler that does nothing.
func BenchmarkRouter(b *testing.B) {
	for _, name := range []string{"bare", "five"} {
		for _, workers := range []int{1, 4} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, workers), func(b *testing.B) {
				chain := chains()[name]
				b.ReportAllocs()
				b.ResetTimer()
				tread(b, b.N, workers, 64, chain)
			})
		}
	}
}

// BenchmarkOn is what it costs to find the case of a message among three, to decode its JSON, and to call the handler.
func BenchmarkOn(b *testing.B) {
	types := itemTypes()
	h := Switch(
		On(types, func(context.Context, removed, *es.Delivery) ([]*es.Message, error) { return nil, nil }),
		On(types, func(context.Context, added, *es.Delivery) ([]*es.Message, error) { return nil, nil }),
		DeadLetterOthers(),
	)
	m, err := types.Encode("item-1", added{Count: 7})
	if err != nil {
		b.Fatal(err)
	}
	d := &es.Delivery{Message: m, Attempt: 1}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Handle(context.Background(), d); err != nil {
			b.Fatal(err)
		}
	}
}
