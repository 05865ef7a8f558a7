package sqlite_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// benchPayload is 256 bytes of JSON.
func benchPayload() []byte { return fmt.Appendf(nil, `{"text":"%0245d"}`, 1) }

func openBench(b *testing.B) *sqlite.DB {
	b.Helper()
	db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(b.TempDir(), "bench.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db
}

// BenchmarkEventStoreAppend appends single events of 256 bytes from several goroutines, each to 16 streams of its own, every one of
// them synced.
func BenchmarkEventStoreAppend(b *testing.B) {
	for _, goroutines := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			store := openBench(b).Events()
			payload := benchPayload()
			b.SetParallelism(max(1, goroutines/runtime.GOMAXPROCS(0)))
			var worker atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			work := func(pb *testing.PB) {
				streams := make([]string, 16)
				for i := range streams {
					streams[i] = fmt.Sprintf("order-%d-%d", worker.Add(1), i)
				}
				for i := 0; pb.Next(); i++ {
					stream := streams[i%len(streams)]
					if _, err := store.Append(b.Context(), es.AppendTo(stream, es.Any, es.NewMessage(stream, "OrderPlaced", payload))); err != nil {
						b.Error(err)
						return
					}
				}
			}
			if goroutines > 1 {
				b.RunParallel(work)
				return
			}
			for i := range b.N {
				stream := fmt.Sprintf("order-%d", i%16)
				if _, err := store.Append(b.Context(), es.AppendTo(stream, es.Any, es.NewMessage(stream, "OrderPlaced", payload))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill appends events of 256 bytes, 500 at a time, to so many streams in turn.
func fill(b *testing.B, store es.EventStore, n, streams int) {
	b.Helper()
	payload := benchPayload()
	for made := 0; made < n; {
		var as []es.Append
		for range min(500, n-made) {
			stream := fmt.Sprintf("order-%d", made%streams)
			as = append(as, es.AppendTo(stream, es.Any, es.NewMessage(stream, "OrderPlaced", payload)))
			made++
		}
		for _, o := range store.AppendEach(b.Context(), as) {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
	}
}

// BenchmarkEventStoreRead reads from a log of 100,000 events, 1,000 of them in each stream; the time is that of one event.
func BenchmarkEventStoreRead(b *testing.B) {
	const stored, streams = 100_000, 100
	store := openBench(b).Events()
	fill(b, store, stored, streams)
	for _, bench := range []struct {
		name  string
		query es.Query
	}{
		{"all", es.Query{}},
		{"reverse", es.Query{Reverse: true}},
		{"stream", es.Query{Stream: "order-7"}},
		{"stream-of-10", es.Query{Stream: "order-7", Limit: 10}},
		{"category", es.Query{Category: "order"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; {
				for m, err := range store.Read(b.Context(), bench.query) {
					if err != nil || m == nil {
						b.Fatal(err)
					}
					if n++; n == b.N {
						break
					}
				}
			}
		})
	}
}
