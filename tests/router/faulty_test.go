package router_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// handle is what a program has of a broker: all of its subscriptions end when it is closed.
type handle interface {
	es.Publisher
	es.Subscriber
	Close() error
}

// backing is a broker that a simulation can run on.
type backing struct {
	// open returns another handle of the same broker.
	open func() (handle, error)
	// left is how many messages are not acknowledged.
	left func() int
	// held says what somebody still has although no handle has a subscription; empty: nothing.
	held func() string
}

// inMemory is a pub/sub in memory; its handles are views.
func inMemory() (backing, error) {
	whole, err := memory.NewPubSub(memory.PubSubConfig{})
	return backing{
		open: func() (handle, error) { return whole.Namespace("default") },
		left: func() int {
			n := 0
			for _, t := range whole.Stats() {
				n += t.Backlog
				for _, g := range t.Groups {
					n += g.Depth + g.InFlight
				}
			}
			return n
		},
		held: func() string {
			for _, t := range whole.Stats() {
				for _, g := range t.Groups {
					if g.Members != 0 || g.InFlight != 0 {
						return fmt.Sprintf("%+v", g)
					}
				}
			}
			return ""
		},
	}, err
}

// faulty is a broker whose calls fail now and then. What hangs up is the handle by which subscriptions are opened.
type faulty struct {
	backing

	mu       sync.Mutex
	current  handle
	fails    func() bool
	stalled  time.Time // until then every call fails
	loose    bool      // leases have ended, or may
	acked    map[uuid.UUID]int
	failures map[uint64]int // by receipt: of answers to the delivery
	breaches []string
}

func newFaulty(broker backing, err error, fails func() bool) *faulty {
	f := &faulty{backing: broker, fails: fails, acked: map[uuid.UUID]int{}, failures: map[uint64]int{}}
	f.breach(err)
	f.reopen()
	return f
}

func (f *faulty) breach(err error) {
	if err != nil {
		f.breaches = append(f.breaches, err.Error())
	}
}

func (f *faulty) reopen() {
	current, err := f.open()
	f.breach(err)
	f.current = current
}

func (f *faulty) publish(m *es.Message) {
	for err := es.ErrClosed; errors.Is(err, es.ErrClosed); { // the broker has hung up meanwhile, and there is another handle
		f.mu.Lock()
		current := f.current
		f.mu.Unlock()
		if err = current.Publish(context.Background(), es.ToCategory(m)...); err != nil && !errors.Is(err, es.ErrClosed) {
			f.breach(err)
		}
	}
}

func (f *faulty) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loose = true
	f.breach(f.current.Close())
	f.reopen()
}

func (f *faulty) left() int { return f.backing.left() }

func (f *faulty) acks(id uuid.UUID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked[id]
}

func (f *faulty) noted() []string { return f.breaches }

func (f *faulty) stall(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stalled, f.loose = time.Now().Add(d), true
}

func (f *faulty) isStalled() bool { return time.Now().Before(f.stalled) }

func (f *faulty) checkStopped() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if held := f.held(); held != "" {
		f.breach(fmt.Errorf("after Stop the group is %s", held))
	}
}

func (f *faulty) Subscribe(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sub, err := f.current.Subscribe(ctx, topic, o)
	return &faultySubscription{Subscription: sub, faulty: f}, err
}

type faultySubscription struct {
	es.Subscription

	faulty *faulty
}

func (s *faultySubscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	s.faulty.mu.Lock()
	fails := s.faulty.fails() || s.faulty.isStalled()
	s.faulty.mu.Unlock()
	if fails {
		return 0, errDown
	}
	return s.Subscription.Receive(ctx, dst)
}

// answer answers those deliveries for which that does not fail, as the broker of the simulation does.
func (s *faultySubscription) answer(ctx context.Context, ds []es.Delivery, op string, give func([]es.Delivery) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f := s.faulty
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isStalled() || f.fails() && f.mayFail(ds) {
		return errDown
	}
	errs := make([]error, len(ds))
	var taken []es.Delivery
	var places []int
	for i := range ds {
		if f.fails() && f.mayFail(ds[i:i+1]) {
			errs[i] = errDown
			continue
		}
		taken, places = append(taken, ds[i]), append(places, i)
	}
	err := give(taken)
	for n, i := range places {
		errs[i] = es.Of(err, n)
		// A release that failed may have been done meanwhile, by the nack of one before it.
		if errors.Is(errs[i], es.ErrLeaseLost) && op != "release" && !f.loose {
			f.breach(fmt.Errorf("%s of %s, attempt %d, which is not out", op, ds[i].Name, ds[i].Attempt))
		}
	}
	return es.BatchErr(errs)
}

// mayFail tells whether the answers to some deliveries may fail once more, and counts.
func (f *faulty) mayFail(ds []es.Delivery) bool {
	const most = 3
	for _, d := range ds {
		if f.failures[d.Receipt] >= most {
			return false
		}
	}
	for _, d := range ds {
		f.failures[d.Receipt]++
	}
	return true
}

func (s *faultySubscription) Ack(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, "ack", func(taken []es.Delivery) error {
		err := s.Subscription.Ack(ctx, taken)
		for i, d := range taken {
			if es.Of(err, i) == nil {
				s.faulty.acked[d.ID]++
			}
		}
		return err
	})
}

func (s *faultySubscription) Extend(ctx context.Context, ds []es.Delivery) error {
	s.faulty.mu.Lock()
	stalled := s.faulty.isStalled()
	s.faulty.mu.Unlock()
	if stalled {
		return errDown
	}
	return s.Subscription.Extend(ctx, ds)
}

func (s *faultySubscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.answer(ctx, ds, "nack", func(taken []es.Delivery) error { return s.Subscription.Nack(ctx, taken, delay) })
}

func (s *faultySubscription) Release(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, "release", func(taken []es.Delivery) error { return s.Subscription.Release(ctx, taken) })
}
