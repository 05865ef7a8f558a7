package eventlog

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// group is what a log has of a consumer group: one member of it, which the log's subscriptions share. A subscription without a
// group is a group of its own, with one partition that nobody else has and no state in the store.
type group struct {
	log        *Log
	topic      string
	name       string
	keys       groupKeys
	partitions int
	only       []es.Criterion
	keyOf      func(*es.Message) string // nil: the stream
	began      time.Time                // what the group's clock counts from

	incarnation uuid.UUID
	start       int64 // where the group began

	ctx    context.Context //nolint:containedctx // it lives as long as the goroutines of the group
	cancel context.CancelFunc
	work   sync.WaitGroup // the keeper and the reader
	opened chan struct{}  // closed when open has ended
	left   chan struct{}  // closed when nothing is left of the group

	mu        sync.Mutex
	err       error // why the group has failed for good
	ending    bool  // its last subscription is closing
	calls     sync.WaitGroup
	subs      []*subscription
	lease     es.Lease
	renewAt   int64    // when the lease is to be renewed
	lookAt    int64    // when the member looks who else is there
	failed    bool     // to look around, or to join, did not succeed
	surrender es.Lease // a lease that the member gave up, and that is still to be ended
	member    string   // the ID of this member; empty when it has to join anew
	memberDoc string   // the key of its document
	head      []byte   // of its document
	owned     []*partition
	byID      []*partition // by number; nil where somebody else owns it
	parcels   parcels
	deliver   keyQueue // keys whose messages can be handed out
	ready     int      // how many messages they have
	delayed   delayedKeys
	trial     *parcel     // it was with a member that died, and is lent again
	trialEnd  int64       // when it has survived long enough
	held      []*orderKey // those that wait for the end of the trial

	expired   []*parcel // while refresh is at work
	receivers []*receiver
	running   *round // the commit that is under way
	next      *round // what waits for the next one
	buffers   buffers
	covered   int64 // what the member's document says
	flushAt   int64 // when what has no hurry is written; never when there is nothing

	keeperAt   int64         // when the keeper wakes by itself
	keeperWake chan struct{} // has room for one signal
	readerWake chan struct{} // likewise
	readerIdle bool          // the reader waits for room or for a partition
	page       []*es.Message // of the reader
	stopWait   context.CancelFunc
	changed    chan struct{} // closed when the mark may have moved; nil when nobody waits for that
}

const never = math.MaxInt64

