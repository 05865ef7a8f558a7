package eswatermill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	es "github.com/eventsourcing-go/eventsourcing"
)

// HandlerConfig is how a Watermill handler runs on our router. The zero value is ready to use.
type HandlerConfig struct {
	// Marshaler turns messages into Watermill's and back; [Headers] by default.
	Marshaler Marshaler
	// PublishTopic is where what the handler returns goes: the topic that a Watermill router is given when the handler is added. It
	// becomes the stream of a message, and so its category, unless the message has a stream of that category in its metadata.
	// A handler that returns messages must have one.
	PublishTopic string
}

func (c HandlerConfig) withDefaults() HandlerConfig {
	if c.Marshaler == nil {
		c.Marshaler = Headers{}
	}
	return c
}

// errNacked is the failure of a handler that returned no error after it had refused its message.
var errNacked = errors.New("the handler called Nack on its message")

// Handler makes a Watermill handler one of ours. It gets a message of its own, with the delivery's context. Its error is retried by
// the policy of the router, and es.Skip, es.RetryAfter and es.DeadLetter may be returned too. What it returns is sent by the
// router, under derived IDs and with correlation and causation set, like what any handler returns.
//
// Acknowledging is the router's: a handler that calls Ack on its message, and returns an error, has failed all the same, and one
// that calls Nack and returns no error has failed, too.
func Handler(handle message.HandlerFunc, c HandlerConfig) es.Handler {
	c = c.withDefaults()
	return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
		w, err := c.Marshaler.Marshal(d.Topic, d.Message)
		if err != nil {
			return nil, es.DeadLetter(fmt.Errorf("make a Watermill message: %w", err))
		}
		w.SetContext(ctx)
		outputs, err := handle(w)
		if err != nil {
			return nil, err
		}
		select {
		case <-w.Nacked():
			return nil, errNacked
		default:
		}
		return c.unmarshal(d, outputs)
	})
}

// NoPublishHandler makes a Watermill handler that returns no messages one of ours; see [Handler].
func NoPublishHandler(handle message.NoPublishHandlerFunc, c HandlerConfig) es.Handler {
	return Handler(func(w *message.Message) ([]*message.Message, error) { return nil, handle(w) }, c)
}

func (c HandlerConfig) unmarshal(d *es.Delivery, outputs []*message.Message) ([]*es.Message, error) {
	if len(outputs) == 0 {
		return nil, nil
	}
	if c.PublishTopic == "" {
		return nil, es.DeadLetter(fmt.Errorf("the handler of topic %q returned %d messages; set HandlerConfig.PublishTopic",
			d.Topic, len(outputs)))
	}
	msgs := make([]*es.Message, len(outputs))
	for i, w := range outputs {
		if w == nil {
			return nil, fmt.Errorf("the message that the handler returned at index %d is nil", i)
		}
		m, err := c.Marshaler.Unmarshal(c.PublishTopic, w)
		if err != nil {
			return nil, fmt.Errorf("the message that the handler returned at index %d: %w", i, err)
		}
		// A handler may have passed its input on, with all that it carries.
		m.Version, m.Position, m.Recorded = 0, 0, time.Time{}
		if m.Category() != es.Category(c.PublishTopic) {
			m.Stream = c.PublishTopic
		}
		msgs[i] = m
	}
	return msgs, nil
}

// Middleware makes Watermill middleware one of ours. What it sees is the message on its way in, and the error on its way out: the
// messages that a handler returns have been sent by then. A marshaler of nil is [Headers].
//
// A middleware that calls the handler again, such as Watermill's Retry, has it handle the same delivery again, and keeps a worker
// while it sleeps; middleware.Retry of this toolkit does not.
func Middleware(wrap message.HandlerMiddleware, marshaler Marshaler) es.Middleware {
	if marshaler == nil {
		marshaler = Headers{}
	}
	return func(next es.Handler) es.Handler {
		wrapped := wrap(func(w *message.Message) ([]*message.Message, error) {
			d, ok := w.Context().Value(deliveryKey{}).(*es.Delivery)
			if !ok {
				return nil, errors.New("the Watermill middleware passed on a message without the context of the one that it was given")
			}
			stray, err := next.Handle(w.Context(), d)
			if err == nil && len(stray) > 0 {
				err = fmt.Errorf("the handler returned %d messages that were not sent; put Watermill middleware around a route of the router",
					len(stray))
			}
			return nil, err
		})
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			w, err := marshaler.Marshal(d.Topic, d.Message)
			if err != nil {
				return nil, es.DeadLetter(fmt.Errorf("make a Watermill message: %w", err))
			}
			w.SetContext(context.WithValue(ctx, deliveryKey{}, d))
			_, err = wrapped(w)
			return nil, err
		})
	}
}

type deliveryKey struct{}
