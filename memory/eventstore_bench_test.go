package memory_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// benchPayload is 256 bytes of JSON.
func benchPayload() []byte { return fmt.Appendf(nil, `{"text":"%0245d"}`, 1) }

// eventMaker makes the events of one goroutine of a benchmark out of one message, which the store copies. Making IDs and
// timestamps would cost more than appending.
type eventMaker struct {
	message es.Message
	append  es.Append
	streams []string
	worker  int
	made    int
}

func newEventMaker(worker, streams int) *eventMaker {
	e := &eventMaker{worker: worker, message: *es.NewMessage("", "OrderPlaced", benchPayload())}
	e.append = es.AppendTo("", es.Any, &e.message)
	for i := range streams {
		e.streams = append(e.streams, fmt.Sprintf("order-%d-%d", worker, i))
	}
	return e
}

// next returns an append of one event. It is good until the following call.
func (e *eventMaker) next() es.Append {
	binary.BigEndian.PutUint64(e.message.ID[8:], uint64(e.made)<<8|uint64(e.worker))
	e.message.Stream = e.streams[e.made%len(e.streams)]
	e.append.Streams[0].Stream = e.message.Stream
	e.made++
	return e.append
}

// tagged gives the events that follow two tags, with a condition over them, as a decision has that has just read both.
func (e *eventMaker) tagged(head int64) {
	e.message.Tags = []string{fmt.Sprintf("student:%d", e.worker), "course:101"}
	e.append.Unless = []es.Condition{{Match: []es.Criterion{{Tags: e.message.Tags}}, After: head}}
}

// fill appends events by one goroutine.
func (e *eventMaker) fill(b *testing.B, store es.EventStore, n int) {
	b.Helper()
	for range n {
		if _, err := store.Append(b.Context(), e.next()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEventStoreAppend appends single events of 256 bytes from several goroutines, each to 16 streams of its own. The
// conditional ones stand under a condition over two tags, one of which everybody uses; they are to take little longer, and no
// longer on a million events than on ten thousand.
func BenchmarkEventStoreAppend(b *testing.B) {
	for _, goroutines := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			benchmarkAppend(b, memory.New().Events(), goroutines, func(*eventMaker, int64) {})
		})
	}
	for _, stored := range []int{10_000, 1_000_000} {
		store := memory.New().Events()
		before := newEventMaker(0, 1000)
		before.message.Tags = []string{"student:0", "course:101"}
		before.fill(b, store, stored)
		b.Run(fmt.Sprintf("conditional/stored=%d/goroutines=16", stored), func(b *testing.B) {
			benchmarkAppend(b, store, 16, (*eventMaker).tagged)
		})
	}
}

func benchmarkAppend(b *testing.B, store es.EventStore, goroutines int, prepare func(e *eventMaker, head int64)) {
	b.Helper()
	b.SetParallelism(max(1, goroutines/runtime.GOMAXPROCS(0)))
	var worker atomic.Int64
	ctx := b.Context()
	head, err := store.Head(ctx)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		e := newEventMaker(int(worker.Add(1)), 16)
		prepare(e, head.Position)
		for pb.Next() {
			a := e.next()
			done, err := store.Append(ctx, a)
			if err != nil {
				b.Error(err)
				return
			}
			for i := range a.Unless {
				a.Unless[i].After = done.Position
			}
		}
	})
}

// BenchmarkEventStoreRead reads from a log of 100,000 events, 1,000 of them in each stream; the time is that of one message.
func BenchmarkEventStoreRead(b *testing.B) {
	const stored, streams = 100_000, 100
	store := memory.New().Events()
	e := newEventMaker(0, streams)
	e.message.Tags = []string{"course:101"}
	e.fill(b, store, stored)
	for _, bench := range []struct {
		name  string
		query es.Query
	}{
		{"all", es.Query{}},
		{"reverse", es.Query{Reverse: true}},
		{"stream", es.Query{Stream: "order-0-7"}},
		{"stream-of-10", es.Query{Stream: "order-0-7", Limit: 10}},
		{"tag-of-category", es.Query{Category: "order", Tags: []string{"course:101"}}},
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

// BenchmarkEventStoreMemory measures what a log of a million events takes, in bytes for each event and as a multiple of what
// is in the events: 256 bytes of payload, and nothing else counted.
func BenchmarkEventStoreMemory(b *testing.B) {
	const stored = 1_000_000
	for _, streams := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			for range b.N {
				e := newEventMaker(0, streams)
				before := liveBytes()
				backend := memory.New()
				e.fill(b, backend.Events(), stored)
				taken := float64(liveBytes()-before) / stored
				b.ReportMetric(taken, "bytes/event")
				b.ReportMetric(taken/float64(len(e.message.Data)), "x-payload")
				runtime.KeepAlive(backend)
			}
		})
	}
}

// liveBytes is how much memory is in use.
func liveBytes() uint64 {
	runtime.GC()
	runtime.GC() // what the first one has only unlinked
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
