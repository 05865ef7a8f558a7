package router

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestPauseBeginsNothingNew: what runs finishes, what has not begun is given back at once, nothing is received, the router is healthy,
// and Resume goes on where that left off.
func TestPauseBeginsNothingNew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-0", "Busy"), message("order-1", "A"), message("order-1", "B"), message("order-2", "C"))
		release := make(chan struct{})
		var calls []string
		r := begin(t, b, Config{}, Options{}, func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			calls = append(calls, d.Name)
			switch {
			case d.Name == "Busy" && len(calls) == 1:
				return nil, es.Busy(time.Hour, errBoom)
			case d.Name == "A":
				<-release
			}
			return nil, ctx.Err()
		})
		synctest.Wait()
		for range 2 { // twice is fine
			if err := r.Pause("order", ""); err != nil {
				t.Fatal(err)
			}
		}
		b.publish(message("order-3", "D"))
		time.Sleep(10 * time.Hour) // far beyond the grace period, and the lease is prolonged
		if said := answersOf(b); !slices.Equal(said, []string{"release B/1", "release C/1", "release Busy/1"}) {
			t.Errorf("the broker was told %v while the handler runs", said)
		}
		if got := r.Stats()[0]; got.State != Paused || got.Running != 1 || got.InFlight != 1 || got.Parked != 0 {
			t.Errorf("stats are %+v", got)
		}
		if err := r.Health(t.Context()); err != nil {
			t.Errorf("health: %v", err)
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Resume(impatient, "order", ""); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "still running") {
			t.Errorf("resume while a handler runs: %v", err)
		}
		close(release)
		synctest.Wait()
		if got := r.Stats()[0]; got.InFlight != 0 || got.Handled != 1 || b.subs != 0 || b.left() != 4 {
			t.Errorf("stats are %+v, subscriptions %d, left %d", got, b.subs, b.left())
		}
		for range 2 {
			if err := r.Resume(t.Context(), "order", "order"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		halt(t, r)
		if !slices.Equal(calls, []string{"Busy", "A", "Busy", "B", "C", "D"}) || b.left() != 0 {
			t.Errorf("calls are %v, left %d", calls, b.left())
		}
		if got := r.Stats()[0]; got.Handled != 5 || got.State != Stopped {
			t.Errorf("stats are %+v", got)
		}
	})
}

// answersOf returns what the router told the broker, but for extensions.
func answersOf(b *broker) []string {
	return slices.DeleteFunc(b.said(), func(s string) bool { return strings.HasPrefix(s, "extend") })
}

// TestRouteThatIsAddedPaused subscribes for a moment, so that its group is known, and works from Resume on.
func TestRouteThatIsAddedPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		r := begin(t, b, Config{}, Options{Paused: true}, nothing)
		b.publish(message("order-1", "A"))
		time.Sleep(time.Hour)
		if len(b.options) != 1 || b.subs != 0 || b.left() != 1 {
			t.Errorf("subscribed %d times, %d are open, %d messages are left", len(b.options), b.subs, b.left())
		}
		if err := r.Resume(t.Context(), "order", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if b.left() != 0 {
			t.Error("it was not handled after Resume")
		}
		halt(t, r)
	})
}

