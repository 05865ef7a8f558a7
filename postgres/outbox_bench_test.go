package postgres_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// benchDB opens a store on a server of its own, which syncs as one does in production.
func benchDB(b *testing.B) *postgres.DB {
	b.Helper()
	s := pgserver.ForTest(b, pgserver.Config{})
	name, err := s.CreateDatabase(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return openDB(b, postgres.Config{URL: s.URL(name)})
}

// benchOutboxPayload is JSON of 256 bytes.
func benchOutboxPayload() []byte { return fmt.Appendf(nil, `{"text":"%0245d"}`, 7) }

// BenchmarkOutboxEnqueue enqueues single messages of 256 bytes from several goroutines, each to a stream of its own, every one of them
// synced.
func BenchmarkOutboxEnqueue(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			outbox, payload := benchDB(b).Outbox(), benchOutboxPayload()
			b.SetParallelism(max(1, goroutines/runtime.GOMAXPROCS(0)))
			var made atomic.Int64
			enqueue := func() bool {
				stream := fmt.Sprintf("order-%d", made.Add(1))
				err := outbox.Enqueue(b.Context(), es.NewMessage(stream, "OrderPlaced", payload))
				if err != nil {
					b.Error(err)
				}
				return err == nil
			}
			b.ReportAllocs()
			b.ResetTimer()
			if goroutines == 1 {
				for b.Loop() {
					if !enqueue() {
						return
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if !enqueue() {
						return
					}
				}
			})
		})
	}
}

// BenchmarkOutboxEnqueueBatch enqueues messages of 256 bytes, 100 in a call; the time is that of one message.
func BenchmarkOutboxEnqueueBatch(b *testing.B) {
	outbox := benchDB(b).Outbox()
	b.ReportAllocs()
	b.ResetTimer()
	fillOutbox(b, outbox, b.N, 100)
}

// fillOutbox enqueues messages of 256 bytes, 100 in a call, to so many streams in turn.
func fillOutbox(b *testing.B, outbox es.Outbox, n, streams int) {
	b.Helper()
	payload := benchOutboxPayload()
	for made := 0; made < n; {
		msgs := make([]*es.Message, min(100, n-made))
		for i := range msgs {
			msgs[i] = es.NewMessage(fmt.Sprintf("order-%d", made%streams), "OrderPlaced", payload)
			made++
		}
		if err := outbox.Enqueue(b.Context(), msgs...); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOutboxClaimComplete claims 100 messages and completes them in one call, or forwards them, again and again; the time is that of
// one message.
func BenchmarkOutboxClaimComplete(b *testing.B) {
	for _, streams := range []int{1, 10, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			outbox := benchDB(b).Outbox()
			drainOutbox(b, outbox, streams, func(ctx context.Context, entries []es.Entry) error { return outbox.Complete(ctx, entries) })
		})
	}
	b.Run("forward", func(b *testing.B) {
		outbox := benchDB(b).Outbox()
		forwarder, _ := outbox.(es.Forwarder)
		drainOutbox(b, outbox, 100, func(ctx context.Context, entries []es.Entry) error {
			for _, o := range forwarder.Forward(ctx, entries) {
				if o.Err != nil {
					return o.Err
				}
			}
			return nil
		})
	})
}

// drainOutbox enqueues b.N messages, and claims and answers them.
func drainOutbox(b *testing.B, outbox es.Outbox, streams int, answer func(ctx context.Context, entries []es.Entry) error) {
	b.Helper()
	const batch = 100
	dst := make([]es.Entry, batch)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		b.StopTimer()
		stored := min(100*batch, b.N-done)
		fillOutbox(b, outbox, stored, streams)
		b.StartTimer()
		for stored > 0 {
			n, err := outbox.Claim(b.Context(), dst, es.ClaimOptions{Owner: "A"})
			if err != nil || n == 0 {
				b.Fatalf("claimed %d: %v", n, err)
			}
			if err := answer(b.Context(), dst[:n]); err != nil {
				b.Fatal(err)
			}
			stored -= n
			done += n
		}
	}
}

// BenchmarkOutboxProcessors has several processors work on one outbox, each claiming 20 messages of many streams at a time; the time is
// that of one message.
func BenchmarkOutboxProcessors(b *testing.B) {
	for _, processors := range []int{1, 8} {
		b.Run(fmt.Sprintf("processors=%d", processors), func(b *testing.B) {
			outbox := benchDB(b).Outbox()
			fillOutbox(b, outbox, b.N, 1000)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range processors {
				wg.Go(func() {
					dst := make([]es.Entry, 20)
					for left.Load() > 0 {
						n, err := outbox.Claim(b.Context(), dst, es.ClaimOptions{Owner: strconv.Itoa(i)})
						if err == nil && n > 0 {
							err = outbox.Complete(b.Context(), dst[:n])
						}
						if err != nil {
							b.Error(err)
							return
						}
						left.Add(int64(-n))
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkOutboxPoll claims where there is nothing to claim, in an outbox of 10,000 streams that are in hand.
func BenchmarkOutboxPoll(b *testing.B) {
	for _, streams := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			outbox := benchDB(b).Outbox()
			fillOutbox(b, outbox, streams, max(1, streams))
			dst := make([]es.Entry, 100)
			for left := streams; left > 0; {
				n, err := outbox.Claim(b.Context(), dst, es.ClaimOptions{Owner: "A", Lease: time.Hour})
				if err != nil || n == 0 {
					b.Fatalf("claimed %d: %v", n, err)
				}
				left -= n
			}
			b.ReportAllocs()
			for b.Loop() {
				if n, err := outbox.Claim(b.Context(), dst, es.ClaimOptions{Owner: "A"}); n != 0 || err != nil {
					b.Fatalf("claimed %d: %v", n, err)
				}
			}
		})
	}
}

// BenchmarkOutboxStats looks at an outbox of 100,000 entries.
func BenchmarkOutboxStats(b *testing.B) {
	outbox := benchDB(b).Outbox()
	fillOutbox(b, outbox, 100_000, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if s, err := outbox.Stats(b.Context()); s.Depth != 100_000 || err != nil {
			b.Fatalf("%+v, %v", s, err)
		}
	}
}
