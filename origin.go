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

// WithOrigin returns a context that says where the work done with it comes from; see [Caused].
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginFrom returns where the work done with a context comes from: the innermost [WithOrigin], or else the delivery that is being
// handled ([WithDelivery]). It reports false when there is neither.
func OriginFrom(ctx context.Context) (Origin, bool) {
	if o, ok := ctx.Value(originKey{}).(Origin); ok {
		return o, true
	}
	d, ok := DeliveryFrom(ctx)
	if !ok || d.Message == nil {
		return Origin{}, false
	}
	return OriginOf(d.Message), true
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
