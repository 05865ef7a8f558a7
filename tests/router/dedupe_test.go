package router_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// TestDedupeBetweenRouters has two routers of one memory of handled messages get the same message, the second a moment after the
// first. A busy message waits without an attempt, and a second of polling at most after it could have been handled.
func TestDedupeBetweenRouters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes  time.Duration // the first handler
		err    error         // that it returns, once
		crash  bool          // the first is no router, but somebody who reserved and died
		calls  int
		second time.Duration // when the second handler begins; 0: it does not
		want   router.Stats  // of the second, but for Busy
	}{
		"the first handles it":        {takes: 5500 * time.Millisecond, calls: 1, want: router.Stats{Skipped: 1}},
		"the first gives it up":       {takes: 5500 * time.Millisecond, err: es.DeadLetter(errors.New("no")), calls: 2, second: 6 * time.Second, want: router.Stats{Handled: 1}},
		"the first died":              {crash: true, calls: 1, second: time.Minute, want: router.Stats{Handled: 1}},
		"the first prolongs its hold": {takes: 70 * time.Second, calls: 1, want: router.Stats{Skipped: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := context.WithoutCancel(t.Context())
				ps, err := memory.NewPubSub(memory.PubSubConfig{})
				if err != nil {
					t.Fatal(err)
				}
				defer ps.Close()
				store := memory.New()
				defer store.Close()
				began, calls, second := time.Now(), 0, time.Duration(0)
				var mu sync.Mutex
				start := func(topic string, h es.HandlerFunc) *router.Router {
					r, err := router.New(router.Config{Subscriber: ps, DeadLetter: func(context.Context, []*es.Message) error { return nil }})
					if err != nil {
						t.Fatal(err)
					}
					dedupe := middleware.Dedupe(store.Dedupe(), middleware.DedupeConfig{Group: "shipping"})
					counted := es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
						mu.Lock()
						calls++
						if d.Attempt != 1 {
							t.Errorf("attempt %d", d.Attempt)
						}
						mu.Unlock()
						return h(ctx, d)
					})
					if err := errors.Join(r.Route(topic, counted, router.Options{Middleware: []es.Middleware{dedupe}}), r.Start(ctx)); err != nil {
						t.Fatal(err)
					}
					return r
				}
				m := es.NewMessage("order-7", "Ordered", nil)
				publish := func(topic string) {
					if err := ps.Publish(ctx, es.Publication{Topic: topic, Message: m}); err != nil {
						t.Fatal(err)
					}
				}
				one := start("one", func(context.Context, *es.Delivery) ([]*es.Message, error) {
					time.Sleep(test.takes)
					return nil, test.err
				})
				two := start("two", func(context.Context, *es.Delivery) ([]*es.Message, error) {
					second = time.Since(began).Truncate(100 * time.Millisecond) // the message was a little behind
					time.Sleep(40 * time.Second)                                // beyond the end of the first
					return nil, nil
				})
				if test.crash {
					if err := store.Dedupe().Reserve(ctx, "shipping", []es.Reservation{{ID: m.ID}}, time.Minute); err != nil {
						t.Fatal(err)
					}
				} else {
					publish("one")
				}
				synctest.Wait()
				publish("two")
				time.Sleep(3 * time.Minute)
				stats := two.Stats()[0]
				if stats.Busy == 0 {
					t.Error("the second was never told that the message is busy")
				}
				stats.Busy = 0
				test.want.Topic, test.want.Name, test.want.State = "two", "two", router.Running
				if calls != test.calls || second != test.second || stats != test.want {
					t.Errorf("%d calls, the second at %v, and %+v", calls, second, stats)
				}
				rs := []es.Reservation{{ID: m.ID}}
				if err := store.Dedupe().Reserve(ctx, "shipping", rs, 0); err != nil || rs[0].State != es.ReserveDone {
					t.Errorf("in the end the message is %v, %v", rs[0].State, err)
				}
				for _, r := range []*router.Router{one, two} {
					if err := r.Stop(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}
