package router

import (
	"context"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Emitter sends messages, all in order. It returns when they are taken for good. The messages are its own.
type Emitter func(ctx context.Context, msgs []*es.Message) error

// ToOutbox sends messages by an outbox: they are appended and published by its processor.
func ToOutbox(outbox es.Outbox) Emitter {
	return func(ctx context.Context, msgs []*es.Message) error { return outbox.Enqueue(ctx, msgs...) }
}

// ToPublisher sends messages by a publisher, each to the topic that its stream's category names.
func ToPublisher(publisher es.Publisher) Emitter {
	return func(ctx context.Context, msgs []*es.Message) error {
		return publisher.Publish(ctx, es.ToCategory(msgs...)...)
	}
}

// emitting is the innermost link of a chain: it calls the handler and sends what it returns.
type emitting struct {
	next  es.Handler
	emit  Emitter
	topic string
	route string
}

// Handle returns no messages: those of the handler have been sent.
func (h *emitting) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	outputs, err := h.next.Handle(ctx, d)
	if err != nil || len(outputs) == 0 {
		return nil, err
	}
	if h.emit == nil {
		return nil, fmt.Errorf("route %q of topic %q returned %d messages, and the router has nowhere to send them; set Config.Emit",
			h.route, h.topic, len(outputs))
	}
	if err := h.prepare(ctx, d, outputs); err != nil {
		return nil, err
	}
	if err := h.emit(ctx, outputs); err != nil {
		return nil, fmt.Errorf("route %q of topic %q: send the %d messages that the handler returned: %w",
			h.route, h.topic, len(outputs), err)
	}
	return nil, nil
}

// prepare makes the outputs consequences of d, under derived IDs, with what middleware passes on to them. They are the router's by
// now, but for an input that is passed on and a message that is there twice, which get copies.
func (h *emitting) prepare(ctx context.Context, d *es.Delivery, outputs []*es.Message) error {
	for i, m := range outputs {
		if m == nil {
			return fmt.Errorf("route %q of topic %q: the message that the handler returned at index %d is nil", h.route, h.topic, i)
		}
		if m == d.Message || slices.Contains(outputs[:i], m) {
			outputs[i] = m.Clone()
		}
		outputs[i].ID = es.DeriveID(d.ID, h.route, i)
	}
	d.Caused(outputs...)
	if origin, ok := es.OriginFrom(ctx); ok && len(origin.Metadata) > 0 {
		es.Origin{Metadata: origin.Metadata}.Stamp(outputs...)
	}
	return nil
}
