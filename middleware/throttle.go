package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ThrottleConfig is how [Throttle] works.
type ThrottleConfig struct {
	// Rate is how many messages are let through in a second, on the long run; 0.1 is one in ten seconds. Without one nothing is
	// held back, and the middleware is not there.
	Rate float64
	// Burst is how many may be let through at once after a quiet time; by default what the rate gives in a tenth of a second, and
	// 1 at least.
	Burst int
	// Key tells apart what has a rate of its own, such as the tenants of a program; by default all messages of a route share one.
	// It must not change for a message.
	Key func(*es.Delivery) string
	// Wait is the longest that a worker waits for the turn of a message; what would take longer is put back. The default is 1
	// second, and 10 milliseconds with a Key; negative: not to wait at all.
	Wait time.Duration
}

// Throttle holds a rate: for each route that it is applied to, or for each key. What is over the rate is put back for about as long as
// it takes until its turn ([es.Busy]), which is not an attempt; the later messages of its ordering key wait behind it, so that their
// order is kept.
//
// Before that a worker waits for up to Wait, because to put back a message and to receive it again costs far more. Where all
// messages of a route share a rate nothing else of the route could go on meanwhile, and the wait may be long: only turns that are
// further apart than Wait ever have a message put back. Where keys have rates of their own, the messages of other keys go on. Not
// more than 500 messages a second are put back there, and the workers slow down instead: so a backlog does not go round and round at
// full speed.
//
// In no span of time are more let through than the rate gives in it and Burst. A turn belongs to a message that a worker has in hand,
// and to none that is away, so that no turn is left out while there is something to handle. Messages of different ordering keys that
// were put back may overtake each other.
//
// The rate is that of a process; programs of several share it out among them. It belongs outside of [Dedupe], so that a message
// that is put back is not reserved meanwhile. A stop of the router waits for Wait at most.
func Throttle(c ThrottleConfig) es.Middleware {
	return func(next es.Handler) es.Handler {
		if !(c.Rate > 0) { // what is not a number is no rate either
			return next
		}
		return &throttle{next: next, turns: newTurns(c)}
	}
}

type throttle struct {
	next  es.Handler
	turns *turns
}

func (h *throttle) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	turn := h.turns.take(d)
	if turn.stay > 0 {
		if err := sleep(ctx, turn.stay); err != nil {
			return nil, fmt.Errorf("throttle message %s: stopped while it waited for its turn: %w", d.ID, err)
		}
	}
	if turn.over {
		return nil, es.Busy(turn.back, errOverRate)
	}
	return h.next.Handle(ctx, d)
}

var errOverRate = errors.New("the rate of the throttle is used up; the message waits for its turn")

// sleep waits until a time has passed or ctx has ended, and then returns why.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
