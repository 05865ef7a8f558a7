package middleware

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

var errStopped = errors.New("stopped")

// TestTimeout: what fails by its deadline is an ordinary failure that says so, and nothing else is taken for it.
func TestTimeout(t *testing.T) {
	t.Parallel()
	waits := es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	asks := es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
		for ctx.Err() == nil {
			time.Sleep(time.Second)
		}
		return nil, context.Cause(ctx)
	})
	late := func(err error) es.Handler {
		return es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
			time.Sleep(time.Hour)
			return nil, err
		})
	}
	for name, test := range map[string]struct {
		limit   time.Duration
		stopped time.Duration // when the context that it is called with ends; 0: never
		handler es.Handler
		took    time.Duration
		verdict es.Verdict
		is      []error
		timeout bool
	}{
		"it waits":             {handler: waits, took: DefaultTimeout, verdict: es.VerdictFailed, is: []error{context.DeadlineExceeded}, timeout: true},
		"another limit":        {limit: time.Minute, handler: waits, took: time.Minute, verdict: es.VerdictFailed, timeout: true},
		"it asks":              {handler: asks, took: DefaultTimeout, verdict: es.VerdictFailed, is: []error{ErrTimeout}, timeout: true},
		"it fails late":        {handler: late(errBoom), took: time.Hour, verdict: es.VerdictFailed, is: []error{errBoom}, timeout: true},
		"it succeeds late":     {handler: late(nil), took: time.Hour, verdict: es.VerdictDone},
		"it skips late":        {handler: late(es.Skip(errBoom)), took: time.Hour, verdict: es.VerdictSkip},
		"it gives up late":     {handler: late(es.DeadLetter(errBoom)), took: time.Hour, verdict: es.VerdictDead},
		"it fails in time":     {handler: returning(errBoom), verdict: es.VerdictFailed, is: []error{errBoom}},
		"it fails in its time": {handler: returning(context.DeadlineExceeded), verdict: es.VerdictFailed, is: []error{context.DeadlineExceeded}},
		"stopped":              {stopped: time.Second, handler: waits, took: time.Second, verdict: es.VerdictFailed, is: []error{context.Canceled}},
		"stopped, and it asks": {stopped: 1500 * time.Millisecond, handler: asks, took: 2 * time.Second, verdict: es.VerdictFailed, is: []error{errStopped}},
		"stopped, and it is late": {
			stopped: time.Second, handler: late(errBoom), took: time.Hour, verdict: es.VerdictFailed, is: []error{errBoom},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.stopped > 0 {
					defer time.AfterFunc(test.stopped, func() { cancel(errStopped) }).Stop()
				}
				start := time.Now()
				_, err := Timeout(TimeoutConfig{Limit: test.limit})(test.handler).Handle(ctx, delivery(1))
				if took := time.Since(start); took != test.took {
					t.Errorf("it took %v, not %v", took, test.took)
				}
				if verdict, _ := es.Judge(err); verdict != test.verdict || errors.Is(err, ErrTimeout) != test.timeout {
					t.Errorf("%v: %v, and a timeout: %v", err, verdict, errors.Is(err, ErrTimeout))
				}
				for _, target := range test.is {
					if !errors.Is(err, target) {
						t.Errorf("%v is not %v", err, target)
					}
				}
			})
		})
	}
}

// TestTimeoutIsRetried: inside Retry, a timeout is an attempt and a stop is none.
func TestTimeoutIsRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := es.Chain(es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}), Retry(RetryConfig{}), Timeout(TimeoutConfig{}))
		_, err := h.Handle(t.Context(), delivery(1))
		if verdict, _ := es.Judge(err); verdict != es.VerdictRetry || !errors.Is(err, ErrTimeout) {
			t.Errorf("a timeout is %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = h.Handle(ctx, delivery(1))
		if verdict, _ := es.Judge(err); verdict != es.VerdictFailed || errors.Is(err, ErrTimeout) {
			t.Errorf("a stop is %v", err)
		}
	})
}

// TestTimeoutContextIsLikeAnyOther: it keeps what the package context promises, whatever is asked first.
func TestTimeoutContextIsLikeAnyOther(t *testing.T) { // not parallel: goroutines are counted
	type key struct{}
	inside := func(t *testing.T, parent context.Context, use func(ctx context.Context)) (left context.Context) {
		t.Helper()
		_, _ = Timeout(TimeoutConfig{Limit: time.Minute})(es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
			left = ctx //nolint:fatcontext // there is one call
			use(ctx)
			return nil, nil
		})).Handle(parent, delivery(1))
		return left
	}
	for name, test := range map[string]func(t *testing.T, parent context.Context){
		"values and deadline": func(t *testing.T, parent context.Context) {
			want := time.Now().Add(time.Minute)
			inside(t, context.WithValue(parent, key{}, 7), func(ctx context.Context) {
				for range 2 {
					end, ok := ctx.Deadline()
					if ctx.Value(key{}) != 7 || !ok || !end.Equal(want) {
						t.Errorf("value %v, deadline %v, %v", ctx.Value(key{}), end, ok)
					}
					<-time.After(time.Until(want) / 2)
					_ = ctx.Done() // now it is a real one
				}
			})
			sooner, cancel := context.WithTimeout(parent, time.Second)
			defer cancel()
			inside(t, sooner, func(ctx context.Context) {
				if end, _ := ctx.Deadline(); time.Until(end) != time.Second {
					t.Errorf("the deadline is in %v, not that of its parent", time.Until(end))
				}
			})
		},
		"done and error agree": func(t *testing.T, parent context.Context) {
			inside(t, parent, func(ctx context.Context) {
				time.Sleep(time.Minute)
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(ctx), ErrTimeout) {
					t.Errorf("the error is %v, the cause %v", ctx.Err(), context.Cause(ctx))
				}
				select {
				case <-ctx.Done():
				default:
					t.Error("it has an error and is not done")
				}
			})
		},
		"children end with it": func(t *testing.T, parent context.Context) {
			inside(t, parent, func(ctx context.Context) {
				const children = 100
				before := runtime.NumGoroutine() // others come and go, but not that many
				made := make([]context.Context, children)
				for i := range made {
					child, cancel := context.WithCancel(ctx)
					defer cancel()
					made[i] = child //nolint:fatcontext // none is made of another
				}
				if more := runtime.NumGoroutine() - before; more > children/2 {
					t.Errorf("%d contexts made of it take %d goroutines", children, more)
				}
				for _, child := range made {
					<-child.Done()
					if !errors.Is(child.Err(), context.DeadlineExceeded) {
						t.Errorf("the child's error is %v", child.Err())
					}
				}
			})
		},
		"left behind": func(t *testing.T, parent context.Context) {
			for _, use := range []func(context.Context){
				func(context.Context) {},
				func(ctx context.Context) { _ = ctx.Done() },
				func(ctx context.Context) { _ = ctx.Err() },
			} {
				left := inside(t, parent, use)
				if !errors.Is(left.Err(), context.Canceled) {
					t.Errorf("after its handler its error is %v", left.Err())
				}
				<-left.Done()
			}
		},
		"done when left behind": func(t *testing.T, parent context.Context) {
			left := inside(t, parent, func(context.Context) {})
			<-left.Done()
			if !errors.Is(left.Err(), context.Canceled) {
				t.Errorf("after its handler its error is %v", left.Err())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, t.Context()) })
		})
	}
}
