package router_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

var errDown = errors.New("no connection")

// broker is a subscriber of one topic and its replays, and of one group, that does what es.Subscription promises, fails now and then, and notes what the
// router may not do.
type broker struct {
	mu       sync.Mutex
	lease    time.Duration
	entries  []*entry
	receipts map[uint64]*entry
	last     uint64
	batch    int
	news     chan struct{}
	open     int
	cut      chan struct{} // closed when the broker hangs up on everybody
	stalled  time.Time     // until then every call fails
	loose    bool          // leases have ended, or may

	fails    func() bool // whether the next call fails
	breaches []string
}

type entry struct {
	es.Delivery

	owner    *subscription // who has it
	state    state
	batch    int
	noEarly  time.Time
	acked    int
	failures int // of answers to this delivery
}

type state int

const (
	waits state = iota
	lent
	gone
)

func newBroker(lease time.Duration, fails func() bool) *broker {
	return &broker{
		lease: lease, fails: fails, receipts: map[uint64]*entry{},
		news: make(chan struct{}), cut: make(chan struct{}),
	}
}

func (b *broker) breachf(format string, args ...any) {
	b.breaches = append(b.breaches, fmt.Sprintf(format, args...))
}

func (b *broker) publish(m *es.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, &entry{Delivery: es.Delivery{Message: m, Attempt: 1}})
	b.tell()
}

// stall makes every call fail for a time, in which leases end.
func (b *broker) stall(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stalled, b.loose = time.Now().Add(d), true
}

func (b *broker) tell() {
	close(b.news)
	b.news = make(chan struct{})
}

// hangUp ends all subscriptions, as a broker does that is restarted: what is out comes again with the same attempt.
func (b *broker) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.cut)
	b.cut = make(chan struct{})
	for _, e := range b.entries {
		if e.state == lent {
			e.state = waits
		}
	}
	clear(b.receipts)
	b.loose = true
}

func (b *broker) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.entries {
		if e.state != gone {
			n++
		}
	}
	return n
}

func (b *broker) acks(id uuid.UUID) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.ID == id {
			return e.acked
		}
	}
	return 0
}

func (b *broker) noted() []string { return b.breaches }

// checkStopped notes what is out although nobody has a subscription any more.
func (b *broker) checkStopped() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open != 0 {
		b.breachf("%d subscriptions are open after Stop", b.open)
	}
	for _, e := range b.entries {
		if e.state == lent {
			b.breachf("%s was not answered before Stop returned", e.Name)
		}
	}
}

func (b *broker) Subscribe(_ context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open++
	key := o.Key
	if key == nil {
		key = func(m *es.Message) string { return m.Stream }
	}
	return &subscription{broker: b, topic: topic, group: o.Group, key: key, cut: b.cut}, nil
}

type subscription struct {
	*broker

	topic, group string
	key          func(*es.Message) string
	cut          chan struct{}
}

func (s *subscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	for {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		s.mu.Lock()
		select {
		case <-s.cut:
			s.mu.Unlock()
			return 0, es.ErrClosed
		default:
		}
		if s.fails() || time.Now().Before(s.stalled) {
			s.mu.Unlock()
			return 0, errDown
		}
		n, next := s.fill(dst)
		news := s.news
		s.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-s.cut:
		case <-due:
		case <-news:
		}
	}
}

func (s *subscription) fill(dst []es.Delivery) (n int, next time.Time) {
	now := time.Now()
	s.batch++
	blocked := map[string]bool{}
	later := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, e := range s.entries {
		if e.state != lent || e.Category() != s.topic {
			continue
		}
		if !now.Before(e.Deadline) {
			if !s.loose {
				s.breachf("the lease of %s ended, attempt %d", e.Name, e.Attempt)
			}
			delete(s.receipts, e.Receipt)
			e.state, e.Attempt = waits, e.Attempt+1
			continue
		}
		later(e.Deadline)
		blocked[s.key(e.Message)] = true
	}
	for _, e := range s.entries {
		if e.state != waits || e.Category() != s.topic || n == len(dst) || blocked[s.key(e.Message)] {
			continue
		}
		if now.Before(e.noEarly) {
			later(e.noEarly)
			blocked[s.key(e.Message)] = true
			continue
		}
		s.last++
		e.owner, e.state, e.batch, e.Receipt, e.Deadline, e.failures = s, lent, s.batch, s.last, now.Add(s.lease), 0
		e.Topic, e.Group = s.topic, s.group
		s.receipts[e.Receipt] = e
		dst[n] = e.Delivery
		n++
	}
	return n, next
}

func (s *subscription) answer(ctx context.Context, op string, ds []es.Delivery, each func(*entry)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.cut:
		return es.ErrClosed
	default:
	}
	if time.Now().Before(s.stalled) {
		return errDown
	}
	if op != "extend" && s.fails() && s.mayFail(ds) { // leases are to hold, so that order and attempts can be told beforehand
		return errDown
	}
	errs := make([]error, len(ds))
	for i, d := range ds {
		e := s.receipts[d.Receipt]
		if e == nil || !time.Now().Before(e.Deadline) {
			errs[i] = es.ErrLeaseLost
			if op != "extend" && !s.loose { // that may meet an answer which is under way
				s.breachf("%s of %s, which is not out", op, d.Name)
			}
			continue
		}
		if op != "extend" && s.fails() && s.mayFail(ds[i:i+1]) {
			errs[i] = errDown
			continue
		}
		each(e)
		if e.acked > 1 {
			s.breachf("%s was acknowledged %d times", e.Name, e.acked)
		}
		if e.state != lent {
			delete(s.receipts, d.Receipt)
		}
	}
	s.tell()
	return es.BatchErr(errs)
}

// mayFail tells whether the answers to some deliveries may fail once more: each gets through the fourth time, so that a stop need
// not give up. It counts.
func (s *subscription) mayFail(ds []es.Delivery) bool {
	const most = 3
	for _, d := range ds {
		if e := s.receipts[d.Receipt]; e != nil && e.failures >= most {
			return false
		}
	}
	for _, d := range ds {
		if e := s.receipts[d.Receipt]; e != nil {
			e.failures++
		}
	}
	return true
}

func (s *subscription) Ack(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, "ack", ds, func(e *entry) { e.state, e.acked = gone, e.acked+1 })
}

func (s *subscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.answer(ctx, "nack", ds, func(e *entry) {
		e.state, e.Attempt, e.noEarly = waits, e.Attempt+1, time.Now().Add(delay)
	})
}

func (s *subscription) Release(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, "release", ds, func(e *entry) { e.state = waits })
}

func (s *subscription) Extend(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, "extend", ds, func(e *entry) { e.Deadline = time.Now().Add(s.lease) })
}

func (s *subscription) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	for _, e := range s.entries {
		if e.state != lent || e.owner != s {
			continue
		}
		if !s.loose {
			s.breachf("%s was not answered when the subscription was closed", e.Name)
		}
		e.state = waits
		delete(s.receipts, e.Receipt)
	}
	s.tell()
	return nil
}
