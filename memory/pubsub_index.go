package memory

import "math/bits"

// numberIndex finds small numbers, above 0, by numbers of 64 bits: parcels by their receipts, and keys by their hashes. It is a
// table with open addressing, at most half full. What follows each other, as the receipts of a batch do, lies far apart in it
// and hardly ever collides (Fibonacci hashing: Knuth, The Art of Computer Programming, section 6.4).
type numberIndex struct {
	slots []indexSlot // as many as a power of two
	shift int         // of a product, to get a place
	count int
}

type indexSlot struct {
	id uint64
	at int32 // 0: the slot is free
}

// place is where a number is looked for first.
func (x *numberIndex) place(id uint64) int {
	const golden = 0x9e3779b97f4a7c15
	return int((id * golden) >> x.shift) //nolint:gosec // it is below len(x.slots)
}

// find returns the slot of id, and what it has; -1 and 0 when it is not there.
func (x *numberIndex) find(id uint64) (int, int32) {
	if x.count == 0 {
		return -1, 0
	}
	mask := len(x.slots) - 1
	for i := x.place(id) & mask; ; i = (i + 1) & mask {
		switch slot := &x.slots[i]; {
		case slot.at == 0:
			return -1, 0
		case slot.id == id:
			return i, slot.at
		}
	}
}

// put adds id, which must not be there.
func (x *numberIndex) put(id uint64, at int32) {
	if 2*(x.count+1) > len(x.slots) {
		x.resize(2 * len(x.slots))
	}
	x.insert(id, at)
}

func (x *numberIndex) insert(id uint64, at int32) {
	mask := len(x.slots) - 1
	i := x.place(id) & mask
	for x.slots[i].at != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = indexSlot{id, at}
	x.count++
}

// remove frees a slot that find has found.
func (x *numberIndex) remove(free int) {
	mask := len(x.slots) - 1
	// What stands behind it and was pushed away from its place moves up, so that no search ends too early.
	for i := (free + 1) & mask; x.slots[i].at != 0; i = (i + 1) & mask {
		if (i-x.place(x.slots[i].id))&mask >= (i-free)&mask {
			x.slots[free] = x.slots[i]
			free = i
		}
	}
	x.slots[free] = indexSlot{}
	x.count--
	const many = 1 << 14
	if x.count == 0 && len(x.slots) > many { // a pile was there, and is worked off
		*x = numberIndex{}
	}
}

func (x *numberIndex) resize(size int) {
	const few = 16
	old := x.slots
	x.slots = make([]indexSlot, max(size, few))
	x.shift = 64 - bits.TrailingZeros(uint(len(x.slots)))
	x.count = 0
	for _, slot := range old {
		if slot.at != 0 {
			x.insert(slot.id, slot.at)
		}
	}
}
