package middleware_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// TestBackoffIsWhatItsFormulaSays: min(Max, Base * 2^(attempt-1)) times the fraction that is drawn, reckoned without bounds.
func TestBackoffIsWhatItsFormulaSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := middleware.Backoff{
			Base: time.Duration(rapid.Int64Range(-1, math.MaxInt64).Draw(t, "base")),
			Max:  time.Duration(rapid.Int64Range(-1, math.MaxInt64).Draw(t, "max")),
		}
		attempt := rapid.IntRange(-1, 200).Draw(t, "attempt")
		fraction := rapid.Float64Range(0, 0.999).Draw(t, "fraction")
		b.Random = func() float64 { return fraction }

		base, most := b.Base, b.Max
		if base <= 0 {
			base = middleware.DefaultBackoffBase
		}
		if most <= 0 {
			most = middleware.DefaultBackoffMax
		}
		doubled := new(big.Int).Lsh(big.NewInt(int64(base)), uint(max(attempt-1, 0)))
		ceiling := time.Duration(math.MaxInt64)
		if doubled.IsInt64() {
			ceiling = time.Duration(doubled.Int64())
		}
		ceiling = min(ceiling, max(most, base))
		if got := b.Ceiling(attempt); got != ceiling {
			t.Fatalf("the ceiling is %v, not %v", got, ceiling)
		}
		delay := b.Delay(attempt)
		if delay < 0 || delay > ceiling || math.Abs(float64(delay)-fraction*float64(ceiling)) > 1+float64(ceiling)/1e12 {
			t.Fatalf("the delay is %v, where %v of %v was drawn", delay, fraction, ceiling)
		}
	})
}

// TestRetryEndsOrGoesOn: whatever the bounds, a message that always fails ends with its last attempt or its time, and not before; R4.
func TestRetryEndsOrGoesOn(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		c := middleware.RetryConfig{
			Attempts: rapid.IntRange(1, 12).Draw(t, "attempts"),
			Elapsed:  time.Duration(rapid.IntRange(0, 10).Draw(t, "elapsed")) * time.Second,
			Backoff:  middleware.Backoff{Base: time.Duration(rapid.IntRange(1, 2000).Draw(t, "base")) * time.Millisecond, Max: 3 * time.Second},
		}
		d := delivery("order-1")
		d.First = time.Now()
		h := middleware.Retry(c)(handlerFunc(func() error { return errBoom }))
		for ; ; d.Attempt++ {
			_, err := h.Handle(t.Context(), d)
			verdict, delay := es.Judge(err)
			if verdict == es.VerdictDead {
				break
			}
			if verdict != es.VerdictRetry || delay > c.Backoff.Ceiling(d.Attempt) {
				t.Fatalf("attempt %d: %v", d.Attempt, err)
			}
			if c.Elapsed > 0 && time.Since(d.First)+delay > c.Elapsed {
				t.Fatalf("attempt %d begins %v after the first, which may be %v", d.Attempt+1, time.Since(d.First)+delay, c.Elapsed)
			}
			time.Sleep(delay)
		}
		if d.Attempt > c.Attempts || d.Attempt < c.Attempts && c.Elapsed == 0 {
			t.Fatalf("it ended with attempt %d of %d", d.Attempt, c.Attempts)
		}
		if left := c.Elapsed - time.Since(d.First); d.Attempt < c.Attempts && left > c.Backoff.Ceiling(d.Attempt) {
			t.Fatalf("it ended with attempt %d of %d and %v left", d.Attempt, c.Attempts, left)
		}
	})
}
