package memory

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// dedupeGroup is what one consumer group has handled, and has reserved. The done are bounded by number and by time; the
// reserved by what is being handled, because those whose lease has ended are swept out.
//
// It is a hash table of its own, with chains of slots, because every message goes through it: a slot that is forgotten is used
// for the next message, so that a group at its bound allocates nothing, and no slot has a pointer that the garbage collector
// would have to follow. Slots are named by their index; index 0 is none.
type dedupeGroup struct {
	seed    [2]uint64 // nobody can choose IDs that share a chain
	slots   []dedupeSlot
	chains  []uint32 // the first slot of each chain; the number is a power of two
	unused  uint32   // the first of the slots that are free, chained by next
	sweepAt int      // the number of reserved at which to look for those whose lease has ended

	reserved, done int
	oldest, newest uint32 // of the done, chained by later
}

type dedupeSlot struct {
	id    uuid.UUID
	token uint64
	time  time.Duration // since the start of the table: when the lease ends, or when it was done
	next  uint32
	later uint32 // the one that was done after this one
	state dedupeState
}

type dedupeState uint8

const (
	dedupeUnused dedupeState = iota
	dedupeReserved
	dedupeDone
)

func newDedupeGroup() *dedupeGroup {
	const fewest = 64
	return &dedupeGroup{
		seed:   [2]uint64{rand.Uint64(), rand.Uint64()},
		slots:  make([]dedupeSlot, 1, fewest),
		chains: make([]uint32, fewest),
	}
}

// chain returns the chain of an ID.
func (g *dedupeGroup) chain(id *uuid.UUID) *uint32 {
	high, low := bits.Mul64(binary.LittleEndian.Uint64(id[:8])^g.seed[0], binary.LittleEndian.Uint64(id[8:])^g.seed[1])
	return &g.chains[(high^low)&uint64(len(g.chains)-1)] //nolint:gosec // there is always a chain
}

// find returns the slot of an ID, or nil. It is good until the next reserve.
func (g *dedupeGroup) find(id *uuid.UUID) *dedupeSlot {
	for i := *g.chain(id); i != 0; i = g.slots[i].next {
		if g.slots[i].id == *id {
			return &g.slots[i]
		}
	}
	return nil
}

// reserve takes in a reservation of an ID that is not there.
func (g *dedupeGroup) reserve(id *uuid.UUID, token uint64, until time.Duration) {
	i := g.unused
	if i != 0 {
		g.unused = g.slots[i].next
	} else {
		i = uint32(len(g.slots)) //nolint:gosec // memory ends before
		g.slots = append(g.slots, dedupeSlot{})
		if len(g.slots) > len(g.chains) {
			g.rehash(2 * len(g.chains))
		}
	}
	chain := g.chain(id)
	g.slots[i] = dedupeSlot{id: *id, token: token, time: until, next: *chain, state: dedupeReserved}
	*chain = i
	g.reserved++
}

// complete makes a reservation done. The oldest of the done makes room when there are as many as there may be.
func (g *dedupeGroup) complete(s *dedupeSlot, now time.Duration, bound int) {
	if g.done == bound {
		g.forgetOldest()
	}
	i := g.index(s)
	s.state, s.time = dedupeDone, now
	if g.done == 0 {
		g.oldest = i
	} else {
		g.slots[g.newest].later = i
	}
	g.newest = i
	g.done++
	g.reserved--
}

// release forgets a reservation.
func (g *dedupeGroup) release(s *dedupeSlot) {
	g.reserved--
	g.free(g.index(s))
}

// forget drops the done that have expired: the order in which they were done is that in which they expire.
func (g *dedupeGroup) forget(now, ttl time.Duration) {
	for g.done > 0 && now-g.slots[g.oldest].time >= ttl {
		g.forgetOldest()
	}
}

func (g *dedupeGroup) forgetOldest() {
	i := g.oldest
	g.oldest = g.slots[i].later
	g.done--
	g.free(i)
}

// sweep drops reservations whose lease has ended, so that messages that nobody ever completes do not pile up. It looks at all
// slots when the reserved have doubled and are not few beside the done, which is O(1) for each that came.
func (g *dedupeGroup) sweep(now time.Duration) {
	if g.reserved <= g.sweepAt {
		return
	}
	for i := range g.slots {
		if s := &g.slots[i]; s.state == dedupeReserved && s.time <= now {
			g.release(s)
		}
	}
	const fewest = 1024
	g.sweepAt = max(fewest, 2*g.reserved, g.done/4)
}

// index returns the index of a slot.
func (g *dedupeGroup) index(s *dedupeSlot) uint32 {
	i := *g.chain(&s.id)
	for &g.slots[i] != s {
		i = g.slots[i].next
	}
	return i
}

// free takes a slot out of its chain, to be used again.
func (g *dedupeGroup) free(i uint32) {
	s := &g.slots[i]
	link := g.chain(&s.id)
	for *link != i {
		link = &g.slots[*link].next
	}
	*link = s.next
	*s = dedupeSlot{next: g.unused}
	g.unused = i
}

func (g *dedupeGroup) rehash(chains int) {
	g.chains = make([]uint32, chains)
	for i := range g.slots {
		if s := &g.slots[i]; s.state != dedupeUnused {
			chain := g.chain(&s.id)
			s.next, *chain = *chain, uint32(i)
		}
	}
}
