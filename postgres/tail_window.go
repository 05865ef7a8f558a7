package postgres

import (
	"cmp"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// window is the last events of a log, in memory: all those with positions in (floor, top], which are settled, and what was read beyond.
//
// A slice that was given away stays as it is: events are added behind it, and taken away by leaving them out.
type window struct {
	floor, top int64
	events     []*es.Message
	bytes      int

	from       int64         // events beyond it were all kept, as far as they have been read
	ahead      []*es.Message // those beyond top
	aheadBytes int
	unsorted   bool // ahead is
	overflow   bool // not all were kept
}

// What a window keeps at the most. Events that were taken away may stay in memory as long as there are as many others.
const (
	windowEvents = 8192
	windowBytes  = 16 << 20
)

// restart empties the window: from now on it keeps what is beyond a position.
func (w *window) restart(at int64) { *w = window{floor: at, top: at, from: at} }

// add adds an event that was read. They come in the order of their positions, but for those that fill a gap.
func (w *window) add(m *es.Message) {
	if m.Position <= w.from || w.overflow {
		return
	}
	w.aheadBytes += weight(m)
	if len(w.ahead) == windowEvents || w.aheadBytes > windowBytes {
		w.ahead, w.aheadBytes, w.overflow = nil, 0, true
		return
	}
	if n := len(w.ahead); n > 0 && w.ahead[n-1].Position > m.Position {
		w.unsorted = true
	}
	w.ahead = append(w.ahead, m)
}

// leaveOut says that not all events up to a position, which is the last that was read, were added.
func (w *window) leaveOut(upTo int64) {
	w.ahead, w.aheadBytes, w.overflow, w.unsorted, w.from = nil, 0, false, false, max(w.from, upTo)
}

// settle moves the window up to a position, up to which all was read and is settled; seen is up to where it was read.
func (w *window) settle(upTo, seen int64) {
	if w.overflow {
		w.leaveOut(seen)
	}
	if upTo < w.from || upTo <= w.top {
		return
	}
	if w.from > w.top { // there is a hole
		w.events, w.bytes = nil, 0
		w.floor, w.top = w.from, w.from
	}
	if w.unsorted {
		slices.SortFunc(w.ahead, func(a, b *es.Message) int { return cmp.Compare(a.Position, b.Position) })
		w.unsorted = false
	}
	n := 0
	for n < len(w.ahead) && w.ahead[n].Position <= upTo {
		bytes := weight(w.ahead[n])
		w.bytes, w.aheadBytes = w.bytes+bytes, w.aheadBytes-bytes
		n++
	}
	w.events = append(w.events, w.ahead[:n]...)
	w.ahead = slices.Delete(w.ahead, 0, n)
	w.top, w.from = upTo, max(w.from, upTo)
	w.trim()
}

// trim takes away the oldest events when there are too many.
func (w *window) trim() {
	n := max(0, len(w.events)-windowEvents)
	for _, m := range w.events[:n] {
		w.bytes -= weight(m)
	}
	for w.bytes > windowBytes {
		w.bytes -= weight(w.events[n])
		n++
	}
	if n > 0 {
		w.floor = w.events[n-1].Position
		w.events = w.events[n:]
	}
}

// slice returns the events in (after, upTo], and whether the window has them all.
func (w *window) slice(after, upTo int64) ([]*es.Message, bool) {
	if after < w.floor || upTo > w.top {
		return nil, false
	}
	first, last := w.index(after), w.index(upTo)
	if last <= first {
		return nil, true
	}
	return w.events[first:last:last], true
}

// index returns the place of the first event beyond a position.
func (w *window) index(position int64) int {
	i, _ := slices.BinarySearchFunc(w.events, position+1, func(m *es.Message, p int64) int { return cmp.Compare(m.Position, p) })
	return i
}

// weight is about how many bytes an event takes.
func weight(m *es.Message) int {
	const fixed, tag, metadata = 256, 64, 128
	return fixed + len(m.Stream) + len(m.Name) + len(m.Data) + len(m.Tags)*tag + len(m.Metadata)*metadata
}
