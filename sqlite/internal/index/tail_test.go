package index

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
)

// numbered makes the keys of the n-th event of seven streams that take turns. Its position is n.
func numbered(k *Keys, n int64) {
	k.Set(&Event{ID: numberedID(n), Stream: fmt.Sprintf("stream-%d", n%7), Name: "name", Tags: []string{fmt.Sprintf("tag%d", n%3)}})
	k.Position, k.Version = n, (n-1)/7+1
}

func numberedID(n int64) uuid.UUID { return uuid.NewSHA1(uuid.Nil, fmt.Appendf(nil, "%d", n)) }

// addNumbered adds events to a tail.
func addNumbered(tail *Tail, from, to int64) {
	var k Keys
	for n := from + 1; n <= to; n++ {
		numbered(&k, n)
		tail.Add(&k)
	}
}

// checkNumbered asks a view of the first n events for some of them.
func checkNumbered(t testing.TB, v *View, n int64) {
	t.Helper()
	for _, at := range []int64{1, n / 2, n, n + 1} {
		want := at
		if at > n {
			want = 0
		}
		if got, err := v.ID(numberedID(at)); got != want || err != nil {
			t.Errorf("of %d events, number %d is at %d (%v)", n, at, got, err)
		}
	}
	for stream := range int64(7) {
		last := n - (n-stream)%7
		key := KeyOf(KindStream, fmt.Sprintf("stream-%d", stream))
		if version, position, err := v.Head(key); position != last || version != (last-1)/7+1 || err != nil {
			t.Errorf("of %d events, stream %d ends with %d at %d (%v)", n, stream, version, position, err)
		}
	}
	c, count := v.Term(KeyOf(KindName, "name"), Forward), int64(0)
	for p := int64(1); ; p += 1 + n/100 {
		at, err := c.SeekPosition(p)
		if err != nil {
			t.Error(err)
		}
		if at == 0 {
			break
		}
		if count++; at != p {
			t.Errorf("of %d events, that at %d is at %d", n, p, at)
		}
	}
	if want := (n + n/100) / (1 + n/100); count != want {
		t.Errorf("of %d events, %d were found in steps, want %d", n, count, want)
	}
}

func TestTailSpansWhatItCovers(t *testing.T) {
	t.Parallel()
	tail := NewTail(100)
	tail.full = 10
	addNumbered(tail, 100, 135)
	for _, c := range []struct {
		from, to int64
		covers   bool
	}{
		{100, 135, true}, {100, 100, true}, {135, 135, true}, {110, 120, true}, {111, 113, true},
		{99, 135, false}, {100, 136, false}, {120, 110, false}, {0, 50, false}, {136, 140, false},
	} {
		span, ok := tail.Span(c.from, c.to)
		if ok != c.covers || tail.Covers(c.from, c.to) != c.covers {
			t.Errorf("from %d to %d it covers: %v", c.from, c.to, ok)
		}
		if ok && (span.From() != c.from || span.To() != c.to) {
			t.Errorf("the span from %d to %d is from %d to %d", c.from, c.to, span.From(), span.To())
		}
	}
}

func TestTailSealsFullChunks(t *testing.T) {
	t.Parallel()
	tail := NewTail(0)
	wantSealed := func(from, to int64, want bool) {
		t.Helper()
		if gotFrom, gotTo, ok := tail.Sealed(); ok != want || ok && (gotFrom != from || gotTo != to) {
			t.Fatalf("sealed is %d to %d, %v", gotFrom, gotTo, ok)
		}
	}
	wantSealed(0, 0, false)
	addNumbered(tail, 0, ChunkEvents-1)
	wantSealed(0, 0, false)
	addNumbered(tail, ChunkEvents-1, 2*ChunkEvents+5)
	wantSealed(0, ChunkEvents, true)
	tail.Cut(10) // a run that another process has made
	wantSealed(10, ChunkEvents, true)
	tail.Cut(ChunkEvents)
	wantSealed(ChunkEvents, 2*ChunkEvents, true)
	if tail.Base() != ChunkEvents || tail.Last() != 2*ChunkEvents+5 || tail.Len() != ChunkEvents+5 {
		t.Errorf("it goes from %d to %d with %d events", tail.Base(), tail.Last(), tail.Len())
	}
	tail.Undo(2*ChunkEvents - 1)
	wantSealed(0, 0, false)
	tail.Undo(0) // no further than what it has
	if tail.Base() != ChunkEvents || tail.Last() != ChunkEvents || tail.Len() != 0 {
		t.Errorf("it goes from %d to %d with %d events", tail.Base(), tail.Last(), tail.Len())
	}
	tail.Cut(5 * ChunkEvents) // others were much quicker
	if tail.Base() != 5*ChunkEvents || tail.Last() != 5*ChunkEvents {
		t.Errorf("it goes from %d to %d", tail.Base(), tail.Last())
	}
	addNumbered(tail, 5*ChunkEvents, 5*ChunkEvents+1)
	tail.Advance(6 * ChunkEvents)
	if tail.Last() != 6*ChunkEvents || tail.Len() != 1 {
		t.Errorf("it goes to %d with %d events", tail.Last(), tail.Len())
	}
}

