package router

import (
	"hash/maphash"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// batch is what one call of Receive gave, until the last of it is answered. Batches are used again. Unless something else is
// said, its fields are guarded by the mutex of the lane.
type batch struct {
	intake *intake
	room   []es.Delivery // as long as a batch can be
	ds     []es.Delivery // what was received, in room: what the subscription is answered
	shown  []es.Delivery // what handlers see of it: the same, or the originals of replays
	items  []item        // one for each place in room

	unsettled int       // how many have no answer yet
	pending   int       // how many have one that is to be given
	acks      int       // how many of those are acknowledgements
	left      int       // how many are not answered
	extendAt  time.Time // when leases are prolonged; zero where they do not end

	mu  sync.Mutex // guards gen, for contexts that outlive their handler
	gen uint64     // how often the batch was used
}

// item is what a lane knows about a delivery. It is guarded by the mutex of the lane.
type item struct {
	batch  *batch
	queue  *queue
	next   *item // in the queue
	index  int32 // in the batch
	state  state
	lost   bool // its lease has ended while it was being handled
	answer answer
	delay  time.Duration // of a nack
}

// state is how far a delivery has come.
type state uint8

const (
	queued    state = iota // in its queue
	running                // with its handler
	settled                // its answer is to be given
	answering              // its answer is being given
	answered               // its answer was given, or nobody waits for it
)

// answer is what the subscription is to be told of a delivery.
type answer uint8

const (
	ack answer = iota
	nack
	release
	park // nothing yet: it waits and is released later
)

// delivery returns what the handler sees, and received what the subscription knows.
func (it *item) delivery() *es.Delivery { return &it.batch.shown[it.index] }
func (it *item) received() *es.Delivery { return &it.batch.ds[it.index] }

// delivery returns a copy of a delivery for whom asks by its context, or nil when the batch is in use for others by now.
func (b *batch) delivery(d *es.Delivery, gen uint64) *es.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gen != gen {
		return nil
	}
	c := *d
	return &c
}

func (in *intake) newBatch() *batch {
	b := &batch{intake: in, room: make([]es.Delivery, in.batch), items: make([]item, in.batch)}
	b.shown = b.room
	if in == in.lane.replays {
		b.shown = make([]es.Delivery, in.batch)
	}
	for i := range b.items {
		b.items[i] = item{batch: b, index: int32(i)}
	}
	return b
}

// queue is what waits for its turn of one ordering key, or of the keys that have the same hash: all of a lane that handles one
// message at a time. Queues are used again.
type queue struct {
	hash       uint64
	head, tail *item
	taken      bool   // a worker handles one of it
	ready      bool   // it is among those that a worker can take from
	next       *queue // in the same slot of the table, or among the spare ones
	nextReady  *queue
}

// enqueue puts a batch of n deliveries into the queues of their keys.
func (l *lane) enqueue(b *batch, n int, now time.Time) {
	b.ds = b.room[:n]
	b.unsettled, b.left, b.pending, b.acks = n, n, 0, 0
	b.extendAt = time.Time{}
	for i := range b.ds {
		it := &b.items[i]
		it.state, it.next, it.lost = queued, nil, false
		if !b.ds[i].Deadline.IsZero() {
			b.extendAt = now.Add(l.opts.Lease / 3)
		}
		q := l.queueOf(it)
		it.queue = q
		if q.head == nil {
			q.head = it
		} else {
			q.tail.next = it
		}
		q.tail = it
		l.offer(q)
	}
	l.inHand = append(l.inHand, b)
	b.intake.inHand++
	if !b.extendAt.IsZero() && (l.due.IsZero() || b.extendAt.Before(l.due)) {
		l.wakeKeeper()
	}
}

// queueOf returns the queue that an item belongs to.
func (l *lane) queueOf(it *item) *queue {
	var hash uint64
	if len(l.table) > 1 {
		hash = maphash.String(l.seed, l.key(it))
	}
	slot := &l.table[hash%uint64(len(l.table))]
	for q := *slot; q != nil; q = q.next {
		if q.hash == hash {
			return q
		}
	}
	q := l.spareQueue
	if q == nil {
		q = &queue{}
	} else {
		l.spareQueue = q.next
	}
	q.hash, q.next = hash, *slot
	*slot = q
	return q
}

// retire takes an empty queue out of the table.
func (l *lane) retire(q *queue) {
	slot := &l.table[q.hash%uint64(len(l.table))]
	for *slot != q {
		slot = &(*slot).next
	}
	*slot = q.next
	*q = queue{next: l.spareQueue}
	l.spareQueue = q
}

// offer puts a queue among those that a worker can take from, or retires it when nothing waits in it.
func (l *lane) offer(q *queue) {
	switch {
	case q.ready || q.taken:
		return
	case q.head == nil:
		l.retire(q)
		return
	case l.readyFirst == nil:
		l.readyFirst = q
	default:
		l.readyLast.nextReady = q
	}
	q.ready = true
	l.readyLast = q
	l.readyCount++
}

// take returns the next delivery that can be handled, and nil when there is none.
func (l *lane) take() *item {
	for l.readyFirst != nil {
		q := l.readyFirst
		l.readyFirst, q.nextReady = q.nextReady, nil
		l.readyCount--
		q.ready = false
		it := q.head
		if it == nil { // what was in it has been given back meanwhile
			l.retire(q)
			continue
		}
		q.head, it.next = it.next, nil
		q.taken = true
		it.state = running
		return it
	}
	return nil
}

// unlink takes those items out of a queue that drop says, in order.
func (q *queue) unlink(drop func(*item) bool) {
	var head, tail *item
	for it := q.head; it != nil; {
		next := it.next
		it.next = nil
		switch {
		case drop(it):
		case head == nil:
			head, tail = it, it
		default:
			tail.next, tail = it, it
		}
		it = next
	}
	q.head, q.tail = head, tail
}

// free makes a batch that is answered ready for the next use.
func (l *lane) free(b *batch) {
	b.mu.Lock()
	b.gen++
	b.mu.Unlock()
	clear(b.shown[:len(b.ds)])
	clear(b.ds) // messages are not to be kept alive by an idle lane
	for i, other := range l.inHand {
		if other == b {
			last := len(l.inHand) - 1
			l.inHand[i], l.inHand[last] = l.inHand[last], nil
			l.inHand = l.inHand[:last]
			break
		}
	}
	b.intake.inHand--
	b.intake.putBack(b)
	l.wakeWorkers()
}
