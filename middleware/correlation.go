package middleware

import (
	"context"
	"maps"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// CorrelationConfig is how [Correlation] works.
type CorrelationConfig struct {
	// Metadata are the keys of metadata that are passed on from a message to its consequences; those of [TraceContext] by default.
	// An empty list that is not nil passes on none.
	Metadata []string
}

// TraceContext returns the keys under which a message carries its place in a distributed trace: those of the headers of W3C Trace
// Context and W3C Baggage.
func TraceContext() []string { return []string{"traceparent", "tracestate", "baggage"} }

// Correlation lets everything that a handler leads to be followed back to its input: it puts the [es.Origin] of the message into
// the handler's context. From there a router stamps what the handler returns, and [es.Caused] what it sends itself, with the
// correlation ID of the input, or its ID when it has none and so begins a conversation, with its ID as the cause, and with the
// chosen metadata.
//
// A message that has none of the keys of metadata costs nothing: the context stays as it is, because its delivery, which the
// router has put there ([es.WithDelivery]), already tells the IDs. Who calls a chain without a router puts it there likewise.
//
// What an outer Correlation has picked of the same message is kept, so that a route can add keys to those of its router.
// It belongs outermost, so that all inside of it know the origin.
func Correlation(c CorrelationConfig) es.Middleware {
	keys := TraceContext()
	if c.Metadata != nil {
		keys = slices.Clone(c.Metadata)
	}
	return func(next es.Handler) es.Handler {
		if len(keys) == 0 {
			return next
		}
		return &correlator{next: next, keys: keys}
	}
}

type correlator struct {
	next es.Handler
	keys []string
}

func (h *correlator) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	if picked := h.pick(d); picked != nil {
		ctx = es.WithOrigin(ctx, originOf(ctx, d, picked))
	}
	return h.next.Handle(ctx, d)
}

// pick returns what a message has of the metadata to pass on; nil when it has nothing of it.
func (h *correlator) pick(d *es.Delivery) map[string]string {
	if len(d.Metadata) == 0 {
		return nil
	}
	var picked map[string]string
	for _, key := range h.keys {
		value, ok := d.Metadata[key]
		if !ok {
			continue
		}
		if picked == nil {
			picked = make(map[string]string, len(h.keys))
		}
		picked[key] = value
	}
	return picked
}

// originOf returns the origin of what follows from a delivery, with what was picked of its metadata by this middleware and by those
// outside of it. An origin of something else, such as one in the context of the program, says nothing about this message.
func originOf(ctx context.Context, d *es.Delivery, picked map[string]string) es.Origin {
	origin := es.OriginOf(d.Message)
	if outer, ok := es.OriginFrom(ctx); ok && outer.CausationID == origin.CausationID && len(outer.Metadata) > 0 {
		all := maps.Clone(outer.Metadata)
		maps.Copy(all, picked)
		picked = all
	}
	origin.Metadata = picked
	return origin
}
