package component

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// PubSub is a publisher and subscriber of slices under one lock. It looks through everything that waits each time somebody
// receives or answers, which is slow and easy to get right. It has no history, and its memory has no bound.
type PubSub struct {
	mu      sync.Mutex
	closed  bool
	changed chan struct{} // closed, and made anew, whenever there may be something to receive
	receipt uint64        // the last one given out
	topics  map[string]*topic
}

type topic struct {
	name    string
	backlog []*es.Message // what was published while there was no queue
	queues  []*queue
}

// queue has what a group has not acknowledged, in the order of publication. A subscription without a group has one of its own.
type queue struct {
	topic *topic
	group string
	items []*item
}

// item is a message in a queue. While it is out, holder is the subscription that has it.
type item struct {
	es.Delivery

	key       string
	holder    *subscription
	notBefore time.Time
	alone     bool // its lease ended without an answer: it may be what its receiver died of, and takes no others with it
}

// NewPubSub returns a pub/sub without topics.
func NewPubSub() *PubSub {
	return &PubSub{changed: make(chan struct{}), topics: map[string]*topic{}}
}

// lock begins a call. Unless it fails, the caller unlocks.
func (p *PubSub) lock(ctx context.Context) error {
	p.mu.Lock()
	err := ctx.Err()
	if p.closed {
		err = es.ErrClosed
	}
	if err != nil {
		p.mu.Unlock()
	}
	return err
}

// change wakes everybody who waits in Receive.
func (p *PubSub) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *PubSub) topic(name string) *topic {
	if p.topics[name] == nil {
		p.topics[name] = &topic{name: name}
	}
	return p.topics[name]
}

func (q *queue) add(m *es.Message) {
	q.items = append(q.items, &item{Delivery: es.Delivery{Message: m, Topic: q.topic.name, Group: q.group, Attempt: 1}})
}

// Publish implements [es.Publisher].
func (p *PubSub) Publish(ctx context.Context, pubs ...es.Publication) error {
	for _, pub := range pubs { // all of them first: of an invalid call nothing is published
		if err := errors.Join(es.ValidateName("topic", pub.Topic), pub.Message.Validate(es.Limits{})); err != nil {
			return err
		}
	}
	if err := p.lock(ctx); err != nil {
		return err
	}
	defer p.mu.Unlock()
	for _, pub := range pubs {
		m := pub.Message.Clone() // the caller may use its own again
		m.Time = es.Timestamp(m.Time)
		t := p.topic(pub.Topic)
		if len(t.queues) == 0 {
			t.backlog = append(t.backlog, m)
		}
		for _, q := range t.queues {
			q.add(m)
		}
	}
	p.change()
	return nil
}

// Subscribe implements [es.Subscriber].
func (p *PubSub) Subscribe(ctx context.Context, name string, opts es.SubscribeOptions) (es.Subscription, error) {
	err := es.ValidateName("topic", name)
	if opts.Group != "" {
		err = errors.Join(err, es.ValidateName("group", opts.Group))
	}
	switch {
	case err != nil:
		return nil, err
	case opts.Lease < 0:
		return nil, es.Invalidf("lease", "is %v; it takes a duration above 0, or 0 for the default", opts.Lease)
	case opts.Start.Kind != es.StartDefault && opts.Start.Kind != es.StartEnd:
		return nil, es.ErrUnsupported // what was published before is gone
	}
	opts.Lease = cmp.Or(opts.Lease, 30*time.Second)
	if opts.Key == nil {
		opts.Key = func(m *es.Message) string { return m.Stream }
	}
	if err := p.lock(ctx); err != nil {
		return nil, err
	}
	defer p.mu.Unlock()
	t := p.topic(name)
	for _, q := range t.queues {
		if q.group != "" && q.group == opts.Group { // Start is for groups that are new
			return &subscription{broker: p, queue: q, opts: opts}, nil
		}
	}
	q := &queue{topic: t, group: opts.Group}
	t.queues = append(t.queues, q)
	if opts.Start.Kind == es.StartDefault {
		for _, m := range t.backlog {
			q.add(m)
		}
		t.backlog = nil
	}
	return &subscription{broker: p, queue: q, opts: opts}, nil
}

// Close ends the pub/sub and every subscription.
func (p *PubSub) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.change()
	return nil
}

type subscription struct {
	broker *PubSub
	queue  *queue
	opts   es.SubscribeOptions
	closed bool
}

