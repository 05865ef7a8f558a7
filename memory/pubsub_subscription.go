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

// receiver is a Receive that waits.
type receiver struct {
	wake  chan struct{} // has room for one signal
	woken bool          // there is a signal on its way
	timer *time.Timer
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
		n, alarm, err := s.take(dst, &r)
		if n > 0 || err != nil {
			return n, err
		}
		if err := r.wait(ctx, alarm); err != nil {
			s.leave(r)
			return 0, err
		}
	}
}

// take hands out what is there. When there is nothing, the receiver *r is among those that wait (it is made when it is nil), and
// alarm is after which time it is to look again.
func (s *subscription) take(dst []es.Delivery, r **receiver) (n int, alarm time.Duration, _ error) {
	t, g := s.topic, s.group
	t.mu.Lock()
	defer t.mu.Unlock()
	clock := t.space.clock()
	if *r != nil {
		g.unguard(*r)
	}
	if s.closed {
		s.dismiss(*r)
		return 0, 0, es.ErrClosed
	}
	g.refresh(clock)
	n = g.fill(s, dst, clock)
	t.serve()
	if n > 0 {
		s.dismiss(*r)
		g.notify()
		return n, 0, nil
	}
	if *r == nil {
		*r, s.spare = s.spare, nil
		if *r == nil {
			*r = &receiver{wake: make(chan struct{}, 1)}
		}
		g.receivers = append(g.receivers, *r)
	}
	return 0, g.watch(*r, clock), nil
}

// leave ends the waiting of a receiver. A signal that it has got is for another.
func (s *subscription) leave(r *receiver) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.group.unguard(r)
	s.dismiss(r)
	s.group.notify()
}

// wait waits for a signal, for the alarm when it is above 0, or for the end of the context.
func (r *receiver) wait(ctx context.Context, alarm time.Duration) error {
	var expired <-chan time.Time
	if alarm > 0 {
		if r.timer == nil {
			r.timer = time.NewTimer(alarm)
		} else {
			r.timer.Reset(alarm)
		}
		defer r.timer.Stop()
		expired = r.timer.C
	}
	select {
	case <-r.wake:
	case <-expired:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// watch makes a receiver the one that wakes for what time brings next, unless another does already, and returns how long it
// may wait; 0 for as long as it gets no signal.
func (g *consumerGroup) watch(r *receiver, clock int64) time.Duration {
	next := g.nextChange()
	if next >= g.alarm {
		return 0
	}
	g.alarm, g.guard = next, r
	return max(time.Duration(next-clock), 1)
}

// unguard is for a receiver that does not wait at the moment.
func (g *consumerGroup) unguard(r *receiver) {
	if g.guard == r {
		g.alarm, g.guard = never, nil
	}
	if r.woken {
		r.woken = false
		select {
		case <-r.wake:
		default: // it has woken by it
		}
	}
}

// dismiss takes a receiver, if it is one, out of those that wait.
func (s *subscription) dismiss(r *receiver) {
	if r == nil {
		return
	}
	s.spare = r
	g := s.group
	i := slices.Index(g.receivers, r)
	g.receivers = slices.Delete(g.receivers, i, i+1)
}

// notify wakes a receiver when there is something for it: messages, or a time to watch for that nobody watches for. One is
// enough: it wakes the next when it leaves something.
func (g *consumerGroup) notify() {
	if len(g.receivers) == 0 {
		return
	}
	available := g.inFlight < g.topic.space.config.Buffer && (g.readyKeys.count > 0 || g.fresh() > 0)
	if !available && g.nextChange() >= g.alarm {
		return
	}
	// The last to come is the first to be woken: the one who watches the time is likely to be another.
	for _, r := range slices.Backward(g.receivers) {
		if !r.woken {
			r.signal()
			return
		}
	}
}

func (r *receiver) signal() {
	r.woken = true
	r.wake <- struct{}{}
}

func (s *subscription) Ack(_ context.Context, ds []es.Delivery) error {
	t, g := s.topic, s.group
	t.mu.Lock()
	defer t.mu.Unlock()
	clock := s.look()
	var errs []error
	if g.lot.sub == s {
		errs = g.ackLot(ds)
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
	defer t.mu.Unlock()
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
	defer t.mu.Unlock()
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
		t.mu.Unlock()
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
			r.signal()
		}
	}
	g.notify()
	if g.name == "" {
		t.retire(g)
	}
	t.serve()
	idle, news := t.idle(), t.takeNews()
	t.mu.Unlock()
	s.pubsub.tell(t.name, news)
	s.pubsub.boundTopics()
	if idle {
		t.space.forget(t)
	}
}
