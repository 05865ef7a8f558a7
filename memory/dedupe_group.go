package memory

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// dedupeGroup is what one consumer group has handled, and has reserved. The done are bounded by number and by time; the
// reserved by what is being handled, because those whose lease has ended are swept out.
//
// It is a hash table of its own, with chains of slots, because every message goes through it. A slot that is forgotten is used
// for the next message, so that a group at its bound allocates nothing, and messages that are done in the order in which they came
// walk through the slots from first to last, time and again, which is the way that memory is fast. No slot has a pointer that the
// garbage collector would have to follow. Slots are named by their number; number 0 is none.
type dedupeGroup struct {
	name string
	seed [2]uint64 // nobody can choose IDs that share a chain
	// slots has a slot 0 that is never used.
	slots []dedupeSlot
	// chains has the first slot of each chain; their number is a power of two. They are the one thing that is gone to at random,
	// and so they are many and small: four times the slots, most are empty, and that an ID is new is seen without a look at a slot; at
	// four bytes each, those of 64,000 slots still fit the cache of a core.
	chains  []uint32
	unused  uint32 // the first of the slots that are free, linked by later
	sweepAt int    // the number of reserved at which to look for those whose lease has ended

	reserved, done int
	oldest, newest uint32 // of the done, linked by later
	touched        uint32 // what touchOldest has read
}

type dedupeSlot struct {
	id    uuid.UUID
	token uint64
	time  time.Duration // by the clock of the tables: when the lease ends, or when it was done
	next  uint32        // in the chain
	later uint32        // the one that was done after this one
	state dedupeState
}

type dedupeState uint8

const (
	dedupeUnused dedupeState = iota
	dedupeReserved
	dedupeDone
)

// chainsPerSlot is how many chains there are for each slot, or more.
const chainsPerSlot = 4

func newDedupeGroup(name string) *dedupeGroup {
	const fewest = 64
	return &dedupeGroup{
		name:   name,
		seed:   [2]uint64{rand.Uint64(), rand.Uint64()},
		slots:  make([]dedupeSlot, 1, fewest),
		chains: make([]uint32, fewest),
	}
}

// chain returns the chain of an ID. It is good until the next reserve.
func (g *dedupeGroup) chain(id *uuid.UUID) *uint32 {
	high, low := bits.Mul64(binary.LittleEndian.Uint64(id[:8])^g.seed[0], binary.LittleEndian.Uint64(id[8:])^g.seed[1])
	return &g.chains[(high^low)&uint64(len(g.chains)-1)] //nolint:gosec // there is always a chain
}

// find returns the slot of an ID; 0, which is unused, when it has none.
func (g *dedupeGroup) find(id *uuid.UUID) uint32 {
	n := *g.chain(id)
	for n != 0 && g.slots[n].id != *id {
		n = g.slots[n].next
	}
	return n
}

// touchOldest reads the head of the chain of the oldest of the done, which a completion at the bound is about to change. It is called
// before the search for another ID: neither of the two is in the cache, as a rule, and the processor waits for both at once, where it
// would wait for one after the other. What was read is kept for no other reason than that it is read.
func (g *dedupeGroup) touchOldest() { g.touched = *g.chain(&g.slots[g.oldest].id) }

// held returns the slot of a reservation that is its holder's still, or that its holder has completed; 0 when it is neither.
func (g *dedupeGroup) held(r *es.Reservation, now time.Duration) uint32 {
	n := g.find(&r.ID)
	s := &g.slots[n]
	if s.token != r.Token || s.state == dedupeReserved && s.time <= now {
		return 0
	}
	return n
}

// reserve takes in a reservation of an ID that is not there.
func (g *dedupeGroup) reserve(id *uuid.UUID, token uint64, until time.Duration) {
	n := g.unused
	if n != 0 {
		g.unused = g.slots[n].later
	} else {
		n = uint32(len(g.slots)) //nolint:gosec // memory ends before
		g.slots = append(g.slots, dedupeSlot{})
		if chainsPerSlot*len(g.slots) > len(g.chains) {
			g.rehash(2 * len(g.chains))
		}
	}
	chain := g.chain(id)
	g.slots[n] = dedupeSlot{id: *id, token: token, time: until, next: *chain, state: dedupeReserved}
	*chain = n
	g.reserved++
}

// complete makes a reservation done. The oldest of the done makes room when there are as many as there may be.
func (g *dedupeGroup) complete(n uint32, now time.Duration, bound int) {
	if g.done == bound {
		g.forgetOldest()
	}
	s := &g.slots[n]
	s.state, s.time = dedupeDone, now
	if g.done == 0 {
		g.oldest = n
	} else {
		g.slots[g.newest].later = n
	}
	g.newest = n
	g.done++
	g.reserved--
}

// release forgets a reservation.
func (g *dedupeGroup) release(n uint32) {
	g.reserved--
	g.free(n)
}

// forget drops the done that have expired: the order in which they were done is that in which they expire.
func (g *dedupeGroup) forget(now, ttl time.Duration) {
	for g.done > 0 && now-g.slots[g.oldest].time >= ttl {
		g.forgetOldest()
	}
}

func (g *dedupeGroup) forgetOldest() {
	n := g.oldest
	g.oldest = g.slots[n].later
	g.done--
	g.free(n)
}

// sweep drops reservations whose lease has ended, so that messages that nobody ever completes do not pile up. It looks at all
// slots when the reserved have doubled and are not few beside the done, which is O(1) for each that came.
func (g *dedupeGroup) sweep(now time.Duration) {
	if g.reserved <= g.sweepAt {
		return
	}
	for n := range g.slots {
		if s := &g.slots[n]; s.state == dedupeReserved && s.time <= now {
			g.release(uint32(n))
		}
	}
	const fewest = 1024
	g.sweepAt = max(fewest, 2*g.reserved, g.done/4)
}

// free takes a slot out of its chain, to be used again.
func (g *dedupeGroup) free(n uint32) {
	s := &g.slots[n]
	link := g.chain(&s.id)
	for *link != n {
		link = &g.slots[*link].next
	}
	*link = s.next
	*s = dedupeSlot{later: g.unused}
	g.unused = n
}

func (g *dedupeGroup) rehash(chains int) {
	g.chains = make([]uint32, chains)
	for n := range g.slots {
		if s := &g.slots[n]; s.state != dedupeUnused {
			chain := g.chain(&s.id)
			s.next, *chain = *chain, uint32(n)
		}
	}
}