func TestTailTakesRisingPositionsOnly(t *testing.T) {
	t.Parallel()
	tail := NewTail(10)
	addNumbered(tail, 10, 12)
	for _, position := range []int64{9, 11, 12} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("position %d was added after 12", position)
				}
			}()
			addNumbered(tail, position-1, position)
		}()
	}
	if tail.Len() != 2 {
		t.Errorf("there are %d events", tail.Len())
	}
}

// TestSpanIsOfItsMoment takes spans, and undoes, adds and cuts afterwards.
func TestSpanIsOfItsMoment(t *testing.T) {
	t.Parallel()
	tail := NewTail(0)
	tail.full = 100
	addNumbered(tail, 0, 950)
	span, ok := tail.Span(0, 720)
	if !ok {
		t.Fatal("it is not covered")
	}
	view, err := NewView(nil, nil, span)
	wantOK(t, err)
	check := func() {
		t.Helper()
		checkNumbered(t, &view, 720)
	}
	check()
	tail.Undo(720)
	check()
	addOthers(tail, 720, 2000)
	check()
	tail.Cut(50)
	check()
	tail.Cut(3000)
	check()
	if view.Last() != 720 {
		t.Errorf("the view ends at %d", view.Last())
	}
}

// addOthers adds events with the same streams and other IDs: those of a transaction that is rolled back.
func addOthers(tail *Tail, from, to int64) {
	var k Keys
	for n := from + 1; n <= to; n++ {
		numbered(&k, n)
		k.ID, k.Version = Key(numberedID(-n)), k.Version+100
		tail.Add(&k)
	}
}

// TestReadersSeeWhatIsCommitted has readers look while somebody adds events, takes some back, makes runs, merges them, and cuts.
func TestReadersSeeWhatIsCommitted(t *testing.T) {
	t.Parallel()
	type state struct {
		runs []Run
		last int64
	}
	blocks := newBlockMap()
	cache := NewCache(blocks, 1<<18)
	tail := NewTail(0)
	tail.full = 500
	var committed atomic.Pointer[state]
	committed.Store(&state{})
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s := committed.Load()
				base := int64(0)
				if n := len(s.runs); n > 0 {
					base = s.runs[n-1].Last
				}
				span, ok := tail.Span(base, s.last)
				if !ok { // it was cut a moment ago
					gap := NewTail(base)
					addNumbered(gap, base, s.last)
					span, _ = gap.Span(base, s.last)
				}
				view, err := NewView(s.runs, cache.With(blocks), span)
				if err != nil {
					t.Error(err)
					return
				}
				if s.last > 0 {
					checkNumbered(t, &view, s.last)
				}
			}
		})
	}
	s, run := state{}, int64(0)
	for range 100 {
		next := s.last + 150
		addOthers(tail, s.last, next-20)
		tail.Undo(s.last)
		addNumbered(tail, s.last, next)
		s.last = next
		publish := func() {
			published := s
			committed.Store(&published)
		}
		publish()
		for from, to, ok := tail.Sealed(); ok && to <= s.last; from, to, ok = tail.Sealed() {
			span, _ := tail.Span(from, to)
			run++
			built, err := Build(run, span, blocks.of(t, run))
			wantOK(t, err)
			s.runs = append(append([]Run{}, s.runs...), built)
			if due := Due(s.runs); len(due) > 0 {
				run++
				merged, err := Merge(run, due, blocks, blocks.of(t, run))
				wantOK(t, err)
				s.runs = append(append([]Run{}, s.runs[:len(s.runs)-len(due)]...), merged)
			}
			publish()
			tail.Cut(to)
		}
	}
	close(done)
	readers.Wait()
	if len(s.runs) == 0 || s.runs[0].Level == 0 {
		t.Errorf("there were %d runs, the first of level %d", len(s.runs), s.runs[0].Level)
	}
}
