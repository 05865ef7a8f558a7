package index

import (
	"encoding/binary"
	"math/bits"
)

// seed makes hashes that nobody else can foresee, if it is random.
type seed [2]uint64

// mix makes a hash of all the bits of a key. IDs need it; other keys are hashes, and yet those who choose the texts must not be able
// to choose the hashes of a table.
func mix(k *Key, s seed) uint64 {
	high, low := bits.Mul64(binary.LittleEndian.Uint64(k[:])^s[0], binary.LittleEndian.Uint64(k[8:])^s[1])
	return (high ^ low) * 0x9e3779b97f4a7c15
}

// table is a hash table with open addressing, from a hash to a number that whoever asks must look up to compare keys. The slots
// have half of the hash, so that nearly every look-up of what is not there ends without that.
type table struct {
	slots []slot
	used  int
	shift uint // to make a slot's index of 32 bits of hash
}

// slot is free when it is 0; otherwise 32 bits of hash and a number plus 1.
type slot uint64

func newSlot(hash, number uint32) slot { return slot(hash)<<32 | slot(number+1) }

func (s slot) hash() uint32   { return uint32(s >> 32) }
func (s slot) number() uint32 { return uint32(s&(1<<32-1)) - 1 }

const leastSlots = 64

// newTable returns a table that takes as many numbers without growing.
func newTable(numbers int) table {
	size := leastSlots
	for size/4*3 < numbers {
		size *= 2
	}
	return tableOf(size)
}

func tableOf(size int) table {
	return table{slots: make([]slot, size), shift: 32 - uint(bits.TrailingZeros(uint(size)))}
}

// home is the slot to begin to look for a hash, and next the one to go on with.
func (t *table) home(hash uint32) int { return int(hash >> t.shift) }
func (t *table) next(i int) int       { return (i + 1) & (len(t.slots) - 1) }

// add adds a number. It may be there already, with the same hash or another.
func (t *table) add(hash, number uint32) {
	if t.used >= len(t.slots)/4*3 {
		t.grow()
	}
	t.put(newSlot(hash, number))
	t.used++
}

func (t *table) put(s slot) {
	i := t.home(s.hash())
	for t.slots[i] != 0 {
		i = t.next(i)
	}
	t.slots[i] = s
}

func (t *table) grow() {
	grown := tableOf(2 * len(t.slots))
	for _, s := range t.slots {
		if s != 0 {
			grown.put(s)
		}
	}
	grown.used = t.used
	*t = grown
}

// remove takes out a number that is there. The slots behind it that it was in the way of move up.
func (t *table) remove(hash, number uint32) {
	free := t.home(hash)
	for t.slots[free] != newSlot(hash, number) {
		free = t.next(free)
	}
	mask := len(t.slots) - 1
	for i := t.next(free); t.slots[i] != 0; i = t.next(i) {
		fromHome, fromFree := (i-t.home(t.slots[i].hash()))&mask, (i-free)&mask
		if fromHome >= fromFree {
			t.slots[free] = t.slots[i]
			free = i
		}
	}
	t.slots[free] = 0
	t.used--
}
