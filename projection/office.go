package projection

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// office is the right to do the work of a projection: a lease and its keeper, or without leases anybody's.
type office struct {
	p     *Projection
	fresh bool // the lease was taken, and its last owner may not know yet

	// ctx is for what is under way, and soft for what only waits. Both end with the lease.
	ctx, soft context.Context //nolint:containedctx // of what is done under the lease
	end       context.CancelFunc
	keeping   sync.WaitGroup

	mu    sync.Mutex
	lease es.Lease
	why   error // why it has ended
}

// leaseName is the name of a projection's lease.
func leaseName(projection string) string { return "projection " + projection }

// takeOffice returns when the projection is to do the work, or is to stop.
func (p *Projection) takeOffice() (*office, error) {
	o := &office{p: p}
	var endWork, endWait context.CancelFunc
	o.ctx, endWork = context.WithCancel(p.hard)
	o.soft, endWait = context.WithCancel(p.soft)
	o.end = func() { endWork(); endWait() }
	if p.config.Leases == nil {
		return o, nil
	}
	lease, err := p.acquire()
	if err != nil {
		o.end()
		return nil, err
	}
	o.lease, o.fresh = lease, true
	p.log.Info("projection has its lease", "owner", lease.Owner, "token", lease.Token)
	o.keeping.Go(o.keep)
	return o, nil
}

// acquire waits until the lease is the projection's.
func (p *Projection) acquire() (es.Lease, error) {
	c := &p.config
	for {
		lease, err := c.Leases.Acquire(p.soft, leaseName(c.Name), c.Owner, c.LeaseTTL)
		held, is := errors.AsType[*es.LeaseHeldError](err)
		switch {
		case err == nil:
			return lease, nil
		case !is:
			return es.Lease{}, fmt.Errorf("take the lease of projection %q: %w", c.Name, err)
		}
		p.journal.standBy(held.Owner)
		// Whoever holds it may give it back before it ends, and the clock that decides is not this one.
		p.pause(p.soft, min(max(time.Until(held.Until), time.Millisecond), c.LeaseTTL/4, time.Second))
		if err := p.soft.Err(); err != nil {
			return es.Lease{}, err
		}
	}
}

// fence gives the lease that each commit is made under; nil without leases.
func (o *office) fence() func() *es.Lease {
	if o.p.config.Leases == nil {
		return nil
	}
	return func() *es.Lease {
		o.mu.Lock()
		defer o.mu.Unlock()
		lease := o.lease
		return &lease
	}
}

// keep renews the lease until the office ends. When it is lost, all that is under way is broken off at once.
func (o *office) keep() {
	ttl := o.p.config.LeaseTTL
	renewed, every := time.Now(), ttl/3
	for wait := every; ; {
		pause(o.ctx, wait)
		if o.ctx.Err() != nil {
			return
		}
		begun := time.Now()
		o.mu.Lock()
		lease := o.lease
		o.mu.Unlock()
		ctx, cancel := context.WithDeadline(o.ctx, renewed.Add(ttl))
		lease, err := o.p.config.Leases.Renew(ctx, lease, ttl)
		cancel()
		switch {
		case err == nil:
			renewed, wait = begun, every
			o.mu.Lock()
			o.lease = lease
			o.mu.Unlock()
		case o.ctx.Err() != nil:
			return
		case errors.Is(err, es.ErrLeaseLost):
			o.lose(err)
			return
		case time.Since(renewed) >= ttl:
			o.lose(fmt.Errorf("%w: it could not be renewed for %v: %w", es.ErrLeaseLost, ttl, err))
			return
		default:
			o.p.log.Warn("lease could not be renewed; trying again", "error", err)
			wait = max(min(ttl/20, time.Until(renewed.Add(ttl))), time.Millisecond)
		}
	}
}

// lose ends the office because its lease is lost.
func (o *office) lose(why error) {
	o.mu.Lock()
	o.why = why
	o.mu.Unlock()
	o.end()
}

// lost tells why the office has ended, when the projection was not told to stop.
func (o *office) lost(err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.why != nil {
		return o.why
	}
	return err
}

// explain finds out why the very first commit under a lease was turned down. A store that does not know the lease would do that for ever.
func (o *office) explain(err error) error {
	if !errors.Is(err, es.ErrLeaseLost) {
		return err
	}
	if o.p.config.Leases.Check(o.ctx, *o.fence()()) != nil {
		return err
	}
	return es.Invalidf("leases", "are not of the backend of Models, which turns down a lease that is held (%v); take both of one", err)
}

// leave ends the office, and gives the lease back, so that others need not wait.
func (o *office) leave() {
	o.end()
	o.keeping.Wait()
	if o.lease.Name == "" {
		return
	}
	const patience = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := o.p.config.Leases.Release(ctx, o.lease); err != nil {
		o.p.log.Info("lease could not be given back; it ends by itself", "error", err)
	}
}
