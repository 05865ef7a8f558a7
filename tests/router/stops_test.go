package router_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

var stopsSeed = flag.Uint64("stops.seed", 0, "the seed of TestAThousandStops; another one each time by default")

// TestAThousandStops stops a router with all its middleware at a random moment, again and again, while messages come and two more
// routers of the group take over what is given back: the whole router, or a route of it, or by pausing. Every handler would succeed, so
// that nothing is an attempt but the first, nothing becomes a dead letter, and every message is handled once.
func TestAThousandStops(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(t *testing.T, s *stops, at int){
		"of a router": func(t *testing.T, s *stops, at int) {
			t.Helper()
			s.check(t, s.routers[at], s.routers[at].Stop(s.ctx))
			s.routers[at] = s.start(t)
		},
		"of a route": func(t *testing.T, s *stops, at int) {
			t.Helper()
			r := s.routers[at]
			s.check(t, r, r.StopRoute(s.ctx, "order", "stops"))
			if err := r.StartRoute(s.ctx, "order", "stops"); err != nil {
				t.Error(err)
			}
		},
		"by pausing": func(t *testing.T, s *stops, at int) {
			t.Helper()
			r := s.routers[at]
			if err := errors.Join(r.Pause("order", "stops"), r.Resume(s.ctx, "order", "stops")); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := *stopsSeed
			if seed == 0 {
				seed = rand.Uint64()
			}
			synctest.Test(t, func(t *testing.T) { newStops(t, seed).run(t, again) })
			if t.Failed() {
				t.Logf("to run it again: go test -run %q -stops.seed=%d", t.Name(), seed)
			}
		})
	}
}

// stops is what is known while routers are stopped.
type stops struct {
	ctx     context.Context
	broker  *memory.PubSub
	store   *memory.Backend
	routers []*router.Router

	mu      sync.Mutex
	random  *rand.Rand
	handled map[string]int
	running map[string]bool
	letters int
	failed  func(format string, args ...any)
}

func newStops(t *testing.T, seed uint64) *stops {
	t.Helper()
	broker, err := memory.NewPubSub(memory.PubSubConfig{Buffer: 64})
	if err != nil {
		t.Fatal(err)
	}
	s := &stops{
		ctx: context.WithoutCancel(t.Context()), broker: broker, store: memory.New(), random: rand.New(rand.NewPCG(seed, 2)),
		handled: map[string]int{}, running: map[string]bool{}, failed: t.Errorf,
	}
	for range 3 {
		s.routers = append(s.routers, s.start(t))
	}
	return s
}

// upTo draws a time.
func (s *stops) upTo(most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.random.Int64N(int64(most)))
}

func (s *stops) handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	takes := time.After(s.upTo(10 * time.Millisecond))
	s.mu.Lock()
	if d.Attempt != 1 {
		s.failed("%s came as attempt %d", d.Data, d.Attempt)
	}
	if s.running[d.Stream] {
		s.failed("two messages of %s are handled at once", d.Stream)
	}
	s.running[d.Stream] = true
	s.mu.Unlock()
	var err error
	select {
	case <-takes:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[d.Stream] = false
	if err == nil {
		s.handled[string(d.Data)]++
	}
	return nil, err
}

func (s *stops) start(t *testing.T) *router.Router {
	t.Helper()
	bury := func(context.Context, []*es.Message) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.letters++
		return nil
	}
	r, err := router.New(router.Config{
		Subscriber: s.broker, DeadLetter: bury, MaxAttempts: 1, Grace: 1 + s.upTo(12*time.Millisecond),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		r.Use(middleware.Retry(middleware.RetryConfig{}), middleware.Dedupe(s.store.Dedupe(), middleware.DedupeConfig{}),
			middleware.Recover(middleware.RecoverConfig{})),
		r.Route("order", es.HandlerFunc(s.handle), router.Options{Name: "stops", Concurrency: 3, Batch: 8}),
		r.Start(s.ctx))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// check looks at a router, or a route of one, that was stopped.
func (s *stops) check(t *testing.T, r *router.Router, err error) {
	t.Helper()
	stats := r.Stats()[0]
	if err != nil && stats.Released == 0 {
		t.Errorf("stop: %v, and nothing was given back", err)
	}
	if stats.Failed+stats.Dead+stats.Lost+stats.Busy != 0 || stats.InFlight != 0 || stats.State != router.Stopped {
		t.Errorf("after a stop: %+v", stats)
	}
}

func (s *stops) run(t *testing.T, again func(t *testing.T, s *stops, at int)) {
	t.Helper()
	const times, perStop = 1000, 5
	for n := range times {
		for i := range perStop {
			m := es.NewMessage(fmt.Sprintf("order-%d", (n+i)%7), "Ordered", fmt.Appendf(nil, "%d/%d", n, i))
			if err := s.broker.Publish(s.ctx, es.ToCategory(m)...); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(s.upTo(20 * time.Millisecond))
		again(t, s, n%len(s.routers))
	}
	for left := 1; left > 0; time.Sleep(time.Second) {
		left = 0
		for _, topic := range s.broker.Stats() {
			for _, g := range topic.Groups {
				left += g.Depth + g.InFlight
			}
		}
	}
	for _, r := range s.routers {
		if err := r.Stop(s.ctx); err != nil {
			t.Error(err)
		}
		s.check(t, r, nil)
	}
	for n := range times {
		for i := range perStop {
			if times := s.handled[fmt.Sprintf("%d/%d", n, i)]; times != 1 {
				t.Errorf("message %d of stop %d was handled %d times", i, n, times)
			}
		}
	}
	if s.letters != 0 {
		t.Errorf("there are %d dead letters", s.letters)
	}
	if err := errors.Join(s.broker.Close(), s.store.Close()); err != nil {
		t.Error(err)
	}
}