func newGroup(l *Log, topic, name string, o subscribeOptions) *group {
	g := &group{
		log: l, topic: topic, name: name, only: o.only, keyOf: o.Key, began: time.Now(),
		opened: make(chan struct{}), left: make(chan struct{}),
		next: newRound(), flushAt: never, keeperAt: never,
		keeperWake: make(chan struct{}, 1), readerWake: make(chan struct{}, 1),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if name != "" {
		g.keys = keysOf(l.config.Model, topic, name)
	}
	return g
}

// accept takes what the store says of the group. The member has no partitions meanwhile.
func (g *group) accept(d groupDocument) {
	g.incarnation, g.partitions, g.start = d.Incarnation, d.Partitions, d.Start
	g.byID = make([]*partition, d.Partitions)
}

// shared tells whether the group has state in the store.
func (g *group) shared() bool { return g.name != "" }

// clock is the time on the group's clock, in nanoseconds.
func (g *group) clock() int64 { return int64(time.Since(g.began)) }

// time is a time of the group's clock.
func (g *group) time(clock int64) time.Time { return g.began.Add(time.Duration(clock)) }

// micros is a time of the group's clock as documents have it.
func (g *group) micros(clock int64) int64 {
	if clock >= never-1 {
		return math.MaxInt64
	}
	return g.time(clock).UnixMicro()
}

// fromMicros is a time that a document has on the group's clock.
func (g *group) fromMicros(micros int64) int64 {
	if micros == math.MaxInt64 {
		return never - 1
	}
	return int64(time.UnixMicro(micros).Sub(g.began))
}

// later is a time on the clock, and never before it.
func later(clock int64, delay time.Duration) int64 {
	if at := clock + int64(max(delay, 0)); at >= clock {
		return min(at, never-1)
	}
	return never - 1
}

// partitionOf tells which partition a key is in.
func (g *group) partitionOf(hash uint64) *partition { return g.byID[hash%uint64(len(g.byID))] }

func (g *group) hash(m *es.Message) uint64 {
	if g.keyOf == nil {
		return hashKey(m.Stream)
	}
	return hashKey(g.keyOf(m))
}

// adopt makes the group the owner of a partition.
func (g *group) adopt(p *partition) {
	p.keys = map[uint64]*orderKey{}
	g.byID[p.id] = p
	g.owned = append(g.owned, p)
	slices.SortFunc(g.owned, func(a, b *partition) int { return a.id - b.id })
}

// drop ends the ownership of a partition. What waits for a commit is freed when that has ended.
func (g *group) drop(p *partition) {
	p.gone = true
	g.byID[p.id] = nil
	g.owned = slices.DeleteFunc(g.owned, func(other *partition) bool { return other == p })
	for _, k := range p.keys {
		g.delayed.drop(k)
		g.enqueued(k, -k.count)
	}
	for q := p.open.first; q != nil; {
		after := q.links[byPosition].next
		switch q.state {
		case waiting:
			g.parcels.put(q)
		case lent:
			q.sub.lent.remove(byLease, q)
			g.endTrial(q)
			g.parcels.put(q)
		case lending, acking, nacking, releasing, free:
		}
		q = after
	}
	p.open, p.keys = parcelList{}, nil
}

// dropAll ends the ownership of all partitions: the lease is lost.
func (g *group) dropAll() {
	for len(g.owned) > 0 {
		g.drop(g.owned[0])
	}
}

// add puts a message that was read into a partition.
func (g *group) add(p *partition, m *es.Message, hash uint64, e entry) {
	q := g.parcels.get()
	k := p.key(hash)
	q.message, q.part, q.key, q.position = m, p, k, m.Position
	q.attempt, q.first, q.suspicion, q.state = max(e.attempt, 1), e.first, e.suspicion, waiting
	if e.notBefore != 0 {
		q.notBefore = g.fromMicros(e.notBefore)
	}
	p.open.pushBack(byPosition, q)
	p.count++
	k.queue.pushBack(byKey, q)
	g.enqueued(k, 1)
	if k.queue.first == q {
		g.settleKey(k)
	}
}

// enqueued counts messages that came into the queue of a key, or left it when n is below 0.
func (g *group) enqueued(k *orderKey, n int) {
	k.count += n
	if k.queued {
		g.ready += n
	}
}

// queueKey puts a key among those that are ready.
func (g *group) queueKey(k *orderKey) {
	k.queued = true
	g.ready += k.count
	g.deliver.push(k)
}

// unqueueKey takes the first of the keys that are ready out of them.
func (g *group) unqueueKey() *orderKey {
	k := g.deliver.pop()
	k.queued = false
	g.ready -= k.count
	return k
}

// settleKey brings a key to where it belongs after a change.
func (g *group) settleKey(k *orderKey) {
	if k.part.gone {
		return
	}
	switch {
	case k.part.leaving || !k.out.empty() || k.queue.empty():
		g.delayed.drop(k)
	case k.queue.first.waits(g):
		g.delayed.put(k)
		if g.delayed.due(0) < g.keeperAt {
			g.wakeKeeper()
		}
	default:
		g.delayed.drop(k)
		if !k.queued && !k.held {
			g.queueKey(k)
		}
	}
}

// giveBack puts a parcel that was out back into the queue of its key.
func (g *group) giveBack(p *parcel) {
	k := p.key
	k.out.remove(byKey, p)
	p.state = waiting
	g.returned(p.part)
	k.queue.insertByPosition(byKey, p)
	g.enqueued(k, 1)
	g.settleKey(k)
}

// finish ends a parcel: it is handled.
func (g *group) finish(p *parcel) {
	k, part := p.key, p.part
	k.out.remove(byKey, p)
	part.open.remove(byPosition, p)
	part.count--
	g.returned(part)
	g.parcels.put(p)
	if k.out.empty() {
		g.settleKey(k)
	}
	if part.full && part.count <= g.log.config.Window/2 {
		part.full = false
		g.wakeReader()
	}
}

// returned counts a parcel that is not out any more.
func (g *group) returned(p *partition) {
	if p.out--; p.out == 0 && p.leaving {
		g.wakeKeeper() // it can be given away
	}
}

// endTrial notes that a parcel is not lent any more.
func (g *group) endTrial(p *parcel) {
	if g.trial == p {
		g.trial = nil
		g.releaseHeld()
	}
}

// releaseHeld lets those in again that waited for the end of a trial.
func (g *group) releaseHeld() {
	for _, k := range g.held {
		k.held = false
		g.settleKey(k)
	}
	clear(g.held)
	g.held = g.held[:0]
}

// refresh sees to what time has brought: leases that ended, and delays.
func (g *group) refresh(now int64) {
	for _, s := range g.subs {
		for p := s.lent.first; p != nil && p.due <= now; p = s.lent.first {
			p.attempt++
			p.suspicion = max(p.suspicion, overdue)
			g.withdraw(p)
		}
	}
	g.returnExpired(now)
	if g.trial != nil && g.trialEnd <= now {
		g.trial = nil
		g.releaseHeld()
	}
	for len(g.delayed) > 0 && g.delayed.due(0) <= now {
		g.settleKey(g.delayed[0])
	}
}

// withdraw takes a parcel from its subscription whose lease ended, or that follows such a one.
func (g *group) withdraw(p *parcel) {
	p.sub.lent.remove(byLease, p)
	p.state, p.notBefore = releasing, 0
	g.endTrial(p)
	g.expired = append(g.expired, p)
}

// returnExpired gives back what was withdrawn, with those of its key that follow it and are not answered: they must not be handled
// before it. The attempt of those whose lease ended is stored when the next one begins. Those that only follow are written soon:
// should the process end before, they are one attempt further than they need be.
func (g *group) returnExpired(now int64) {
	if len(g.expired) == 0 {
		return
	}
	for _, p := range g.expired {
		for q := p.links[byKey].next; q != nil; q = q.links[byKey].next {
			if q.state == lent {
				g.withdraw(q)
				q.part.dirty = true
				g.flushSoon(now)
			}
		}
	}
	for _, p := range slices.Backward(g.expired) {
		g.giveBack(p)
	}
	clear(g.expired)
	g.expired = g.expired[:0]
}

// nextChange is when time brings something next.
func (g *group) nextChange() int64 {
	next := int64(never)
	for _, s := range g.subs {
		if !s.lent.empty() {
			next = min(next, s.lent.first.due)
		}
	}
	if len(g.held) > 0 && g.trial != nil {
		next = min(next, g.trialEnd)
	}
	if len(g.delayed) > 0 {
		next = min(next, g.delayed.due(0))
	}
	return next
}

// fail ends the group for good: Receive says why.
func (g *group) fail(err error) {
	if g.err == nil {
		g.err = err
	}
	for _, r := range g.receivers {
		r.signal()
	}
	g.announce()
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one on its way
	}
}

func (g *group) wakeKeeper() { signal(g.keeperWake) }

// wakeReader makes the reader look for something to read, if it waits for room or for news of the store.
func (g *group) wakeReader() {
	if g.stopWait != nil {
		g.stopWait()
		g.stopWait = nil
	}
	signal(g.readerWake)
}

// announce tells those who wait for the mark that it may have moved.
func (g *group) announce() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}
