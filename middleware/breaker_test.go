package middleware

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// try handles a message with a handler that returns an error, and returns the verdict and its delay.
func try(t *testing.T, wrap es.Middleware, err error) (es.Verdict, time.Duration) {
	t.Helper()
	_, got := wrap(returning(err)).Handle(t.Context(), delivery(1))
	return es.Judge(got)
}

// tryAll handles a message for each error.
func tryAll(t *testing.T, wrap es.Middleware, errs ...error) {
	t.Helper()
	for _, err := range errs {
		try(t, wrap, err)
	}
}

func TestBreakerOpensAndCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var changes []BreakerChange
		b := NewBreaker(BreakerConfig{Failures: 2, Pause: time.Minute, Wait: -1, OnChange: func(c BreakerChange) { changes = append(changes, c) }})
		wrap := b.Middleware()
		tryAll(t, wrap, errBoom, nil, errBoom)
		if b.State() != BreakerClosed {
			t.Error("a success in between did not begin a new row")
		}
		tryAll(t, wrap, errBoom)
		if b.State() != BreakerOpen {
			t.Errorf("after two failures in a row it is %v", b.State())
		}
		time.Sleep(20 * time.Second)
		if verdict, delay := try(t, wrap, nil); verdict != es.VerdictBusy || delay != 40*time.Second {
			t.Errorf("open: %v after %v", verdict, delay)
		}
		time.Sleep(40 * time.Second)
		if b.State() != BreakerHalfOpen {
			t.Errorf("after the pause it is %v", b.State())
		}
		tryAll(t, wrap, errBoom)
		if verdict, delay := try(t, wrap, nil); verdict != es.VerdictBusy || delay != time.Minute {
			t.Errorf("after a probe that failed: %v after %v", verdict, delay)
		}
		time.Sleep(time.Minute)
		if verdict, _ := try(t, wrap, nil); verdict != es.VerdictDone || b.State() != BreakerClosed {
			t.Errorf("after a probe that succeeded: %v, %v", verdict, b.State())
		}
		tryAll(t, wrap, errBoom)
		if b.State() != BreakerClosed {
			t.Error("it remembers failures of before")
		}
		var states []BreakerState
		for _, c := range changes {
			states = append(states, c.To)
			if (c.Err != nil) != (c.To == BreakerOpen) || c.Route != (Labels{Topic: "order", Group: "shipping"}) {
				t.Errorf("the change to %v: %v, %v", c.To, c.Err, c.Route)
			}
		}
		want := []BreakerState{BreakerOpen, BreakerHalfOpen, BreakerOpen, BreakerHalfOpen, BreakerClosed}
		if !slices.Equal(states, want) {
			t.Errorf("the changes are %v, not %v", states, want)
		}
	})
}

// TestBreakerCounts: only what says that something does not work is a failure, and what says nothing changes nothing.
func TestBreakerCounts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err   error
		opens bool
	}{
		"plain":       {errBoom, true},
		"timeout":     {context.DeadlineExceeded, true},
		"retry after": {es.RetryAfter(time.Second, errBoom), true},
		"skip":        {es.Skip(errBoom), false},
		"dead":        {es.DeadLetter(errBoom), false},
		"busy":        {es.Busy(time.Second, errBoom), false},
		"permanent":   {es.Invalidf("item", "is wrong"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := NewBreaker(BreakerConfig{Failures: 3, Wait: -1})
			tryAll(t, b.Middleware(), errBoom, errBoom, test.err)
			if opened := b.State() == BreakerOpen; opened != test.opens {
				t.Errorf("it is %v", b.State())
			}
			tryAll(t, b.Middleware(), errBoom)
			if b.State() != BreakerOpen {
				t.Error("what says nothing has ended the row")
			}
		})
	}
	b := NewBreaker(BreakerConfig{Failures: 1, Failure: func(err error) bool { return errors.Is(err, errDown) }})
	tryAll(t, b.Middleware(), errBoom)
	if b.State() != BreakerClosed {
		t.Error("it counts what is no failure")
	}
	tryAll(t, b.Middleware(), errDown)
	if b.State() != BreakerOpen {
		t.Error("it does not count what is a failure")
	}
}

// TestBreakerAndStops: to be stopped is no failure, and a stop is not held up by an open circuit.
func TestBreakerAndStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(BreakerConfig{Failures: 1, Wait: time.Hour, Pause: 2 * time.Hour})
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errStopped)
		_, _ = b.Middleware()(returning(errBoom)).Handle(ctx, delivery(1))
		if b.State() != BreakerClosed {
			t.Error("a stop counts as a failure")
		}
		tryAll(t, b.Middleware(), errBoom)
		ctx, cancel = context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errStopped) })
		start := time.Now()
		_, err := b.Middleware()(returning(nil)).Handle(ctx, delivery(1))
		if verdict, _ := es.Judge(err); !errors.Is(err, errStopped) || verdict != es.VerdictFailed || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestBreakerRatio(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(BreakerConfig{Ratio: 0.5, Least: 10, Window: time.Minute})
		wrap := b.Middleware()
		for range 9 {
			tryAll(t, wrap, errBoom)
		}
		if b.State() != BreakerClosed {
			t.Error("it opened on fewer calls than it may judge by")
		}
		time.Sleep(2 * time.Minute) // these are forgotten
		for range 9 {
			tryAll(t, wrap, nil, errBoom, nil)
			time.Sleep(time.Second)
		}
		if b.State() != BreakerClosed {
			t.Error("it opened on a third of failures")
		}
		for range 8 {
			tryAll(t, wrap, errBoom)
		}
		if b.State() != BreakerClosed {
			t.Error("it opened on 17 of 35")
		}
		tryAll(t, wrap, errBoom)
		if b.State() != BreakerOpen {
			t.Error("it did not open on 18 of 36")
		}
	})
}

