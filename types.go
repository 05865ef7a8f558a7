package eventsourcing

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
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

// Types ties the names of messages on the wire to Go types, and knows how to read what was stored under older schemas. It is a value of
// the program's own, made by [NewTypes] and filled by [Register] and [Upcast] when the program starts. It may be used by several
// goroutines at once; reading takes no lock.
type Types struct {
	changing sync.Mutex
	table    atomic.Pointer[typeTable] // never changed: who adds to it puts another in its place
}

// typeTable is what [Types] hold at one moment.
type typeTable struct {
	byName    map[string]*registration
	byType    map[reflect.Type]*registration
	upcasters map[messageType]Upcaster
}

// messageType is what a message is on the wire.
type messageType struct {
	name   string
	schema int
}

type registration struct {
	name      string
	schema    int
	typ       reflect.Type
	codec     Codec
	former    []Codec // that older messages may be encoded by
	decode    func(Codec, []byte) (any, error)
	tagged    bool // the type is a [Tagged]
	sample    any  // of [WithSample]
	unchecked bool // by [WithoutRoundTrip]
}

// NewTypes returns a registry without any type.
func NewTypes() *Types {
	t := &Types{}
	t.table.Store(&typeTable{
		byName: map[string]*registration{}, byType: map[reflect.Type]*registration{}, upcasters: map[messageType]Upcaster{},
	})
	return t
}

// change puts another table in the place of the present one: a copy with what fill has added to it.
func (t *Types) change(fill func(*typeTable) error) error {
	t.changing.Lock()
	defer t.changing.Unlock()
	old := t.table.Load()
	next := &typeTable{byName: maps.Clone(old.byName), byType: maps.Clone(old.byType), upcasters: maps.Clone(old.upcasters)}
	if err := fill(next); err != nil {
		return err
	}
	t.table.Store(next)
	return nil
}

// TypeOption is an option of [Register].
type TypeOption func(*registration)

// WithSchema sets the version of the schema that the Go type stands for, from 1. The default is 1.
func WithSchema(version int) TypeOption { return func(r *registration) { r.schema = version } }

// WithCodec sets the codec of the type. The default is [JSON]. A message whose content type is that of one of the former codecs is
// decoded by that one, so that a type can change its codec and what is stored stays readable.
func WithCodec(codec Codec, former ...Codec) TypeOption {
	return func(r *registration) { r.codec, r.former = codec, former }
}

// Register ties a name on the wire to the Go type T, which is a struct or another type of value. It panics when the name or the type is
// taken, or an argument breaks a rule: that is a mistake in the program, found when it starts.
//
// A type that is kept as [JSON] must come back as it was: Register encodes and decodes a value that has something in every field, and
// panics with the name of the first one that is lost, as a field that is not exported is. Another codec is tried with a value of
// [WithSample] only.
//
// With a codec other than JSON, T may also be a pointer to a struct, as the messages are that protobuf generates: they must not be copied.
func Register[T any](types *Types, name string, options ...TypeOption) {
	r := &registration{name: name, schema: 1, typ: reflect.TypeFor[T](), codec: JSON{}}
	for _, option := range options {
		option(r)
	}
	r.decode = decoderOf[T]()
	if err := types.add(r); err != nil {
		panic(fmt.Sprintf("eventsourcing: register %v as %q: %v", r.typ, name, err))
	}
}

func (t *Types) add(r *registration) error {
	if err := r.validate(); err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	return t.change(func(table *typeTable) error {
		for from := range table.upcasters {
			if from.name == r.name && from.schema >= r.schema {
				return Invalidf("schema", "is %d, and there is an upcaster from schema %d; upcasters are for schemas below it", r.schema,
					from.schema)
			}
		}
		if other, taken := table.byName[r.name]; taken {
			return Invalidf("message name", "is registered for %v already", other.typ)
		}
		if other, taken := table.byType[r.typ]; taken {
			return Invalidf("type", "is registered as %q already", other.name)
		}
		table.byName[r.name], table.byType[r.typ] = r, r
		return nil
	})
}

