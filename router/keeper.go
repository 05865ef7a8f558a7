package router

import (
	"errors"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// parked is a busy message that waits to be given back. Its key waits with it, because the subscription does not hand out a key
// whose messages are not all answered.
type parked struct {
	d        es.Delivery
	due      time.Time
	extendAt time.Time // zero: its lease does not end
}

// maxParked bounds how many busy messages a route keeps; then the one whose time comes next is given back early. While the
// subscription takes nothing back there may be twice as many.
const maxParked = 1024

// flushAfter is how long an acknowledgement may wait for the rest of its batch.
const flushAfter = 5 * time.Millisecond

// keep looks after the route until all its deliveries are answered and its workers are gone, and closes the subscription.
func (rt *route) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	room := &answers{}
	var flushAt time.Time // when acknowledgements that wait are given; zero: none wait
	ended := rt.answers.Done()
	for {
		rt.mu.Lock()
		now := time.Now()
		if rt.stopping {
			rt.releaseQueued()
		}
		if rt.flushDue && flushAt.IsZero() {
			flushAt = now.Add(flushAfter)
		}
		waited := !flushAt.IsZero() && !now.Before(flushAt)
		if waited {
			rt.flushDue, flushAt = false, time.Time{}
		}
		again := !rt.retryAt.IsZero() && !now.Before(rt.retryAt)
		if again {
			rt.retryAt = time.Time{}
		}
		if waited || again || rt.stopping && rt.retryAt.IsZero() || rt.answers.Err() != nil {
			rt.flush(room)
		}
		rt.extend(now)
		rt.unpark(now)
		if rt.stopping && rt.workers == 0 && len(rt.inHand) == 0 && len(rt.parked) == 0 {
			rt.mu.Unlock()
			break
		}
		rt.due = rt.nextDue(flushAt)
		var due <-chan time.Time
		if !rt.due.IsZero() {
			timer.Reset(time.Until(rt.due))
			due = timer.C
		}
		rt.mu.Unlock()

		select {
		case <-rt.wake:
		case <-due:
		case <-ended:
			ended = nil
		}
	}
	if err := rt.sub.Close(); err != nil {
		rt.log.Warn("the subscription could not be closed", "error", err)
	}
}

// nextDue returns when there is something to do next; zero when not before somebody says so.
func (rt *route) nextDue(flushAt time.Time) time.Time {
	due := flushAt
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	earlier(rt.retryAt)
	for _, b := range rt.inHand {
		earlier(b.extendAt)
	}
	for i := range rt.parked {
		earlier(rt.parked[i].due)
		earlier(rt.parked[i].extendAt)
	}
	return due
}

// releaseQueued gives back what no handler has begun with.
func (rt *route) releaseQueued() {
	for _, q := range rt.table {
		for ; q != nil; q = q.next {
			q.unlink(func(it *item) bool {
				rt.stats.Released++
				rt.resolve(it, release, 0)
				return true
			})
		}
	}
}

// park keeps a busy message until its time comes.
func (rt *route) park(it *item) {
	const most = 365 * 24 * time.Hour // so that the sum is a time
	now := time.Now()
	p := parked{d: *it.delivery(), due: now.Add(min(it.delay, most)), extendAt: it.batch.extendAt}
	if len(rt.parked) >= maxParked {
		soonest := &p
		for i := range rt.parked {
			if other := &rt.parked[i]; other.due.After(now) && other.due.Before(soonest.due) {
				soonest = other
			}
		}
		soonest.due = now
	}
	rt.parked = append(rt.parked, p)
	rt.wakeKeeper()
}

// unpark gives those busy messages back whose time has come, all when the route stops.
func (rt *route) unpark(now time.Time) {
	var due []es.Delivery
	var waited []parked
	rt.parked = slices.DeleteFunc(rt.parked, func(p parked) bool {
		if !rt.stopping && now.Before(p.due) {
			return false
		}
		due, waited = append(due, p.d), append(waited, p)
		return true
	})
	if len(due) == 0 {
		return
	}
	rt.unparking = len(due)
	rt.mu.Unlock()
	err := rt.sub.Release(rt.answers, due)
	rt.mu.Lock()
	rt.unparking = 0
	for i := range due {
		switch err := es.Of(err, i); {
		case err == nil:
		case errors.Is(err, es.ErrLeaseLost), errors.Is(err, es.ErrClosed), rt.answers.Err() != nil:
			rt.lose(&due[i], err)
		default:
			rt.failedAnswer(err)
			waited[i].due = rt.retryAt
			rt.parked = append(rt.parked, waited[i])
		}
	}
}

// held is a delivery whose lease is to be prolonged.
type held struct {
	it  *item
	gen uint64 // of its batch: it may be another delivery's item by the time the answer is here
}

// extend prolongs the leases of what has been in hand for a third of a lease.
func (rt *route) extend(now time.Time) {
	var ds []es.Delivery
	var helds []held
	third := rt.opts.Lease / 3
	for _, b := range rt.inHand {
		if b.extendAt.IsZero() || now.Before(b.extendAt) {
			continue
		}
		b.extendAt = now.Add(third)
		for i := range b.ds {
			it := &b.items[i]
			if it.state <= settled && !it.lost && !b.ds[i].Deadline.IsZero() {
				ds, helds = append(ds, b.ds[i]), append(helds, held{it: it, gen: b.gen})
			}
		}
	}
	for i := range rt.parked {
		p := &rt.parked[i]
		if !p.extendAt.IsZero() && !now.Before(p.extendAt) {
			p.extendAt = now.Add(third)
			ds = append(ds, p.d)
		}
	}
	if len(ds) == 0 {
		return
	}
	rt.mu.Unlock()
	err := rt.sub.Extend(rt.answers, ds)
	rt.mu.Lock()
	if err == nil {
		return
	}
	rt.log.Warn("leases of messages in hand could not all be prolonged", "error", err)
	for i, h := range helds {
		err := es.Of(err, i)
		switch {
		case err == nil || h.it.batch.gen != h.gen:
		case errors.Is(err, es.ErrLeaseLost):
			rt.overdue(h.it, err)
		default: // try again well before the lease ends
			h.it.batch.extendAt = now.Add(third / 4)
		}
	}
}

// overdue drops a delivery that was, or will be, handed to somebody else. When its handler runs already nothing can be done
// about that; what it returns is not answered.
func (rt *route) overdue(it *item, err error) {
	switch it.state {
	case queued:
		it.queue.unlink(func(other *item) bool { return other == it })
		rt.offer(it.queue)
		rt.lose(it.delivery(), err)
		it.batch.unsettled--
		it.state = answered
		rt.leave(it.batch)
	case running:
		rt.lose(it.delivery(), err)
		it.lost = true
	case settled, answering, answered: // its answer will tell, or has told
	}
}
