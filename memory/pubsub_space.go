package memory

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// topicSpace is what a namespace has.
type topicSpace struct {
	config *PubSubConfig
	began  time.Time
	seed   maphash.Seed // of the hashes of ordering keys

	// Deliveries are counted from a place of this space's own, so that one of another pub/sub is not taken for one of this.
	firstDelivery uint64
	deliveries    atomic.Uint64

	known topicCache

	mu       sync.RWMutex
	topics   map[string]*topic
	unwanted unwantedTopics
}

func newTopicSpace(b *broker) *topicSpace {
	s := &topicSpace{config: &b.config, began: b.began, seed: maphash.MakeSeed(), topics: map[string]*topic{}}
	s.firstDelivery = rand.Uint64() // it has to differ from that of others
	s.deliveries.Store(s.firstDelivery)
	return s
}

// A receipt is the number of a delivery, as far as there is room, and of the parcel that was delivered: so the parcel is found without
// a search. Two deliveries of one parcel have different numbers until there were 2^40 others between them.
const (
	parcelBits = 24
	parcelMask = 1<<parcelBits - 1
)

// receiptFor makes the receipt of a delivery.
func receiptFor(delivery uint64, parcel int32) uint64 {
	return delivery<<parcelBits | uint64(parcel) //nolint:gosec // it is not negative
}

// issued tells whether a receipt was given out in this space.
func (s *topicSpace) issued(receipt uint64) bool {
	return (receipt>>parcelBits-s.firstDelivery)<<parcelBits < (s.deliveries.Load()-s.firstDelivery)<<parcelBits
}

// clock is the present time on the clock that all leases and delays are measured by: nanoseconds, and never 0. To read it takes a
// third of what time.Now does.
func (s *topicSpace) clock() int64 { return int64(time.Since(s.began)) + 1 }

// time is the time at which the clock shows so much. It is the same whenever it is asked for, which now and a difference is not:
// the two clocks that time.Now reads do not go alike.
func (s *topicSpace) time(clock int64) time.Time { return s.began.Add(time.Duration(clock - 1)) }

// lockTopic returns a topic, and makes it when it is new. It is locked.
func (s *topicSpace) lockTopic(name string) *topic {
	for {
		if t := s.lockKnownTopic(name); t != nil {
			return t
		}
		s.mu.Lock()
		if s.topics[name] == nil {
			s.topics[name] = newTopic(s, name)
		}
		s.mu.Unlock()
	}
}

// topic returns a topic, or nil when there is none of the name.
func (s *topicSpace) topic(name string) *topic {
	place := s.known.place(name)
	if t := place.Load(); t != nil && t.name == name {
		return t
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.topics[name]
	if t != nil {
		place.Store(t)
	}
	return t
}

// topicCache has topics that were asked for lately, and may be gone. Those who publish find theirs without a lock that all of them
// would have to write to.
type topicCache [16]atomic.Pointer[topic]

// place is the only one where a topic of the name can be.
func (c *topicCache) place(name string) *atomic.Pointer[topic] {
	if name == "" { // nobody has a topic of that name
		return &c[0]
	}
	return &c[(int(name[0])^int(name[len(name)-1])^len(name))%len(c)]
}

// lockKnownTopic returns a topic, locked, or nil when there is none of the name.
func (s *topicSpace) lockKnownTopic(name string) *topic {
	t := s.topic(name)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	if t.gone {
		t.unlock()
		s.known.place(name).CompareAndSwap(t, nil)
		return nil
	}
	return t
}

// forget removes a topic that has nothing and nobody, so that topics which are used once do not pile up.
func (s *topicSpace) forget(t *topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.mu.Lock()
	defer t.unlock()
	if !t.gone && t.idle() {
		s.remove(t)
	}
}

// remove takes a topic out of the space. Both are locked.
func (s *topicSpace) remove(t *topic) {
	t.gone = true
	delete(s.topics, t.name)
	s.known.place(t.name).CompareAndSwap(t, nil)
}
