package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestStopFinishesWhatRuns: first no new messages, then running handlers finish; what has not begun is given back at once; R8.
func TestStopFinishesWhatRuns(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				b.publish(message("order-1", "A"), message("order-1", "B"), message("order-1", "C"))
				release := make(chan struct{})
				r := begin(t, b, Config{}, Options{Concurrency: workers}, func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
					if d.Name != "A" {
						t.Errorf("%s was begun", d.Name)
					}
					<-release
					return nil, ctx.Err()
				})
				synctest.Wait()
				stopped := make(chan error)
				go func() { stopped <- r.Stop(context.WithoutCancel(t.Context())) }()
				synctest.Wait()
				b.publish(message("order-9", "Late"))
				synctest.Wait()
				if said := b.said(); !slices.Equal(said, []string{"release B/1", "release C/1"}) {
					t.Errorf("the broker was told %v while the handler runs", said)
				}
				if err := r.Health(t.Context()); err == nil {
					t.Error("a router that stops is healthy")
				}
				close(release)
				if err := <-stopped; err != nil {
					t.Errorf("stop: %v", err)
				}
				if said := b.said(); said[2] != "ack A/1" || len(said) != 3 {
					t.Errorf("the broker was told %v", said)
				}
				if got := r.Stats()[0]; got.Released != 2 || got.Handled != 1 || got.InFlight != 0 {
					t.Errorf("stats are %+v", got)
				}
			})
		})
	}
}

// TestStopBreaksOffAfterTheGracePeriod: what the handler then returns is not its fault: it is given back, whatever it says, and is
// neither an attempt nor a dead letter. What succeeded is acknowledged; R8.
func TestStopBreaksOffAfterTheGracePeriod(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		returns func(context.Context) error
		said    string
		stop    error
	}{
		"error of the context": {func(ctx context.Context) error { return ctx.Err() }, "release A/1", context.DeadlineExceeded},
		"cause":                {context.Cause, "release A/1", context.DeadlineExceeded},
		"other error":          {func(context.Context) error { return errBoom }, "release A/1", context.DeadlineExceeded},
		"dead letter":          {func(context.Context) error { return es.DeadLetter(errBoom) }, "release A/1", context.DeadlineExceeded},
		"retry":                {func(context.Context) error { return es.RetryAfter(0, errBoom) }, "release A/1", context.DeadlineExceeded},
		"busy":                 {func(context.Context) error { return es.Busy(time.Hour, errBoom) }, "release A/1", context.DeadlineExceeded},
		"panic":                {func(context.Context) error { panic("boom") }, "release A/1", context.DeadlineExceeded},
		"skip":                 {func(context.Context) error { return es.Skip(nil) }, "ack A/1", nil},
		"success":              {func(context.Context) error { return nil }, "ack A/1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, sent := newBroker(t), &outbox{}
				b.publish(message("order-1", "A"))
				r := begin(t, b, Config{Emit: sent.emit, Grace: 10 * time.Second}, Options{MaxAttempts: 1, Lease: time.Hour},
					func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
						<-ctx.Done()
						if !errors.Is(context.Cause(ctx), ErrStopped) {
							t.Errorf("the cause is %v", context.Cause(ctx))
						}
						return nil, test.returns(ctx)
					})
				synctest.Wait()
				start := time.Now()
				if err := r.Stop(context.WithoutCancel(t.Context())); !errors.Is(err, test.stop) {
					t.Errorf("stop: %v", err)
				}
				if took := time.Since(start); took != 10*time.Second {
					t.Errorf("the handler had %v", took)
				}
				if said := b.said(); !slices.Equal(said, []string{test.said}) {
					t.Errorf("the broker was told %v", said)
				}
				if len(sent.sent()) != 0 {
					t.Error("it became a dead letter")
				}
			})
		})
	}
}

// TestStopHurriesWhenItsContextEnds, also that of a second call.
func TestStopHurriesWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		r := begin(t, b, Config{Grace: time.Hour}, Options{}, func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		synctest.Wait()
		start := time.Now()
		patient := make(chan error)
		go func() { patient <- r.Stop(context.WithoutCancel(t.Context())) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop: %v", err)
		}
		if err := <-patient; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the other stop: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestStopWaitsForAHandlerThatDoesNotCare: its lease is prolonged until the end.
func TestStopWaitsForAHandlerThatDoesNotCare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"))
		r := begin(t, b, Config{Grace: -1}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			time.Sleep(time.Hour)
			return nil, nil
		})
		synctest.Wait()
		start := time.Now()
		halt(t, r)
		if took := time.Since(start); took != time.Hour {
			t.Errorf("it took %v", took)
		}
		if said := b.said(); said[len(said)-1] != "ack A/1" || b.left() != 0 {
			t.Errorf("the broker was told %v", said)
		}
	})
}

// TestStopGivesBusyMessagesBack at once.
func TestStopGivesBusyMessagesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"), message("order-2", "B"))
		r := begin(t, b, Config{}, Options{}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			return nil, es.Busy(time.Hour, errBoom)
		})
		time.Sleep(time.Second)
		if got := r.Stats()[0]; got.Parked != 2 || got.InFlight != 2 {
			t.Errorf("stats are %+v", got)
		}
		start := time.Now()
		halt(t, r)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		if said := b.said(); !slices.Equal(said, []string{"release A/1", "release B/1"}) {
			t.Errorf("the broker was told %v", said)
		}
	})
}

// TestStopDoesNotHangOnABrokenBackend: answers are tried until the grace period is over, and then not for ever.
func TestStopDoesNotHangOnABrokenBackend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.noLease = true
		b.answerErr = func(string) error { return errors.New("no connection") }
		b.publish(message("order-1", "A"), message("order-2", "B"))
		r := begin(t, b, Config{Grace: 10 * time.Second}, Options{}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Name == "B" {
				return nil, es.Busy(time.Hour, errBoom)
			}
			return nil, nil
		})
		synctest.Wait()
		b.t = &deaf{TB: t} // what was not answered when the subscription is closed is what this is about
		start := time.Now()
		if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(start); took != 10*time.Second+answerPatience {
			t.Errorf("it took %v", took)
		}
		if got := r.Stats()[0]; got.Lost != 2 || got.InFlight != 0 {
			t.Errorf("stats are %+v", got)
		}
	})
}

type deaf struct{ testing.TB }

func (*deaf) Errorf(string, ...any) {}

// TestStopDuringStart waits for it.
func TestStopDuringStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		gate := make(chan struct{})
		r, err := New(Config{Subscriber: subscriberFunc(func(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
			<-gate
			return b.Subscribe(ctx, topic, o)
		})})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Route("order", es.HandlerFunc(nothing), Options{}); err != nil {
			t.Fatal(err)
		}
		started, stopped := make(chan error), make(chan error)
		go func() { started <- r.Start(t.Context()) }()
		synctest.Wait()
		go func() { stopped <- r.Stop(t.Context()) }()
		synctest.Wait()
		close(gate)
		if err := <-started; err != nil {
			t.Errorf("start: %v", err)
		}
		if err := <-stopped; err != nil {
			t.Errorf("stop: %v", err)
		}
		<-r.Done()
		if b.subs != 0 {
			t.Error("the subscription is open")
		}
	})
}

type subscriberFunc func(context.Context, string, es.SubscribeOptions) (es.Subscription, error)

func (f subscriberFunc) Subscribe(ctx context.Context, topic string, o es.SubscribeOptions) (es.Subscription, error) {
	return f(ctx, topic, o)
}
