package postgres

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// A world is a log whose transactions draw positions and end in any order, as far as the tail can see it: what is committed, and who
// holds the sequence.
type world struct {
	random    *rand.Rand
	last      int64
	open      map[string][]int64 // the transactions that have drawn, by name
	names     []string           // in the order of their beginning
	committed []int64            // sorted
	begun     int
}

// move has something happen.
func (w *world) move() {
	switch n := w.random.IntN(10); {
	case n < 4 || len(w.names) == 0: // a transaction begins, or draws once more
		name := fmt.Sprintf("%d/%d", w.random.IntN(9), w.begun)
		if len(w.names) > 0 && w.random.IntN(4) == 0 {
			name = w.names[w.random.IntN(len(w.names))]
		} else {
			w.begun++
			w.names = append(w.names, name)
		}
		for range 1 + w.random.IntN(3) {
			w.last++
			w.open[name] = append(w.open[name], w.last)
		}
	default:
		i := w.random.IntN(len(w.names))
		if w.random.IntN(3) > 0 {
			i = max(i, len(w.names)-3) // some are open for long
		}
		name := w.names[i]
		for _, p := range w.open[name] {
			if w.random.IntN(8) > 0 && n < 9 { // the others are rolled back, alone or with all
				at, _ := slices.BinarySearch(w.committed, p)
				w.committed = slices.Insert(w.committed, at, p)
			}
		}
		delete(w.open, name)
		w.names = slices.Delete(w.names, i, i+1)
	}
}

// page is what a statement reads, which begins and ends at this moment.
func (w *world) page(t *tail) *page {
	p := &page{after: t.fence.seen, whole: w.random.IntN(20) > 0}
	first, last, all := t.fills()
	t.filled = all
	for _, position := range w.committed {
		filled := slices.ContainsFunc(first, func(f int64) bool {
			i := slices.Index(first, f)
			return position >= f && position <= last[i]
		})
		switch {
		case position > p.after && p.beyond < 40:
			p.beyond++
		case !filled:
			continue
		}
		p.positions = append(p.positions, position)
		if p.whole {
			p.events = append(p.events, &es.Message{Position: position})
		}
	}
	return p
}

func (w *world) holders() []string { return slices.Clone(w.names) }

// TestNothingAppearsBehindTheSettledHead lets the steps of looks and the steps of appends follow each other in a great many orders.
func TestNothingAppearsBehindTheSettledHead(t *testing.T) {
	t.Parallel()
	reached, hits := 0, 0
	for seed := range uint64(300) {
		w := &world{random: rand.New(rand.NewPCG(seed, 7)), open: map[string][]int64{}}
		tl := &tail{db: &DB{config: Config{}.withDefaults()}}
		var settled []int64 // what was there when it was settled
		head := int64(0)
		meanwhile := func() {
			for range w.random.IntN(6) {
				w.move()
			}
		}
		look := func() {
			now, upTo := tl.fence.settled, int64(0)
			if now < head {
				t.Fatalf("seed %d: the head falls from %d to %d", seed, head, now)
			}
			if now == head {
				return
			}
			head = now
			meanwhile()
			before := len(settled)
			for _, p := range w.committed {
				if p <= head && (before == 0 || p > settled[before-1]) && p > upTo {
					settled = append(settled, p)
				}
			}
			reached++
		}
		check := func() {
			var now []int64
			for _, p := range w.committed {
				if p <= head {
					now = append(now, p)
				}
			}
			if !slices.Equal(now, settled) {
				t.Fatalf("seed %d: at or below the head %d there were %v, and now there are %v", seed, head, settled, now)
			}
			for after := max(0, head-30); after < head; after++ {
				events, ok := tl.window.slice(after, head)
				if !ok {
					continue
				}
				hits++
				var got []int64
				for _, m := range events {
					got = append(got, m.Position)
				}
				from, _ := slices.BinarySearch(settled, after+1)
				if !slices.Equal(got, settled[from:]) {
					t.Fatalf("seed %d: from %d to %d the window has %v, and the log %v", seed, after, head, got, settled[from:])
				}
			}
		}
		for range 60 {
			meanwhile()
			tl.take(w.page(tl))
			look()
			meanwhile()
			if len(tl.fence.gaps) > 0 && w.random.IntN(3) > 0 {
				closed := tl.fence.mark(w.holders())
				meanwhile()
				if closed > 0 {
					tl.take(w.page(tl))
					meanwhile()
					tl.giveUp(closed)
					look()
				}
			}
			check()
		}
		// When nobody is left, everything is settled.
		for len(w.names) > 0 {
			w.move()
		}
		for range 3 {
			tl.take(w.page(tl))
			if closed := tl.fence.mark(nil); closed > 0 {
				tl.take(w.page(tl))
				tl.giveUp(closed)
			}
		}
		if n := len(w.committed); n > 0 && tl.fence.settled < w.committed[n-1] && len(w.page(tl).positions) == 0 {
			t.Fatalf("seed %d: nobody is left, and the head is at %d, where the last event is at %d", seed, tl.fence.settled, w.committed[n-1])
		}
	}
	if reached < 1000 || hits < 1000 {
		t.Errorf("the head has moved %d times, and the window has answered %d times: too few to tell", reached, hits)
	}
}

