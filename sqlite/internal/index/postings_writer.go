package index

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// postingsWriter makes the leaves of postings. Events come by section, key and position, all rising.
type postingsWriter struct {
	tree *treeWriter
	base int64 // of the run

	// The leaf. All its parts but the one that is open have an end and a body.
	section section
	keys    []Key
	ends    []uint16
	bodies  []byte
	first   fence
	open    openPart // the part of the last key
	room    int      // for it to grow
}

// openPart is a part that events are added to.
type openPart struct {
	count                int
	version, first, last int64
	entries, differences []byte
}

// add adds an event of a stream or term; a stream's has a version.
func (w *postingsWriter) add(s section, k *Key, position, version int64) error {
	if n := len(w.keys); n > 0 && w.section == s && w.keys[n-1] == *k && w.goOn(position, version) {
		return nil
	}
	return w.begin(s, k, position, version)
}

// goOn adds an event to the open part, if it can.
func (w *postingsWriter) goOn(position, version int64) bool {
	p := &w.open
	if w.section == sectionStreams && version != p.version+int64(p.count) {
		return false
	}
	if p.count%frameEvents != 0 {
		difference := uint64(position - p.last) //nolint:gosec // positions rise
		if w.room -= uvarintBytes(difference); w.room < 0 {
			return false
		}
		p.differences = binary.AppendUvarint(p.differences, difference)
	} else {
		if w.room -= frameEntry; w.room < 0 || position-p.first > math.MaxUint32 {
			return false
		}
		p.entries = binary.LittleEndian.AppendUint16(p.entries, uint16(len(p.differences))) //nolint:gosec // less than a block has
		p.entries = binary.LittleEndian.AppendUint32(p.entries, uint32(position-p.first))   //nolint:gosec // it was compared
	}
	p.count, p.last = p.count+1, position
	return true
}

// begin begins a part, and a leaf if it has to.
func (w *postingsWriter) begin(s section, k *Key, position, version int64) error {
	w.end()
	if s != sectionStreams {
		version = 0
	}
	w.open = openPart{
		count: 1, version: version, first: position, last: position,
		entries: w.open.entries[:0], differences: w.open.differences[:0],
	}
	w.room = w.roomWith(k)
	if n := len(w.keys); n > 0 && (w.section != s || w.room < 0) {
		if err := w.write(); err != nil {
			return err
		}
		w.room = w.roomWith(k)
	}
	if len(w.keys) == 0 {
		w.section = s
		w.first = fence{key: newEntryKey(s, k), position: position, version: version}
	}
	w.keys = append(w.keys, *k)
	return nil
}

// roomWith returns how many bytes are left in the leaf when the open part, with one event, is there, too.
func (w *postingsWriter) roomWith(k *Key) int {
	const count = 2 // bytes are enough for how many events a block has
	n, first := len(w.keys)+1, k
	if n > 1 {
		first = &w.keys[0]
	}
	return w.tree.out.most - postingsHeader - keyColumnBytes(n, first[:], k[:], len(k)) - 2*n - len(w.bodies) -
		count - uvarintBytes(uint64(w.open.version)) - uvarintBytes(uint64(w.open.first-w.base)) //nolint:gosec // not negative
}

// end brings the open part, if there is one, to the bodies.
func (w *postingsWriter) end() {
	if len(w.keys) == len(w.ends) {
		return
	}
	p := &w.open
	w.bodies = binary.AppendUvarint(w.bodies, uint64(p.count)) //nolint:gosec // not negative
	if w.section == sectionStreams {
		w.bodies = binary.AppendUvarint(w.bodies, uint64(p.version)) //nolint:gosec // not negative
	}
	w.bodies = binary.AppendUvarint(w.bodies, uint64(p.first-w.base)) //nolint:gosec // positions are beyond the base
	w.bodies = append(w.bodies, p.entries...)
	w.bodies = append(w.bodies, p.differences...)
	w.ends = append(w.ends, uint16(len(w.bodies))) //nolint:gosec // less than a block has
}

// uvarintBytes returns how many bytes [binary.AppendUvarint] appends.
func uvarintBytes(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

// flush writes the leaf, if there is something for it, and begins another.
func (w *postingsWriter) flush() error {
	w.end()
	if len(w.keys) == 0 {
		return nil
	}
	return w.write()
}

// write writes the leaf without the open part, and begins another.
func (w *postingsWriter) write() error {
	n := len(w.keys)
	b := append(make([]byte, 0, BlockBytes), typePostings, byte(w.section))
	b = appendKeyColumn(b, n, len(Key{}), func(i int) []byte { return w.keys[i][:] })
	for _, end := range w.ends {
		b = binary.LittleEndian.AppendUint16(b, end)
	}
	b = append(b, w.bodies...)
	last := newEntryKey(w.section, &w.keys[n-1])
	w.keys, w.ends, w.bodies = w.keys[:0], w.ends[:0], w.bodies[:0]
	number, err := w.tree.out.write(b)
	if err != nil {
		return err
	}
	w.first.block = number
	return w.tree.addLeaf(w.first, &last)
}
