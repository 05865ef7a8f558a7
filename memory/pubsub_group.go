package memory

import (
	"hash/maphash"
	"math"

	es "github.com/eventsourcing-go/eventsourcing"
)

// consumerGroup is a place in a topic, and what was taken from there and is not acknowledged. A subscription without a group
// is a group of one, without a name. The lock of the topic guards it.
//
// Messages lie in the topic's log until somebody receives: what comes up in order is handed out, and what may not be handed
// out yet, because its key is with another batch or has to wait, is held back in the queue of its key. So each message is looked
// at once in the log, and once more when its key is ready, however long another key has to wait.
type consumerGroup struct {
	// Who publishes looks at these.
	topic     *topic
	present   int  // how many of the members are not nil
	frozen    bool // it does not read on; see topic.backlog
	heldBack  int
	inFlight  int
	cursor    topicCursor
	receivers []*receiver

	alarm     int64     // when the earliest of the receivers wakes by itself
	guard     *receiver // who that is
	readyKeys keyQueue
	name      string
	members   []*subscription // by their seats; nil where one has left
	lot       lot             // what is in flight without a parcel

	keyOf   func(*es.Message) string // nil: the stream
	keys    orderKeys
	delayed delayedKeys

	parcels parcels
	ordered parcelList // all of them, by number
	evicted int64

	batch     uint64  // number of the batch that is made up now, or was last
	freshTurn bool    // who gets the odd one in the next batch: the log, or what was held back
	cut       []int32 // keys of which the batch that is made up now could have taken more
	scratch   []int32
}

const never = math.MaxInt64

func newConsumerGroup(t *topic, name string) *consumerGroup {
	g := &consumerGroup{topic: t, name: name, cursor: t.log.end(), alarm: never}
	g.delayed.group = g
	return g
}

// fresh is how many messages lie ahead in the log.
func (g *consumerGroup) fresh() int {
	if g.frozen {
		return 0
	}
	return int(g.topic.log.head - g.cursor.number) //nolint:gosec // it is what fits a buffer
}

// waiting is how many messages are there that nobody has in hand.
func (g *consumerGroup) waiting() int { return g.fresh() + g.heldBack }

// limit is how many messages may wait before the oldest is dropped, when there is such a limit.
func (g *consumerGroup) limit() (int, bool) {
	config := g.topic.space.config
	if g.present == 0 {
		return config.BacklogLimit, true
	}
	return config.Buffer, config.Overflow == OverflowEvictOldest
}

// take takes the message at a place in the log, as a parcel that is neither handed out nor held back, and moves on.
func (g *consumerGroup) take(at *topicCursor) int32 {
	r := at.record()
	k := g.keys.get(g.hash(r))
	i := g.parcels.get()
	p := &g.parcels.all[i]
	p.record, p.number, p.key, p.attempt, p.seat = r, at.number, k, 1, noSeat
	at.advance()
	g.parcels.pushBack(&g.ordered, byNumber, i)
	return i
}

// lend puts a parcel in flight, with a subscription and as one of a batch.
func (g *consumerGroup) lend(i int32, s *subscription, batch, receipt uint64, due int64) {
	p := &g.parcels.all[i]
	p.seat, p.receipt, p.due = s.seat, receipt, due
	k := &g.keys.all[p.key]
	k.batch = batch
	g.parcels.pushBack(&k.out, byKey, i)
	g.parcels.pushBack(&s.leases, byLease, i)
}

func (g *consumerGroup) hash(r *topicRecord) uint64 {
	key := r.message.Stream
	if g.keyOf != nil {
		key = g.keyOf(&r.message)
	}
	return maphash.String(g.topic.space.seed, key)
}

// hold puts a parcel behind those of its key that are held back.
func (g *consumerGroup) hold(i int32) {
	k := &g.keys.all[g.parcels.all[i].key]
	g.parcels.pushBack(&k.queue, byKey, i)
	g.heldBack++
}

// ready tells whether a message of a key can be handed out.
func (g *consumerGroup) ready(k *orderKey, now int64) bool {
	return k.out.empty() && !k.queue.empty() && g.parcels.all[k.queue.first].notBefore <= now
}

// settle brings a key to where it belongs after a change.
func (g *consumerGroup) settle(at int32, now int64) {
	k := &g.keys.all[at]
	switch {
	case !k.out.empty():
		g.delayed.drop(at)
	case k.queue.empty():
		g.delayed.drop(at)
		g.keys.tidy(at)
	case g.parcels.all[k.queue.first].notBefore > now:
		g.delayed.put(at)
	default:
		g.delayed.drop(at)
		if !k.queued {
			k.queued = true
			g.readyKeys.push(at)
		}
	}
}

// finish ends a parcel in flight: it was acknowledged.
func (g *consumerGroup) finish(i int32, now int64) {
	at := g.parcels.all[i].key
	g.recall(i)
	g.discard(i)
	if g.keys.all[at].out.empty() {
		g.settle(at, now)
	}
}

// discard ends a parcel that is neither in flight nor held back any more.
func (g *consumerGroup) discard(i int32) {
	g.parcels.remove(&g.ordered, byNumber, i)
	g.parcels.put(i)
}

// recall takes a parcel out of flight.
func (g *consumerGroup) recall(i int32) {
	p := &g.parcels.all[i]
	g.parcels.remove(&g.members[p.seat].leases, byLease, i)
	g.parcels.remove(&g.keys.all[p.key].out, byKey, i)
	p.seat = noSeat
	g.inFlight--
}

