package router

import (
	"errors"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// answers are room for what is told to the subscription at a time. Who calls flush has one of its own.
type answers struct {
	acks, releases, nacks group
}

// group is deliveries that get the same answer, and the items they belong to.
type group struct {
	ds    []es.Delivery
	items []*item
}

func (g *group) add(it *item) {
	g.ds = append(g.ds, *it.delivery())
	g.items = append(g.items, it)
}

func (g *group) reset() {
	clear(g.ds)
	clear(g.items)
	g.ds, g.items = g.ds[:0], g.items[:0]
}

// collect takes over all answers that are to be given.
func (rt *route) collect(a *answers) {
	a.acks.reset()
	a.releases.reset()
	a.nacks.reset()
	for _, b := range rt.inHand {
		if b.pending == 0 {
			continue
		}
		for i := range b.ds {
			it := &b.items[i]
			if it.state != settled {
				continue
			}
			it.state = answering
			switch it.answer {
			case ack:
				a.acks.add(it)
			case nack:
				a.nacks.add(it)
			case release, park:
				a.releases.add(it)
			}
		}
		rt.pending -= b.pending
		b.pending, b.acks = 0, 0
	}
}

// flush gives the answers that are to be given. The mutex is held when it is called and when it returns, and not in between.
func (rt *route) flush(a *answers) {
	rt.collect(a)
	if len(a.acks.items)+len(a.releases.items)+len(a.nacks.items) == 0 {
		return
	}
	if rt.readyCount > 0 {
		rt.wakeWorkers() // this one may be busy for a while
	}
	rt.mu.Unlock()
	var ackErr, releaseErr error
	if len(a.acks.ds) > 0 {
		ackErr = rt.sub.Ack(rt.answers, a.acks.ds)
	}
	// Before the nacks: a nack gives back those that follow, and they could not be answered for any more.
	if len(a.releases.ds) > 0 {
		releaseErr = rt.sub.Release(rt.answers, a.releases.ds)
	}
	nackErrs := rt.nack(a.nacks)
	rt.mu.Lock()
	for i, it := range a.acks.items {
		rt.answered(it, es.Of(ackErr, i))
	}
	for i, it := range a.nacks.items {
		rt.answered(it, nackErrs[i])
	}
	for i, it := range a.releases.items {
		rt.answered(it, es.Of(releaseErr, i))
	}
}

// nack makes a call for each delivery, because each has a delay of its own.
func (rt *route) nack(g group) []error {
	errs := make([]error, len(g.ds))
	for i := range g.ds {
		errs[i] = es.Of(rt.sub.Nack(rt.answers, g.ds[i:i+1], g.items[i].delay), 0)
	}
	return errs
}

// ackWhole acknowledges a batch of which every message was handled, as it stands.
func (rt *route) ackWhole(b *batch) {
	for i := range b.ds {
		b.items[i].state = answering
	}
	rt.pending -= b.pending
	b.pending, b.acks = 0, 0
	if rt.readyCount > 0 {
		rt.wakeWorkers()
	}
	rt.mu.Unlock()
	err := rt.sub.Ack(rt.answers, b.ds)
	rt.mu.Lock()
	if err == nil {
		rt.answerErr, rt.answerErrs = nil, 0
		b.left = 0
		rt.free(b)
		return
	}
	for i := range b.ds {
		rt.answered(&b.items[i], es.Of(err, i))
	}
}

// answerDelay is how long to wait before an answer is given again that did not get through so often in a row.
func answerDelay(times int) time.Duration {
	return middleware.Backoff{Base: 50 * time.Millisecond, Max: 5 * time.Second}.Ceiling(times)
}

// answered notes what became of an answer. One that did not get through is given again by the keeper, until the lease of the
// delivery has ended or nobody waits for it any more.
func (rt *route) answered(it *item, err error) {
	switch {
	case err == nil:
		rt.answerErr, rt.answerErrs = nil, 0
	case errors.Is(err, es.ErrLeaseLost), errors.Is(err, es.ErrClosed):
		rt.lose(it.delivery(), err)
	case rt.answers.Err() != nil:
		rt.lose(it.delivery(), err)
	default:
		rt.failedAnswer(err)
		rt.await(it)
		return
	}
	it.state = answered
	rt.leave(it.batch)
}

// failedAnswer puts the keeper on to what did not get through.
func (rt *route) failedAnswer(err error) {
	rt.answerErr = err
	if time.Now().Before(rt.retryAt) {
		return
	}
	rt.answerErrs++
	delay := answerDelay(rt.answerErrs)
	rt.retryAt = time.Now().Add(delay)
	rt.log.Warn("the subscription could not be told what became of messages; trying again", "error", err, "delay", delay)
	rt.wakeKeeper()
}

// lose notes a delivery that cannot be answered: it will be, or was, delivered again.
func (rt *route) lose(d *es.Delivery, err error) {
	rt.stats.Lost++
	rt.log.Warn("message could not be answered for, and may be delivered again",
		"id", d.ID.String(), "name", d.Name, "stream", d.Stream, "attempt", d.Attempt, "error", err)
}
