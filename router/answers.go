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
	g.ds = append(g.ds, *it.received())
	g.items = append(g.items, it)
}

func (g *group) reset() {
	clear(g.ds)
	clear(g.items)
	g.ds, g.items = g.ds[:0], g.items[:0]
}

// collect takes over all answers that are to be given to a subscription.
func (in *intake) collect(a *answers) {
	a.acks.reset()
	a.releases.reset()
	a.nacks.reset()
	for _, b := range in.lane.inHand {
		if b.pending == 0 || b.intake != in {
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
		in.pending -= b.pending
		b.pending, b.acks = 0, 0
	}
}

// flush gives the answers that are to be given. The mutex is held when it is called and when it returns, and not in between.
func (l *lane) flush(a *answers) {
	for _, in := range l.intakes {
		if in.pending > 0 {
			in.flush(a)
		}
	}
}

func (in *intake) flush(a *answers) {
	l := in.lane
	in.collect(a)
	if l.readyCount > 0 {
		l.wakeWorkers() // this one may be busy for a while
	}
	l.mu.Unlock()
	var ackErr, releaseErr error
	if len(a.acks.ds) > 0 {
		ackErr = in.sub.Ack(l.answers, a.acks.ds)
	}
	// Before the nacks: a nack gives back those that follow, and they could not be answered for any more.
	if len(a.releases.ds) > 0 {
		releaseErr = in.sub.Release(l.answers, a.releases.ds)
	}
	nackErrs := in.nack(a.nacks)
	l.mu.Lock()
	for i, it := range a.acks.items {
		l.answered(it, es.Of(ackErr, i))
	}
	for i, it := range a.nacks.items {
		l.answered(it, nackErrs[i])
	}
	for i, it := range a.releases.items {
		l.answered(it, es.Of(releaseErr, i))
	}
}

// nack makes a call for each delivery, because each has a delay of its own.
func (in *intake) nack(g group) []error {
	errs := make([]error, len(g.ds))
	for i := range g.ds {
		errs[i] = es.Of(in.sub.Nack(in.lane.answers, g.ds[i:i+1], g.items[i].delay), 0)
	}
	return errs
}

// ackWhole acknowledges a batch of which every message was handled, as it stands.
func (l *lane) ackWhole(b *batch) {
	for i := range b.ds {
		b.items[i].state = answering
	}
	b.intake.pending -= b.pending
	b.pending, b.acks = 0, 0
	if l.readyCount > 0 {
		l.wakeWorkers()
	}
	l.mu.Unlock()
	err := b.intake.sub.Ack(l.answers, b.ds)
	l.mu.Lock()
	if err == nil {
		l.answerErr, l.answerErrs = trouble{}, 0
		b.left = 0
		l.free(b)
		return
	}
	for i := range b.ds {
		l.answered(&b.items[i], es.Of(err, i))
	}
}

// answerDelay is how long to wait before an answer is given again that did not get through so often in a row.
func answerDelay(times int) time.Duration {
	return middleware.Backoff{Base: 50 * time.Millisecond, Max: 5 * time.Second}.Ceiling(times)
}

// answered notes what became of an answer. One that did not get through is given again by the keeper, until the lease of the
// delivery has ended or nobody waits for it any more.
func (l *lane) answered(it *item, err error) {
	switch {
	case err == nil:
		l.answerErr, l.answerErrs = trouble{}, 0
	case errors.Is(err, es.ErrLeaseLost), errors.Is(err, es.ErrClosed):
		l.lose(it.delivery(), err)
	case l.answers.Err() != nil:
		l.lose(it.delivery(), err)
	default:
		l.failedAnswer(err)
		l.await(it)
		return
	}
	it.state = answered
	l.leave(it.batch)
}

// failedAnswer puts the keeper on to what did not get through.
func (l *lane) failedAnswer(err error) {
	l.answerErr = newTrouble(err, answerDelay(l.answerErrs+1))
	if time.Now().Before(l.retryAt) {
		return
	}
	l.answerErrs++
	delay := answerDelay(l.answerErrs)
	l.retryAt = time.Now().Add(delay)
	l.log.Warn("the subscription could not be told what became of messages; trying again", "error", err, "delay", delay)
	l.wakeKeeper()
}

// lose notes a delivery that cannot be answered: it will be, or was, delivered again.
func (l *lane) lose(d *es.Delivery, err error) {
	l.stats.Lost++
	l.log.Warn("message could not be answered for, and may be delivered again",
		"id", d.ID.String(), "name", d.Name, "stream", d.Stream, "attempt", d.Attempt, "error", err)
}
