package index

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// ChunkEvents is how many events a full chunk of a tail has, and so a run of level 0.
const ChunkEvents = 32_768

// Tail is the index of the newest events, in memory. One goroutine at a time adds, undoes and cuts; any number of them read, by way
// of [Span]s.
type Tail struct {
	seed seed
	full int // how many events a chunk has; tests have less
	// last is raised after an event was added: who sees it finds the event in the chunks that are there then.
	last   atomic.Int64
	chunks atomic.Pointer[chunkList]
}

// chunkList is the chunks of a tail, the oldest first. It is not changed, but replaced.
type chunkList struct {
	base   int64
	chunks []*chunk
}

// NewTail returns a tail for the events beyond a position.
func NewTail(base int64) *Tail {
	t := &Tail{seed: seed{rand.Uint64(), rand.Uint64()}, full: ChunkEvents}
	t.last.Store(base)
	t.chunks.Store(&chunkList{base: base})
	return t
}

// Add adds an event. Its position is beyond all that were added, not necessarily by one; anything else is a mistake that would make
// others wrong silently, and panics. k may be reused afterwards.
func (t *Tail) Add(k *Keys) {
	if last := t.last.Load(); k.Position <= last {
		panic(fmt.Sprintf("index: position %d is added after %d", k.Position, last))
	}
	l := t.chunks.Load()
	n := len(l.chunks)
	if n == 0 || len(l.chunks[n-1].ids) == t.full { // only whoever adds changes it, and so needs no lock to look
		l = t.grow(l)
		n = len(l.chunks)
	}
	l.chunks[n-1].add(k)
	t.last.Store(k.Position)
}

func (t *Tail) grow(l *chunkList) *chunkList {
	var before *chunk
	if n := len(l.chunks); n > 0 {
		before = l.chunks[n-1]
	}
	added := newChunk(t.last.Load(), t.seed, before)
	l = &chunkList{base: l.base, chunks: append(slices.Clip(l.chunks), added)}
	t.chunks.Store(l)
	return l
}

// Advance says that there are no events up to a position but those that were added. A position that is not beyond the last changes nothing.
func (t *Tail) Advance(to int64) { t.last.Store(max(to, t.last.Load())) }

// Undo forgets the events beyond a position, because their transaction was rolled back. No span and no run may have them: who
// reads while a transaction is open reads up to what is committed.
func (t *Tail) Undo(to int64) {
	l := t.chunks.Load()
	to = max(to, l.base)
	if to >= t.last.Load() {
		return
	}
	t.last.Store(to)
	kept := l.chunks
	for n := len(kept); n > 0 && kept[n-1].base >= to; n-- {
		kept = kept[:n-1]
	}
	if n := len(kept); n > 0 {
		kept[n-1].undo(to)
	}
	if len(kept) < len(l.chunks) {
		t.chunks.Store(&chunkList{base: l.base, chunks: slices.Clip(kept)})
	}
}

// Base returns the position beyond which the tail has all events.
func (t *Tail) Base() int64 { return t.chunks.Load().base }

// Last returns the position up to which the tail has all events: that of the newest, or what it was undone, advanced
// or cut to, or its base.
func (t *Tail) Last() int64 { return t.last.Load() }

// Len returns how many events there are beyond the base.
func (t *Tail) Len() int {
	l := t.chunks.Load()
	n := 0
	for _, c := range l.chunks {
		n += c.count(l.base)
	}
	return n
}

// Cut forgets the events at or below a position, because a run has them; the position is the tail's base then. Spans that have
// been made keep them. A position beyond the last leaves the tail empty, with that base.
func (t *Tail) Cut(to int64) {
	l := t.chunks.Load()
	if to <= l.base {
		return
	}
	kept := l.chunks
	for len(kept) > 0 && kept[0].last() <= to {
		kept = kept[1:]
	}
	// The list is copied, because the rest of the old one is to be forgotten, too.
	t.chunks.Store(&chunkList{base: to, chunks: slices.Clone(kept)})
	if to > t.last.Load() {
		t.last.Store(to)
	}
}

// Covers tells whether the tail has all the events in (from, to]. It may not a moment later; [Tail.Span] takes hold of them.
func (t *Tail) Covers(from, to int64) bool {
	last := t.last.Load()
	return t.chunks.Load().base <= from && from <= to && to <= last
}

// Span takes hold of the events in (from, to] as they are now, for a [View] or for [Build]. It is not affected by what becomes of
// the tail, and costs little. It is false when the tail does not cover them: then read the events that are missing and make a
// tail of them, to be a span of its own in the view.
func (t *Tail) Span(from, to int64) (Span, bool) {
	last := t.last.Load() // first: the chunks that are loaded afterwards have all events up to it
	l := t.chunks.Load()
	if from < l.base || to < from || to > last {
		return Span{}, false
	}
	chunks := l.chunks
	for len(chunks) > 1 && chunks[1].base <= from {
		chunks = chunks[1:]
	}
	for n := len(chunks); n > 0 && chunks[n-1].base >= to; n-- {
		chunks = chunks[:n-1]
	}
	return Span{from, to, chunks}, true
}

// Sealed returns the bounds of the oldest chunk that is full: (from, to] is what the next run is to have. Its events may belong
// to a transaction that is still open; only what is committed may be built.
func (t *Tail) Sealed() (from, to int64, ok bool) {
	l := t.chunks.Load()
	if len(l.chunks) == 0 || l.chunks[0].len() < t.full {
		return 0, 0, false
	}
	return l.base, l.chunks[0].last(), true
}

// Span is an immutable stretch of a tail: the events in (From, To].
type Span struct {
	from, to int64
	chunks   []*chunk
}

// From returns the position beyond which the span has all events.
func (s *Span) From() int64 { return s.from }

// To returns the last position that it has.
func (s *Span) To() int64 { return s.to }
