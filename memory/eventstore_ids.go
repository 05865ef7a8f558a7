package memory

import (
	"hash/maphash"
	"math/bits"

	"github.com/google/uuid"
)

// idIndex finds events by their ID. It is a hash table with open addressing whose slots have half of the hash and the position;
// the ID itself is read from the record. Nearly every look-up is for an ID that is new, and the slot says so by itself: that is
// one read of memory that is far away, and the slot that is then written is the one that was just read.
//
// It grows without a pause: the new table takes over the slots of the old one little by little, while IDs are added. The order
// of the slots is that of the hashes in tables of all sizes, so that taking over goes through both of them from front to end and
// needs no record.
type idIndex struct {
	seed  maphash.Seed
	table idTable
	old   idTable // while the table grows, the one before
	moved int     // and how many of its slots have been taken over
}

// idTable is a table that is never full.
type idTable []idSlot

// idSlot has a position, and some bits of the hash of the ID that stands there. It is free when the position is 0.
type idSlot struct{ hash, position uint32 }

const (
	firstIDSlots = 256
	// A table grows by a half when it is full to four fifths. With every movesEvery-th ID that is added, movesAtOnce slots are
	// taken over: at 4 to 1 that is done long before the new table has to grow.
	movesEvery  = 8
	movesAtOnce = 32
)

func newIDIndex(seed maphash.Seed) idIndex {
	return idIndex{seed: seed, table: make(idTable, firstIDSlots)}
}

// hash returns as much of the hash of an ID as the slots have.
func (x *idIndex) hash(id uuid.UUID) uint32 {
	return uint32(maphash.Bytes(x.seed, id[:]) >> 32)
}

// home is the slot to begin to look for a hash. It rises with the hash.
func (t idTable) home(hash uint32) int {
	slot, _ := bits.Mul64(uint64(hash)<<32, uint64(len(t)))
	return int(slot) //nolint:gosec // it is below the number of slots
}

func (t idTable) next(i int) int {
	if i++; i < len(t) {
		return i
	}
	return 0
}

func (t idTable) add(slot idSlot) {
	i := t.home(slot.hash)
	for t[i].position != 0 {
		i = t.next(i)
	}
	t[i] = slot
}

// find returns the position of the event with an ID of a hash, or 0. The log tells whether it is that ID.
func (t idTable) find(l *eventLog, id uuid.UUID, hash uint32) uint32 {
	if len(t) == 0 {
		return 0
	}
	i := t.home(hash)
	for t[i].position != 0 && (t[i].hash != hash || l.id(t[i].position) != id) {
		i = t.next(i)
	}
	return t[i].position
}

// find returns the position of the event with an ID of a hash, or 0.
func (l *eventLog) find(id uuid.UUID, hash uint32) uint32 {
	if position := l.ids.table.find(l, id, hash); position != 0 {
		return position
	}
	return l.ids.old.find(l, id, hash)
}

// add makes an event be found by its ID, which is new. Every position has an ID, so that the one of the event, which is the last,
// says how many there are.
func (x *idIndex) add(hash, position uint32) {
	if size := len(x.table); int64(position) > int64(size)/5*4 {
		x.old, x.moved = x.table, 0
		x.table = make(idTable, size+size/2)
	}
	x.table.add(idSlot{hash, position})
	if len(x.old) > 0 && position%movesEvery == 0 {
		x.move()
	}
}

// move takes some slots over from the old table, and lets go of it when they are the last.
func (x *idIndex) move() {
	end := min(x.moved+movesAtOnce, len(x.old))
	for _, slot := range x.old[x.moved:end] {
		if slot.position != 0 {
			x.table.add(slot)
		}
	}
	if x.moved = end; end == len(x.old) {
		x.old = nil
	}
}

// id returns the ID of the event at a position.
func (l *eventLog) id(position uint32) uuid.UUID {
	c := l.chunks[l.locate(position)]
	start := c.offsets[position-c.first] + 1 // behind the flags
	return uuid.UUID(c.data[start : start+16])
}
