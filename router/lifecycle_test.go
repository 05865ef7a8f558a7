package router

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestPauseDuringResumeWins, as a StopRoute does over a StartRoute: what was asked for last is not undone by what began before.
func TestPauseDuringResumeWins(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		halt, again, launch func(r *Router) error
		want                State
	}{
		"pause": {
			func(r *Router) error { return r.Pause("order", "") },
			func(r *Router) error { return r.Pause("order", "") },
			func(r *Router) error { return r.Resume(context.Background(), "order", "") },
			Paused,
		},
		"stop": {
			func(r *Router) error { return r.StopRoute(context.Background(), "order", "") },
			func(r *Router) error { return r.StopRoute(context.Background(), "order", "") },
			func(r *Router) error { return r.StartRoute(context.Background(), "order", "") },
			Stopped,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				gate := make(chan struct{})
				close(gate)
				r, err := New(Config{Subscriber: subscriberFunc(func(_ context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
					<-gate
					return b.Subscribe(context.WithoutCancel(t.Context()), topic, o)
				})})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{}), r.Start(t.Context()), test.halt(r)); err != nil {
					t.Fatal(err)
				}
				gate = make(chan struct{})
				launched := make(chan error, 1)
				go func() { launched <- test.launch(r) }()
				synctest.Wait()
				if err := test.again(r); err != nil {
					t.Fatal(err)
				}
				close(gate)
				if err := <-launched; !errors.Is(err, es.ErrInvalid) {
					t.Errorf("what began before returned %v", err)
				}
				synctest.Wait()
				if got := r.Stats()[0].State; got != test.want || b.subs != 0 {
					t.Errorf("the route is %s, and %d subscriptions are open", got, b.subs)
				}
				halt(t, r)
			})
		})
	}
}

// TestControlsRaceWithTheStart: whatever comes first, a route that was paused or stopped without an error does not run afterwards, and
// one that was resumed does.
func TestControlsRaceWithTheStart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, test := range map[string]struct {
		paused  bool
		control func(*Router) error
		want    State
	}{
		"pause":  {false, func(r *Router) error { return r.Pause("order", "") }, Paused},
		"stop":   {false, func(r *Router) error { return r.StopRoute(ctx, "order", "") }, Stopped},
		"resume": {true, func(r *Router) error { return r.Resume(ctx, "order", "") }, Running},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 500 {
				r, err := New(Config{Subscriber: newBroker(t)})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Route("order", es.HandlerFunc(nothing), Options{Paused: test.paused}); err != nil {
					t.Fatal(err)
				}
				var start, control error
				var both sync.WaitGroup
				both.Go(func() { start = r.Start(ctx) })
				both.Go(func() { control = test.control(r) })
				both.Wait()
				if got := r.Stats()[0].State; start != nil || control != nil || got != test.want {
					t.Fatalf("start: %v, %s: %v, and the route is %s", start, name, control, got)
				}
				halt(t, r)
			}
		})
	}
}

// TestStopBreaksOffAStartThatHangs when its context ends; nothing of the router is left then.
func TestStopBreaksOffAStartThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{Subscriber: subscriberFunc(func(ctx context.Context, _ string, _ es.SubscribeOptions) (es.Subscription, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Route("order", es.HandlerFunc(nothing), Options{}); err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() { started <- r.Start(ctx) }()
		synctest.Wait()
		start := time.Now()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.StopRoute(impatient, "order", ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop of the route: %v", err)
		}
		if err := r.Stop(impatient); err != nil {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v", took)
		}
		if err := <-started; !errors.Is(err, context.Canceled) {
			t.Errorf("start: %v", err)
		}
		<-r.Done()
	})
}

