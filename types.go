package eventsourcing

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
)

// Codec turns the payload of a message into bytes and back.
type Codec interface {
	// ContentType is that of the bytes it makes.
	ContentType() string
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes into the value that v points to.
	Unmarshal(data []byte, v any) error
}

// JSON is the codec that is used unless another is named. It refuses data that stands behind the value.
type JSON struct{}

// ContentType returns "application/json".
func (JSON) ContentType() string { return ContentTypeJSON }

// Marshal encodes v by encoding/json.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal decodes data by encoding/json.
func (JSON) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// Types ties the names of messages on the wire to Go types. It is a value of the program's own, made by [NewTypes] and filled
// by [Register] when the program starts.
type Types struct {
	mu     sync.RWMutex
	byName map[string]*registration
	byType map[reflect.Type]*registration
}

type registration struct {
	name   string
	schema int
	typ    reflect.Type
	codec  Codec
	decode func(Codec, []byte) (any, error)
}

// NewTypes returns a registry without any type.
func NewTypes() *Types {
	return &Types{byName: map[string]*registration{}, byType: map[reflect.Type]*registration{}}
}

// TypeOption is an option of [Register].
type TypeOption func(*registration)

// WithSchema sets the version of the schema that the Go type stands for, from 1. The default is 1.
func WithSchema(version int) TypeOption { return func(r *registration) { r.schema = version } }

// WithCodec sets the codec of the type. The default is [JSON].
func WithCodec(codec Codec) TypeOption { return func(r *registration) { r.codec = codec } }

// Register ties a name on the wire to the Go type T, which is a struct or another type of value, not a pointer. It panics when
// the name or the type is taken, or an argument breaks a rule: that is a mistake in the program, found when it starts.
func Register[T any](types *Types, name string, options ...TypeOption) {
	r := &registration{name: name, schema: 1, typ: reflect.TypeFor[T](), codec: JSON{}}
	r.decode = func(codec Codec, data []byte) (any, error) {
		var v T
		err := codec.Unmarshal(data, &v)
		return v, err
	}
	for _, option := range options {
		option(r)
	}
	if err := types.add(r); err != nil {
		panic(fmt.Sprintf("eventsourcing: register %v as %q: %v", r.typ, name, err))
	}
}

func (t *Types) add(r *registration) error {
	if err := ValidateName("message name", r.name); err != nil {
		return err
	}
	switch {
	case r.schema < 1:
		return Invalidf("schema", "is %d; schema versions count from 1", r.schema)
	case r.codec == nil:
		return Invalidf("codec", "is nil")
	case r.typ.Kind() == reflect.Pointer || r.typ.Kind() == reflect.Interface:
		return Invalidf("type", "is a pointer or an interface; register the type of the value itself")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if other, taken := t.byName[r.name]; taken {
		return Invalidf("message name", "is registered for %v already", other.typ)
	}
	if other, taken := t.byType[r.typ]; taken {
		return Invalidf("type", "is registered as %q already", other.name)
	}
	t.byName[r.name], t.byType[r.typ] = r, r
	return nil
}

// NameOf returns the name on the wire that a Go type is registered under. The error is an [*UnknownTypeError] when it is not.
func NameOf[T any](types *Types) (string, error) {
	typ := reflect.TypeFor[T]()
	types.mu.RLock()
	r := types.byType[typ]
	types.mu.RUnlock()
	if r == nil {
		return "", &UnknownTypeError{Type: typ.String()}
	}
	return r.name, nil
}

// Encode makes a message for a stream out of a value of a registered type, or a pointer to one. The error is an
// [*UnknownTypeError] for another type, or that of the codec.
func (t *Types) Encode(stream string, v any) (*Message, error) {
	value := reflect.ValueOf(v)
	for value.IsValid() && value.Kind() == reflect.Pointer && !value.IsNil() {
		value = value.Elem()
	}
	if !value.IsValid() {
		return nil, &UnknownTypeError{Type: "nil"}
	}
	t.mu.RLock()
	r := t.byType[value.Type()]
	t.mu.RUnlock()
	if r == nil {
		return nil, &UnknownTypeError{Type: value.Type().String()}
	}
	data, err := r.codec.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.name, err)
	}
	m := NewMessage(stream, r.name, data)
	m.Schema, m.ContentType = r.schema, r.codec.ContentType()
	return m, nil
}

// Decode returns the Go value in a message: a value of the type that is registered for its name, not a pointer. The error is
// an [*UnknownTypeError] when the name is not registered, or registered for another schema; otherwise it is that of the codec.
func (t *Types) Decode(m *Message) (any, error) {
	t.mu.RLock()
	r := t.byName[m.Name]
	t.mu.RUnlock()
	if r == nil || r.schema != m.Schema {
		e := &UnknownTypeError{Name: m.Name, Schema: m.Schema}
		if r != nil {
			e.Registered = r.schema
		}
		return nil, e
	}
	v, err := r.decode(r.codec, m.Data)
	if err != nil {
		return nil, fmt.Errorf("decode %s (schema %d) of message %s: %w", m.Name, m.Schema, m.ID, err)
	}
	return v, nil
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

// UnknownTypeError names the message or Go type that is not registered. It is an [ErrUnknownType].
type UnknownTypeError struct {
	Name       string // of a message that cannot be decoded
	Schema     int
	Registered int    // the schema that is registered for Name, 0 when there is none
	Type       string // of a Go value that cannot be encoded
}

func (e *UnknownTypeError) Error() string {
	switch {
	case e.Type != "":
		return fmt.Sprintf("unknown type: the Go type %s is not registered; call Register for it", e.Type)
	case e.Registered != 0:
		return fmt.Sprintf("unknown type: %q is registered with schema %d, the message has schema %d", e.Name, e.Registered, e.Schema)
	}
	return fmt.Sprintf("unknown type: no Go type is registered for %q (schema %d)", e.Name, e.Schema)
}

// Is makes errors.Is(err, ErrUnknownType) true.
func (e *UnknownTypeError) Is(target error) bool { return target == ErrUnknownType }