// giveBack takes a parcel out of flight and holds it back again, and with it those of its key that follow it and are in flight:
// they must not be handled before it.
func (g *consumerGroup) giveBack(i int32, now int64) {
	at := g.parcels.all[i].key
	k := &g.keys.all[at]
	for {
		last := k.out.last
		p := &g.parcels.all[last]
		p.receipt = 0
		g.recall(last)
		g.parcels.pushFront(&k.queue, byKey, last)
		g.heldBack++
		if last == i {
			break
		}
	}
	g.settle(at, now)
}

// giveBackAll gives back the parcels in scratch, unless they went with one before.
func (g *consumerGroup) giveBackAll(now int64) {
	for _, i := range g.scratch {
		if g.parcels.all[i].seat != noSeat {
			g.giveBack(i, now)
		}
	}
	g.scratch = g.scratch[:0]
}

// refresh sees to what time has brought: leases that ended, and delays.
func (g *consumerGroup) refresh(now int64) {
	if g.lot.sub != nil && g.lot.due <= now {
		g.unpack()
	}
	for _, s := range g.members {
		if s == nil {
			continue
		}
		for i := s.leases.first; i != 0 && g.parcels.all[i].due <= now; i = g.parcels.all[i].links[byLease].next {
			p := &g.parcels.all[i]
			p.attempt++
			p.suspect = true
			g.scratch = append(g.scratch, i)
		}
	}
	g.giveBackAll(now)
	for len(g.delayed.heap) > 0 && g.delayed.due(0) <= now {
		g.settle(g.delayed.heap[0], now)
	}
}

// nextChange is when time brings something next.
func (g *consumerGroup) nextChange() int64 {
	next := int64(never)
	if g.lot.sub != nil {
		next = g.lot.due
	}
	for _, s := range g.members {
		if s != nil && !s.leases.empty() {
			next = min(next, g.parcels.all[s.leases.first].due)
		}
	}
	if len(g.delayed.heap) > 0 {
		next = min(next, g.delayed.due(0))
	}
	return next
}

// evict drops the oldest n of the messages that wait. There must be as many.
func (g *consumerGroup) evict(n int) {
	g.lot.setApart()
	for i := g.ordered.first; g.heldBack > 0 && n > 0; {
		p := &g.parcels.all[i]
		next := p.links[byNumber].next
		if p.seat == noSeat {
			g.drop(i)
			n--
		}
		i = next
	}
	if n > 0 {
		g.cursor.skip(n)
	}
}

// drop ends a parcel that is held back, and is the first of its key.
func (g *consumerGroup) drop(i int32) {
	at := g.parcels.all[i].key
	k := &g.keys.all[at]
	g.parcels.remove(&k.queue, byKey, i)
	g.heldBack--
	g.discard(i)
	switch {
	case k.queue.empty():
		g.delayed.drop(at)
		g.keys.tidy(at)
	case k.delay != 0:
		g.delayed.put(at) // the next one has a delay of its own
	}
}

// freeze makes the group stop where the log ends now.
func (g *consumerGroup) freeze() {
	for g.fresh() > 0 {
		i := g.take(&g.cursor)
		g.hold(i)
		g.settle(g.parcels.all[i].key, 0)
	}
	g.stop()
}

// stop makes the group read no further. It lets go of the log: with its place there, all that comes behind it would be kept.
func (g *consumerGroup) stop() {
	g.frozen = true
	g.cursor = topicCursor{}
}

// thaw makes the group go on from where the log ends now.
func (g *consumerGroup) thaw() {
	if g.frozen {
		g.cursor = g.topic.log.end()
		g.frozen = false
	}
}

// rekey sorts the messages that are held back by another ordering key. The group has no member, and nothing in flight.
func (g *consumerGroup) rekey(keyOf func(*es.Message) string) {
	g.keyOf = keyOf
	mine, first := g.parcels.all, g.ordered.first
	g.reset()
	g.adoptAll(mine, first)
}

// takeOver puts the messages of a backlog before those of the group: it was frozen before the group began. Neither has a member
// any more, and both are frozen.
func (g *consumerGroup) takeOver(older *consumerGroup) {
	mine, first := g.parcels.all, g.ordered.first
	g.reset()
	g.adoptAll(older.parcels.all, older.ordered.first)
	g.adoptAll(mine, first)
}

// adoptAll adopts those parcels that are linked by number from the first on.
func (g *consumerGroup) adoptAll(all []parcel, first int32) {
	for i := first; i != 0; i = all[i].links[byNumber].next {
		g.adopt(&all[i])
	}
}

// reset empties the hands of a group.
func (g *consumerGroup) reset() {
	g.keys, g.readyKeys, g.delayed.heap = orderKeys{}, keyQueue{}, nil
	g.parcels, g.ordered, g.heldBack = parcels{}, parcelList{}, 0
}

// adopt holds back a copy of a parcel, behind those of the group, under the key that it has here.
func (g *consumerGroup) adopt(p *parcel) {
	k := g.keys.get(g.hash(p.record))
	i := g.parcels.get()
	g.parcels.all[i] = parcel{
		record: p.record, number: p.number, first: p.first, notBefore: p.notBefore, attempt: p.attempt, suspect: p.suspect,
		key: k, seat: noSeat,
	}
	g.parcels.pushBack(&g.ordered, byNumber, i)
	g.hold(i)
	if g.keys.all[k].queue.first == i {
		g.settle(k, 0) // as delayed, when it has a delay; refresh finds out when that has passed
	}
}