// TestBreakerWaits: who waits for an open circuit goes on when it may be probed, and those beside the probe when it has succeeded.
func TestBreakerWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(BreakerConfig{Failures: 1, Pause: time.Second, Wait: 5 * time.Second})
		tryAll(t, b.Middleware(), errBoom)
		start := time.Now()
		h := b.Middleware()(taking(time.Second))
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if _, err := h.Handle(t.Context(), delivery(1)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took != 3*time.Second { // the pause, the probe and the others
			t.Errorf("it took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) { // a backlog does not spin
		wrap := CircuitBreaker(BreakerConfig{Failures: 1, Pause: 10 * time.Second})
		h := wrap(returning(errBoom))
		start, puts := time.Now(), 0
		for time.Since(start) < 10*time.Second {
			_, err := h.Handle(t.Context(), delivery(1))
			if verdict, _ := es.Judge(err); verdict == es.VerdictBusy {
				puts++
			}
		}
		if puts < 90 || puts > 101 {
			t.Errorf("%d were put back in 10 seconds", puts)
		}
	})
}

// TestBreakerProbes: so many at a time as it is told, and all have to succeed.
func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(BreakerConfig{Failures: 1, Pause: time.Minute, Probes: 2, Wait: -1})
		tryAll(t, b.Middleware(), errBoom)
		time.Sleep(time.Minute)
		outcome := make(chan error)
		h := b.Middleware()(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, <-outcome }))
		var all sync.WaitGroup
		begin := func() { all.Go(func() { _, _ = h.Handle(t.Context(), delivery(1)) }) }
		end := func(err error) {
			outcome <- err
			synctest.Wait()
		}
		begin()
		begin()
		synctest.Wait()
		if verdict, delay := try(t, b.Middleware(), nil); verdict != es.VerdictBusy || delay != time.Second {
			t.Errorf("a third was let through: %v after %v", verdict, delay)
		}
		end(es.Skip(nil)) // says nothing: another has to
		end(nil)
		if b.State() != BreakerHalfOpen {
			t.Errorf("after one of two it is %v", b.State())
		}
		begin()
		end(nil)
		if b.State() != BreakerClosed {
			t.Errorf("after two it is %v", b.State())
		}
		begin() // it outlasts what follows
		synctest.Wait()
		tryAll(t, b.Middleware(), errBoom)
		time.Sleep(time.Minute)
		tryAll(t, b.Middleware(), nil, nil)
		end(errBoom)
		if b.State() != BreakerClosed {
			t.Error("a call of before the last change counted")
		}
		all.Wait()
	})
}

// TestBreakerCountsWhatDoesNotReturn: a panic and runtime.Goexit are failures, go through, and leave no probe behind.
func TestBreakerCountsWhatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, leave := range []func(){func() { panic("boom") }, runtime.Goexit} {
			b := NewBreaker(BreakerConfig{Failures: 1, Wait: -1})
			h := b.Middleware()(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
				leave()
				return nil, nil
			}))
			for range 3 { // as a call and as a probe
				var gone sync.WaitGroup
				gone.Go(func() {
					defer func() { _ = recover() }()
					_, err := h.Handle(t.Context(), delivery(1))
					t.Errorf("it returned %v", err)
				})
				gone.Wait()
				if b.State() != BreakerOpen {
					t.Errorf("it is %v", b.State())
				}
				time.Sleep(10 * time.Second)
			}
		}
	})
}

// TestBreakerTellsInOrder: of changes that come from several goroutines, and OnChange may ask for the state.
func TestBreakerTellsInOrder(t *testing.T) {
	t.Parallel()
	state := BreakerClosed
	var b *Breaker
	b = NewBreaker(BreakerConfig{Failures: 1, Pause: time.Microsecond, Wait: -1, OnChange: func(c BreakerChange) {
		if c.From != state || c.From == c.To {
			t.Errorf("from %v to %v, and it was %v", c.From, c.To, state)
		}
		state = c.To
		b.State()
	}})
	good, bad := b.Middleware()(returning(nil)), b.Middleware()(returning(errBoom))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				_, _ = bad.Handle(t.Context(), delivery(1))
				_, _ = good.Handle(t.Context(), delivery(1))
			}
		})
	}
	all.Wait()
}

func TestCircuitBreakerIsPerRoute(t *testing.T) {
	t.Parallel()
	wrap := CircuitBreaker(BreakerConfig{Failures: 1, Wait: -1})
	first, second := wrap(returning(errBoom)), wrap(returning(nil))
	_, _ = first.Handle(t.Context(), delivery(1))
	if _, err := first.Handle(t.Context(), delivery(1)); !errors.Is(err, errOpen) {
		t.Errorf("the first is not open: %v", err)
	}
	if _, err := second.Handle(t.Context(), delivery(1)); err != nil {
		t.Errorf("the second is: %v", err)
	}
}
