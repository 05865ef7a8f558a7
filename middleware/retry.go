package middleware

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DefaultAttempts is how often a [Retry] lets a message be tried unless it says otherwise.
const DefaultAttempts = 5

// RetryConfig is how [Retry] works.
type RetryConfig struct {
	// Attempts is how often a message is tried, the first time included; [DefaultAttempts] by default, negative for no bound.
	// A router has a bound of its own, which a message does not get past whatever this says.
	Attempts int
	// Elapsed bounds the time since the message was handed to the group for the first time: a retry that would begin later is
	// not made. 0 means no bound. It does nothing where the subscription does not know that time ([es.Delivery].First).
	Elapsed time.Duration
	// Backoff is how long to wait between attempts.
	Backoff Backoff
}

// Retry decides what becomes of a message whose handler failed. A plain error is tried again after a backoff: the message goes
// back to its subscription ([es.RetryAfter]), where it holds up nothing but the later messages of its key. When its attempts
// or its time are used up, or the error is [es.Permanent], it goes to the dead stream ([es.DeadLetter]); the error then is
// [es.ErrAttemptsExhausted] as well as the handler's own, or the handler's own alone.
//
// What the handler asked for itself is respected: [es.Skip], [es.DeadLetter] and [es.Busy] pass, and so does the delay of an
// [es.RetryAfter], which is an attempt like any other. When the context has ended the error passes as it is: being stopped is
// no fault of the message.
//
// A message whose attempts are used up when it comes, because it brought the process down each time, is made a dead letter
// without being handled.
func Retry(c RetryConfig) es.Middleware {
	if c.Attempts == 0 {
		c.Attempts = DefaultAttempts
	}
	return func(next es.Handler) es.Handler { return &retrier{next: next, RetryConfig: c} }
}

type retrier struct {
	RetryConfig

	next es.Handler
}

func (h *retrier) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if h.Attempts > 0 && d.Attempt > h.Attempts {
		return nil, es.DeadLetter(fmt.Errorf("%w: this is attempt %d, and there are %d; an earlier one did not end",
			es.ErrAttemptsExhausted, d.Attempt, h.Attempts))
	}
	outputs, err := h.next.Handle(ctx, d)
	if err == nil {
		return outputs, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	return nil, h.decide(d, err)
}

// decide returns what takes the place of an error.
func (h *retrier) decide(d *es.Delivery, err error) error {
	verdict, delay := es.Judge(err)
	again := err
	switch {
	case verdict == es.VerdictFailed && es.Permanent(err):
		return es.DeadLetter(err)
	case verdict == es.VerdictFailed:
		delay = h.Backoff.Delay(d.Attempt)
		again = es.RetryAfter(delay, err)
	case verdict != es.VerdictRetry:
		return err
	}
	if h.Attempts > 0 && d.Attempt >= h.Attempts {
		return es.DeadLetter(fmt.Errorf("%w: all %d have failed: %w", es.ErrAttemptsExhausted, d.Attempt, err))
	}
	if h.Elapsed > 0 && !d.First.IsZero() && time.Since(d.First)+delay > h.Elapsed {
		return es.DeadLetter(fmt.Errorf("%w: the next would begin more than %v after the first: %w",
			es.ErrAttemptsExhausted, h.Elapsed, err))
	}
	return again
}