// TestAPositionIsNotSettledByLaterHolders shows that an append that is open for long holds back what came before its end and nothing of
// what came after, and that others who come and go do not.
func TestAFenceWaitsForTheHoldersOfItsMarkOnly(t *testing.T) {
	t.Parallel()
	f := &fence{}
	at := func(positions ...int64) {
		for _, p := range positions {
			f.found(p)
		}
		f.settle(f.since)
	}
	at(1, 2, 4)
	if closed := f.mark([]string{"a", "b"}); closed != 0 || f.settled != 2 {
		t.Fatalf("with two holders, %d is closed and %d settled", closed, f.settled)
	}
	at(6)
	if closed := f.mark([]string{"b", "c"}); closed != 0 {
		t.Fatalf("with one holder left, %d is closed", closed)
	}
	if closed := f.mark([]string{"c", "d"}); closed != 4 {
		t.Fatalf("when its holders have gone, %d is closed; want 4", closed)
	}
	if skipped, first, last := f.giveUp(4, f.since); skipped != 1 || first != 3 || last != 3 || f.settled != 4 {
		t.Fatalf("%d positions from %d to %d were given up, and %d is settled; want 3 given up, and 4", skipped, first, last, f.settled)
	}
	if closed := f.mark([]string{"d", "e"}); closed != 6 {
		t.Fatalf("%d is closed; want 6, whose holders b and c have gone, whoever has come since", closed)
	}
}

func TestAFenceKeepsWhatIsMissing(t *testing.T) {
	t.Parallel()
	f := &fence{}
	for _, p := range []int64{10, 12, 5, 7, 6, 1, 4, 11, 9} {
		f.found(p)
	}
	if want := []gap{{from: 2, to: 3}, {from: 8, to: 8}}; !slices.Equal(f.gaps, want) {
		t.Fatalf("missing are %v, want %v", f.gaps, want)
	}
	f.skip(100)
	f.found(50) // which nobody has looked at
	f.settle(f.since)
	if want := (gap{from: 13, to: 100, unread: true}); f.gaps[2] != want || f.settled != 1 {
		t.Fatalf("missing are %v, and %d is settled", f.gaps, f.settled)
	}
	if skipped, _, _ := f.giveUp(100, f.since); skipped != 3 || f.settled != 100 {
		t.Fatalf("%d were given up, and %d is settled; want 3, and 100", skipped, f.settled)
	}
}

func TestAFenceKeepsABoundedNumberOfGaps(t *testing.T) {
	t.Parallel()
	f := &fence{}
	for p := int64(2); p <= 4*maxGaps; p += 2 {
		f.found(p)
	}
	if len(f.gaps) != maxGaps {
		t.Fatalf("%d gaps are kept, want %d", len(f.gaps), maxGaps)
	}
	if f.settle(f.since); f.settled != 0 {
		t.Fatalf("%d is settled, and 1 is missing", f.settled)
	}
	if last := f.gaps[maxGaps-1]; !last.unread || last.to != 4*maxGaps-1 {
		t.Fatalf("the last gap is %+v, and is to reach %d", last, 4*maxGaps-1)
	}
}

func TestAWindowIsBounded(t *testing.T) {
	t.Parallel()
	var w window
	w.restart(0)
	for p := int64(1); p <= 3*windowEvents; p++ {
		w.add(&es.Message{Position: p})
		if p%1000 == 0 {
			w.settle(p, p)
		}
	}
	w.settle(3*windowEvents, 3*windowEvents)
	if len(w.events) != windowEvents || w.floor != 2*windowEvents {
		t.Errorf("%d events beyond %d are kept; want %d", len(w.events), w.floor, windowEvents)
	}
	big := make([]byte, windowBytes/4)
	for p := int64(3*windowEvents + 1); p <= 3*windowEvents+20; p++ {
		w.add(&es.Message{Position: p, Data: big})
		w.settle(p, p)
	}
	if len(w.events) > 4 || w.bytes > windowBytes {
		t.Errorf("%d events of %d bytes are kept", len(w.events), w.bytes)
	}
	for p := int64(4 * windowEvents); p <= 6*windowEvents; p++ { // more than fit are not settled
		w.add(&es.Message{Position: p})
	}
	w.settle(4*windowEvents-1, 6*windowEvents)
	if len(w.ahead) != 0 {
		t.Errorf("%d events are kept that are not settled", len(w.ahead))
	}
	w.add(&es.Message{Position: 6*windowEvents + 1})
	w.settle(6*windowEvents+1, 6*windowEvents+1)
	if _, ok := w.slice(6*windowEvents-1, 6*windowEvents+1); ok {
		t.Error("the window claims to have what it left out")
	}
	if events, ok := w.slice(6*windowEvents, 6*windowEvents+1); !ok || len(events) != 1 {
		t.Errorf("the window has %d events (%t) after it left some out; want 1", len(events), ok)
	}
}
