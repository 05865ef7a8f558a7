package eventsourcing

import (
	"context"
	"maps"
)

// Origin is where work comes from: what the messages that it leads to are given, so that a conversation can be followed from the
// request that began it to the last event.
type Origin struct {
	// CorrelationID is that of the conversation.
	CorrelationID string
	// CausationID is the ID of the message that is being handled; empty when the work was not begun by a message.
	CausationID string
	// Metadata goes to every message that does not have its keys: a trace, a tenant, a user. It is shared and read-only.
	Metadata map[string]string
}

// originKey is the context key under which WithOrigin keeps its origin.
type originKey struct{}

// placedOrigin is an origin, and which message was being handled when it was put into its context: nil when there was none.
type placedOrigin struct {
	Origin

	handled *Message
}

// WithOrigin returns a context that says where the work done with it comes from; see [Caused].
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, placedOrigin{Origin: o, handled: handledIn(ctx)})
}

// OriginFrom returns where the work done with a context comes from: what the innermost of [WithOrigin] and [WithDelivery] says. It
// reports false when there is neither.
func OriginFrom(ctx context.Context) (Origin, bool) {
	handled := handledIn(ctx)
	// A program that starts its router under an origin of its own must not pass for where each of its messages comes from.
	if o, ok := ctx.Value(originKey{}).(placedOrigin); ok && o.handled == handled {
		return o.Origin, true
	}
	if handled == nil {
		return Origin{}, false
	}
	return OriginOf(handled), true
}

// handledIn returns the message that is being handled, nil when there is none.
func handledIn(ctx context.Context) *Message {
	if d, ok := DeliveryFrom(ctx); ok {
		return d.Message
	}
	return nil
}

// OriginOf returns the origin of the consequences of a message: its correlation ID, or its ID when it begins the conversation, and
// its ID as the cause. Its metadata is not part of it: what is to be passed on is for whoever passes it on.
func OriginOf(m *Message) Origin {
	id := m.ID.String()
	o := Origin{CorrelationID: m.CorrelationID, CausationID: id}
	if o.CorrelationID == "" {
		o.CorrelationID = id
	}
	return o
}

// Caused makes messages consequences of the work that a context stands for, as [Message.Caused] does for those of a message: they
// get its correlation and causation ID, and the metadata that they do not have. A router does this to what handlers return; it is
// for messages that are sent in other ways. Without an origin they stay as they are. It returns the messages.
func Caused(ctx context.Context, msgs ...*Message) []*Message {
	o, ok := OriginFrom(ctx)
	if !ok {
		return msgs
	}
	return o.Stamp(msgs...)
}

// Stamp gives messages what an origin has: the correlation and causation ID, whatever they held, unless the origin's is empty, and
// the metadata that they do not have. A message's own map of metadata is left as it is and replaced. It returns the messages.
func (o Origin) Stamp(msgs ...*Message) []*Message {
	for _, m := range msgs {
		if o.CorrelationID != "" {
			m.CorrelationID = o.CorrelationID
		}
		if o.CausationID != "" {
			m.CausationID = o.CausationID
		}
		if len(o.Metadata) > 0 {
			all := maps.Clone(o.Metadata)
			maps.Copy(all, m.Metadata)
			m.Metadata = all
		}
	}
	return msgs
}