func (r *registration) validate() error {
	if err := ValidateName("message name", r.name); err != nil {
		return err
	}
	switch {
	case r.schema < 1:
		return Invalidf("schema", "is %d; schema versions count from 1", r.schema)
	case r.codec == nil || slices.Contains(r.former, nil):
		return Invalidf("codec", "is nil")
	case r.typ.Kind() == reflect.Interface:
		return Invalidf("type", "is an interface; register the types of the values in it")
	}
	if r.typ.Kind() == reflect.Pointer && (r.isJSON() || r.typ.Elem().Kind() != reflect.Struct) {
		return Invalidf("type", "is a pointer; register the type of the value itself (a pointer to a struct takes a codec other than JSON)")
	}
	tagged := reflect.TypeFor[Tagged]()
	r.tagged = r.typ.Implements(tagged)
	if !r.tagged && reflect.PointerTo(r.typ).Implements(tagged) {
		return Invalidf("type", "has EventTags with a pointer receiver, so that a value would have no tags; give it a value receiver")
	}
	return nil
}

// isJSON tells whether the type is kept as encoding/json has it.
func (r *registration) isJSON() bool {
	_, is := r.codec.(JSON)
	return is
}

// NameOf returns the name on the wire that a Go type is registered under. The error is an [*UnknownTypeError] when it is not.
func NameOf[T any](types *Types) (string, error) {
	typ := reflect.TypeFor[T]()
	r := types.table.Load().byType[typ]
	if r == nil {
		return "", &UnknownTypeError{Type: typ.String()}
	}
	return r.name, nil
}

// Tagged is implemented by the Go types of events that have tags. [Types.Encode] sets them.
type Tagged interface {
	// EventTags returns the tags of the event, such as "course:go-101": what decisions and queries find it by.
	EventTags() []string
}

// Encode makes a message for a stream out of a value of a registered type, or a pointer to one, with the tags of a [Tagged]. The error is
// an [*UnknownTypeError] for another type, or that of the codec.
func (t *Types) Encode(stream string, v any) (*Message, error) {
	r, value, err := t.table.Load().registrationOf(v)
	if err != nil {
		return nil, err
	}
	data, err := r.codec.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.name, err)
	}
	m := NewMessage(stream, r.name, data)
	m.Schema, m.ContentType = r.schema, r.codec.ContentType()
	if r.tagged {
		tagged, ok := v.(Tagged)
		if !ok { // v is a pointer to a pointer
			tagged, _ = reflect.TypeAssert[Tagged](value)
		}
		m.Tags = tagged.EventTags()
	}
	return m, nil
}

// registrationOf finds what a value is registered as, and the value of that type behind the pointers that lead to it.
func (t *typeTable) registrationOf(v any) (*registration, reflect.Value, error) {
	value := reflect.ValueOf(v)
	for {
		pointer := value.IsValid() && value.Kind() == reflect.Pointer
		if !value.IsValid() || pointer && value.IsNil() {
			return nil, value, &UnknownTypeError{Type: "nil"}
		}
		if r := t.byType[value.Type()]; r != nil {
			return r, value, nil
		}
		if !pointer {
			return nil, value, &UnknownTypeError{Type: value.Type().String()}
		}
		value = value.Elem()
	}
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
	case e.Registered > e.Schema:
		return fmt.Sprintf("unknown type: %q is registered with schema %d, the message has schema %d, and there is no upcaster for it", e.Name,
			e.Registered, e.Schema)
	case e.Registered != 0:
		return fmt.Sprintf("unknown type: %q is registered with schema %d, the message has schema %d", e.Name, e.Registered, e.Schema)
	}
	return fmt.Sprintf("unknown type: no Go type is registered for %q (schema %d)", e.Name, e.Schema)
}

// Is makes errors.Is(err, ErrUnknownType) true.
func (e *UnknownTypeError) Is(target error) bool { return target == ErrUnknownType }
