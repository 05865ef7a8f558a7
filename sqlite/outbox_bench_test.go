package sqlite_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// BenchmarkOutboxEnqueue enqueues single messages of 256 bytes from several goroutines, each to a stream of its own, every one of
// them synced.
func BenchmarkOutboxEnqueue(b *testing.B) {
	for _, goroutines := range []int{1, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			outbox, payload := openBench(b).Outbox(), benchPayload()
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
	outbox := openBench(b).Outbox()
	b.ReportAllocs()
	b.ResetTimer()
	fillOutbox(b, outbox, b.N, 100)
}

// fillOutbox enqueues messages of 256 bytes, 100 in a call, to so many streams in turn.
func fillOutbox(b *testing.B, outbox es.Outbox, n, streams int) {
	b.Helper()
	payload := benchPayload()
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

// BenchmarkOutboxClaimComplete claims 100 messages and completes them in one call, again and again; the time is that of one message.
func BenchmarkOutboxClaimComplete(b *testing.B) {
	for _, streams := range []int{1, 10, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			const batch = 100
			outbox := openBench(b).Outbox()
			dst := make([]es.Entry, batch)
			b.ReportAllocs()
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
					if err := outbox.Complete(b.Context(), dst[:n]); err != nil {
						b.Fatal(err)
					}
					stored -= n
					done += n
				}
			}
		})
	}
}

// BenchmarkOutboxPoll claims where there is nothing to claim.
func BenchmarkOutboxPoll(b *testing.B) {
	outbox := openBench(b).Outbox()
	dst := make([]es.Entry, 100)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := outbox.Claim(b.Context(), dst, es.ClaimOptions{Owner: "A"}); n != 0 || err != nil {
			b.Fatalf("claimed %d: %v", n, err)
		}
	}
}

// BenchmarkOutboxStats looks at an outbox of 100,000 entries.
func BenchmarkOutboxStats(b *testing.B) {
	outbox := openBench(b).Outbox()
	fillOutbox(b, outbox, 100_000, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		if s, err := outbox.Stats(b.Context()); s.Depth != 100_000 || err != nil {
			b.Fatalf("%+v, %v", s, err)
		}
	}
}
