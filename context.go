package eventsourcing

import "context"

// deliveryKey is the context key under which WithDelivery keeps its delivery.
type deliveryKey struct{}

// WithDelivery returns a context that says that the work done with it is the
// handling of d. A router hands such a context to its handlers, so that what
// they call can tell which delivery they act for: a publisher, for example,
// refuses to wait for room that only the end of this very delivery would make.
// A nil d leaves ctx as it is.
func WithDelivery(ctx context.Context, d *Delivery) context.Context {
	if d == nil {
		return ctx
	}
	return context.WithValue(ctx, deliveryKey{}, d)
}

// DeliveryFrom returns the innermost delivery that WithDelivery put into ctx.
// It reports false when there is none.
func DeliveryFrom(ctx context.Context) (*Delivery, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*Delivery)
	return d, ok
}
