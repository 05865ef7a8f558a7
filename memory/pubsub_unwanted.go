package memory

import (
	"container/list"
	"math/bits"
	"sync"
)

// unwantedTopics are the topics of a space that have a backlog and nobody else, the one that has been so for longest first. Who
// publishes to names without end, one for each customer perhaps, would fill the memory with backlogs that each have their bound.
//
// Its lock is taken with that of a topic held, and none is taken with it held.
type unwantedTopics struct {
	mu      sync.Mutex
	order   list.List // of *topic
	dropped int64     // how many were
}

// unwanted tells whether the topic has a backlog, and neither a group nor a subscription.
func (t *topic) unwanted() bool {
	switch len(t.groups) {
	case 0:
		return t.backlog != nil
	case 1:
		return t.groups[0] == t.backlog
	}
	return false
}

// noteUnwanted puts the topic among the unwanted ones, or takes it from there, after a change of its groups.
func (t *topic) noteUnwanted() {
	if t.unwanted() == (t.place != nil) {
		return
	}
	u := &t.space.unwanted
	u.mu.Lock()
	defer u.mu.Unlock()
	if t.place == nil {
		t.place = u.order.PushBack(t)
		return
	}
	u.order.Remove(t.place)
	t.place = nil
}

// surplus returns the topic to be dropped because there are too many, or nil.
func (u *unwantedTopics) surplus(limit int) *topic {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.order.Len() <= limit {
		return nil
	}
	return u.order.Front().Value.(*topic) //nolint:forcetypeassert,errcheck // it has no others
}

// boundTopics drops the oldest of the unwanted topics while there are more than the configuration allows. No lock is held.
func (p *PubSub) boundTopics() {
	s := p.space
	for {
		t := s.unwanted.surplus(s.config.BacklogTopics)
		if t == nil {
			return
		}
		messages, ok := s.drop(t)
		if !ok {
			return // it is wanted after all; should there be too many still, the next one to come sees to it
		}
		if messages > 0 {
			p.tellDropped(t.name, messages)
		}
	}
}

// drop removes a topic with its backlog, and returns how many messages that had. It is false when the topic is wanted meanwhile.
func (s *topicSpace) drop(t *topic) (messages int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.mu.Lock()
	defer t.unlock()
	if t.gone || !t.unwanted() || len(t.queue) > 0 { // a publisher that waited has been called, and is about to go on
		return 0, false
	}
	messages = t.backlog.waiting()
	t.backlog, t.groups = nil, nil
	t.noteUnwanted()
	s.remove(t)
	return messages, true
}

// tellDropped logs that a topic was dropped: the first, and each doubling of their number.
func (p *PubSub) tellDropped(topicName string, messages int) {
	u := &p.space.unwanted
	u.mu.Lock()
	before := u.dropped
	u.dropped++
	u.mu.Unlock()
	if bits.Len64(uint64(before)) == bits.Len64(uint64(before+1)) { //nolint:gosec // counts are not negative
		return
	}
	p.broker.config.Logger.Warn("pub/sub dropped the backlog of a topic, because more topics have one than it keeps",
		"topic", topicName, "messages", messages, "limit", p.broker.config.BacklogTopics, "dropped_topics", before+1)
}
