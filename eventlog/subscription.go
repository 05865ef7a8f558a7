package eventlog

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// subscription is an [es.Subscription] to a group of a log, and an [es.Lagger].
type subscription struct {
	group *group
	lease time.Duration
	calls sync.Pool // of *call, so that a Receive or an Ack needs no memory of its own

	// The lock of the group guards these.
	closed bool
	lent   parcelList // by the end of their lease
	spare  *receiver
	ended  chan struct{} // closed when Close has done its work
	endErr error
}

var (
	_ es.Subscription = (*subscription)(nil)
	_ es.Lagger       = (*subscription)(nil)
)

func (s *subscription) begin() *call {
	c, ok := s.calls.Get().(*call)
	if !ok {
		c = &call{}
	}
	return c
}

// done gives a call back to be used again, unless somebody may still hold it.
func (s *subscription) done(c *call) {
	if c.abandoned {
		return
	}
	clear(c.parcels)
	*c = call{parcels: c.parcels[:0], lost: c.lost[:0]}
	s.calls.Put(c)
}

// enter begins a call of a subscription; it must be followed by g.calls.Done unless it fails.
func (s *subscription) enter() error {
	g := s.group
	switch {
	case s.closed:
		return es.ErrClosed
	case g.err != nil:
		return g.err
	}
	g.calls.Add(1)
	return nil
}

func (s *subscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	if len(dst) == 0 {
		return 0, es.Invalidf("destination", "is empty; it takes room for one delivery or more")
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer g.calls.Done()
	for {
		n, err := s.receiveOnce(ctx, dst)
		if n > 0 || err != nil {
			g.notify()
			return n, err
		}
	}
}

// receiveOnce hands out what is there, and when there is nothing it waits until there may be something.
func (s *subscription) receiveOnce(ctx context.Context, dst []es.Delivery) (int, error) {
	g := s.group
	g.refresh(g.clock())
	c := s.begin()
	if g.take(s, len(dst), c); len(c.parcels) > 0 {
		defer s.done(c)
		g.serveReader()
		if err := s.judge(ctx, g.persist(ctx, c)); err != nil {
			return 0, err
		}
		return g.hand(dst, c), nil
	}
	s.done(c)
	r := s.spare
	if s.spare = nil; r == nil {
		r = &receiver{wake: make(chan struct{}, 1)}
	}
	g.enlist(r)
	g.mu.Unlock()
	err := r.wait(ctx)
	g.mu.Lock()
	g.dismiss(r)
	s.spare = r
	switch {
	case s.closed:
		return 0, es.ErrClosed
	case g.err != nil:
		return 0, g.err
	}
	return 0, err
}

// judge decides what an outcome means for a Receive: an error, or nil when it is to be tried again or has succeeded.
func (s *subscription) judge(ctx context.Context, err error) error {
	switch {
	case s.closed:
		return es.ErrClosed
	case err == nil, errors.Is(err, errBroken) && ctx.Err() == nil, errors.Is(err, es.ErrLeaseLost):
		return nil
	case errors.Is(err, errBroken):
		return ctx.Err()
	}
	return err
}

func (s *subscription) Ack(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, acking, 0)
}

func (s *subscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.answer(ctx, ds, nacking, delay)
}

func (s *subscription) Release(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, releasing, 0)
}