// TestStopRouteLeavesTheOthers: in two phases of its own, and it can be started again; the router goes on without any.
func TestStopRouteLeavesTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		orders, parcels := newBroker(t), newBroker(t)
		r, err := New(Config{Grace: 10 * time.Second, Subscriber: subscriberFunc(
			func(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
				if topic == "order" {
					return orders.Subscribe(ctx, topic, o)
				}
				return parcels.Subscribe(ctx, topic, o)
			})})
		if err != nil {
			t.Fatal(err)
		}
		slow := es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Name == "Slow" {
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrStopped) {
					t.Errorf("the cause is %v", context.Cause(ctx))
				}
			}
			return nil, ctx.Err()
		})
		err = errors.Join(r.Route("order", slow, Options{Name: "shipping", MaxAttempts: 1}),
			r.Route("parcel", es.HandlerFunc(nothing), Options{}), r.Start(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		orders.publish(message("order-1", "Slow"), message("order-1", "B"))
		synctest.Wait()
		start := time.Now()
		if err := r.StopRoute(t.Context(), "order", "shipping"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "shipping") {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("the handler had %v", took)
		}
		if err := r.StopRoute(t.Context(), "order", "shipping"); err != nil {
			t.Errorf("stop again: %v", err)
		}
		if said := answersOf(orders); !slices.Equal(said, []string{"release B/1", "release Slow/1"}) || orders.subs != 0 {
			t.Errorf("the broker was told %v, %d subscriptions are open", said, orders.subs)
		}
		parcels.publish(message("parcel-1", "A"))
		synctest.Wait()
		if got := r.Stats(); got[0].State != Stopped || got[1].State != Running || got[1].Handled != 1 {
			t.Errorf("stats are %+v", got)
		}
		if err := r.StopRoute(t.Context(), "parcel", ""); err != nil {
			t.Errorf("stop the last: %v", err)
		}
		synctest.Wait()
		select {
		case <-r.Done():
			t.Error("the router has ended with its last route")
		default:
		}
		if err := r.Health(t.Context()); err != nil {
			t.Errorf("health: %v", err)
		}
		orders.mu.Lock()
		orders.entries = nil
		orders.mu.Unlock()
		orders.publish(message("order-2", "C"))
		if err := r.StartRoute(t.Context(), "order", "shipping"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.Stats()[0]; got.State != Running || got.Handled != 1 || got.Released != 2 {
			t.Errorf("stats are %+v", got)
		}
		halt(t, r) // what StopRoute broke off is not its business
	})
}

// TestStopRouteHurriesWhenItsContextEnds.
func TestStopRouteHurriesWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		r := begin(t, b, Config{Grace: time.Hour}, Options{}, func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := r.StopRoute(ctx, "order", ""); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("stop: %v after %v", err, time.Since(start))
		}
		halt(t, r)
	})
}

// TestStopBreaksOffWhatAPauseWaitsFor: also a Resume that waits for it.
func TestStopBreaksOffWhatAPauseWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		r := begin(t, b, Config{Grace: time.Second}, Options{}, func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		synctest.Wait()
		if err := r.Pause("order", ""); err != nil {
			t.Fatal(err)
		}
		resumed := make(chan error)
		go func() { resumed <- r.Resume(t.Context(), "order", "") }()
		synctest.Wait()
		stopped := make(chan error)
		go func() { stopped <- r.Stop(context.WithoutCancel(t.Context())) }()
		if err := <-resumed; !errors.Is(err, es.ErrClosed) {
			t.Errorf("resume: %v", err)
		}
		if err := <-stopped; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		if said := answersOf(b); !slices.Equal(said, []string{"release A/1"}) || b.subs != 0 {
			t.Errorf("the broker was told %v, %d subscriptions are open", said, b.subs)
		}
	})
}

// TestResumeThatFails leaves the route paused.
func TestResumeThatFails(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := begin(t, b, Config{}, Options{}, nothing)
	if err := r.AddRoute(t.Context(), "parcel", es.HandlerFunc(nothing), Options{Paused: true}); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.subscribeErr = errors.New("no connection")
	b.mu.Unlock()
	if err := r.Resume(t.Context(), "parcel", ""); !errors.Is(err, b.subscribeErr) || r.Stats()[1].State != Paused {
		t.Errorf("resume: %v, the route is %s", err, r.Stats()[1].State)
	}
	halt(t, r)
}

// TestStopDuringResume: of the route, which is stopped then, and of the router, which waits until nothing is opened any more.
func TestStopDuringResume(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stop func(ctx context.Context, r *Router) error
		want error
	}{
		"of the route":  {func(ctx context.Context, r *Router) error { return r.StopRoute(ctx, "order", "") }, es.ErrInvalid},
		"of the router": {func(ctx context.Context, r *Router) error { return r.Stop(ctx) }, es.ErrClosed},
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
				if err := errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{Paused: true}), r.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
				gate = make(chan struct{})
				resumed, stopped := make(chan error, 1), make(chan struct{})
				go func() { resumed <- r.Resume(t.Context(), "order", "") }()
				synctest.Wait()
				go func() {
					if err := test.stop(context.WithoutCancel(t.Context()), r); err != nil {
						t.Errorf("stop: %v", err)
					}
					close(stopped)
				}()
				synctest.Wait()
				select {
				case <-stopped:
					if errors.Is(test.want, es.ErrClosed) {
						t.Error("the router has ended while a route is subscribed")
					}
				default:
				}
				close(gate)
				if err := <-resumed; !errors.Is(err, test.want) {
					t.Errorf("resume: got %v, want %v", err, test.want)
				}
				<-stopped
				if b.subs != 0 || r.Stats()[0].State != Stopped {
					t.Errorf("%d subscriptions are open, the route is %s", b.subs, r.Stats()[0].State)
				}
				halt(t, r)
			})
		})
	}
}