// TestStartThatPanics, or whose goroutine ends, leaves a router that has ended, with nothing open.
func TestStartThatPanics(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(){
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t)
			r, err := New(Config{Subscriber: subscriberFunc(func(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
				if topic == "payment" {
					fail()
				}
				return b.Subscribe(ctx, topic, o)
			})})
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{}), r.Route("payment", es.HandlerFunc(nothing), Options{}))
			if err != nil {
				t.Fatal(err)
			}
			over := make(chan struct{})
			go func() {
				defer close(over)
				defer func() { _ = recover() }()
				_ = r.Start(context.WithoutCancel(t.Context()))
			}()
			<-over
			halt(t, r)
			<-r.Done()
			if b.subs != 0 {
				t.Errorf("%d subscriptions are open", b.subs)
			}
			if err := r.Pause("order", ""); !errors.Is(err, es.ErrClosed) {
				t.Errorf("pause: %v", err)
			}
		})
	}
}

// TestStopRouteWaitsWhileTheRouterStops: what the caller takes away from handlers next is not in use any more.
func TestStopRouteWaitsWhileTheRouterStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		ended := false
		r := begin(t, b, Config{}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			time.Sleep(time.Second)
			ended = true
			return nil, nil
		})
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- r.Stop(context.WithoutCancel(t.Context())) }()
		synctest.Wait()
		if err := r.StopRoute(t.Context(), "order", ""); err != nil || !ended {
			t.Errorf("stop of the route: %v, its handler has ended: %v", err, ended)
		}
		if err := <-stopped; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

// TestHandlerThatStopsItsOwnRoute, or the router, is not waited for: that would never end. What it asked for happens.
func TestHandlerThatStopsItsOwnRoute(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		call func(context.Context, *Router) error
		want error
	}{
		"Stop":      {func(ctx context.Context, r *Router) error { return r.Stop(ctx) }, es.ErrInvalid},
		"StopRoute": {func(ctx context.Context, r *Router) error { return r.StopRoute(ctx, "order", "") }, es.ErrInvalid},
		"Pause":     {func(_ context.Context, r *Router) error { return r.Pause("order", "") }, nil},
		"Resume": {func(ctx context.Context, r *Router) error {
			return errors.Join(r.Pause("order", ""), r.Resume(ctx, "order", ""))
		}, es.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				b.publish(message("order-1", "A"), message("order-1", "B"))
				var r *Router
				gate := make(chan struct{})
				var got error
				r = begin(t, b, Config{}, Options{}, func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
					if d.Name == "B" {
						t.Error("another message was begun")
					}
					<-gate
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					got = test.call(ctx, r)
					return nil, nil
				})
				close(gate)
				synctest.Wait()
				if !errors.Is(got, test.want) || got != nil && !strings.Contains(got.Error(), "handler") {
					t.Errorf("the handler got %v", got)
				}
				if b.subs != 0 || b.left() != 1 {
					t.Errorf("%d subscriptions are open, %d messages are left", b.subs, b.left())
				}
				halt(t, r)
			})
		})
	}
}

// TestRouterThatStopsWhileARouteIsOpened ends that at once, and leaves nothing open of what was opened all the same.
func TestRouterThatStopsWhileARouteIsOpened(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		heeds bool // the subscriber cares about its context
		open  func(context.Context, *Router) error
	}{
		"resume":                     {true, func(ctx context.Context, r *Router) error { return r.Resume(ctx, "order", "") }},
		"add":                        {true, addOther},
		"add, and it is opened late": {false, addOther},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				slow := false
				r, err := New(Config{Subscriber: subscriberFunc(func(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
					if slow {
						<-ctx.Done()
					}
					if !test.heeds {
						ctx = context.WithoutCancel(ctx)
					}
					return b.Subscribe(ctx, topic, o)
				})})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{Paused: true}), r.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
				slow = true
				b.mu.Lock()
				b.subs = 0
				b.mu.Unlock()
				opened := make(chan error, 1)
				go func() { opened <- test.open(t.Context(), r) }()
				synctest.Wait()
				halt(t, r)
				if err := <-opened; err == nil || !test.heeds && !errors.Is(err, es.ErrClosed) {
					t.Errorf("it was opened with %v", err)
				}
				if !test.heeds && b.subs != 0 {
					t.Errorf("%d subscriptions are open", b.subs)
				}
			})
		})
	}
}

func addOther(ctx context.Context, r *Router) error {
	return r.AddRoute(ctx, "other", es.HandlerFunc(nothing), Options{})
}
