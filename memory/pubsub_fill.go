package memory

import (
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// batch is what one Receive hands out.
type batch struct {
	group *consumerGroup
	sub   *subscription
	dst   []es.Delivery
	n     int

	number   uint64 // tells the batches of a group apart
	delivery uint64 // number of the next
	clock    int64
	due      int64
	first    time.Time // of those that are handed out for the first time
	deadline time.Time
	alone    bool // it has a suspect, and takes nothing else

	// What is to be written to dst when the lock is released, and the names to write, since those of a group may change then.
	lot                  span
	topicName, groupName string
}

// fill makes up a batch of what can be handed out. A lot is still to be written.
//
// Half of the room is for messages that were held back, which are the older ones, and half for those that come up in the log, so
// that neither a message that fails again and again nor a flood of new ones keeps the others waiting. What one half does not
// need is the other's.
func (g *consumerGroup) fill(s *subscription, dst []es.Delivery, clock int64) batch {
	dst = dst[:min(len(dst), g.topic.space.config.Buffer-g.inFlight)]
	if len(dst) == 0 || g.fresh() == 0 && g.readyKeys.count == 0 {
		return batch{}
	}
	g.unpack()
	g.batch++
	g.cut = g.cut[:0]
	t, due := g.topic, later(clock, s.lease)
	b := batch{
		group: g, sub: s, dst: dst, number: g.batch, delivery: t.countDeliveries(len(dst)),
		topicName: t.name, groupName: g.name, clock: clock, due: due, first: t.space.time(clock), deadline: t.space.time(due),
	}
	if g.parcels.used == 0 && g.readyKeys.count == 0 {
		b.takeLot()
		return b
	}
	first := len(dst)
	if g.fresh() > 0 {
		first /= 2
		if len(dst)%2 == 1 && !g.freshTurn {
			first++
		}
		g.freshTurn = !g.freshTurn
	}
	b.takeReady(first)
	b.takeFresh()
	b.takeReady(len(dst))
	b.takeMore()
	return b
}

func (b *batch) full() bool { return b.alone || b.n == len(b.dst) }

// takeReady takes messages of keys that are ready, an equal share of each, until the batch has so many.
func (b *batch) takeReady(until int) {
	g := b.group
	for g.readyKeys.count > 0 && b.n < until && !b.alone {
		at := g.readyKeys.first()
		k := &g.keys.all[at]
		if !g.ready(k, b.clock) { // it was, when it was queued
			g.readyKeys.pop()
			k.queued = false
			g.settle(at, b.clock)
			continue
		}
		if g.parcels.all[k.queue.first].suspect && b.n > 0 {
			return // it begins the next batch
		}
		share := max((until-b.n)/g.readyKeys.count, 1)
		g.readyKeys.pop()
		k.queued = false
		if b.takeKey(k, share) {
			g.cut = append(g.cut, at)
		}
	}
}

// takeKey takes up to n messages of a key, and tells whether it has more that could be taken.
func (b *batch) takeKey(k *orderKey, n int) bool {
	g := b.group
	for !b.full() && !k.queue.empty() {
		i := k.queue.first
		p := &g.parcels.all[i]
		switch {
		case p.notBefore > b.clock, p.suspect && b.n > 0:
			return false
		case n == 0:
			return true
		}
		g.parcels.remove(&k.queue, byKey, i)
		g.heldBack--
		b.hand(i, p)
		b.alone = p.suspect
		n--
	}
	return false
}

// takeFresh takes messages from the log.
func (b *batch) takeFresh() {
	g := b.group
	for n := g.fresh(); n > 0 && !b.full(); n-- {
		i := g.take(&g.cursor)
		p := &g.parcels.all[i]
		k := &g.keys.all[p.key]
		if k.queue.empty() && (k.out.empty() || k.batch == b.number) {
			b.hand(i, p)
		} else {
			g.hold(i)
		}
	}
}

// takeMore takes more of the keys that had more than their share, when there is room after all.
func (b *batch) takeMore() {
	g := b.group
	for _, at := range g.cut {
		b.takeKey(&g.keys.all[at], len(b.dst))
	}
	g.cut = g.cut[:0]
}

// hand puts a parcel into the batch.
func (b *batch) hand(i int32, p *parcel) {
	g := b.group
	if p.first == 0 {
		p.first = b.clock
	}
	g.lend(i, b.sub, b.number, receiptFor(b.delivery, i), b.due)
	b.delivery++
	g.inFlight++
	d := &b.dst[b.n]
	b.n++
	b.write(d, &p.record.message)
	if broken := p.record.broken; broken != nil {
		d.Err, d.Raw = broken.cause, broken.raw
	}
	d.Attempt, d.First, d.Receipt = int(p.attempt), b.first, p.receipt
	if p.first != b.clock {
		d.First = g.topic.space.time(p.first)
	}
}

// write puts a message into a delivery of the batch, but for what is of this attempt at it.
func (b *batch) write(d *es.Delivery, m *es.Message) {
	// A slice that is used again holds much of what is to be written already. To look is cheaper than to write a pointer while
	// the garbage collector runs.
	d.Message = m
	if d.Topic != b.topicName {
		d.Topic = b.topicName
	}
	if d.Group != b.groupName {
		d.Group = b.groupName
	}
	if d.Err != nil || d.Raw != nil {
		d.Err, d.Raw = nil, nil
	}
	d.Deadline = b.deadline
}
