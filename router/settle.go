package router

import "time"

// settle notes what is to become of a delivery whose handler has returned, and answers what is to be answered now.
func (rt *route) settle(w *worker, it *item, out outcome) {
	b, q := it.batch, it.queue
	q.taken = false
	rt.count(out)
	if out.answer != ack {
		rt.releaseFollowers(it, q)
	}
	rt.resolve(it, out.answer, out.delay)
	rt.offer(q)
	switch {
	case b.acks == len(b.ds):
		rt.ackWhole(b)
	case out.answer != ack || b.unsettled == 0:
		rt.flush(&w.answers)
	case !rt.flushDue && b.pending > 0:
		rt.flushDue = true
		rt.wakeKeeper()
	}
}

// resolve gives a delivery that was queued or running its answer.
func (rt *route) resolve(it *item, a answer, delay time.Duration) {
	b := it.batch
	b.unsettled--
	it.answer, it.delay = a, delay
	switch {
	case it.lost: // nobody waits for the answer
		it.state = answered
		rt.leave(b)
	case a == park && (rt.stopping || len(rt.parked) >= 2*maxParked):
		it.answer = release
		rt.await(it)
	case a == park:
		rt.park(it)
		it.state = answered
		rt.leave(b)
	default:
		rt.await(it)
	}
}

// await puts an item among those whose answer is to be given.
func (rt *route) await(it *item) {
	it.state = settled
	it.batch.pending++
	if it.answer == ack {
		it.batch.acks++
	}
	rt.pending++
}

// leave takes one off what is left of a batch.
func (rt *route) leave(b *batch) {
	if b.left--; b.left == 0 {
		rt.free(b)
	}
}

// releaseFollowers gives those back that wait for a delivery which comes again: they come after it.
func (rt *route) releaseFollowers(it *item, q *queue) {
	if q.head == nil {
		return
	}
	key := rt.key(it)
	q.unlink(func(other *item) bool {
		if rt.key(other) != key {
			return false
		}
		rt.stats.Released++
		rt.resolve(other, release, 0)
		return true
	})
}
