package eventlog

import (
	es "github.com/eventsourcing-go/eventsourcing"
)

// parcel is a message of a partition that is not handled. It waits in the queue of its key, or is with a subscription.
type parcel struct {
	message  *es.Message
	part     *partition
	key      *orderKey
	sub      *subscription // who has it, or had it last
	position int64

	receipt   uint64
	first     int64 // when it was handed out first, in Unix microseconds; 0 when it was not
	notBefore int64 // it waits until then, on the group's clock
	due       int64 // when its lease ends, on the group's clock
	index     uint32
	attempt   int32
	slot      int32 // of the delivery that an answer is for, in the call
	state     parcelState
	suspicion suspicion

	links [3]parcelLinks
}

// waits tells whether a parcel waits for a time that is still to come. Most never do, and cost no look at the clock.
func (p *parcel) waits(g *group) bool { return p.notBefore > 0 && p.notBefore > g.clock() }

// parcelState is where a parcel is. What is lending, acking, nacking or releasing waits for the commit that says so; until then
// nobody else gets its key.
type parcelState uint8

const (
	free parcelState = iota
	waiting
	lending
	lent
	acking
	nacking
	releasing
)

// suspicion is why a message might be the end of who handles it.
type suspicion uint8

const (
	trusted suspicion = iota
	overdue           // its lease ended without an answer; it comes in a batch of its own
	crashed           // it was with a member that died; it comes in a batch of its own, one of them at a time
)

type parcelLinks struct{ prev, next *parcel }

// The lists that a parcel is in.
const (
	byPosition = iota // all of its partition
	byLease           // those that are lent to one subscription, by the end of their lease
	byKey             // those of one key that wait, or those that are out; by position
)

// parcelList is a list of parcels that needs no memory of its own.
type parcelList struct{ first, last *parcel }

func (l *parcelList) empty() bool { return l.first == nil }

func (l *parcelList) pushBack(by int, p *parcel) { l.insert(by, p, nil) }

// insert puts a parcel before another one, and at the end when that is nil.
func (l *parcelList) insert(by int, p, before *parcel) {
	prev := l.last
	if before != nil {
		prev = before.links[by].prev
		before.links[by].prev = p
	} else {
		l.last = p
	}
	if prev != nil {
		prev.links[by].next = p
	} else {
		l.first = p
	}
	p.links[by] = parcelLinks{prev, before}
}

func (l *parcelList) remove(by int, p *parcel) {
	links := p.links[by]
	if links.prev == nil {
		l.first = links.next
	} else {
		links.prev.links[by].next = links.next
	}
	if links.next == nil {
		l.last = links.prev
	} else {
		links.next.links[by].prev = links.prev
	}
	p.links[by] = parcelLinks{}
}

// insertByPosition puts a parcel where it belongs, which is most often near the front.
func (l *parcelList) insertByPosition(by int, p *parcel) {
	at := l.first
	for at != nil && at.position < p.position {
		at = at.links[by].next
	}
	l.insert(by, p, at)
}

// parcels has the parcels of a group, in blocks that stay where they are. A receipt has the number of its parcel in it, so that
// no table is needed to find it.
type parcels struct {
	blocks   []*[parcelsInBlock]parcel
	unused   []*parcel
	receipts uint64 // given out so far
}

const (
	parcelsInBlock = 128
	indexBits      = 24 // of a receipt; there are no more parcels than windows hold
)

// get returns a parcel that is free.
func (ps *parcels) get() *parcel {
	if len(ps.unused) == 0 {
		block := new([parcelsInBlock]parcel)
		for i := parcelsInBlock - 1; i >= 0; i-- {
			block[i].index = uint32(len(ps.blocks)*parcelsInBlock + i) //nolint:gosec // the windows bound it
			ps.unused = append(ps.unused, &block[i])
		}
		ps.blocks = append(ps.blocks, block)
	}
	last := len(ps.unused) - 1
	p := ps.unused[last]
	ps.unused = ps.unused[:last]
	return p
}

// put takes a parcel back that is in no list.
func (ps *parcels) put(p *parcel) {
	*p = parcel{index: p.index}
	ps.unused = append(ps.unused, p)
}

// stamp gives a parcel a receipt that no other delivery has.
func (ps *parcels) stamp(p *parcel) {
	ps.receipts++
	p.receipt = ps.receipts<<indexBits | uint64(p.index)
}

// find returns the parcel of a receipt that a subscription has and has not answered, nil when there is none.
func (ps *parcels) find(s *subscription, receipt uint64) *parcel {
	index := receipt & (1<<indexBits - 1)
	if index >= uint64(len(ps.blocks)*parcelsInBlock) {
		return nil
	}
	p := &ps.blocks[index/parcelsInBlock][index%parcelsInBlock]
	if p.state != lent || p.receipt != receipt || p.sub != s {
		return nil
	}
	return p
}
