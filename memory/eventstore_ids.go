package memory

import (
	"hash/maphash"

	"github.com/google/uuid"
)

// idIndex finds events by their ID. It is a hash table with open addressing whose slots have one byte of the hash and the
// position; the ID itself is read from the record. Nearly every look-up is for an ID that is new, and the bytes alone, which
// are few and close together, say so.
//
// It grows without a pause: the new table takes over the positions of the old one little by little, while IDs are added.
type idIndex struct {
	seed  maphash.Seed
	table idTable
	old   idTable // while the table grows, the one before
	moved uint32  // and how many of its positions have been taken over
	until uint32  // of so many
}

type idTable struct {
	marks     []byte // a byte of the hash that is not 0, or 0 where the slot is empty
	positions []uint32
	shift     uint // the rest of the hash, shifted right by it, is the slot to begin at
}

const (
	firstIDBits = 8
	// With every movesEvery-th ID that is added, movesAtOnce positions are taken over, because a processor waits for many reads
	// of memory as long as for one. At 4 to 1 it is done long before the table, half as full again, has to grow once more.
	movesEvery  = 8
	movesAtOnce = 32
)

func newIDTable(bits uint) idTable {
	return idTable{marks: make([]byte, 1<<bits), positions: make([]uint32, 1<<bits), shift: 64 - bits}
}

func newIDIndex(seed maphash.Seed) idIndex {
	return idIndex{seed: seed, table: newIDTable(firstIDBits)}
}

func (x *idIndex) hash(id uuid.UUID) uint64 { return maphash.Bytes(x.seed, id[:]) }

// slot returns where to begin to look for a hash, and the byte to look for.
func (t *idTable) slot(hash uint64) (slot int, mark byte) {
	return int(hash >> t.shift), max(byte(hash), 1) //nolint:gosec // the slot is below the length of the table
}

// find returns the position of an ID, or 0. The log tells whether an event has it.
func (t *idTable) find(l *eventLog, id uuid.UUID, hash uint64) uint32 {
	if len(t.marks) == 0 {
		return 0
	}
	slot, mark := t.slot(hash)
	for ; t.marks[slot] != 0; slot = (slot + 1) & (len(t.marks) - 1) {
		if t.marks[slot] == mark && l.id(t.positions[slot]) == id {
			return t.positions[slot]
		}
	}
	return 0
}

func (t *idTable) add(hash uint64, position uint32) {
	slot, mark := t.slot(hash)
	for t.marks[slot] != 0 {
		slot = (slot + 1) & (len(t.marks) - 1)
	}
	t.marks[slot], t.positions[slot] = mark, position
}

// find returns the position of the event with an ID, or 0.
func (l *eventLog) find(id uuid.UUID) uint32 {
	hash := l.ids.hash(id)
	if position := l.ids.table.find(l, id, hash); position != 0 {
		return position
	}
	return l.ids.old.find(l, id, hash)
}

// index makes the last event be found by its ID, which is new.
func (l *eventLog) index(id uuid.UUID) {
	x := &l.ids
	size := len(x.table.marks)
	if int64(l.last) > int64(size)/4*3 { // every position has an ID, so that the last one says how many there are
		x.old, x.moved, x.until = x.table, 0, l.last-1
		x.table = newIDTable(64 - x.table.shift + 1)
	}
	x.table.add(x.hash(id), l.last)
	if len(x.old.marks) > 0 && l.last%movesEvery == 0 {
		l.moveIDs()
	}
}

// moveIDs takes some positions over from the old table, and lets go of it when they are the last.
func (l *eventLog) moveIDs() {
	x := &l.ids
	var hashes [movesAtOnce]uint64
	n := min(x.until-x.moved, movesAtOnce)
	for i := range n {
		hashes[i] = x.hash(l.id(x.moved + 1 + i))
	}
	for i := range n {
		x.table.add(hashes[i], x.moved+1+i)
	}
	if x.moved += n; x.moved == x.until {
		x.old = idTable{}
	}
}

// id returns the ID of the event at a position.
func (l *eventLog) id(position uint32) uuid.UUID {
	c := l.chunks[l.locate(position)]
	start := c.offsets[position-c.first] + 1 // behind the flags
	return uuid.UUID(c.data[start : start+16])
}
