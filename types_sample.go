package eventsourcing

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Samples returns a message of each registered type, in the order of their names: with the value of [WithSample], or else with one that has
// something in every field that can be set, the same each time. What is made up is near the limits of its type, so that a narrower type
// cannot hold it.
//
// The error names the types whose made-up value their codec refuses, and there are messages of all the others. Give those types a value by
// WithSample.
func (t *Types) Samples() ([]*Message, error) {
	var samples []*Message
	var errs []error
	for _, r := range t.registered() {
		m, err := t.Encode("sample", r.sampleValue().Interface())
		if err != nil {
			errs = append(errs, fmt.Errorf("no sample of %v can be made, give it one by WithSample: %w", r.typ, err))
			continue
		}
		samples = append(samples, m)
	}
	return samples, errors.Join(errs...)
}

// sampleValue returns the value of [WithSample], or one that is made up.
func (r *registration) sampleValue() reflect.Value {
	if r.sample != nil {
		return reflect.ValueOf(r.sample)
	}
	v := reflect.New(r.typ).Elem()
	(&sampling{}).fill(v)
	return v
}

// writesItself tells whether a type says itself what it is in JSON.
func writesItself(typ reflect.Type) bool {
	return implements(typ, reflect.TypeFor[json.Marshaler]()) || implements(typ, reflect.TypeFor[encoding.TextMarshaler]())
}

// readsItself tells whether a type says itself what it takes from JSON.
func readsItself(typ reflect.Type) bool {
	return implements(typ, reflect.TypeFor[json.Unmarshaler]()) || implements(typ, reflect.TypeFor[encoding.TextUnmarshaler]())
}

// implements tells whether a type, or the pointer to it, has the methods of an interface.
func implements(typ, methods reflect.Type) bool {
	return typ.Implements(methods) || reflect.PointerTo(typ).Implements(methods)
}

// sampling fills a value. It is the same each time.
type sampling struct {
	count   int64
	parents []reflect.Type
}

// fill puts something into a value, and into all that is in it. What it cannot fill it leaves empty: what is not exported, channels and
// functions, interfaces with methods, and types that say themselves what they are in JSON, because what these take is their own affair.
func (s *sampling) fill(v reflect.Value) {
	s.count++
	typ := v.Type()
	switch {
	case !v.CanSet():
		return
	case s.fillKnown(v):
		return
	case typ.Kind() != reflect.Pointer && (writesItself(typ) || readsItself(typ)):
		return
	}
	switch typ.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(math.MinInt64>>(64-typ.Bits()) + s.count%100)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(math.MaxUint64>>(64-typ.Bits()) - uint64(s.count%100)) //nolint:gosec // it is not negative
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(s.count) + 0.123456789)
	case reflect.Complex64, reflect.Complex128:
		v.SetComplex(complex(float64(s.count), 1))
	case reflect.String:
		v.SetString("text " + strconv.FormatInt(s.count, 10)) // with a space, which neither base64 nor a time has
	case reflect.Interface:
		if typ.NumMethod() == 0 {
			v.Set(reflect.ValueOf("text " + strconv.FormatInt(s.count, 10)))
		}
	case reflect.Array:
		for i := range v.Len() {
			s.fill(v.Index(i))
		}
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Struct:
		s.fillNested(v)
	default: // a channel, a function or an unsafe pointer
	}
}

// fillKnown fills a value of a type whose form in JSON is known.
func (s *sampling) fillKnown(v reflect.Value) bool {
	switch v.Type() {
	case reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2001, 2, 3, 4, 5, int(s.count%60), 123456000, time.UTC)))
	case reflect.TypeFor[uuid.UUID]():
		v.Set(reflect.ValueOf(uuid.NewSHA1(uuid.NameSpaceOID, strconv.AppendInt(nil, s.count, 10))))
	case reflect.TypeFor[json.RawMessage]():
		v.SetBytes(strconv.AppendInt(nil, s.count, 10))
	case reflect.TypeFor[json.Number]():
		v.SetString(strconv.FormatInt(s.count, 10))
	default:
		return false
	}
	return true
}

// fillNested fills what may lead to a value of its own type: such a value is filled once, and what leads to the next one stays nil.
func (s *sampling) fillNested(v reflect.Value) {
	typ := v.Type()
	if s.isWithinTwo(typ) || typ.Kind() != reflect.Struct && s.isWithinTwo(typ.Elem()) {
		return
	}
	s.parents = append(s.parents, typ)
	defer func() { s.parents = s.parents[:len(s.parents)-1] }()
	switch typ.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(typ.Elem()))
		s.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(typ, 1, 1))
		s.fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(typ.Key()).Elem(), reflect.New(typ.Elem()).Elem()
		(&sampling{}).fill(key) // the same whatever stands before it: it becomes the name of a field
		s.fill(value)
		v.Set(reflect.MakeMap(typ))
		v.SetMapIndex(key, value)
	default:
		for field, inner := range v.Fields() {
			s.fillField(inner, field)
		}
	}
}

// isWithinTwo tells whether what is being filled stands in two values of a type already.
func (s *sampling) isWithinTwo(typ reflect.Type) bool {
	within := 0
	for _, parent := range s.parents {
		if parent == typ {
			within++
		}
	}
	return within >= 2
}

// fillField fills a field of a struct. The exported fields of an embedded struct can be set, also where that itself is not exported.
func (s *sampling) fillField(v reflect.Value, field reflect.StructField) {
	if !field.IsExported() && isEmbedded(field) {
		for field, inner := range v.Fields() {
			s.fillField(inner, field)
		}
		return
	}
	s.fill(v)
}

// isEmbedded tells whether the exported fields of a field are fields of the struct around it, also where it is not exported itself.
func isEmbedded(field reflect.StructField) bool {
	return field.Anonymous && field.Type.Kind() == reflect.Struct
}

// hiddenField returns the path of a field that JSON does not see because it is not exported; "" when there is none. A field that is left
// out on purpose, by the tag json:"-", and what a type says itself in JSON do not count.
func hiddenField(typ reflect.Type, path string, seen []reflect.Type) string {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return hiddenField(typ.Elem(), path, seen)
	case reflect.Struct:
	default:
		return ""
	}
	if slices.Contains(seen, typ) || writesItself(typ) {
		return ""
	}
	seen = append(seen, typ)
	for field := range typ.Fields() {
		at := path + "." + field.Name
		switch {
		case field.Tag.Get("json") == "-":
			continue
		case !field.IsExported() && !isEmbedded(field):
			return at
		}
		if hidden := hiddenField(field.Type, at, seen); hidden != "" {
			return hidden
		}
	}
	return ""
}
