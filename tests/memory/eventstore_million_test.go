package memory_test

import (
	"fmt"
	"runtime"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestEventStoreReadsAMillion reads a history of a million events, forward, in reverse and by stream, and looks at the heap on
// the way: what a read takes beside the store is that of some pages, however long the history is.
func TestEventStoreReadsAMillion(t *testing.T) {
	const total, perAppend, streams = 1_000_000, 1000, 10
	const bound = 4 << 20 // the events are a hundred times as much
	store := memory.New().Events()
	events := make([]*es.Message, perAppend)
	for i := range events {
		events[i] = es.NewMessage("", "Happened", fmt.Appendf(nil, `{"text":"%0200d"}`, i))
	}
	for n := range total / perAppend {
		stream := fmt.Sprintf("long-%d", n%streams)
		for i, m := range events { // the store copies what it takes
			m.ID[0], m.ID[1], m.ID[2], m.ID[3] = byte(n>>8), byte(n), byte(i>>8), byte(i)
			m.Stream = stream
		}
		if _, err := store.Append(t.Context(), es.AppendTo(stream, es.Any, events...)); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	for _, test := range []struct {
		es.Query
		want int
	}{
		{es.Query{}, total}, {es.Query{Reverse: true}, total}, {es.Query{Stream: "long-3"}, total / streams},
	} {
		before, most, seen, last := heap(), int64(0), 0, int64(0)
		for m, err := range store.Read(t.Context(), test.Query) {
			if err != nil {
				t.Fatalf("read %+v: %v", test.Query, err)
			}
			if seen > 0 && m.Position > last == test.Reverse {
				t.Fatalf("read %+v gives position %d after %d", test.Query, m.Position, last)
			}
			last = m.Position
			if seen++; seen%(test.want/4) == 1 {
				most = max(most, heap()-before)
			}
		}
		if seen != test.want {
			t.Errorf("read %+v gives %d events, want %d", test.Query, seen, test.want)
		}
		if t.Logf("read %+v: at most %d KiB beside what was there", test.Query, most>>10); most > bound {
			t.Errorf("read %+v of %d events takes %d KiB beside the store; want at most %d", test.Query, seen, most>>10, bound>>10)
		}
	}
}
