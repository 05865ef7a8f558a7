package router

import "time"

// settle notes what is to become of a delivery whose handler has returned, and answers what is to be answered now.
func (l *lane) settle(w *worker, it *item, out outcome) {
	b, q := it.batch, it.queue
	q.taken = false
	l.count(out)
	if out.answer != ack {
		l.releaseFollowers(it, q)
	}
	l.resolve(it, out.answer, out.delay)
	l.offer(q)
	switch {
	case b.acks == len(b.ds):
		l.ackWhole(b)
	case out.answer != ack || b.unsettled == 0:
		l.flush(&w.answers)
	case !l.flushDue && b.pending > 0:
		l.flushDue = true
		l.wakeKeeper()
	}
}

// resolve gives a delivery that was queued or running its answer.
func (l *lane) resolve(it *item, a answer, delay time.Duration) {
	b := it.batch
	b.unsettled--
	it.answer, it.delay = a, delay
	switch {
	case it.lost: // nobody waits for the answer
		it.state = answered
		l.leave(b)
	case a == park && (l.stopping || len(l.parked) >= 2*maxParked):
		it.answer = release
		l.await(it)
	case a == park:
		l.park(it)
		it.state = answered
		l.leave(b)
	default:
		l.await(it)
	}
}

// await puts an item among those whose answer is to be given.
func (l *lane) await(it *item) {
	it.state = settled
	it.batch.pending++
	if it.answer == ack {
		it.batch.acks++
	}
	it.batch.intake.pending++
}

// leave takes one off what is left of a batch.
func (l *lane) leave(b *batch) {
	if b.left--; b.left == 0 {
		l.free(b)
	}
}

// releaseFollowers gives those back that wait for a delivery which comes again: they come after it.
func (l *lane) releaseFollowers(it *item, q *queue) {
	if q.head == nil {
		return
	}
	key := l.key(it)
	q.unlink(func(other *item) bool {
		if other.batch.intake != it.batch.intake || l.key(other) != key {
			return false
		}
		l.stats.Released++
		l.resolve(other, release, 0)
		return true
	})
}
