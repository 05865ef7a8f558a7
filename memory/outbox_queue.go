package memory

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outboxQueue is the outbox of a namespace. Lock order: its own, then that of the event log.
//
// Each stream is a lease partition of its own: entries of a stream are handed out to one claim at a time. A stream stands in
// one place, which says what it waits for, and costs nothing until that happens:
//
//   - in ready, when its first entry can be handed out;
//   - in timed, while entries are handed out (until the lease ends) or the first one waits for its retry;
//   - in neither, when it is empty or waits for a parked dead letter.
type outboxQueue struct {
	events *eventLog

	mu      sync.Mutex
	byID    map[uuid.UUID]*outboxEntry // waiting, handed out, and dead
	streams map[string]*outboxStream   // those that have entries or are parked
	ready   readyList
	timed   timedStreams

	// Waiting entries by age, for the age of the oldest. Those that were replayed have a list of their own, so that finding
	// their place does not take a walk along all the others.
	fresh, replayed entryList
	dead            entryList // the oldest dead letter first
	deadLetters     int
	parked          int // streams
	retrying        int

	seq   uint64          // of the last entry
	token uint64          // of the last claim
	room  []*outboxStream // for the next claim to use

	waiting  bool          // somebody may be waiting for changed
	changed  chan struct{} // closed when a stream has become ready, or timed has an earlier time than before
	arrivals uint64        // how often a stream has become ready
}

func newOutboxQueue(events *eventLog) *outboxQueue {
	return &outboxQueue{
		events:   events,
		byID:     map[uuid.UUID]*outboxEntry{},
		streams:  map[string]*outboxStream{},
		fresh:    entryList{links: byAge},
		replayed: entryList{links: byAge},
		dead:     entryList{links: byAge},
		changed:  make(chan struct{}),
	}
}

// outboxEntry is a message in the outbox.
type outboxEntry struct {
	message  *es.Message
	stream   *outboxStream
	links    [2]entryLinks
	seq      uint64 // order of enqueue
	enqueued time.Time
	due      time.Time // of the next attempt; zero before the first
	attempt  int
	out      bool // handed out by the present claim of its stream, and not answered
	failed   bool
	replayed bool
	dead     *es.DeadEntry // not nil when it is a dead letter
}

// outboxStream is a stream that has entries, or waits for a dead letter.
type outboxStream struct {
	name    string
	entries entryList      // in order of enqueue, those that are handed out too
	parked  []*outboxEntry // dead letters that hold back what comes after them, in order of enqueue

	place     streamPlace
	nextReady *outboxStream
	index     int       // in timed
	wake      time.Time // when timed: the end of the lease, or when the first entry is due

	claim outboxClaim
}

type streamPlace int

const (
	placeNone streamPlace = iota
	placeReady
	placeTimed
)

// outboxClaim is what is handed out of a stream.
type outboxClaim struct {
	open  int          // how many entries are not answered; without any there is no claim
	next  *outboxEntry // the first one that is not handed out, while the claim is being made
	token uint64
	lease time.Duration
	until time.Time
}

// blocked tells whether an entry waits for a parked dead letter before it.
func (s *outboxStream) blocked(e *outboxEntry) bool {
	return len(s.parked) > 0 && s.parked[0].seq < e.seq
}

// stream returns the stream of a name, and makes it when it is not there.
func (q *outboxQueue) stream(name string) *outboxStream {
	s := q.streams[name]
	if s == nil {
		s = &outboxStream{name: name, entries: entryList{links: byStream}}
		q.streams[name] = s
	}
	return s
}

// add puts a new entry at the end of its stream.
func (q *outboxQueue) add(e *outboxEntry, now time.Time) {
	q.seq++
	e.seq = q.seq
	e.enqueued = now
	e.attempt = 1
	e.stream = q.stream(e.message.Stream)
	e.stream.entries.pushBack(e)
	q.fresh.pushBack(e)
	q.settle(e.stream, now)
}

// complete forgets an entry.
func (q *outboxQueue) complete(e *outboxEntry) {
	q.unlink(e)
	delete(q.byID, e.message.ID)
}

// unlink takes an entry out of its stream, to be forgotten or to become a dead letter.
func (q *outboxQueue) unlink(e *outboxEntry) {
	e.stream.entries.remove(e)
	if e.replayed {
		q.replayed.remove(e)
	} else {
		q.fresh.remove(e)
	}
	if e.failed {
		q.retrying--
	}
}

// answer ends the claim on an entry. The caller settles the stream when it has done what it wants with the entry.
func (q *outboxQueue) answer(e *outboxEntry) {
	e.out = false
	e.stream.claim.open--
}

// advance brings the queue to the present time: claims whose lease has ended are taken back, and what is due is ready.
func (q *outboxQueue) advance(now time.Time) {
	for len(q.timed) > 0 && !q.timed[0].wake.After(now) {
		s := q.timed[0]
		if s.claim.open > 0 {
			s.takeBack()
		}
		q.settle(s, now)
	}
}

// takeBack ends a claim whose lease has ended. It counts as an attempt: the message may be what its owner died of.
func (s *outboxStream) takeBack() {
	for e := s.entries.first; s.claim.open > 0; e = e.links[byStream].next {
		if e.out {
			e.out = false
			e.attempt++
			s.claim.open--
		}
	}
}

// settle puts a stream where it belongs after a change.
func (q *outboxQueue) settle(s *outboxStream, now time.Time) {
	head := s.entries.first
	switch {
	case s.claim.open > 0:
		q.setTimed(s, s.claim.until)
	case head == nil && len(s.parked) == 0:
		q.unplace(s)
		if q.streams[s.name] == s { // a dead letter may be of one that has gone, and come back as another
			delete(q.streams, s.name)
		}
	case head == nil || s.blocked(head):
		q.unplace(s)
	case head.due.After(now):
		q.setTimed(s, head.due)
	case s.place != placeReady:
		q.unplace(s)
		s.place = placeReady
		q.ready.push(s)
		q.arrivals++
		q.wake()
	}
}

func (q *outboxQueue) setTimed(s *outboxStream, at time.Time) {
	if s.place == placeTimed && s.wake.Equal(at) {
		return
	}
	earlier := len(q.timed) == 0 || at.Before(q.timed[0].wake)
	if s.place == placeTimed {
		s.wake = at
		heap.Fix(&q.timed, s.index)
	} else {
		q.unplace(s)
		s.place, s.wake = placeTimed, at
		heap.Push(&q.timed, s)
	}
	if earlier {
		q.wake()
	}
}

// unplace takes a stream out of where it stands. That is never in ready: a stream stays there until it is claimed from.
func (q *outboxQueue) unplace(s *outboxStream) {
	if s.place == placeTimed {
		heap.Remove(&q.timed, s.index)
	}
	s.place = placeNone
}

// wake wakes those who wait.
func (q *outboxQueue) wake() {
	if !q.waiting {
		return
	}
	close(q.changed)
	q.changed = make(chan struct{})
	q.waiting = false
}

// park makes a stream wait for a dead letter.
func (q *outboxQueue) park(e *outboxEntry) {
	s := e.stream
	if len(s.parked) == 0 {
		q.parked++
	}
	at, _ := slices.BinarySearchFunc(s.parked, e, bySeq)
	s.parked = slices.Insert(s.parked, at, e)
}

func (q *outboxQueue) unpark(e *outboxEntry) {
	s := e.stream
	at, _ := slices.BinarySearchFunc(s.parked, e, bySeq)
	s.parked = slices.Delete(s.parked, at, at+1)
	if len(s.parked) == 0 {
		q.parked--
	}
}
