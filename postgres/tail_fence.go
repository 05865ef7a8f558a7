package postgres

import (
	"slices"
	"time"
)

// fence knows up to where a log is settled whose positions are drawn from a sequence.
//
// Positions are drawn before the commit, and appends of several connections overlap: 8 may appear before 7 does, and 7 never if its
// append is rolled back. A reader that goes on to 8 when it sees it would miss 7. So readers go up to the settled head only: nothing
// appears at or below it any more.
//
// Two things settle positions. All up to a position have appeared: then it is settled, as positions are drawn once. Or nobody is left who
// could fill the gaps below it, which PostgreSQL tells: nextval locks the sequence in mode RowExclusiveLock before it draws, for the
// transaction as a whole, until its end, also when the savepoint is rolled back in which it draws, and when the transaction is prepared.
// A transaction that commits becomes visible to others before it gives its locks back. Now let
//
//  1. one statement see an event at position H;
//  2. a later statement read who holds the lock; this is a mark: H, and its holders;
//  3. still later ones read again who holds it, until all holders of the mark have gone.
//
// Whoever has drawn a position below H did so before H was drawn, and that was before 1. So at 2 it holds the lock, or has ended; and at
// the end of 3 all of them have ended. What they have committed is visible to every statement from then on, and nothing else appears at
// or below H. New holders have drawn greater positions, or will. The statement of 3 itself may not see it all, as what it sees is what
// was committed when it began: events are read in a later one.
//
// All up to H is settled at once then. To wait for the holders of each gap in turn would be to wait for those who came later as well, and
// under rollbacks without an end.
//
// It takes the following. Each statement has its own snapshot: none is part of a transaction of the caller. Holders are told apart by
// their virtual transaction, whose number is not given again as long as the server runs; since a prepared transaction gets another one
// when the server starts, marks are forgotten when the server, the start of it, its timeline or the connection is another one than when
// they were made. PostgreSQL keeps the number of a prepared transaction since 14.1. The sequence has CACHE 1, so that no session has
// positions in store, and nothing but appends draws from it. Others may lock it in other modes; pg_dump does.
type fence struct {
	settled int64     // nothing appears at or below it any more
	seen    int64     // the greatest position that was looked at
	gaps    []gap     // beyond settled and below seen, in order: what had not appeared when it was looked at
	since   time.Time // when the first of them became the first; zero while there is none
	marks   []mark    // in the order in which they were made
	asked   time.Time // when the holders were asked for the last time
}

// gap is a range of positions.
type gap struct {
	from, to int64 // both are in it
	unread   bool  // it was left out, and may have events
}

// mark is a position, and the transactions that may fill gaps below it.
type mark struct {
	position int64
	holders  []string
}

// These bound the memory of a fence while an append is open for long.
const (
	maxGaps  = 1 << 14
	maxMarks = 32
)

// forget forgets what was seen beyond what is settled.
func (f *fence) forget() {
	*f = fence{settled: f.settled, seen: f.settled, asked: f.asked}
}

// found takes in that an event is at a position. It tells whether there is a new gap below it.
func (f *fence) found(position int64) (fresh bool) {
	if position <= f.seen {
		f.fill(position)
		return false
	}
	if fresh = position > f.seen+1; fresh {
		f.leave(gap{from: f.seen + 1, to: position - 1})
	}
	f.seen = position
	return fresh
}

// skip takes in that an event is at a position, and that nobody has looked at what is between.
func (f *fence) skip(position int64) {
	if position > f.seen {
		f.leave(gap{from: f.seen + 1, to: position, unread: true})
		f.seen = position
	}
}

// leave keeps a gap at the end.
func (f *fence) leave(g gap) {
	if len(f.gaps) == maxGaps { // the last ones are not told apart any more
		last := &f.gaps[maxGaps-1]
		last.to, last.unread = g.to, true
		return
	}
	f.gaps = append(f.gaps, g)
}

// fill takes a position out of the gap that it is in, if it is in one.
func (f *fence) fill(position int64) {
	i, _ := slices.BinarySearchFunc(f.gaps, position, func(g gap, p int64) int { return int(min(1, max(-1, g.to-p))) })
	if i == len(f.gaps) || position < f.gaps[i].from || f.gaps[i].unread {
		return
	}
	switch g := &f.gaps[i]; {
	case g.from == g.to:
		f.gaps = slices.Delete(f.gaps, i, i+1)
	case position == g.from:
		g.from++
	case position == g.to:
		g.to--
	default:
		right := gap{from: position + 1, to: g.to}
		g.to = position - 1
		f.gaps = slices.Insert(f.gaps, i+1, right)
	}
}

// settle moves the settled head up to the first gap.
func (f *fence) settle(now time.Time) {
	settled := f.seen
	if len(f.gaps) > 0 {
		settled = f.gaps[0].from - 1
	}
	switch {
	case len(f.gaps) == 0:
		f.since = time.Time{}
	case settled != f.settled || f.since.IsZero():
		f.since = now
	}
	f.settled = settled
	f.marks = slices.DeleteFunc(f.marks, func(m mark) bool { return m.position <= f.settled })
}

// mark takes in who holds the sequence now, which was read after everything that was seen. It returns the greatest position up to which
// nobody can fill a gap any more; 0 when there is none.
func (f *fence) mark(holders []string) (closed int64) {
	slices.Sort(holders)
	for i := range f.marks {
		m := &f.marks[i]
		m.holders = slices.DeleteFunc(m.holders, func(h string) bool {
			_, there := slices.BinarySearch(holders, h)
			return !there
		})
		if len(m.holders) == 0 {
			closed = m.position
		}
	}
	last := closed
	if len(f.marks) > 0 {
		last = max(last, f.marks[len(f.marks)-1].position)
	}
	switch {
	case len(holders) == 0:
		closed = f.seen
	case f.seen > last && len(f.marks) < maxMarks:
		f.marks = append(f.marks, mark{f.seen, holders})
	}
	return closed
}

// giveUp takes away the gaps up to a position, below which nothing appears any more. It returns how many positions never appeared, and
// where the first and the last of them is.
func (f *fence) giveUp(closed int64, now time.Time) (skipped, first, last int64) {
	n := 0
	for n < len(f.gaps) && f.gaps[n].to <= closed {
		if g := f.gaps[n]; !g.unread {
			if skipped == 0 {
				first = g.from
			}
			skipped, last = skipped+g.to-g.from+1, g.to
		}
		n++
	}
	f.gaps = slices.Delete(f.gaps, 0, n)
	f.settle(now)
	return skipped, first, last
}
