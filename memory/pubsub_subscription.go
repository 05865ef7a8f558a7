package memory

import (
	"context"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// subscription is an [es.Subscription], and an [es.Lagger]. It has no goroutine: who receives looks for himself.
type subscription struct {
	pubsub *PubSub
	topic  *topic
	group  *consumerGroup
	lease  time.Duration

	// The lock of the topic guards these.
	closed bool
	seat   int32 // in the group
	leases parcelList
	spare  *receiver // for the next Receive that waits
}

var (
	_ es.Subscription = (*subscription)(nil)
	_ es.Lagger       = (*subscription)(nil)
)

// find returns the parcel of a receipt, when this subscription has it in flight and it is not answered; 0 when not.
func (s *subscription) find(receipt uint64) int32 {
	i := receipt & parcelMask
	if s.closed || i == 0 || i >= uint64(len(s.group.parcels.all)) {
		return 0
	}
	if p := &s.group.parcels.all[i]; p.receipt != receipt || p.seat != s.seat {
		return 0
	}
	return int32(i) // it has 24 bits
}

func (s *subscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	if len(dst) == 0 {
		return 0, es.Invalidf("destination", "is empty; it takes room for one delivery or more")
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var r *receiver
	for {
		b, alarm, err := s.take(dst, &r)
		if b.n > 0 || err != nil {
			b.writeLot()
			return b.n, err
		}
		if err := r.wait(ctx, alarm); err != nil {
			s.leave(r)
			return 0, err
		}
	}
}

// take hands out what is there. When there is nothing, the receiver *r is among those that wait (it is made when it is nil), and
// alarm is after which time it is to look again.
func (s *subscription) take(dst []es.Delivery, r **receiver) (b batch, alarm time.Duration, _ error) {
	t, g := s.topic, s.group
	t.mu.Lock()
	defer t.unlock()
	clock := t.space.clock()
	if *r != nil {
		g.unguard(*r)
	}
	if s.closed {
		s.dismiss(*r)
		return b, 0, es.ErrClosed
	}
	g.refresh(clock)
	b = g.fill(s, dst, clock)
	t.serve()
	if b.n > 0 {
		s.dismiss(*r)
		g.notify()
		return b, 0, nil
	}
	if *r == nil {
		*r, s.spare = s.spare, nil
		if *r == nil {
			*r = &receiver{wake: make(chan struct{}, 1)}
		}
		g.receivers = append(g.receivers, *r)
	}
	return b, g.watch(*r, clock), nil
}

func (s *subscription) Ack(_ context.Context, ds []es.Delivery) error {
	t, g, row := s.topic, s.group, inRow(ds)
	t.mu.Lock()
	defer t.unlock()
	clock := s.look()
	var errs []error
	if g.lot.sub == s {
		errs = g.ackLot(ds, row)
	} else {
		errs = s.ackParcels(ds, clock)
	}
	g.notify()
	return es.BatchErr(errs)
}

func (s *subscription) ackParcels(ds []es.Delivery, clock int64) (errs []error) {
	for n := range ds {
		if i := s.find(ds[n].Receipt); i != 0 {
			s.group.finish(i, clock)
		} else {
			errs = lost(errs, n, len(ds))
		}
	}
	return errs
}

// look sees to what time has brought, and returns the time, before an answer. What becomes of the group of a subscription that was
// closed is none of its business any more; it has no receipts then.
func (s *subscription) look() int64 {
	clock := s.topic.space.clock()
	if !s.closed {
		s.group.refresh(clock)
	}
	return clock
}

func (s *subscription) Nack(_ context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.giveBack(ds, func(p *parcel, clock int64) {
		p.attempt++
		p.suspect = false
		p.notBefore = later(clock, delay)
	})
}

func (s *subscription) Release(_ context.Context, ds []es.Delivery) error {
	return s.giveBack(ds, func(*parcel, int64) {})
}

// later is a time on the clock, and never before it.
func later(clock int64, delay time.Duration) int64 {
	if at := clock + int64(max(delay, 0)); at >= clock {
		return at
	}
	return never - 1
}

// giveBack takes the deliveries out of those that are to be answered, and notes of each what the answer is. They are given back
// together, so that one does not take another of the call with it as not answered.
func (s *subscription) giveBack(ds []es.Delivery, note func(p *parcel, clock int64)) error {
	t, g := s.topic, s.group
	t.mu.Lock()
	defer t.unlock()
	clock := s.look()
	if g.lot.sub == s {
		g.unpack()
	}
	var errs []error
	for n := range ds {
		i := s.find(ds[n].Receipt)
		if i == 0 {
			errs = lost(errs, n, len(ds))
			continue
		}
		p := &g.parcels.all[i]
		p.receipt = 0
		note(p, clock)
		g.scratch = append(g.scratch, i)
	}
	g.giveBackAll(clock)
	g.notify()
	return es.BatchErr(errs)
}

func lost(errs []error, i, n int) []error {
	if errs == nil {
		errs = make([]error, n)
	}
	errs[i] = es.ErrLeaseLost
	return errs
}

func (s *subscription) Extend(_ context.Context, ds []es.Delivery) error {
	t, g := s.topic, s.group
	t.mu.Lock()
	defer t.unlock()
	clock := s.look()
	if g.lot.sub == s {
		g.unpack()
	}
	due := later(clock, s.lease)
	deadline := t.space.time(due)
	var errs []error
	for n := range ds {
		i := s.find(ds[n].Receipt)
		if i == 0 {
			errs = lost(errs, n, len(ds))
			continue
		}
		g.parcels.all[i].due = due
		g.parcels.remove(&s.leases, byLease, i)
		g.parcels.pushBack(&s.leases, byLease, i) // a subscription has one length of lease, so that this one ends last
		ds[n].Deadline = deadline
	}
	g.notify()
	return es.BatchErr(errs)
}

func (s *subscription) Close() error {
	s.end()
	s.pubsub.forget(s)
	return nil
}

// sit gives a subscription a seat in the group.
func (g *consumerGroup) sit(s *subscription) {
	seat := slices.Index(g.members, nil)
	if seat < 0 {
		seat = len(g.members)
		g.members = append(g.members, nil)
	}
	s.seat = int32(seat) //nolint:gosec // nobody opens as many
	g.members[seat] = s
	g.present++
}

// stand takes a subscription out of the group.
func (g *consumerGroup) stand(s *subscription) {
	g.members[s.seat] = nil
	g.present--
}

// end gives back what is in flight and takes the subscription out of its group.
func (s *subscription) end() {
	t, g := s.topic, s.group
	t.mu.Lock()
	if s.closed {
		t.unlock()
		return
	}
	clock := t.space.clock()
	g.refresh(clock)
	if g.lot.sub == s {
		g.unpack()
	}
	s.closed = true
	for !s.leases.empty() {
		g.giveBack(s.leases.first, clock)
	}
	g.stand(s)
	for _, r := range g.receivers { // its own have to return
		if !r.woken {
			t.call(r)
		}
	}
	g.notify()
	if g.name == "" {
		t.retire(g)
	}
	t.serve()
	idle, news := t.idle(), t.takeNews()
	t.unlock()
	s.pubsub.tell(t.name, news)
	s.pubsub.boundTopics()
	if idle {
		t.space.forget(t)
	}
}
