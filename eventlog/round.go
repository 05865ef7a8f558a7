package eventlog

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// call is what somebody changes and waits for: deliveries to a receiver, or answers to them.
type call struct {
	parcels   []*parcel
	abandoned bool  // its caller has gone
	err       error // what came of it
	lost      []int32
}

// round is a commit, and the calls that it is for. While one is under way the changes of all who come are gathered for the next,
// so that however many they are, they share a commit.
type round struct {
	calls []*call
	done  chan struct{}
}

func newRound() *round { return &round{done: make(chan struct{})} }

// errBroken: the round was broken off because the context of who led it has ended.
var errBroken = errors.New("the commit was broken off")

// persist makes what a call has changed durable, and settles it. The lock is held before and afterwards, and not meanwhile. When
// the call comes back with errBroken nothing has been changed, and it is to be made again.
func (g *group) persist(ctx context.Context, c *call) error {
	if !g.shared() {
		g.settle(c, nil)
		return c.err
	}
	r := g.next
	r.calls = append(r.calls, c)
	for {
		switch g.running {
		case nil:
			if r != g.next {
				return c.err // it was somebody else's, and has ended
			}
			g.lead(ctx)
			return c.err
		default:
			if !g.await(ctx, r, c) {
				return ctx.Err()
			}
			if finished(r) {
				return c.err
			}
		}
	}
}

func finished(r *round) bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// await waits for the round that is under way. It reports false when the context has ended before; then nobody waits for the call.
func (g *group) await(ctx context.Context, r *round, c *call) bool {
	running := g.running
	g.mu.Unlock()
	select {
	case <-running.done:
	case <-ctx.Done():
	}
	g.mu.Lock()
	if ctx.Err() == nil || finished(r) {
		return true
	}
	if r != g.next { // it is under way
		c.abandoned = true
		return false
	}
	for i, other := range r.calls {
		if other == c {
			r.calls[i] = &call{} // it takes no part
		}
	}
	g.settle(c, ctx.Err())
	return false
}

// lead makes the next round's commit.
func (g *group) lead(ctx context.Context) {
	r := g.next
	g.running, g.next = r, newRound()
	commit, written := g.changes()
	g.mu.Unlock()
	var err error
	if len(commit.Writes) > 0 {
		err = g.log.models.Commit(ctx, commit)
	}
	g.mu.Lock()
	g.running = nil
	if err != nil {
		for _, p := range written {
			p.dirty = true
		}
		g.covered = -1 // it is not known
		err = g.judge(ctx, *commit.Fence, err)
	}
	for _, c := range r.calls {
		g.settle(c, err)
	}
	close(r.done)
	g.announce()
	g.notify()
	g.serveReader()
}

// judge decides what a failed commit under a lease means for the group.
func (g *group) judge(ctx context.Context, under es.Lease, err error) error {
	switch {
	case errors.Is(err, es.ErrLeaseLost):
		if under.Name != g.lease.Name { // that is known already, and the member has another
			break
		}
		g.log.config.Logger.Warn("lease of a member of a group was lost; it joins anew",
			"topic", g.topic, "group", g.name, "member", g.member)
		g.loseLease()
	case errors.Is(err, es.ErrClosed), errors.Is(err, es.ErrUnsupported):
		g.fail(err)
	case ctx.Err() != nil:
		return errBroken
	}
	return fmt.Errorf("commit the state of group %q of topic %q: %w", g.name, g.topic, err)
}

// loseLease is for a member whose lease is over: nothing is its own any more.
func (g *group) loseLease() {
	g.dropAll()
	g.member, g.lease = "", es.Lease{}
	g.wakeKeeper()
}

// buffers are what a commit is made of. They are used again, because there is one round at a time, and a store keeps nothing of
// what it was given.
type buffers struct {
	fence   es.Lease
	written []*partition
	writes  []es.Write
	data    []byte
}

// changes gathers what has to be written.
func (g *group) changes() (es.Commit, []*partition) {
	if g.member == "" {
		return es.Commit{}, nil
	}
	b := &g.buffers
	b.fence, b.written, b.writes, b.data = g.lease, b.written[:0], b.writes[:0], b.data[:0]
	covered := int64(never)
	for _, p := range g.owned {
		if p.dirty {
			begin := len(b.data)
			b.data = g.appendRecord(b.data, p, g.member)
			b.writes = append(b.writes, es.Write{Model: g.keys.model, Key: p.doc, Data: b.data[begin:]}) // also where it moves later
			b.written = append(b.written, p)
			p.dirty = false
		}
		covered = min(covered, p.handled())
	}
	if covered != never && covered != g.covered {
		begin := len(b.data)
		b.data = appendCovered(b.data, g.head, covered)
		b.writes = append(b.writes, es.Write{Model: g.keys.model, Key: g.memberDoc, Data: b.data[begin:]})
		g.covered = covered
	}
	g.flushAt = never
	return es.Commit{Fence: &b.fence, Writes: b.writes}, b.written
}

// settle gives the parcels of a call the state that the outcome of its commit leaves them in.
func (g *group) settle(c *call, err error) {
	c.err = err
	now := g.clock()
	kept := c.parcels[:0]
	for _, p := range c.parcels {
		if p.part.gone {
			c.lost = append(c.lost, p.slot)
			g.endTrial(p)
			g.parcels.put(p)
			continue
		}
		switch p.state {
		case lending:
			if err == nil && !c.abandoned && !p.sub.closed {
				g.lend(p, now)
				kept = append(kept, p)
				continue
			}
			if err == nil { // the store believes that it was handed out
				p.part.dirty = true
				g.flushSoon(now)
			}
			g.endTrial(p)
			g.giveBack(p)
		case acking, nacking, releasing:
			g.settleAnswer(p, err)
		case free, waiting, lent:
		}
	}
	clear(c.parcels[len(kept):])
	c.parcels = kept
}

// settleAnswer settles a parcel that was answered.
func (g *group) settleAnswer(p *parcel, err error) {
	state := p.state
	switch {
	case err != nil && !p.sub.closed: // it can be answered again
		p.state = lent
		p.sub.lent.insertByDue(p)
		return
	case err != nil: // nobody can answer any more; who takes over counts one attempt more
		state = releasing
	}
	g.endTrial(p)
	switch state {
	case acking:
		g.finish(p)
		return
	case nacking:
		p.attempt++
		p.suspicion = trusted
	default:
		p.notBefore = 0
	}
	g.giveBack(p)
}

// lend puts a parcel into the hands of its subscription.
func (g *group) lend(p *parcel, now int64) {
	p.state = lent
	p.due = later(now, p.sub.lease)
	g.parcels.stamp(p)
	p.sub.lent.pushBack(byLease, p)
	if g.trial == p {
		g.trialEnd = p.due
	}
	if p.due < g.keeperAt {
		g.wakeKeeper()
	}
}

// insertByDue puts a parcel back among those of its subscription whose leases end.
func (l *parcelList) insertByDue(p *parcel) {
	at := l.first
	for at != nil && at.due < p.due {
		at = at.links[byLease].next
	}
	l.insert(byLease, p, at)
}

// flushSoon has what has no hurry written in a while.
func (g *group) flushSoon(now int64) {
	if g.shared() && g.flushAt == never {
		g.flushAt = later(now, flushDelay)
		if g.flushAt < g.keeperAt {
			g.wakeKeeper()
		}
	}
}