// answer answers deliveries, and returns when the store knows.
func (s *subscription) answer(ctx context.Context, ds []es.Delivery, state parcelState, delay time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.closed {
		return lostAll(len(ds))
	}
	g.calls.Add(1)
	defer g.calls.Done()
	for {
		err := s.answerOnce(ctx, ds, state, delay)
		if !errors.Is(err, errBroken) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

func (s *subscription) answerOnce(ctx context.Context, ds []es.Delivery, state parcelState, delay time.Duration) error {
	g := s.group
	now := g.clock()
	g.refresh(now)
	c := s.begin()
	defer s.done(c)
	var errs []error
	for i := range ds {
		p := g.parcels.find(s, ds[i].Receipt)
		if p == nil {
			errs = lost(errs, i, len(ds))
			continue
		}
		p.slot = int32(i)
		if state == nacking {
			p.notBefore = later(now, delay)
		}
		g.stage(p, state, c)
	}
	if len(c.parcels) > 0 {
		if state != acking {
			g.stageFollowers(c)
		}
		err := g.persist(ctx, c)
		if err != nil && !errors.Is(err, es.ErrLeaseLost) {
			return err
		}
		for _, slot := range c.lost {
			if slot >= 0 {
				errs = lost(errs, int(slot), len(ds))
			}
		}
		g.notify()
	}
	return es.BatchErr(errs)
}

// stage takes a parcel from its subscription, to be answered by the next commit.
func (g *group) stage(p *parcel, state parcelState, c *call) {
	p.sub.lent.remove(byLease, p)
	p.state = state
	p.part.dirty = true
	c.parcels = append(c.parcels, p)
}

// stageFollowers releases what follows the parcels of a call in the batch of their key and is not answered.
func (g *group) stageFollowers(c *call) {
	for _, p := range c.parcels { // and not those that it appends
		for q := p.links[byKey].next; q != nil; q = q.links[byKey].next {
			if q.state == lent {
				q.slot = -1 // it is in nobody's call
				g.stage(q, releasing, c)
			}
		}
	}
}

func lost(errs []error, i, n int) []error {
	if errs == nil {
		errs = make([]error, n)
	}
	errs[i] = es.ErrLeaseLost
	return errs
}

func lostAll(n int) error {
	var errs []error
	for i := range n {
		errs = lost(errs, i, n)
	}
	return es.BatchErr(errs)
}

func (s *subscription) Extend(ctx context.Context, ds []es.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	clock := int64(now.Sub(g.began))
	if !s.closed {
		g.refresh(clock)
	}
	var errs []error
	for i := range ds {
		p := g.parcels.find(s, ds[i].Receipt)
		if p == nil {
			errs = lost(errs, i, len(ds))
			continue
		}
		p.due = later(clock, s.lease)
		s.lent.remove(byLease, p)
		s.lent.pushBack(byLease, p) // a subscription has one length of lease, so that this one ends last
		ds[i].Deadline = g.deadline(p, now)
	}
	g.notify()
	return es.BatchErr(errs)
}

// closeTimeout is how long Close tries to tell the store what is given back. When it cannot, the leases tell, in time.
const closeTimeout = 10 * time.Second

func (s *subscription) Close() error {
	g := s.group
	g.mu.Lock()
	if s.closed {
		g.mu.Unlock()
		<-s.ended
		return nil
	}
	s.closed = true
	for _, r := range g.receivers {
		r.signal()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.endErr = s.giveBackAll(ctx)
	g.subs = slices.DeleteFunc(g.subs, func(other *subscription) bool { return other == s })
	last := len(g.subs) == 0
	if last {
		g.ending = true
	}
	g.notify()
	g.mu.Unlock()
	if last {
		s.endErr = g.end(ctx)
		g.log.remove(g)
	}
	g.log.forget(s)
	close(s.ended)
	return s.endErr
}

// giveBackAll gives back what is not answered. Until the store knows, the members of other processes wait.
func (s *subscription) giveBackAll(ctx context.Context) error {
	g := s.group
	c := &call{}
	for !s.lent.empty() {
		p := s.lent.first
		p.slot = -1
		g.stage(p, releasing, c)
	}
	if len(c.parcels) == 0 || g.err != nil {
		g.settle(c, nil)
		return nil //nolint:nilerr // the error of the group is told by Receive
	}
	err := g.persist(ctx, c)
	if errors.Is(err, es.ErrLeaseLost) || errors.Is(err, es.ErrClosed) {
		return nil // nobody can give back any more; the end of the lease does it
	}
	return err
}
