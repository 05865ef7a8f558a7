package index

import (
	"math/bits"
)

// Filters tell that a key is certainly not in a run, without a look at what is. Each is a Bloom filter for some thousand keys that
// follow each other, in a block of its own, so that they are written as the keys come, whose number need not be known; directories
// like those of the leaves lead to them.

const (
	filterHeader     = 1
	filterBitsPerKey = 10
	// A key has its bits in two lines, so that a look costs the memory two cache lines, and where the key is not, mostly one.
	filterLine        = 64 // bytes
	filterLines       = 2
	filterBitsPerLine = 4
)

// filterHash is a hash that is the same everywhere.
func filterHash(k *Key) uint64 { return mix(k, seed{0x9e3779b97f4a7c15, 0xd1b54a32d192ed03}) }

// filterWriter makes filters of keys that come in rising order.
type filterWriter struct {
	tree   treeWriter
	first  entryKey
	last   entryKey
	hashes []uint64
}

func (w *filterWriter) add(key *entryKey) error {
	if len(w.hashes) == filterKeys(w.tree.out.most) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(w.hashes) == 0 {
		w.first = *key
	}
	w.last = *key
	w.hashes = append(w.hashes, filterHash((*Key)(key[1:])))
	return nil
}

// filterKeys is for how many keys a filter of at most so many bytes is.
func filterKeys(most int) int {
	return max(1, (most-filterHeader)/filterLine*filterLine*8/filterBitsPerKey)
}

func (w *filterWriter) flush() error {
	lines := (len(w.hashes)*filterBitsPerKey + filterLine*8 - 1) / (filterLine * 8)
	size := filterHeader + lines*filterLine
	b := make([]byte, size, size+checksumBytes)
	b[0] = typeFilter
	set := b[filterHeader:]
	for _, hash := range w.hashes {
		p := probe{hash: hash}
		for p.next(lines) {
			set[p.at] |= p.bit
		}
	}
	w.hashes = w.hashes[:0]
	number, err := w.tree.out.write(b)
	if err != nil {
		return err
	}
	return w.tree.addLeaf(fence{key: w.first, block: number}, &w.last)
}

// finish writes what is left, and returns the directory over all filters, of at most so many bytes.
func (w *filterWriter) finish(most int) ([]byte, error) {
	if len(w.hashes) > 0 {
		if err := w.flush(); err != nil {
			return nil, err
		}
	}
	return w.tree.finish(most)
}

// probe goes through the bits of a key.
type probe struct {
	hash uint64
	done int

	bits uint64 // for what is to come in the line
	line int    // where it begins
	at   int    // where the byte is,
	bit  byte   // and the bit in it
}

// next goes to the next bit, in so many lines.
func (p *probe) next(lines int) bool {
	switch p.done {
	case 0:
		p.begin(uint32(p.hash), lines) //nolint:gosec // half of it
	case filterBitsPerLine:
		p.begin(uint32(p.hash>>32), lines)
	case filterBitsPerLine * filterLines:
		return false
	}
	p.at, p.bit = p.line+int(p.bits>>3%filterLine), 1<<(p.bits%8)
	p.bits >>= 9
	p.done++
	return true
}

// begin begins a line.
func (p *probe) begin(hash uint32, lines int) {
	p.line = int(uint64(hash)*uint64(lines)>>32) * filterLine //nolint:gosec // below the number of lines
	high, low := bits.Mul64(p.hash^uint64(hash), 0xd1b54a32d192ed03)
	p.bits = high ^ low
}

// inFilter tells whether a filter has a key; it may seem so when it has not.
func inFilter(b []byte, k *Key) (bool, error) {
	lines := (len(b) - filterHeader) / filterLine
	if len(b) == 0 || b[0] != typeFilter || lines == 0 || len(b) != filterHeader+lines*filterLine {
		return false, damage("it is no filter")
	}
	set, p := b[filterHeader:], probe{hash: filterHash(k)}
	for p.next(lines) {
		if set[p.at]&p.bit == 0 {
			return false, nil
		}
	}
	return true, nil
}
