package middleware

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ErrChaos says that [RandomFailure] has made a message fail.
var ErrChaos = errors.New("chaos: a failure made for a test")

// Chance decides for a middleware of a test whether something happens, and how much of it. The zero value is ready to use.
//
// By default the draws depend on nothing but the Seed, the message and the attempt: a run with the same messages has the same
// faults, whatever the number of workers and the order in which they come to work. A message is known by its stream and version or,
// where it has no version, its ID; a test that wants to be repeated to the letter gives its messages IDs.
type Chance struct {
	// Seed makes another run of another seed.
	Seed uint64
	// Random draws from 0 up to and without 1 instead, and is called by several goroutines at once.
	Random func() float64
}

// What draws are for, so that the same message does not have the same luck in all.
const (
	forDuplicate uint64 = iota + 1
	forFailureBefore
	forFailureAfter
	forDelay
	forDelayTime
)

// draw returns a number from 0 up to and without 1.
func (c Chance) draw(purpose uint64, d *es.Delivery) float64 {
	if c.Random != nil {
		return c.Random()
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(d.Stream)) // it never fails
	if d.Version > 0 {
		_ = binary.Write(hash, binary.LittleEndian, d.Version)
	} else {
		_, _ = hash.Write(d.ID[:])
	}
	_ = binary.Write(hash, binary.LittleEndian, int64(d.Attempt))
	return rand.New(rand.NewPCG(c.Seed^purpose<<56, hash.Sum64())).Float64()
}

// defaultChance is how likely a fault is unless something else is said.
const defaultChance = 0.1

// DuplicateConfig is how [Duplicate] works.
type DuplicateConfig struct {
	Chance

	// Probability is how likely a message is handled twice, from 0 to 1; 0.1 by default.
	Probability float64
}

// Duplicate handles some messages twice in a row. It is for tests: of handlers that say that they are idempotent, and outside of
// [Dedupe] to see that it keeps the second away. A message whose first handling failed is not handled again here. The outcome is that
// of the first, unless the second has failed.
func Duplicate(c DuplicateConfig) es.Middleware {
	if c.Probability <= 0 {
		c.Probability = defaultChance
	}
	return func(next es.Handler) es.Handler {
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			outputs, err := next.Handle(ctx, d)
			if err != nil || c.draw(forDuplicate, d) >= c.Probability {
				return outputs, err
			}
			_, err = next.Handle(ctx, d)
			if verdict, _ := es.Judge(err); verdict == es.VerdictDone || verdict == es.VerdictSkip {
				return outputs, nil
			}
			return nil, err
		})
	}
}

// RandomFailureConfig is how [RandomFailure] works.
type RandomFailureConfig struct {
	Chance

	// Before is how likely a message fails without being handled, and After how likely it is handled and fails all the same, as when
	// a process dies before it has told that it is done; from 0 to 1. When both are 0 they are 0.1.
	Before, After float64
	// Err is the failure; [ErrChaos] by default. An [es.DeadLetter] fails for good.
	Err error
}

// RandomFailure makes some messages fail. It is for tests: that nothing is lost by failures, and nothing done twice that must not be.
// Innermost it is a handler that fails, and outside of [Dedupe] a subscription whose acknowledgement gets lost.
func RandomFailure(c RandomFailureConfig) es.Middleware {
	if c.Before <= 0 && c.After <= 0 {
		c.Before, c.After = defaultChance, defaultChance
	}
	if c.Err == nil {
		c.Err = ErrChaos
	}
	return func(next es.Handler) es.Handler {
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			if c.draw(forFailureBefore, d) < c.Before {
				return nil, c.Err
			}
			outputs, err := next.Handle(ctx, d)
			if err == nil && c.draw(forFailureAfter, d) < c.After {
				return nil, c.Err
			}
			return outputs, err
		})
	}
}

// DelayConfig is how [Delay] works.
type DelayConfig struct {
	Chance

	// Probability is how likely a message is delayed, from 0 to 1; 1 by default.
	Probability float64
	// Longest is the longest delay; 10 milliseconds by default. Delays are drawn evenly from 0 up to it.
	Longest time.Duration
}

// Delay holds up messages before they are handled, on the worker. It is for tests: of what depends on who is first, of timeouts and
// of leases. When the context ends meanwhile the message is not handled, and the error is the cause of that.
func Delay(c DelayConfig) es.Middleware {
	if c.Probability <= 0 {
		c.Probability = 1
	}
	if c.Longest <= 0 {
		c.Longest = 10 * time.Millisecond
	}
	return func(next es.Handler) es.Handler {
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			if c.draw(forDelay, d) < c.Probability {
				if err := sleep(ctx, time.Duration(c.draw(forDelayTime, d)*float64(c.Longest))); err != nil {
					return nil, err
				}
			}
			return next.Handle(ctx, d)
		})
	}
}
