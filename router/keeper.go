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
	intake   *intake
	d        es.Delivery
	due      time.Time
	extendAt time.Time // zero: its lease does not end
}

// maxParked bounds how many busy messages a lane keeps; then the one whose time comes next is given back early. While the
// subscription takes nothing back there may be twice as many.
const maxParked = 1024

// flushAfter is how long an acknowledgement may wait for the rest of its batch.
const flushAfter = 5 * time.Millisecond

// keep looks after the lane until all its deliveries are answered and its workers are gone, and closes the subscriptions.
func (l *lane) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	room := &answers{}
	var flushAt time.Time // when acknowledgements that wait are given; zero: none wait
	ended := l.answers.Done()
	for {
		l.mu.Lock()
		now := time.Now()
		if l.stopping {
			l.releaseQueued()
		}
		if l.flushDue && flushAt.IsZero() {
			flushAt = now.Add(flushAfter)
		}
		waited := !flushAt.IsZero() && !now.Before(flushAt)
		if waited {
			l.flushDue, flushAt = false, time.Time{}
		}
		again := !l.retryAt.IsZero() && !now.Before(l.retryAt)
		if again {
			l.retryAt = time.Time{}
		}
		if waited || again || l.stopping && l.retryAt.IsZero() || l.answers.Err() != nil {
			l.flush(room)
		}
		l.extend(now)
		l.unpark(now)
		if l.stopping && l.workers == 0 && len(l.inHand) == 0 && len(l.parked) == 0 {
			l.mu.Unlock()
			break
		}
		l.due = l.nextDue(flushAt)
		var due <-chan time.Time
		if !l.due.IsZero() {
			timer.Reset(time.Until(l.due))
			due = timer.C
		}
		l.mu.Unlock()

		select {
		case <-l.wake:
		case <-due:
		case <-ended:
			ended = nil
		}
	}
	l.close()
}

// nextDue returns when there is something to do next; zero when not before somebody says so.
func (l *lane) nextDue(flushAt time.Time) time.Time {
	due := flushAt
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	earlier(l.retryAt)
	for _, b := range l.inHand {
		earlier(b.extendAt)
	}
	for i := range l.parked {
		earlier(l.parked[i].due)
		earlier(l.parked[i].extendAt)
	}
	return due
}

// releaseQueued gives back what no handler has begun with.
func (l *lane) releaseQueued() {
	for _, q := range l.table {
		for ; q != nil; q = q.next {
			q.unlink(func(it *item) bool {
				l.stats.Released++
				l.resolve(it, release, 0)
				return true
			})
		}
	}
}

// park keeps a busy message until its time comes.
func (l *lane) park(it *item) {
	const most = 365 * 24 * time.Hour // so that the sum is a time
	now := time.Now()
	p := parked{intake: it.batch.intake, d: *it.received(), due: now.Add(min(it.delay, most)), extendAt: it.batch.extendAt}
	if len(l.parked) >= maxParked {
		soonest := &p
		for i := range l.parked {
			if other := &l.parked[i]; other.due.After(now) && other.due.Before(soonest.due) {
				soonest = other
			}
		}
		soonest.due = now
	}
	l.parked = append(l.parked, p)
	l.wakeKeeper()
}

// unpark gives those busy messages back whose time has come, all when the lane stops.
func (l *lane) unpark(now time.Time) {
	if len(l.parked) == 0 {
		return
	}
	for _, in := range l.intakes {
		in.unpark(now)
	}
}

func (in *intake) unpark(now time.Time) {
	l := in.lane
	var due []es.Delivery
	var waited []parked
	l.parked = slices.DeleteFunc(l.parked, func(p parked) bool {
		if p.intake != in || !l.stopping && now.Before(p.due) {
			return false
		}
		due, waited = append(due, p.d), append(waited, p)
		return true
	})
	if len(due) == 0 {
		return
	}
	l.unparking = len(due)
	l.mu.Unlock()
	err := in.sub.Release(l.answers, due)
	l.mu.Lock()
	l.unparking = 0
	for i := range due {
		switch err := es.Of(err, i); {
		case err == nil:
		case errors.Is(err, es.ErrLeaseLost), errors.Is(err, es.ErrClosed), l.answers.Err() != nil:
			l.lose(&due[i], err)
		default:
			l.failedAnswer(err)
			waited[i].due = l.retryAt
			l.parked = append(l.parked, waited[i])
		}
	}
}

// held is a delivery whose lease is to be prolonged.
type held struct {
	it  *item
	gen uint64 // of its batch: it may be another delivery's item by the time the answer is here
}

// extend prolongs the leases of what has been in hand for a third of a lease.
func (l *lane) extend(now time.Time) {
	for _, in := range l.intakes {
		in.extend(now)
	}
}

func (in *intake) extend(now time.Time) {
	l := in.lane
	var ds []es.Delivery
	var helds []held
	third := l.opts.Lease / 3
	for _, b := range l.inHand {
		if b.intake != in || b.extendAt.IsZero() || now.Before(b.extendAt) {
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
	for i := range l.parked {
		p := &l.parked[i]
		if p.intake == in && !p.extendAt.IsZero() && !now.Before(p.extendAt) {
			p.extendAt = now.Add(third)
			ds = append(ds, p.d)
		}
	}
	if len(ds) == 0 {
		return
	}
	l.mu.Unlock()
	err := in.sub.Extend(l.answers, ds)
	l.mu.Lock()
	if err == nil {
		return
	}
	l.log.Warn("leases of messages in hand could not all be prolonged", "error", err)
	for i, h := range helds {
		err := es.Of(err, i)
		switch {
		case err == nil || h.it.batch.gen != h.gen:
		case errors.Is(err, es.ErrLeaseLost):
			l.overdue(h.it, err)
		default: // try again well before the lease ends
			h.it.batch.extendAt = now.Add(third / 4)
		}
	}
}

// overdue drops a delivery that was, or will be, handed to somebody else. When its handler runs already nothing can be done
// about that; what it returns is not answered.
func (l *lane) overdue(it *item, err error) {
	switch it.state {
	case queued:
		it.queue.unlink(func(other *item) bool { return other == it })
		l.offer(it.queue)
		l.lose(it.delivery(), err)
		it.batch.unsettled--
		it.state = answered
		l.leave(it.batch)
	case running:
		l.lose(it.delivery(), err)
		it.lost = true
	case settled, answering, answered: // its answer will tell, or has told
	}
}
