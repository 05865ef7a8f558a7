package router

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// broker is a subscriber of one topic and its replays, and of one group, that keeps the contract of es.Subscription to the letter, and fails the
// test when the router does not keep its side: an answer to what was answered, or to a message in the middle of its key.
type broker struct {
	t  testing.TB
	mu sync.Mutex

	entries  []*entry
	receipts map[uint64]*entry
	last     uint64
	batch    int
	news     chan struct{}
	closed   chan struct{}
	options  []es.SubscribeOptions
	subs     int
	log      []string // what the router said, in order

	keyOf        func(*subscription) func(*es.Message) string // nil: the stream is the key
	lag          func(topic string) (es.Lag, error)           // nil: the subscriptions are no es.Lagger
	ackGate      chan struct{}                                // not nil: acknowledgements wait until it is closed
	noLease      bool
	subscribeErr error
	receiveErrs  []error               // given once each
	answerErr    func(op string) error // fails whole calls
	extended     int
}

type entry struct {
	es.Delivery

	replay  bool // of the topic of replays, and not of the other
	key     string
	state   entryState
	batch   int
	noEarly time.Time // not before
}

type entryState int

const (
	waits entryState = iota
	lent
	gone
)

func newBroker(t testing.TB) *broker {
	return &broker{t: t, receipts: map[uint64]*entry{}, news: make(chan struct{}), closed: make(chan struct{})}
}

// publish puts messages into the topic.
func (b *broker) publish(msgs ...*es.Message) {
	ds := make([]es.Delivery, len(msgs))
	for i, m := range msgs {
		ds[i] = es.Delivery{Message: m}
	}
	b.put(ds...)
}

func (b *broker) put(ds ...es.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range ds {
		d.Attempt = max(d.Attempt, 1)
		b.entries = append(b.entries, &entry{Delivery: d, key: d.Stream, replay: isReplay(d.Category())})
	}
	b.tell()
}

func isReplay(topic string) bool { return strings.HasPrefix(topic, "replay.") }

func (b *broker) tell() {
	close(b.news)
	b.news = make(chan struct{})
}

func (b *broker) Subscribe(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subscribeErr != nil && b.subs > 0 {
		return nil, b.subscribeErr
	}
	b.subs++
	b.options = append(b.options, o)
	lease := o.Lease
	if b.noLease {
		lease = 0
	}
	s := &subscription{broker: b, options: o, topic: topic, group: o.Group, lease: lease}
	if b.lag != nil {
		return &lagging{s}, ctx.Err()
	}
	return s, ctx.Err()
}

// lagging is a subscription that knows how far behind it is.
type lagging struct{ *subscription }

func (s *lagging) Lag(context.Context) (es.Lag, error) { return s.lag(s.topic) }

type subscription struct {
	*broker

	options      es.SubscribeOptions
	topic, group string
	lease        time.Duration
	once         sync.Once
}

func (s *subscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	for {
		s.mu.Lock()
		if len(s.receiveErrs) > 0 {
			err := s.receiveErrs[0]
			s.receiveErrs = s.receiveErrs[1:]
			s.mu.Unlock()
			return 0, err
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
			return 0, ctx.Err()
		case <-s.closed:
			return 0, es.ErrClosed
		case <-due:
		case <-news:
		}
	}
}

// fill gives what can be given, and says when there will be more.
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
		if s.keyOf != nil && e.replay == isReplay(s.topic) {
			e.key = s.keyOf(s)(e.Message)
		}
		if e.state == lent && !e.Deadline.IsZero() {
			if now.Before(e.Deadline) {
				later(e.Deadline)
			} else {
				e.state, e.Attempt = waits, e.Attempt+1
				delete(s.receipts, e.Receipt)
			}
		}
		if e.state == lent && e.batch != s.batch {
			blocked[e.key] = true
		}
	}
	for _, e := range s.entries {
		if e.state != waits || e.replay != isReplay(s.topic) || blocked[e.key] || n == len(dst) {
			continue
		}
		if now.Before(e.noEarly) {
			later(e.noEarly)
			blocked[e.key] = true
			continue
		}
		s.last++
		e.state, e.batch, e.Receipt = lent, s.batch, s.last
		e.Topic, e.Group = s.topic, s.group
		if s.lease > 0 {
			e.Deadline = now.Add(s.lease)
		}
		s.receipts[e.Receipt] = e
		dst[n] = e.Delivery
		n++
	}
	return n, next
}

// answer calls each for what can be answered.
func (s *subscription) answer(ctx context.Context, op string, ds []es.Delivery, each func(*entry)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.answerErr != nil {
		if err := s.answerErr(op); err != nil {
			return err
		}
	}
	errs := make([]error, len(ds))
	for i, d := range ds {
		e := s.receipts[d.Receipt]
		if e != nil && e.replay != isReplay(s.topic) {
			s.t.Errorf("%s of %s was told to the subscription of %s: %s", e.Name, e.Topic, s.topic, op)
		}
		if e == nil || e.state != lent || e.Receipt != d.Receipt ||
			!e.Deadline.IsZero() && !time.Now().Before(e.Deadline) {
			errs[i] = es.ErrLeaseLost
			continue
		}
		s.log = append(s.log, fmt.Sprintf("%s %s/%d", op, d.Name, d.Attempt))
		if op == "extend" {
			e.Deadline = time.Now().Add(s.lease)
			ds[i].Deadline = e.Deadline
			s.extended++
			continue
		}
		delete(s.receipts, d.Receipt)
		each(e)
	}
	s.tell()
	return es.BatchErr(errs)
}

func (s *subscription) Ack(ctx context.Context, ds []es.Delivery) error {
	if s.ackGate != nil {
		<-s.ackGate
	}
	return s.answer(ctx, "ack", ds, func(e *entry) {
		for _, other := range s.entries {
			if other == e {
				break
			}
			if other.key == e.key && other.state != gone && !s.noLease && e.Err == nil && other.Err == nil {
				s.t.Errorf("%s was acknowledged before %s of the same key", e.Name, other.Name)
			}
		}
		e.state = gone
	})
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
	return s.answer(ctx, "extend", ds, nil)
}

func (s *subscription) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.subs--
		for _, e := range s.entries {
			if e.state == lent && e.replay == isReplay(s.topic) {
				s.t.Errorf("%s was not answered when the subscription was closed", e.Name)
			}
		}
	})
	return nil
}

// said returns what the router told the broker, but for extensions.
func (b *broker) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.log...)
}

// left returns how many messages are not acknowledged.
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

func message(stream, name string) *es.Message { return es.NewMessage(stream, name, []byte(`{}`)) }
