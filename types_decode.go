package eventsourcing

import (
	"fmt"
	"reflect"
)

// Decoded is one of today's events that a stored message stands for.
type Decoded struct {
	// Value is of the Go type that is registered for the message; a [*Message] when none is, and [KeepRaw] was asked for.
	Value any
	// Message is the stored message, or what upcasting has made of it. It is shared and read-only.
	Message *Message
	// Index counts the events that the stored message stands for, from 0. Where one of them needs an identity of its own, [DeriveID] makes
	// it of the message's.
	Index int
}

// Unknown says what to do with messages of which no Go type is registered.
type Unknown int

// What can be done with unknown messages.
const (
	// FailUnknown makes them an error, [*UnknownTypeError].
	FailUnknown Unknown = iota
	// KeepRaw gives them as they are.
	KeepRaw
	// SkipUnknown leaves them out.
	SkipUnknown
)

// Validate returns [ErrInvalid] for a value that is not one of the above.
func (u Unknown) Validate() error {
	if u < FailUnknown || u > SkipUnknown {
		return Invalidf("unknown", "is %d; it is FailUnknown, KeepRaw or SkipUnknown", int(u))
	}
	return nil
}

// DecodeAll appends to dst what a stored message stands for today, and returns it: one event most often; several, or none, when an upcaster
// says so. With an error, which is that of [Types.Decode], dst is returned as it was. m is not changed.
func (t *Types) DecodeAll(dst []Decoded, m *Message, unknown Unknown) ([]Decoded, error) {
	table := t.table.Load()
	r, up := table.find(m)
	if up == nil {
		return table.decodeTo(dst, m, r, 0, unknown)
	}
	all, index := dst, 0
	err := table.upcast(m, up, 0, func(today *Message, r *registration) (err error) {
		all, err = table.decodeTo(all, today, r, index, unknown)
		index++
		return err
	})
	if err != nil {
		return dst, err
	}
	return all, nil
}

// Decode returns the Go value in a message: a value of the type that is registered for its name, not a pointer unless that is what was
// registered. A message of an older schema goes through its upcasters first; one that they make several of, or none, is an error here, and
// is read by [Types.DecodeAll].
//
// The error is an [*UnknownTypeError] when the name is not registered, or registered for another schema and there is no upcaster; otherwise
// it is that of the codec or of an upcaster. A message that was erased ([Message.Erased]) is the zero value of its type.
func (t *Types) Decode(m *Message) (any, error) {
	table := t.table.Load()
	r, up := table.find(m)
	switch {
	case up != nil:
		return t.decodeOne(m)
	case r == nil:
		return nil, table.unknown(m)
	}
	return r.value(m)
}

// decodeOne decodes a message that has to be one event today.
func (t *Types) decodeOne(m *Message) (any, error) {
	all, err := t.DecodeAll(nil, m, FailUnknown)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("decode %s (schema %d) of message %s: it is %d events today, not one; read it by DecodeAll", m.Name, m.Schema,
			m.ID, len(all))
	}
	return all[0].Value, nil
}

// Decode returns the value of type T in a message. The error is that of [Types.Decode], or says that the message holds
// another type.
func Decode[T any](types *Types, m *Message) (T, error) {
	v, err := types.Decode(m)
	if err != nil {
		var zero T
		return zero, err
	}
	typed, ok := v.(T)
	if !ok {
		return typed, fmt.Errorf("message %s is %q, which is a %T and not a %v", m.ID, m.Name, v, reflect.TypeFor[T]())
	}
	return typed, nil
}

// find returns what a message is registered as when it is one of today, and its upcaster when there is one; neither when it is unknown.
func (t *typeTable) find(m *Message) (*registration, Upcaster) {
	if r := t.byName[m.Name]; r != nil && r.schema == m.Schema {
		return r, nil
	}
	return nil, t.upcasters[messageType{m.Name, m.Schema}]
}

// unknown is the error of a message that is not registered.
func (t *typeTable) unknown(m *Message) error {
	e := &UnknownTypeError{Name: m.Name, Schema: m.Schema}
	if r := t.byName[m.Name]; r != nil {
		e.Registered = r.schema
	}
	return e
}

// decodeTo appends one message of today; r is nil when it is unknown.
func (t *typeTable) decodeTo(dst []Decoded, m *Message, r *registration, index int, unknown Unknown) ([]Decoded, error) {
	if r == nil {
		switch unknown {
		case KeepRaw:
			return append(dst, Decoded{Value: m, Message: m, Index: index}), nil
		case SkipUnknown:
			return dst, nil
		default:
			return dst, t.unknown(m)
		}
	}
	v, err := r.value(m)
	if err != nil {
		return dst, err
	}
	return append(dst, Decoded{Value: v, Message: m, Index: index}), nil
}

// value decodes a message of the registered name and schema.
func (r *registration) value(m *Message) (any, error) {
	if m.Erased() {
		return r.empty(), nil
	}
	v, err := r.decode(r.codecOf(m), m.Data)
	if err != nil {
		return nil, fmt.Errorf("decode %s (schema %d) of message %s: %w", m.Name, m.Schema, m.ID, err)
	}
	return v, nil
}

// codecOf returns the codec that a message is encoded by.
func (r *registration) codecOf(m *Message) Codec {
	if len(r.former) > 0 && m.ContentType != r.codec.ContentType() {
		for _, codec := range r.former {
			if m.ContentType == codec.ContentType() {
				return codec
			}
		}
	}
	return r.codec
}

// empty returns a value of the type that has nothing in it.
func (r *registration) empty() any {
	if r.typ.Kind() == reflect.Pointer {
		return reflect.New(r.typ.Elem()).Interface()
	}
	return reflect.Zero(r.typ).Interface()
}

// decoderOf returns the function that decodes values of a type.
func decoderOf[T any]() func(Codec, []byte) (any, error) {
	if typ := reflect.TypeFor[T](); typ.Kind() == reflect.Pointer {
		return func(codec Codec, data []byte) (any, error) {
			v := reflect.New(typ.Elem()).Interface()
			err := codec.Unmarshal(data, v)
			return v, err
		}
	}
	return func(codec Codec, data []byte) (any, error) {
		var v T
		err := codec.Unmarshal(data, &v)
		return v, err
	}
}
