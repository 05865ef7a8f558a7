package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// outbox collects what a router sends.
type outbox struct {
	mu   sync.Mutex
	msgs []*es.Message
	err  error
}

func (o *outbox) emit(_ context.Context, msgs []*es.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.msgs = append(o.msgs, msgs...)
	return nil
}

func (o *outbox) sent() []*es.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.msgs)
}

func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
}

// full is a random source that draws the longest delay, as near as makes no difference.
func full() float64 { return 1 }

// begin starts a router with one route.
func begin(t *testing.T, b *broker, c Config, o Options, h es.HandlerFunc) *Router {
	t.Helper()
	c.Subscriber = b
	if c.Backoff.Random == nil {
		c.Backoff.Random = full
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Route("order", h, o); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func halt(t *testing.T, r *Router) {
	t.Helper()
	if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func nothing(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil }

func TestConfigurationIsChecked(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	long := strings.Repeat("x", es.MaxNameBytes+1)
	for name, c := range map[string]Config{
		"no subscriber":   {},
		"bad name":        {Subscriber: b, Name: "a\x00b"},
		"bad dead stream": {Subscriber: b, DeadStream: long},
	} {
		if _, err := New(c); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: New returned %v", name, err)
		}
	}
	r, err := New(Config{Subscriber: b})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Route("order", es.HandlerFunc(nothing), Options{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Route("order", es.HandlerFunc(nothing), Options{Name: "b"}); err != nil {
		t.Errorf("a second route of the topic: %v", err)
	}
	for name, err := range map[string]error{
		"same name":        r.Route("order", es.HandlerFunc(nothing), Options{Name: "a"}),
		"bad topic":        r.Route("", es.HandlerFunc(nothing), Options{}),
		"bad route name":   r.Route("order", es.HandlerFunc(nothing), Options{Name: long}),
		"nil handler":      r.Route("order", nil, Options{Name: "c"}),
		"concurrency":      r.Route("order", es.HandlerFunc(nothing), Options{Name: "c", Concurrency: -1}),
		"batch":            r.Route("order", es.HandlerFunc(nothing), Options{Name: "c", Batch: -1}),
		"lease":            r.Route("order", es.HandlerFunc(nothing), Options{Name: "c", Lease: -1}),
		"nil middleware":   r.Use(nil),
		"route middleware": r.Route("order", es.HandlerFunc(nothing), Options{Name: "c", Middleware: []es.Middleware{nil}}),
	} {
		if !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRouteSubscribesWithItsNameAsGroup(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r := begin(t, b, Config{}, Options{Name: "shipping", Lease: time.Minute, Start: es.Start{Kind: es.StartEnd}}, nothing)
	halt(t, r)
	got := b.options[0]
	if got.Group != "shipping" || got.Lease != time.Minute || got.Start.Kind != es.StartEnd {
		t.Errorf("subscribed with %+v", got)
	}
	r = begin(t, b, Config{}, Options{}, nothing)
	halt(t, r)
	if got := b.options[1].Group; got != "order" {
		t.Errorf("the default group is %q, not the topic", got)
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := newBroker(t)
	r := begin(t, b, Config{Name: "r"}, Options{}, nothing)
	pass := func(next es.Handler) es.Handler { return next }
	for name, err := range map[string]error{
		"use":         r.Use(pass),
		"route":       r.Route("x", es.HandlerFunc(nothing), Options{}),
		"start again": r.Start(ctx),
	} {
		if !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s after the start: %v", name, err)
		}
	}
	if err := r.Health(ctx); err != nil {
		t.Errorf("health: %v", err)
	}
	halt(t, r)
	halt(t, r)
	<-r.Done()
	if err := r.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
	if r.Health(ctx) == nil {
		t.Error("a stopped router is healthy")
	}
	if b.subs != 0 {
		t.Errorf("%d subscriptions are open after Stop", b.subs)
	}

	idle, err := New(Config{Subscriber: b})
	if err != nil {
		t.Fatal(err)
	}
	if err := idle.Start(ctx); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("start without a route: %v", err)
	}
	halt(t, idle)
	<-idle.Done()
	if err := idle.Start(ctx); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("start after Stop: %v", err)
	}
}

func TestFailedStartClosesWhatWasOpened(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	b.subscribeErr = errors.New("no such topic")
	r, err := New(Config{Subscriber: b})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"order", "payment"} {
		if err := r.Route(topic, es.HandlerFunc(nothing), Options{}); err != nil {
			t.Fatal(err)
		}
	}
	err = r.Start(t.Context())
	if !errors.Is(err, b.subscribeErr) || !strings.Contains(err.Error(), `route "payment"`) {
		t.Errorf("start: %v", err)
	}
	if b.subs != 0 {
		t.Errorf("%d subscriptions are open", b.subs)
	}
	<-r.Done()
	halt(t, r)
}

func TestNilHandlerFromMiddleware(t *testing.T) {
	t.Parallel()
	r, err := New(Config{Subscriber: newBroker(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{}),
		r.Use(func(es.Handler) es.Handler { return nil })); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("start: %v", err)
	}
}

func TestChainOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		made := 0
		trace := func(name string) es.Middleware {
			return func(next es.Handler) es.Handler {
				made++
				return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
					seen = append(seen, name)
					return next.Handle(ctx, d)
				})
			}
		}
		b := newBroker(t)
		b.publish(message("order-1", "A"), message("order-1", "B"))
		sent := &outbox{}
		r, err := New(Config{Subscriber: b, Emit: func(ctx context.Context, msgs []*es.Message) error {
			seen = append(seen, "emit")
			return sent.emit(ctx, msgs)
		}})
		if err != nil {
			t.Fatal(err)
		}
		h := es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			seen = append(seen, "handler")
			return []*es.Message{message("x", "Y")}, nil
		})
		err = errors.Join(r.Use(trace("1"), trace("2")),
			r.Route("order", h, Options{Middleware: []es.Middleware{trace("4"), trace("5")}}), r.Use(trace("3")), r.Start(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		halt(t, r)
		want := []string{"1", "2", "3", "4", "5", "handler", "emit"}
		if want := slices.Concat(want, want); !slices.Equal(seen, want) {
			t.Errorf("the chain ran as %v", seen)
		}
		if made != 5 {
			t.Errorf("middleware was applied %d times, not once each", made)
		}
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		r, err := New(Config{Subscriber: b})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err = r.Route("order", es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			cancel()
			time.Sleep(time.Second) // within the grace period
			return nil, ctx.Err()
		}), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if b.left() != 0 {
			t.Error("the handler that was running was not finished")
		}
	})
}

func TestReceiveErrorsAreWaitedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		cut := errors.New("connection reset")
		b.receiveErrs = []error{cut, cut, nil, cut}
		b.publish(message("order-1", "A"))
		handled := make(chan struct{})
		r := begin(t, b, Config{}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			close(handled)
			return nil, nil
		})
		synctest.Wait()
		if err := r.Health(t.Context()); !errors.Is(err, cut) || !strings.Contains(fmt.Sprint(err), `route "order"`) {
			t.Errorf("health: %v", err)
		}
		<-handled
		synctest.Wait()
		if err := r.Health(t.Context()); err != nil {
			t.Errorf("health afterwards: %v", err)
		}
		halt(t, r)
	})
}

func TestClosedSubscriptionEndsTheRouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		r := begin(t, b, Config{}, Options{Concurrency: 3}, nothing)
		synctest.Wait()
		close(b.closed)
		<-r.Done()
		if err := r.Err(); !errors.Is(err, es.ErrClosed) || !strings.Contains(err.Error(), `route "order"`) {
			t.Errorf("Err: %v", err)
		}
		if err := r.Health(t.Context()); !errors.Is(err, es.ErrClosed) {
			t.Errorf("health: %v", err)
		}
		halt(t, r)
	})
}

func TestRetryMiddlewareInARouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, sent := newBroker(t), &outbox{}
		b.publish(message("order-1", "A"))
		boom := errors.New("boom")
		calls := 0
		start := time.Now()
		var times []time.Duration
		retry := middleware.Retry(middleware.RetryConfig{Attempts: 3, Backoff: middleware.Backoff{Random: full}})
		r := begin(t, b, Config{Emit: sent.emit}, Options{Middleware: []es.Middleware{retry}},
			func(context.Context, *es.Delivery) ([]*es.Message, error) {
				calls++
				times = append(times, time.Since(start))
				return nil, boom
			})
		time.Sleep(time.Minute)
		halt(t, r)
		if want := []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond}; !slices.Equal(times, want) {
			t.Errorf("handled at %v, not at %v", times, want)
		}
		if letters := sent.sent(); len(letters) != 1 || letters[0].Stream != DefaultDeadStream {
			t.Errorf("dead letters: %v", letters)
		}
	})
}
