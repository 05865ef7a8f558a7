package middleware

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DeadLetterConfig is how [DeadLetter] works.
type DeadLetterConfig struct {
	// Send sends dead letters, as an emitter of the router does, and returns when they are taken for good. An [es.ErrDuplicate]
	// says that it was taken before. Without one the dead letters are the router's, and the middleware is not there.
	Send func(ctx context.Context, msgs []*es.Message) error
	// Stream is the stream of the dead letters; "dead" by default.
	Stream string
	// Handler is the name of what failed, in the dead letter; the delivery's consumer group by default, which is the route's name.
	Handler string
	// When tells which failures go there; by default all that are for good: [es.DeadLetter], which is also what [Retry] makes of the
	// last attempt, and what is [es.Permanent]. The others pass.
	When func(d *es.Delivery, err error) bool
	// Backoff is how long a message waits whose dead letter could not be sent.
	Backoff Backoff
}

// DeadLetter sends what has failed for good to a place of its own, for routes whose dead letters go elsewhere than the router's. The
// dead letter is that of [es.NewDeadLetter]: the original with its topic, group and attempts, the handler, the error, and the stack
// when it was a panic. When it is sent the message is done, and the error is an [es.Skip] of what it was.
//
// When it cannot be sent the message is tried again after a while, and nothing is lost: it is done when its dead letter is sent, or
// when the router, whose bound of attempts holds as well, has sent one of its own. A dead letter that was sent by a process that
// then crashed is sent again under the same ID. What fails because it is stopped is no dead letter, whatever its error says.
//
// It belongs outermost: outside of [Retry], which says when the attempts are used up, of [Dedupe], because what was marked as done
// could not be replayed, and of [Logging] and [Metrics], so that these see a failure. What never comes to the chain does not come
// here either: messages that cannot be decoded, or that have brought the process down too often, go to the router's dead letters.
func DeadLetter(c DeadLetterConfig) es.Middleware {
	if c.Stream == "" {
		c.Stream = "dead"
	}
	if c.When == nil {
		c.When = forGood
	}
	return func(next es.Handler) es.Handler {
		if c.Send == nil {
			return next
		}
		return &burying{next: next, DeadLetterConfig: c}
	}
}

func forGood(_ *es.Delivery, err error) bool { return es.Permanent(err) }

type burying struct {
	DeadLetterConfig

	next es.Handler
}

func (h *burying) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	outputs, err := h.next.Handle(ctx, d)
	if err == nil || ctx.Err() != nil || !h.When(d, err) {
		return outputs, err
	}
	if failed := h.bury(ctx, d, err); failed != nil {
		return nil, es.RetryAfter(h.Backoff.Delay(d.Attempt), errors.Join(err, failed))
	}
	return nil, es.Skip(err)
}

// bury sends the dead letter of a message.
func (h *burying) bury(ctx context.Context, d *es.Delivery, cause error) error {
	handler := h.Handler
	if handler == "" {
		handler = d.Group
	}
	letter, err := es.NewDeadLetter(h.Stream, handler, d, cause)
	if err != nil {
		return err
	}
	if err := h.Send(ctx, []*es.Message{letter}); err != nil && !errors.Is(err, es.ErrDuplicate) {
		return fmt.Errorf("send dead letter to stream %q: %w", h.Stream, err)
	}
	return nil
}