// Receive implements [es.Subscription].
func (s *subscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	if len(dst) == 0 {
		return 0, es.Invalidf("destination", "has no room; it takes one delivery or more")
	}
	for {
		if err := s.broker.lock(ctx); err != nil {
			return 0, err
		}
		n, wait := s.take(dst)
		closed, changed := s.closed, s.broker.changed
		s.broker.mu.Unlock()
		switch {
		case closed:
			return 0, es.ErrClosed
		case n > 0:
			return n, nil
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// take fills dst with what can be had now, and tells how long it is until time alone makes more of it: when a lease ends, or
// the delay of a nack.
func (s *subscription) take(dst []es.Delivery) (n int, wait time.Duration) {
	now, wait := time.Now(), time.Hour
	blocked := map[string]bool{} // keys that are with another batch, or whose first message waits for its retry
	for _, it := range s.queue.items {
		it.key = s.opts.Key(it.Message)
		if it.holder != nil && !it.Deadline.After(now) { // the end of the lease counts as an attempt
			it.holder = nil
			it.Attempt++
			it.alone = true
		}
		if it.holder != nil {
			blocked[it.key] = true
			wait = min(wait, it.Deadline.Sub(now))
		}
	}
	for _, it := range s.queue.items {
		if it.notBefore.After(now) {
			blocked[it.key] = true
			wait = min(wait, it.notBefore.Sub(now))
		}
		if it.alone && n > 0 {
			blocked[it.key] = true
		}
		if blocked[it.key] || n == len(dst) || s.closed {
			continue
		}
		s.broker.receipt++
		it.holder, it.Receipt, it.Deadline = s, s.broker.receipt, now.Add(s.opts.Lease)
		dst[n] = it.Delivery
		n++
		if it.alone {
			break
		}
	}
	return n, wait
}

// answer does something with the item that each delivery stands for: do gets its index in the queue.
func (s *subscription) answer(ctx context.Context, ds []es.Delivery, do func(at int, d *es.Delivery)) error {
	if err := s.broker.lock(ctx); err != nil {
		return err
	}
	defer s.broker.mu.Unlock()
	now := time.Now()
	errs := make([]error, len(ds))
	for i := range ds {
		at := slices.IndexFunc(s.queue.items, func(it *item) bool {
			return it.holder == s && it.Receipt == ds[i].Receipt && it.Deadline.After(now)
		})
		if at < 0 {
			errs[i] = es.ErrLeaseLost
			continue
		}
		do(at, &ds[i])
	}
	s.broker.change()
	return es.BatchErr(errs)
}

// Ack implements [es.Subscription].
func (s *subscription) Ack(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, func(at int, _ *es.Delivery) { s.queue.items = slices.Delete(s.queue.items, at, at+1) })
}

// Nack implements [es.Subscription].
func (s *subscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.answer(ctx, ds, func(at int, _ *es.Delivery) {
		s.queue.items[at].notBefore = time.Now().Add(delay)
		s.queue.items[at].Attempt++
		s.giveBack(at, ds)
	})
}

// Release implements [es.Subscription].
func (s *subscription) Release(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, func(at int, _ *es.Delivery) { s.giveBack(at, ds) })
}

// giveBack takes a delivery back, and those of the same key that follow it unless the same call answers them.
func (s *subscription) giveBack(at int, call []es.Delivery) {
	first := s.queue.items[at]
	first.holder, first.alone = nil, false
	for _, it := range s.queue.items[at+1:] {
		named := slices.ContainsFunc(call, func(d es.Delivery) bool { return d.Receipt == it.Receipt })
		if it.key == first.key && !named {
			it.holder = nil
		}
	}
}

// Extend implements [es.Subscription].
func (s *subscription) Extend(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, func(at int, d *es.Delivery) {
		d.Deadline = time.Now().Add(s.opts.Lease)
		s.queue.items[at].Deadline = d.Deadline
	})
}

// Close implements [es.Subscription]. A subscription without a group takes its queue with it: when it was the last one, what
// was not acknowledged is the topic's backlog again.
func (s *subscription) Close() error {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	s.closed = true
	for _, it := range s.queue.items {
		if it.holder == s {
			it.holder = nil
		}
	}
	if t := s.queue.topic; s.queue.group == "" {
		t.queues = slices.DeleteFunc(t.queues, func(q *queue) bool { return q == s.queue })
		for _, it := range s.queue.items {
			if len(t.queues) == 0 {
				t.backlog = append(t.backlog, it.Message)
			}
		}
		s.queue.items = nil
	}
	s.broker.change()
	return nil
}
