package middleware

import (
	"math/rand/v2"
	"time"
)

// The delays of a [Backoff] whose fields are zero.
const (
	DefaultBackoffBase = 100 * time.Millisecond
	DefaultBackoffMax  = time.Minute
)

// Backoff is exponential backoff with full jitter: the delay after the n-th attempt is drawn evenly from 0 up to Base doubled
// n-1 times, or up to Max where that is less. Drawing from the whole range is what keeps many who failed together from
// coming back together (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). The zero value is ready to
// use.
type Backoff struct {
	// Base is the longest delay after the first attempt; 100 milliseconds by default.
	Base time.Duration
	// Max is the longest delay after any attempt; 1 minute by default, and never less than Base.
	Max time.Duration
	// Random draws from 0 up to and without 1, and is called by several goroutines at once. The default is rand.Float64 of
	// math/rand/v2; a test puts its own here.
	Random func() float64
}

// Delay returns how long to wait after an attempt, which counts from 1.
func (b Backoff) Delay(attempt int) time.Duration {
	random := b.Random
	if random == nil {
		random = rand.Float64
	}
	ceiling := b.Ceiling(attempt)
	switch fraction := random(); {
	case fraction >= 1: // the product might not fit
		return ceiling
	case fraction > 0:
		return time.Duration(fraction * float64(ceiling))
	}
	return 0
}

// Ceiling returns the longest delay that there can be after an attempt, which counts from 1.
func (b Backoff) Ceiling(attempt int) time.Duration {
	base, most := b.Base, b.Max
	if base <= 0 {
		base = DefaultBackoffBase
	}
	if most <= 0 {
		most = DefaultBackoffMax
	}
	most = max(most, base)
	for ; attempt > 1; attempt-- {
		if base > most/2 { // doubling it would be more than most, or more than fits
			return most
		}
		base *= 2
	}
	return base
}
