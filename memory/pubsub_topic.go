package memory

import (
	"container/list"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

// topic has what was published to it, once, and the groups that read it, each at its place. Its lock guards all of that.
//
// What each Publish touches before it takes the lock lies apart from what those who receive write to.
type topic struct {
	name  string
	space *topicSpace
	// press is for who publishes next, and presses are for those who publish at the same time. They need no lock.
	press   atomic.Pointer[press]
	presses sync.Pool

	_ cacheLine

	mu   sync.Mutex
	gone bool // no longer in the space
	log  topicLog
	// groups get what is published. While nobody is subscribed, the backlog is the only one.
	groups []*consumerGroup
	queue  []*ticket   // of publishers that wait for room; the first is served first
	news   []eviction  // to be logged when the lock is released
	called []*receiver // to be woken when the lock is released
	// backlog holds what nobody has subscribed to; nil when there is nothing. While others are subscribed (who did not want it)
	// it is not among the groups, and is frozen.
	backlog *consumerGroup
	place   *list.Element // among the unwanted topics, when it is one
	evicted int64         // messages dropped, by groups that are gone and by the backlog
	// The next delivery has this number, and so many more numbers are for those of this topic.
	delivery, reserved uint64
}

// cacheLine keeps apart what two processors write to: they get memory by 64 bytes, and some fetch the 64 beside as well.
type cacheLine [128]byte

// eviction is news of messages that were dropped.
type eviction struct {
	group string
	total int64
}

func newTopic(s *topicSpace, name string) *topic {
	t := &topic{name: name, space: s}
	t.log.tail = &topicBlock{}
	t.presses.New = func() any { return &press{space: s} }
	return t
}

// unlock releases the lock of the topic, and then wakes those who were called. To wake somebody takes longer than all that is done
// with the lock held.
func (t *topic) unlock() {
	if len(t.called) == 0 {
		t.mu.Unlock()
		return
	}
	var room [16]*receiver
	called := append(room[:0], t.called...)
	clear(t.called)
	t.called = t.called[:0]
	t.mu.Unlock()
	for _, r := range called {
		r.signal()
	}
}

// call wakes a receiver when the lock is released.
func (t *topic) call(r *receiver) {
	r.woken = true
	t.called = append(t.called, r)
}

// countDeliveries gives numbers to deliveries, and returns that of the first. The topic has some in reserve: all topics draw from
// one counter, and each batch would wait for it.
func (t *topic) countDeliveries(n int) uint64 {
	const many = 1024
	if wanted := uint64(n); wanted > t.reserved { //nolint:gosec // it is not negative
		t.reserved = max(wanted, many)
		t.delivery = t.space.deliveries.Add(t.reserved) - t.reserved
	}
	first := t.delivery
	t.delivery += uint64(n) //nolint:gosec // it is not negative
	t.reserved -= uint64(n) //nolint:gosec // it is not negative
	return first
}

// idle tells whether the topic has nothing and nobody.
func (t *topic) idle() bool {
	return len(t.groups) == 0 && t.backlog == nil && len(t.queue) == 0
}

// publish takes as many of w's publications as there is room for. It returns true when it has taken all. Otherwise w is in the
// queue, and gets a signal when it is its turn.
func (t *topic) publish(w *publication) (bool, error) {
	if len(t.groups) == 0 {
		t.openBacklog()
		w.unwanted = true
	}
	// Who may wait does not push in front of those who do.
	if len(t.queue) == 0 || t.queue[0] == w.ticket || !w.mayWait {
		n := min(t.room(), len(w.pubs)-w.taken)
		if n > 0 {
			t.log.link(w, n)
			w.taken += n
			t.spread()
		}
	}
	switch {
	case w.taken == len(w.pubs):
		t.dequeue(w)
		return true, nil
	case w.own:
		return false, fmt.Errorf("topic %q has no room, and is published to by its own handler, which would wait for itself: %w",
			t.name, es.ErrFull)
	case !w.mayWait:
		return false, fmt.Errorf("topic %q has no room: %w", t.name, es.ErrFull)
	}
	if w.ticket == nil {
		w.ticket = &ticket{wake: make(chan struct{}, 1)}
		t.queue = append(t.queue, w.ticket)
	}
	return false, nil
}

// room is how many messages can be taken without anybody's buffer running over.
func (t *topic) room() int {
	const unlimited = int(^uint(0) >> 1)
	if t.space.config.Overflow == OverflowEvictOldest {
		return unlimited
	}
	least := unlimited
	for _, g := range t.groups {
		if g.present > 0 {
			least = min(least, t.space.config.Buffer-g.waiting())
		}
	}
	return max(least, 0)
}

// spread lets the groups know of messages that were appended, and drops what is too much for them.
func (t *topic) spread() {
	for _, g := range t.groups {
		if limit, bounded := g.limit(); bounded {
			t.evict(g, g.waiting()-limit)
		}
		g.notify()
	}
}

// evict drops the oldest n messages that wait in a group.
func (t *topic) evict(g *consumerGroup, n int) {
	if n <= 0 {
		return
	}
	g.evict(n)
	before := g.evicted
	g.evicted += int64(n)
	// The first loss is news, and so is each doubling; the others would fill the log.
	if bits.Len64(uint64(before)) != bits.Len64(uint64(g.evicted)) { //nolint:gosec // counts are not negative
		t.news = append(t.news, eviction{g.name, g.evicted})
	}
}

func (t *topic) takeNews() []eviction {
	news := t.news
	t.news = nil
	return news
}

// tell logs what was dropped. No lock is held, since a logger may do anything.
func (p *PubSub) tell(topicName string, news []eviction) {
	for _, e := range news {
		p.broker.config.Logger.Warn("pub/sub dropped messages that nobody received in time",
			"topic", topicName, "group", e.group, "dropped", e.total)
	}
}

// dequeue takes a publisher out of the queue, when it is there, and gives the next its turn.
func (t *topic) dequeue(w *publication) {
	if w.ticket == nil {
		return
	}
	i := slices.Index(t.queue, w.ticket)
	t.queue = slices.Delete(t.queue, i, i+1)
	w.ticket = nil
	t.serve()
}

// serve wakes the publisher whose turn it is when there is room.
func (t *topic) serve() {
	if len(t.queue) == 0 || t.room() == 0 {
		return
	}
	select {
	case t.queue[0].wake <- struct{}{}:
	default: // it knows
	}
}

// openBacklog makes the backlog collect what is published.
func (t *topic) openBacklog() {
	if t.backlog == nil {
		t.backlog = newConsumerGroup(t, "")
	}
	t.backlog.thaw()
	t.groups = append(t.groups, t.backlog)
	t.noteUnwanted()
}

// join makes a subscription, in the group that it names or in one of its own.
func (t *topic) join(p *PubSub, opts es.SubscribeOptions) *subscription {
	g := t.group(opts.Group)
	if g == nil {
		g = t.newGroup(opts)
	}
	if g.present == 0 {
		g.rekey(opts.Key)
	}
	s := &subscription{pubsub: p, topic: t, group: g, lease: opts.Lease}
	g.sit(s)
	t.noteUnwanted()
	t.serve()
	return s
}

// group returns the group of a name, nil when there is none.
func (t *topic) group(name string) *consumerGroup {
	if name == "" {
		return nil
	}
	for _, g := range t.groups {
		if g.name == name {
			return g
		}
	}
	return nil
}

// newGroup makes a group, or makes the backlog one.
func (t *topic) newGroup(opts es.SubscribeOptions) *consumerGroup {
	g := t.backlog
	if g != nil && opts.Start.Kind != es.StartEnd {
		t.backlog = nil
		if g.frozen {
			g.thaw()
			t.groups = append(t.groups, g)
		}
		g.name = opts.Group
		t.evicted += g.evicted
		g.evicted = 0
		return g
	}
	if g != nil && !g.frozen {
		g.freeze()
		t.remove(g)
		if g.waiting() == 0 {
			t.backlog = nil
		}
	}
	g = newConsumerGroup(t, opts.Group)
	t.groups = append(t.groups, g)
	return g
}

func (t *topic) remove(g *consumerGroup) {
	t.groups = slices.DeleteFunc(t.groups, func(other *consumerGroup) bool { return other == g })
}

// retire ends a group. When there is no other, what it has is the topic's backlog again.
func (t *topic) retire(g *consumerGroup) {
	t.remove(g)
	t.evicted += g.evicted
	g.evicted = 0
	if len(t.groups) > 0 {
		g.stop()
		t.serve() // the others may have room
		return
	}
	g.freeze()
	if older := t.backlog; older != nil {
		g.evicted = older.evicted
		g.takeOver(older)
		// Who comes and goes must not make the backlog grow. What g itself has is kept for now: to close loses nothing.
		t.evict(g, min(older.waiting(), g.waiting()-t.space.config.BacklogLimit))
	}
	t.backlog = g
	if g.waiting() == 0 {
		t.backlog = nil
		t.evicted += g.evicted
	}
	t.noteUnwanted()
	t.serve()
}

// dropGroup removes a group with what it has.
func (t *topic) dropGroup(name string) error {
	g := t.group(name)
	switch {
	case g == nil:
		return es.ErrNotFound
	case g.present > 0:
		return es.Invalidf("group", "has %d subscriptions; close them first", g.present)
	}
	t.remove(g)
	g.stop()
	t.evicted += g.evicted
	t.noteUnwanted()
	t.serve()
	return nil
}
