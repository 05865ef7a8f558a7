package router

import (
	"context"
	"errors"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ErrStopped is the cause of the end of a handler's context ([context.Cause]) when the router, or the route, was stopped and the
// handler did not finish within the grace period. Whatever error the handler then returns, its message is given back, and it was not an
// attempt.
var ErrStopped = errors.New("the route was stopped and its grace period is over")

// handling is the context of one call of a handler: that of the lane, with the delivery in it. A context by context.WithValue
// would be an allocation for each message, and one that is used again would show a goroutine which outlives its handler the
// delivery of another. These are made many at a time and used once.
type handling struct {
	batch *batch
	d     *es.Delivery
	gen   uint64 // of the batch
}

func (h *handling) Deadline() (time.Time, bool) { return h.batch.intake.lane.handlers.Deadline() }
func (h *handling) Done() <-chan struct{}       { return h.batch.intake.lane.handlers.Done() }
func (h *handling) Err() error                  { return h.batch.intake.lane.handlers.Err() }

// Value answers the question for the delivery, whose key is not known here, by what the lane's context answers to it: a marker
// that was put there in its place.
func (h *handling) Value(key any) any {
	if _, ok := key.(laneKey); ok {
		if h.batch.delivery(h.d, h.gen) == nil { // it has returned, and what it left behind may wait
			return nil
		}
		return h.batch.intake.lane
	}
	value := h.batch.intake.lane.handlers.Value(key)
	if d, ok := value.(*es.Delivery); ok && d == h.batch.intake.lane.marker {
		if d := h.batch.delivery(h.d, h.gen); d != nil {
			return d
		}
		return nil
	}
	return value
}

// laneKey is the context key for the lane whose handler a context was given to.
type laneKey struct{}

// laneOf returns the lane whose handler asks, by its context; nil when that is none.
func laneOf(ctx context.Context) *lane {
	l, _ := ctx.Value(laneKey{}).(*lane)
	return l
}

// mark returns the context of a lane's handlers, whose delivery is the marker.
func mark(ctx context.Context) (context.Context, *es.Delivery) {
	marker := &es.Delivery{}
	return es.WithDelivery(ctx, marker), marker
}