// TestControlsBeforeTheStartAndAfterTheEnd.
func TestControlsBeforeTheStartAndAfterTheEnd(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r, err := New(Config{Subscriber: newBroker(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"paused", "stopped", "resumed", "started"} {
		if err := r.Route("order", es.HandlerFunc(nothing), Options{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(
		r.Pause("order", "paused"), r.StopRoute(ctx, "order", "stopped"),
		r.Pause("order", "resumed"), r.Resume(ctx, "order", "resumed"),
		r.StopRoute(ctx, "order", "started"), r.StartRoute(ctx, "order", "started"),
		r.Start(ctx))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []State{Paused, Stopped, Running, Running} {
		if got := r.Stats()[i]; got.State != want {
			t.Errorf("route %q is %s, not %s", got.Name, got.State, want)
		}
	}
	for name, test := range map[string]struct{ got, want error }{
		"pause a stopped one":  {r.Pause("order", "stopped"), es.ErrInvalid},
		"resume a stopped one": {r.Resume(ctx, "order", "stopped"), es.ErrInvalid},
		"start a paused one":   {r.StartRoute(ctx, "order", "paused"), es.ErrInvalid},
		"pause what is not":    {r.Pause("order", "none"), es.ErrNotFound},
		"resume what is not":   {r.Resume(ctx, "order", "none"), es.ErrNotFound},
		"stop what is not":     {r.StopRoute(ctx, "order", ""), es.ErrNotFound},
		"start what is not":    {r.StartRoute(ctx, "none", ""), es.ErrNotFound},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", name, test.got, test.want)
		}
	}
	halt(t, r)
	for name, test := range map[string]struct{ got, want error }{
		"pause":  {r.Pause("order", "paused"), es.ErrClosed},
		"resume": {r.Resume(ctx, "order", "paused"), es.ErrClosed},
		"start":  {r.StartRoute(ctx, "order", "stopped"), es.ErrClosed},
		"stop":   {r.StopRoute(ctx, "order", "stopped"), nil},
		"add":    {r.AddRoute(ctx, "parcel", es.HandlerFunc(nothing), Options{}), es.ErrClosed},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s after the end: got %v, want %v", name, test.got, test.want)
		}
	}
}

// TestAddRoute to a router that runs: inside its middleware, and with all that a route has.
func TestAddRoute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		wrapped := 0
		r, err := New(Config{Subscriber: b})
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(r.Use(func(next es.Handler) es.Handler { wrapped++; return next }), r.Route("other", es.HandlerFunc(nothing), Options{Paused: true}))
		if err != nil {
			t.Fatal(err)
		}
		add := func(o Options) error { return r.AddRoute(t.Context(), "order", es.HandlerFunc(nothing), o) }
		if err := add(Options{}); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("before the start: %v", err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.publish(message("order-1", "A"))
		if err := add(Options{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := r.Stats()[1]; got.Handled != 1 || got.State != Running || wrapped != 2 {
			t.Errorf("stats are %+v, %d chains are wrapped", got, wrapped)
		}
		if err := add(Options{}); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("a second time: %v", err)
		}
		b.mu.Lock()
		b.subscribeErr = errors.New("no connection")
		b.mu.Unlock()
		if err := add(Options{Name: "more"}); !errors.Is(err, b.subscribeErr) || len(r.Stats()) != 2 {
			t.Errorf("that cannot subscribe: %v, routes %+v", err, r.Stats())
		}
		halt(t, r)
		if b.subs != 0 {
			t.Errorf("%d subscriptions are open", b.subs)
		}
	})
}
