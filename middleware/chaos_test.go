package middleware

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// drawing is a Chance that draws given numbers, again and again.
func drawing(numbers ...float64) Chance {
	i := -1
	return Chance{Random: func() float64 {
		i++
		return numbers[i%len(numbers)]
	}}
}

// failingAt is a handler that counts its calls and returns an error for each.
func failingAt(calls *int, errs ...error) es.HandlerFunc {
	return func(context.Context, *es.Delivery) ([]*es.Message, error) {
		*calls++
		return nil, errs[*calls-1]
	}
}

func TestDuplicate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		drawn float64
		errs  []error // of the calls
		want  error
	}{
		"once":                  {0.1, []error{nil}, nil},
		"twice":                 {0.09, []error{nil, nil}, nil},
		"the first fails":       {0, []error{errBoom}, errBoom},
		"the second fails":      {0, []error{nil, errBoom}, errBoom},
		"the second is skipped": {0, []error{nil, es.Skip(nil)}, nil},
	} {
		calls := 0
		_, err := Duplicate(DuplicateConfig{Chance: drawing(test.drawn)})(failingAt(&calls, test.errs...)).Handle(t.Context(), delivery(1))
		if calls != len(test.errs) || !errors.Is(err, test.want) {
			t.Errorf("%s: %d calls, %v", name, calls, err)
		}
	}
	s, calls := newStore(), 0
	h := es.Chain(failingAt(&calls, nil), Duplicate(DuplicateConfig{Probability: 1}), Dedupe(s, DedupeConfig{}))
	if _, err := h.Handle(t.Context(), delivery(1)); err != nil || calls != 1 {
		t.Errorf("with dedupe inside: %d calls, %v", calls, err)
	}
}

func TestRandomFailure(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config RandomFailureConfig
		err    error // of the handler
		called bool
		want   error
	}{
		"neither":        {RandomFailureConfig{Chance: drawing(0.1)}, nil, true, nil},
		"before":         {RandomFailureConfig{Chance: drawing(0.09)}, nil, false, ErrChaos},
		"after":          {RandomFailureConfig{Chance: drawing(0.5, 0.09)}, nil, true, ErrChaos},
		"before only":    {RandomFailureConfig{Chance: drawing(0.5, 0), Before: 0.5}, nil, true, nil},
		"after only":     {RandomFailureConfig{Chance: drawing(0), After: 1, Err: errDown}, nil, true, errDown},
		"it fails alone": {RandomFailureConfig{Chance: drawing(0), After: 1}, errBoom, true, errBoom},
	} {
		calls := 0
		_, err := RandomFailure(test.config)(failingAt(&calls, test.err)).Handle(t.Context(), delivery(1))
		if (calls > 0) != test.called || !errors.Is(err, test.want) {
			t.Errorf("%s: %d calls, %v", name, calls, err)
		}
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			config DelayConfig
			took   time.Duration
		}{
			{DelayConfig{Chance: drawing(0.5)}, 5 * time.Millisecond},
			{DelayConfig{Chance: drawing(0.25), Longest: time.Minute}, 15 * time.Second},
			{DelayConfig{Chance: drawing(0.5), Probability: 0.5}, 0},
		} {
			start := time.Now()
			if _, err := Delay(test.config)(returning(nil)).Handle(t.Context(), delivery(1)); err != nil || time.Since(start) != test.took {
				t.Errorf("%v: it took %v, not %v", err, time.Since(start), test.took)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errStopped) })
		calls := 0
		_, err := Delay(DelayConfig{Chance: drawing(0.5), Longest: time.Hour})(failingAt(&calls, nil)).Handle(ctx, delivery(1))
		if !errors.Is(err, errStopped) || calls > 0 {
			t.Errorf("when stopped: %v, %d calls", err, calls)
		}
	})
}

// TestChaosIsRepeated: the same seed has the same faults in the same messages, whatever the order, and another has others.
func TestChaosIsRepeated(t *testing.T) {
	t.Parallel()
	const messages = 2000
	ds := deliveries(messages, "order-1")
	for i, d := range ds[messages/2:] {
		d.Version = int64(i + 1)
	}
	faults := func(seed uint64) []bool {
		failed := make([]bool, messages)
		h := RandomFailure(RandomFailureConfig{Chance: Chance{Seed: seed}, Before: 0.1})(returning(nil))
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := worker; i < messages; i += 4 {
					_, err := h.Handle(t.Context(), ds[i])
					failed[i] = err != nil
				}
			})
		}
		all.Wait()
		return failed
	}
	first := faults(1)
	if !slices.Equal(first, faults(1)) {
		t.Error("the same seed has other faults")
	}
	if slices.Equal(first, faults(2)) {
		t.Error("another seed has the same faults")
	}
	n := 0
	for _, failed := range first {
		if failed {
			n++
		}
	}
	if n < messages/20 || n > messages/5 {
		t.Errorf("%d of %d failed, where a tenth is to", n, messages)
	}
	c := Chance{Seed: 1}
	again := *ds[0]
	again.Attempt++
	if c.draw(forDelay, ds[0]) == c.draw(forDelay, &again) || c.draw(forDelay, ds[0]) == c.draw(forDuplicate, ds[0]) {
		t.Error("other attempts and other faults have the same luck")
	}
}
