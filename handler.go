package eventsourcing

import (
	"context"
	"slices"
	"time"
)

// Delivery is a message on its way through a handler. Handlers see attempt, topic and group without looking into a context.
type Delivery struct {
	// Message is never nil. It is shared and read-only. When Err is set it holds what could be read of it.
	*Message
	// Topic is where it was published; Group is the consumer group it was handed to, empty for a subscription without one.
	Topic, Group string
	// Attempt counts from 1. It rises after a crash, a nack and the end of the lease; being given back is not an attempt.
	Attempt int
	// First is when the message was handed to this group for the first time, the same to the microsecond in every delivery of
	// it until it is replayed: the IDs of dead letters are derived from it. Zero where the backend does not know.
	First time.Time
	// Deadline is when the lease of this delivery ends; zero where it does not end.
	Deadline time.Time
	// Err says why the message could not be decoded; Raw then holds its bytes as they came. Nil for all others.
	Err error
	Raw []byte
	// Receipt is how the subscription that made this delivery knows it again. It means nothing to anybody else.
	Receipt uint64
}

// Handler handles one message and returns the messages that follow from it. They are sent, with correlation and causation
// set, before the message counts as handled. It steers what becomes of a message it could not handle by its error: [Skip],
// [RetryAfter], [DeadLetter]; any other error is retried.
//
// A handler is called by several goroutines at once, for different ordering keys. It may see a message again, after a crash.
type Handler interface {
	Handle(ctx context.Context, d *Delivery) ([]*Message, error)
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, d *Delivery) ([]*Message, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, d *Delivery) ([]*Message, error) { return f(ctx, d) }

// Middleware wraps a handler in another that does something before or after it. It is applied once, when a route starts, and
// not for each message.
type Middleware func(Handler) Handler

// Chain wraps a handler in middleware, the first outermost.
func Chain(h Handler, middleware ...Middleware) Handler {
	for _, m := range slices.Backward(middleware) {
		h = m(h)
	}
	return h
}
