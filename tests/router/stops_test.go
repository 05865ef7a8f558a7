package router_test

import (
	"context"
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

// TestAThousandStops stops a router with all its middleware at any moment, again and again, while messages come and two more
// routers of the group take over what is given back. Every handler would succeed, so that nothing is an attempt but the first,
// nothing becomes a dead letter, and every message is handled once.
func TestAThousandStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const stops, perStop = 1000, 5
		ctx := context.WithoutCancel(t.Context())
		ps, err := memory.NewPubSub(memory.PubSubConfig{Buffer: 64})
		if err != nil {
			t.Fatal(err)
		}
		store := memory.New()
		random := rand.New(rand.NewPCG(1, 2))
		var mu sync.Mutex
		handled, running := map[string]int{}, map[string]bool{}
		handler := func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			mu.Lock()
			if d.Attempt != 1 {
				t.Errorf("%s came as attempt %d", d.Data, d.Attempt)
			}
			if running[d.Stream] {
				t.Errorf("two messages of %s are handled at once", d.Stream)
			}
			running[d.Stream] = true
			takes := time.Duration(random.IntN(10_000)) * time.Microsecond
			mu.Unlock()
			var err error
			select {
			case <-time.After(takes):
			case <-ctx.Done():
				err = ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			running[d.Stream] = false
			if err == nil {
				handled[string(d.Data)]++
			}
			return nil, err
		}
		start := func(grace time.Duration) *router.Router {
			r, err := router.New(router.Config{Subscriber: ps, Emit: router.ToPublisher(ps), MaxAttempts: 1, Grace: grace})
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{
				r.Use(middleware.Retry(middleware.RetryConfig{}), middleware.Dedupe(store.Dedupe(), middleware.DedupeConfig{}),
					middleware.Recover(middleware.RecoverConfig{})),
				r.Route("order", es.HandlerFunc(handler), router.Options{Name: "stops", Concurrency: 3, Batch: 8}),
				r.Start(ctx),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			return r
		}
		routers := []*router.Router{start(time.Second), start(time.Second), start(time.Second)}
		for n := range stops {
			for i := range perStop {
				m := es.NewMessage(fmt.Sprintf("order-%d", (n+i)%7), "Ordered", fmt.Appendf(nil, "%d/%d", n, i))
				if err := ps.Publish(ctx, es.ToCategory(m)...); err != nil {
					t.Fatal(err)
				}
			}
			at := n % len(routers)
			mu.Lock()
			wait, grace := time.Duration(random.IntN(20_000))*time.Microsecond, time.Duration(1+random.IntN(12_000))*time.Microsecond
			mu.Unlock()
			time.Sleep(wait)
			if err := routers[at].Stop(ctx); err != nil && routers[at].Stats()[0].Released == 0 {
				t.Errorf("stop %d: %v, and nothing was given back", n, err)
			}
			if s := routers[at].Stats()[0]; s.Failed+s.Dead+s.Lost+s.Busy != 0 || s.InFlight != 0 {
				t.Errorf("stop %d: %+v", n, s)
			}
			routers[at] = start(grace)
		}
		for left := 1; left > 0; time.Sleep(time.Second) {
			left = 0
			for _, topic := range ps.Stats() {
				for _, g := range topic.Groups {
					left += g.Depth + g.InFlight
				}
			}
		}
		for _, r := range routers {
			if err := r.Stop(ctx); err != nil {
				t.Error(err)
			}
		}
		for n := range stops {
			for i := range perStop {
				if times := handled[fmt.Sprintf("%d/%d", n, i)]; times != 1 {
					t.Errorf("message %d of stop %d was handled %d times", i, n, times)
				}
			}
		}
		if topics := ps.Stats(); len(topics) != 1 {
			t.Errorf("there are dead letters: %+v", topics)
		}
		if err := ps.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}
