package eventlog

import (
	"context"
	"errors"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// flushDelay is how long what has no hurry waits until it is written: how far a group has read when nothing was for it.
const flushDelay = 500 * time.Millisecond

// keep is the keeper: the goroutine that sees to what time brings. It takes messages back whose leases end, renews the lease of the
// member, and shares the partitions with the other members.
func (g *group) keep() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for g.ctx.Err() == nil {
		g.mu.Lock()
		now := g.clock()
		g.refresh(now)
		g.notify()
		duty := g.duty(now)
		g.mu.Unlock()
		if duty != nil {
			duty()
			continue
		}
		g.mu.Lock()
		g.keeperAt = min(g.nextChange(), g.nextDuty())
		wait := time.Duration(g.keeperAt - g.clock())
		forever := g.keeperAt == never
		g.mu.Unlock()
		var due <-chan time.Time
		if !forever {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-g.keeperWake:
		case <-due:
		case <-g.ctx.Done():
		}
	}
}

// nextDuty is when the member has something to do next.
func (g *group) nextDuty() int64 {
	if !g.shared() || g.err != nil {
		return never
	}
	next := min(g.lookAt, g.flushAt)
	if g.member != "" {
		next = min(next, g.renewAt)
	}
	return next
}

// duty returns what the member has to do now, nil when there is nothing.
func (g *group) duty(now int64) func() {
	switch {
	case !g.shared() || g.err != nil:
		return nil
	case g.member != "" && g.renewAt <= now:
		return g.renew
	case g.lookAt <= now, !g.failed && (g.member == "" || g.canGiveAway()):
		return g.lookAround
	case g.flushAt <= now:
		return g.flush
	}
	return nil
}

// canGiveAway tells whether a partition that is leaving has nothing in flight any more.
func (g *group) canGiveAway() bool {
	for _, p := range g.owned {
		if p.leaving && p.out == 0 {
			return true
		}
	}
	return false
}

// renew renews the lease of the member.
func (g *group) renew() {
	g.mu.Lock()
	lease := g.lease
	g.mu.Unlock()
	ttl := g.log.config.Lease
	renewed, err := g.log.leases.Renew(g.ctx, lease, ttl)
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock()
	switch {
	case g.lease != lease: // it was lost meanwhile
	case err == nil:
		g.lease = renewed
		g.renewAt = later(now, ttl/3)
	case errors.Is(err, es.ErrLeaseLost), errors.Is(err, es.ErrClosed):
		_ = g.judge(g.ctx, lease, err)
	default:
		g.log.config.Logger.Warn("lease of a member of a group could not be renewed; trying again",
			"topic", g.topic, "group", g.name, "error", err)
		g.renewAt = later(now, max(ttl/20, time.Millisecond))
	}
}

// lookAround shares the partitions with the other members.
func (g *group) lookAround() {
	g.mu.Lock()
	g.lookAt = later(g.clock(), g.log.config.Rebalance)
	surrender := g.surrender
	g.mu.Unlock()
	if surrender.Name != "" {
		if g.log.leases.Release(g.ctx, surrender) == nil {
			g.mu.Lock()
			g.surrender = es.Lease{}
			g.mu.Unlock()
		}
	}
	err := g.rebalance(g.ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failed = err != nil
	switch {
	case err == nil, g.ctx.Err() != nil:
	case lasting(err), errors.Is(err, es.ErrNotFound):
		g.fail(err)
	default:
		g.log.config.Logger.Warn("partitions of a group could not be shared; trying again",
			"topic", g.topic, "group", g.name, "error", err)
		g.lookAt = later(g.clock(), max(min(g.log.config.Rebalance, retryAfter), time.Millisecond))
	}
}

// lookAgain makes the member look around at once.
func (g *group) lookAgain() {
	g.lookAt = 0
	g.wakeKeeper()
}

// flush writes what has no hurry.
func (g *group) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flushAt = never
	if g.running != nil { // the keeper does not wait for it: there is a lease to renew
		g.flushSoon(g.clock())
		return
	}
	if err := g.persist(g.ctx, &call{}); err != nil && g.ctx.Err() == nil {
		g.log.config.Logger.Warn("state of a group could not be written; trying again",
			"topic", g.topic, "group", g.name, "error", err)
		g.flushSoon(g.clock())
	}
}

// open makes the group ready: its start is stored, the member has joined, and has the partitions that nobody else has.
func (g *group) open(ctx context.Context, start es.Start) error {
	if !g.shared() {
		return g.openAlone(ctx, start)
	}
	doc, err := g.ensure(ctx, start)
	if err != nil {
		return err
	}
	g.accept(doc)
	err = g.rebalance(ctx)
	for errors.Is(err, es.ErrLeaseLost) && ctx.Err() == nil { // it took longer than the lease, so that the member joins anew
		err = g.rebalance(ctx)
	}
	if err != nil {
		g.giveUp(ctx)
		return err
	}
	g.lookAt = later(g.clock(), g.log.config.Rebalance)
	g.run()
	return nil
}

// openAlone is open for a subscription without a group, which has everything to itself.
func (g *group) openAlone(ctx context.Context, start es.Start) error {
	at, err := g.log.resolve(ctx, g.topic, start)
	if err != nil {
		return err
	}
	g.incarnation, g.partitions, g.start = at.Incarnation, 1, at.Position
	g.byID = make([]*partition, 1)
	g.adopt(&partition{scanned: at.Position, high: at.Position})
	g.run()
	return nil
}

func (g *group) run() {
	g.work.Go(g.keep)
	g.work.Go(g.read)
}

// giveUp ends a membership that came to nothing.
func (g *group) giveUp(ctx context.Context) {
	g.mu.Lock()
	g.dropAll()
	leases := [...]es.Lease{g.lease, g.surrender}
	g.mu.Unlock()
	for _, lease := range leases {
		if lease.Name != "" {
			_ = g.log.leases.Release(context.WithoutCancel(ctx), lease) // it ends by itself, too
		}
	}
}

// end ends the membership: the partitions and the lease are given away, so that others need not wait. What cannot be written is
// found out by the others when the lease has ended.
func (g *group) end(ctx context.Context) error {
	defer close(g.left)
	g.cancel()
	g.work.Wait()
	g.calls.Wait()
	g.mu.Lock()
	if !g.shared() || g.member == "" || g.err != nil {
		g.mu.Unlock()
		g.giveUp(ctx)
		return nil
	}
	defer g.mu.Unlock()
	lease := g.lease
	commit := es.Commit{Fence: &lease}
	for _, p := range g.owned {
		commit.Writes = append(commit.Writes, es.Write{Model: g.keys.model, Key: p.doc, Data: g.appendRecord(nil, p, "")})
	}
	commit.Writes = append(commit.Writes, es.Write{Model: g.keys.model, Key: g.memberDoc, Delete: true})
	g.dropAll()
	g.mu.Unlock()
	err := g.log.models.Commit(ctx, commit)
	if err == nil {
		err = g.log.leases.Release(ctx, lease)
	}
	g.mu.Lock()
	if errors.Is(err, es.ErrLeaseLost) || errors.Is(err, es.ErrClosed) {
		return nil
	}
	return err
}
