package projection

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Handler handles the events of a Go type or of a name; see [On] and [OnMessage].
type Handler struct {
	typ   reflect.Type // of a handler by type; nil for one by name
	name  string
	known func(types *es.Types) error // nil, or tells whether the type is registered
	value func(ctx context.Context, b *Batch, value any, m *es.Message) error
	raw   func(ctx context.Context, b *Batch, m *es.Message) error
}

// On makes a handler of the events of a Go type, which is registered in [Config].Types. It is called with the event as it is today: upcast,
// and once for each event that a stored one stands for. The message is what is stored, or what upcasting has made of it. Of an event whose
// data was erased there is the zero value; [es.Message.Erased] tells.
//
// A handler is called with one event after the other, in the order of the store. It reads and changes documents by way of the batch. Its
// error, or its panic, leaves nothing of what it has changed; [Config].OnError says what becomes of the event. [es.Skip] passes the event
// over whatever the policy is, and [es.RetryAfter] tries it again after a while, as often as it is returned.
func On[E any](fn func(ctx context.Context, b *Batch, event E, m *es.Message) error) Handler {
	return Handler{
		typ: reflect.TypeFor[E](),
		known: func(types *es.Types) error {
			_, err := es.NameOf[E](types)
			return err
		},
		value: func(ctx context.Context, b *Batch, value any, m *es.Message) error {
			event, _ := value.(E) // it is looked up by this very type
			return fn(ctx, b, event, m)
		},
	}
}

// OnMessage makes a handler of the events that are stored under a name, as they are stored. The empty name stands for every event, those
// that have another handler included. See [On] for what a handler may do.
func OnMessage(name string, fn func(ctx context.Context, b *Batch, m *es.Message) error) Handler {
	return Handler{name: name, raw: fn}
}

// handlers are the handlers of a projection, looked up by name or type. Those for the same are called in the order they were given.
type handlers struct {
	types   *es.Types
	unknown es.Unknown
	byName  map[string][]Handler
	every   []Handler
	byType  map[reflect.Type][]Handler
}

func newHandlers(c Config, given []Handler) (handlers, error) {
	h := handlers{types: c.Types, unknown: c.Unknown, byName: map[string][]Handler{}, byType: map[reflect.Type][]Handler{}}
	if len(given) == 0 {
		return h, es.Invalidf("projection", "has no handlers; make some with On or OnMessage")
	}
	for _, one := range given {
		switch {
		case one.raw != nil && one.name == "":
			h.every = append(h.every, one)
		case one.raw != nil:
			if err := es.ValidateName("message name", one.name); err != nil {
				return h, err
			}
			h.byName[one.name] = append(h.byName[one.name], one)
		case one.value == nil:
			return h, es.Invalidf("handler", "is empty; make it with On or OnMessage")
		case c.Types == nil:
			return h, es.Invalidf("projection", "has a handler of %v and no Types to decode it with", one.typ)
		default:
			if err := one.known(c.Types); err != nil {
				return h, fmt.Errorf("handler of %v: %w", one.typ, err)
			}
			h.byType[one.typ] = append(h.byType[one.typ], one)
		}
	}
	return h, nil
}

// handle hands a message to its handlers. decoded is room to be used again; it is returned with what was made of it.
func (h *handlers) handle(ctx context.Context, b *Batch, m *es.Message, decoded []es.Decoded) (room []es.Decoded, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &es.PanicError{Value: v, Stack: debug.Stack()}
		}
		if err == nil {
			err = b.spoiled
		}
	}()
	b.begin()
	for i := range h.every {
		if err := h.every[i].raw(ctx, b, m); err != nil {
			return decoded, err
		}
	}
	named := h.byName[m.Name]
	for i := range named {
		if err := named[i].raw(ctx, b, m); err != nil {
			return decoded, err
		}
	}
	if len(h.byType) == 0 {
		return decoded, nil
	}
	decoded, err = h.decode(decoded[:0], m, len(named)+len(h.every) > 0)
	if err != nil {
		return decoded, err
	}
	for i := range decoded {
		for _, one := range h.byType[reflect.TypeOf(decoded[i].Value)] {
			if err := one.value(ctx, b, decoded[i].Value, decoded[i].Message); err != nil {
				return decoded, err
			}
		}
	}
	return decoded, nil
}

// decode decodes a message. One that nobody has registered is no error when a handler has had it as it is.
func (h *handlers) decode(room []es.Decoded, m *es.Message, handled bool) ([]es.Decoded, error) {
	decoded, err := h.types.DecodeAll(room, m, h.unknown)
	if err == nil || !handled {
		return decoded, err
	}
	if unknown, ok := errors.AsType[*es.UnknownTypeError](err); ok && unknown.Registered == 0 {
		return room, nil
	}
	return decoded, err
}
