package router

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestLags: of messages and of replays, for routes that run and whose subscription knows.
func TestLags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		old, down := time.Now().Add(-time.Minute), error(nil)
		b.lag = func(topic string) (es.Lag, error) {
			if isReplay(topic) {
				return es.Lag{Messages: 2, Oldest: old}, down
			}
			return es.Lag{Messages: 5, Oldest: time.Now()}, down
		}
		r := begin(t, b, Config{DeadLetter: (&outbox{}).emit}, Options{Name: "shipping"}, nothing)
		lags, err := r.Lags(t.Context())
		if err != nil || len(lags) != 1 || lags[0] != (RouteLag{Lag: es.Lag{Messages: 7, Oldest: old}, Topic: "order", Name: "shipping"}) {
			t.Errorf("lags are %+v, %v", lags, err)
		}
		down = errBoom
		if lags, err := r.Lags(t.Context()); !errors.Is(err, errBoom) || !strings.Contains(err.Error(), "shipping") || len(lags) != 0 {
			t.Errorf("lags are %+v, %v", lags, err)
		}
		if err := r.Pause("order", "shipping"); err != nil {
			t.Fatal(err)
		}
		if lags, err := r.Lags(t.Context()); err != nil || len(lags) != 0 {
			t.Errorf("lags of a paused route are %+v, %v", lags, err)
		}
		halt(t, r)

		b.lag = nil
		r = begin(t, b, Config{}, Options{}, nothing)
		if lags, err := r.Lags(t.Context()); err != nil || len(lags) != 0 {
			t.Errorf("lags of a subscription that cannot tell are %+v, %v", lags, err)
		}
		halt(t, r)
	})
}

// TestHealthHoldsTheLagToItsBounds; H3.
func TestHealthHoldsTheLagToItsBounds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		opts Options
		lag  es.Lag
		err  error
		says string
	}{
		"no bound":     {lag: es.Lag{Messages: 1e6}},
		"not reached":  {opts: Options{MaxLag: 5, MaxAge: time.Minute}, lag: es.Lag{Messages: 5, Oldest: time.Now().Add(-30 * time.Second)}},
		"too many":     {opts: Options{MaxLag: 5}, lag: es.Lag{Messages: 6}, says: "6 messages behind, more than 5"},
		"too old":      {opts: Options{MaxAge: time.Minute}, lag: es.Lag{Messages: 1, Oldest: time.Now().Add(-time.Hour)}, says: "behind, more than 1m0s"},
		"age unknown":  {opts: Options{MaxAge: time.Minute}, lag: es.Lag{Messages: 1}},
		"cannot tell":  {opts: Options{MaxLag: 5}, err: errBoom, says: "boom"},
		"nothing left": {opts: Options{MaxLag: 1, MaxAge: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t)
			b.lag = func(string) (es.Lag, error) { return test.lag, test.err }
			r := begin(t, b, Config{}, test.opts, nothing)
			err := r.Health(t.Context())
			if (err == nil) != (test.says == "") || err != nil && (!strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), `route "order"`)) {
				t.Errorf("health: %v, want %q", err, test.says)
			}
			if err := r.Pause("order", ""); err != nil {
				t.Fatal(err)
			}
			if err := r.Health(t.Context()); err != nil {
				t.Errorf("health of a paused route: %v", err)
			}
			halt(t, r)
		})
	}
}

// TestBoundOfTheLagNeedsALagger, and takes sensible values.
func TestBoundOfTheLagNeedsALagger(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	r, err := New(Config{Subscriber: b})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{MaxLag: -1}, {MaxAge: -1}} {
		if err := r.Route("order", es.HandlerFunc(nothing), o); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	err = errors.Join(r.Route("order", es.HandlerFunc(nothing), Options{MaxLag: 1}), r.Start(t.Context()))
	if !errors.Is(err, es.ErrUnsupported) || b.subs != 0 {
		t.Errorf("start: %v, %d subscriptions are open", err, b.subs)
	}
}
