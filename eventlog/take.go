package eventlog

import (
	"context"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// take makes up a batch of what can be handed out, as a call that the store has still to be told of.
//
// Keys come in the order in which they became ready, each with all of its messages that there is room for. What was with a member
// that died, or with somebody who did not answer in time, comes alone.
func (g *group) take(s *subscription, most int, c *call) {
	now := g.clock()
	var first int64 // the time of it, for those that are handed out for the first time
	for g.deliver.count > 0 && len(c.parcels) < most {
		k := g.deliver.first()
		if !k.deliverable(now) { // it was, when it was queued
			g.settleKey(g.unqueueKey())
			continue
		}
		head := k.queue.first
		if head.suspicion == crashed && g.trial != nil {
			k.held = true
			g.held = append(g.held, g.unqueueKey())
			continue
		}
		if head.suspicion != trusted && len(c.parcels) > 0 {
			return // it begins the next batch
		}
		g.unqueueKey()
		if first == 0 {
			first = time.Now().UnixMicro()
		}
		if g.takeKey(s, k, most, c, now, first) {
			return
		}
	}
}

// takeKey takes messages of a key, and tells whether the batch is to have no other.
func (g *group) takeKey(s *subscription, k *orderKey, most int, c *call, now, first int64) bool {
	for len(c.parcels) < most && !k.queue.empty() {
		p := k.queue.first
		if p.notBefore > now || p.suspicion != trusted && len(c.parcels) > 0 {
			return false
		}
		k.queue.remove(byKey, p)
		k.count--
		k.out.pushBack(byKey, p)
		p.state, p.sub = lending, s
		if p.first == 0 {
			p.first = first
		}
		part := p.part
		part.high = max(part.high, p.position)
		part.out++
		part.dirty = true
		c.parcels = append(c.parcels, p)
		if p.suspicion == crashed {
			g.trial, g.trialEnd = p, never
		}
		if p.suspicion != trusted {
			return true
		}
	}
	return false
}

// hand writes deliveries of what a call got.
func (g *group) hand(dst []es.Delivery, c *call) int {
	now := time.Now()
	for i, p := range c.parcels { // lent a moment ago
		d := &dst[i]
		*d = es.Delivery{
			Message: p.message, Topic: g.topic, Group: g.name, Attempt: int(p.attempt), First: time.UnixMicro(p.first).UTC(),
			Receipt: p.receipt,
		}
		d.Deadline = g.deadline(p, now)
	}
	return len(c.parcels)
}

// deadline is when the lease of a parcel ends, by the clock as it is now.
func (g *group) deadline(p *parcel, now time.Time) time.Time {
	return now.Add(time.Duration(p.due - int64(now.Sub(g.began))))
}

// receiver is a Receive that waits.
type receiver struct {
	wake  chan struct{} // has room for one signal
	woken bool          // there is a signal on its way
}

func (r *receiver) signal() {
	if !r.woken {
		r.woken = true
		r.wake <- struct{}{}
	}
}

// notify wakes a receiver when there is something for it. One is enough: it wakes the next when it leaves something.
func (g *group) notify() {
	if g.deliver.count == 0 {
		return
	}
	for _, r := range slices.Backward(g.receivers) {
		if !r.woken {
			r.signal()
			return
		}
	}
}

// enlist makes a receiver wait.
func (g *group) enlist(r *receiver) {
	g.receivers = append(g.receivers, r)
}

// dismiss takes a receiver out of those that wait.
func (g *group) dismiss(r *receiver) {
	if i := slices.Index(g.receivers, r); i >= 0 {
		g.receivers = slices.Delete(g.receivers, i, i+1)
	}
	if r.woken {
		r.woken = false
		select {
		case <-r.wake:
		default: // it has woken by it
		}
	}
}

// wait waits for a signal or for the end of the context.
func (r *receiver) wait(ctx context.Context) error {
	select {
	case <-r.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
