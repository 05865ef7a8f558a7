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

// faulty is a pub/sub in memory whose calls fail now and then. Its subscriptions are those of a view, which is what hangs up.
type faulty struct {
	whole *memory.PubSub

	mu       sync.Mutex
	view     *memory.PubSub
	fails    func() bool
	ids      []uuid.UUID
	acked    map[uuid.UUID]int
	failures map[uint64]int // by receipt: of answers to the delivery
	breaches []string
}

func newFaulty(fails func() bool) *faulty {
	whole, err := memory.NewPubSub(memory.PubSubConfig{})
	f := &faulty{whole: whole, fails: fails, acked: map[uuid.UUID]int{}, failures: map[uint64]int{}}
	f.breach(err)
	f.open()
	return f
}

func (f *faulty) breach(err error) {
	if err != nil {
		f.breaches = append(f.breaches, err.Error())
	}
}

func (f *faulty) open() {
	view, err := f.whole.Namespace("default")
	f.breach(err)
	f.view = view
}

func (f *faulty) publish(m *es.Message) {
	f.ids = append(f.ids, m.ID)
	f.breach(f.whole.Publish(context.Background(), es.ToCategory(m)...))
}

func (f *faulty) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breach(f.view.Close())
	f.open()
}

func (f *faulty) left() int {
	n := 0
	for _, t := range f.whole.Stats() {
		n += t.Backlog
		for _, g := range t.Groups {
			n += g.Depth + g.InFlight
		}
	}
	return n
}

func (f *faulty) acks(i int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.acked[f.ids[i]]
}

func (f *faulty) noted() []string { return f.breaches }

func (f *faulty) checkStopped() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.whole.Stats() {
		for _, g := range t.Groups {
			if g.Members != 0 || g.InFlight != 0 {
				f.breach(fmt.Errorf("after Stop the group is %+v", g))
			}
		}
	}
}

func (f *faulty) Subscribe(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sub, err := f.view.Subscribe(ctx, topic, o)
	return &faultySubscription{Subscription: sub, faulty: f, view: f.view}, err
}

type faultySubscription struct {
	es.Subscription

	faulty *faulty
	view   *memory.PubSub
}

func (s *faultySubscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	s.faulty.mu.Lock()
	fails := s.faulty.fails()
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
	if f.fails() && f.mayFail(ds) {
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
		if errors.Is(errs[i], es.ErrLeaseLost) && op != "release" && s.view == f.view {
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

func (s *faultySubscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.answer(ctx, ds, "nack", func(taken []es.Delivery) error { return s.Subscription.Nack(ctx, taken, delay) })
}

func (s *faultySubscription) Release(ctx context.Context, ds []es.Delivery) error {
	return s.answer(ctx, ds, "release", func(taken []es.Delivery) error { return s.Subscription.Release(ctx, taken) })
}
