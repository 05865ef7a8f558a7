package index

import (
	"encoding/binary"
	"math"
)

// Leaves of postings: the streams, or the categories, names and tags, and which events they have. A leaf has a column of keys, one of
// ends, and a body for each key, which is where the column says. What does not fit goes on in the next leaf under the same key; a
// stream whose versions make a jump, too.
//
// A body has how many events there are, in a stream the version of the first, the position of the first as a difference to the run's
// base, and the differences from each position to the next. Before these stands, for each frameEvents-th event but the
// first, where the differences go on behind it, and its position as a difference to the first: nobody has to go through more than a
// frame.

// frameEvents is how many events a frame has; the last may have fewer.
const frameEvents = 128

// A frame's entry has 16 bits of where and 32 of position.
const frameEntry = 2 + 4

// postingsLeaf is such a leaf.
type postingsLeaf struct {
	section section
	keys    keyColumn
	ends    []byte
	bodies  []byte
}

// postingsHeader is the type and the section.
const postingsHeader = 1 + 1

func parsePostingsLeaf(b []byte) (postingsLeaf, error) {
	var l postingsLeaf
	if len(b) < postingsHeader || b[0] != typePostings {
		return l, damage("it is no leaf of postings")
	}
	l.section = section(b[1])
	var err error
	if l.keys, b, err = parseKeyColumn(b[postingsHeader:], len(Key{})); err != nil {
		return l, err
	}
	if len(b) < 2*l.keys.n {
		return l, damage("the leaf of postings is cut off")
	}
	l.ends, l.bodies = b[:2*l.keys.n], b[2*l.keys.n:]
	return l, nil
}

// part returns what the leaf has under its i-th key.
func (l *postingsLeaf) part(i int, base int64) (part, error) {
	start, end := 0, int(binary.LittleEndian.Uint16(l.ends[2*i:]))
	if i > 0 {
		start = int(binary.LittleEndian.Uint16(l.ends[2*i-2:]))
	}
	if start > end || end > len(l.bodies) {
		return part{}, damage("a body ends in a wrong place")
	}
	return parsePart(l.section, base, l.bodies[start:end])
}

// find returns the part that begins last among those of a key that begin at a value or before. When there is none, it is not found,
// and i is where it would be less one.
func (l *postingsLeaf) find(key *Key, a axis, value, base int64) (p part, i int, found bool, err error) {
	for i = l.keys.upTo(key[:]) - 1; i >= 0 && l.keys.is(i, key[:]); i-- {
		if p, err = l.part(i, base); err != nil {
			return part{}, 0, false, err
		}
		if p.start(a) <= value {
			return p, i, true, nil
		}
	}
	return part{}, i, false, nil
}

// part is some events that follow each other in a stream or term. Its versions rise by one.
type part struct {
	count          int
	version, first int64
	entries        []byte // of all frames but the first
	differences    []byte
}

func parsePart(s section, base int64, b []byte) (part, error) {
	var p part
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > BlockBytes {
		return p, damage("a body has an impossible number of events")
	}
	p.count, b = int(count), b[n:]
	if s == sectionStreams {
		version, n := binary.Uvarint(b)
		if n <= 0 || version > math.MaxInt64-count {
			return p, damage("a body has no version")
		}
		p.version, b = int64(version), b[n:] //nolint:gosec // it was compared
	}
	first, n := binary.Uvarint(b)
	if n <= 0 || first > uint64(math.MaxInt64-base) { //nolint:gosec // no base is negative
		return p, damage("a body has no position")
	}
	p.first, b = base+int64(first), b[n:] //nolint:gosec // at most MaxInt64
	entries := (p.frames() - 1) * frameEntry
	if len(b) < entries+p.count-p.frames() {
		return p, damage("a body has too few bytes")
	}
	p.entries, p.differences = b[:entries], b[entries:]
	return p, nil
}

// frames returns how many frames there are, and frame the one that begins last among those that begin at a position or before.
func (p *part) frames() int { return (p.count + frameEvents - 1) / frameEvents }

func (p *part) frame(position int64) int {
	return search(p.frames()-1, func(i int) bool { return p.frameFirst(i+1) > position })
}

// frameFirst returns the position of the first event of a frame.
func (p *part) frameFirst(i int) int64 {
	if i == 0 {
		return p.first
	}
	return p.first + int64(binary.LittleEndian.Uint32(p.entries[(i-1)*frameEntry+2:]))
}

// frameStart returns where the differences behind the first event of a frame begin.
func (p *part) frameStart(i int) int {
	switch i {
	case 0:
		return 0
	case p.frames():
		return len(p.differences)
	}
	return int(binary.LittleEndian.Uint16(p.entries[(i-1)*frameEntry:]))
}

// start returns what the part begins with.
func (p *part) start(a axis) int64 {
	if a == byVersion {
		return p.version
	}
	return p.first
}

// frame is some events that follow each other in a stream or a term. Its versions rise by one.
type frame struct {
	n         int
	version   int64 // of the first
	positions [frameEvents]int64
}

// read reads a frame of a part, whose positions are in (base, last].
func (f *frame) read(p *part, i int, base, last int64) error {
	f.n = 0
	start, end := p.frameStart(i), p.frameStart(i+1)
	if start > end || end > len(p.differences) {
		return damage("a frame is in a wrong place")
	}
	b := p.differences[start:end]
	n := min(frameEvents, p.count-i*frameEvents)
	position := p.frameFirst(i)
	if position <= base || position > last {
		return errPosition
	}
	f.positions[0] = position
	for j := 1; j < n; j++ {
		if len(b) == 0 {
			return damage("a frame is cut off")
		}
		difference, size := uint64(b[0]), 1
		if difference >= 0x80 {
			difference, size = binary.Uvarint(b)
		}
		if size <= 0 || difference == 0 || difference > uint64(last-position) { //nolint:gosec // last is not below the position
			return errPosition
		}
		position += int64(difference) //nolint:gosec // at most last
		f.positions[j], b = position, b[size:]
	}
	if len(b) > 0 {
		return damage("a frame has too many bytes")
	}
	f.n, f.version = n, p.version+int64(i*frameEvents)
	return nil
}

// seek returns the index of the first event at a value or beyond it, in a direction. It is not found when it may be in another frame.
// Often it is at the hint, an index, or beside it.
func (f *frame) seek(a axis, value int64, hint int, d Direction) (int, bool) {
	if f.n == 0 || value < f.start(a) || value > f.end(a) {
		return 0, false
	}
	if a == byVersion {
		return int(value - f.version), true
	}
	for i := hint; i < min(hint+2, f.n) && d == Forward; i++ {
		if f.positions[i] >= value && (i == 0 || f.positions[i-1] < value) {
			return i, true
		}
	}
	i := search(f.n, func(i int) bool { return f.positions[i] >= value })
	if d == Backward && f.positions[i] > value {
		i--
	}
	return i, true
}

// at returns an event's position or version, start and end those of the first and the last.
func (f *frame) at(a axis, i int) int64 {
	if a == byVersion {
		return f.version + int64(i)
	}
	return f.positions[i]
}

func (f *frame) start(a axis) int64 { return f.at(a, 0) }
func (f *frame) end(a axis) int64   { return f.at(a, f.n-1) }
