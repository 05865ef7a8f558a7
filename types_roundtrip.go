package eventsourcing

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"time"
)

// WithSample has [Register] try the type with a value of the program's own, whatever the codec is: the value must come back as it was from
// being encoded and decoded. [Types.Samples] gives it out.
func WithSample(v any) TypeOption { return func(r *registration) { r.sample = v } }

// WithoutRoundTrip keeps [Register] from trying whether a type comes back as it was, for one that is not meant to.
func WithoutRoundTrip() TypeOption { return func(r *registration) { r.unchecked = true } }

// check tries whether values of a type come back as they were.
func (r *registration) check() error {
	if r.sample != nil {
		switch typ := reflect.TypeOf(r.sample); {
		case typ != r.typ:
			return Invalidf("sample", "is a %v and not a %v", typ, r.typ)
		case typ.Kind() == reflect.Pointer && reflect.ValueOf(r.sample).IsNil():
			return Invalidf("sample", "is nil")
		}
	}
	if r.unchecked || r.sample == nil && !r.isJSON() {
		return nil
	}
	if hidden := hiddenField(r.typ, r.typ.Name(), nil); r.isJSON() && hidden != "" {
		return Invalidf("type", "has the field %s, which is not exported, and so is lost; export it, or tag it with json:\"-\"", hidden)
	}
	if r.sample != nil {
		return r.checkRoundTrip("")
	}
	return r.checkRoundTrip("; if the type does not take a value that is made up, give it one by WithSample")
}

// checkRoundTrip encodes and decodes the sample. The advice is added to what is wrong with the codec.
func (r *registration) checkRoundTrip(advice string) error {
	sample := r.sampleValue()
	original := copyOf(sample) // a codec may keep notes in fields of its own
	data, err := r.codec.Marshal(sample.Interface())
	if err != nil {
		return Invalidf("type", "cannot be encoded: %v%s", err, advice)
	}
	back, err := r.decode(r.codec, data)
	if err != nil {
		return Invalidf("type", "cannot be decoded from what it was encoded to (%.200s): %v%s", data, err, advice)
	}
	if path := difference(r.typ.Name(), original, reflect.ValueOf(back)); path != "" {
		return Invalidf("type", "does not come back as it was: %s differs after it was encoded and decoded; see WithoutRoundTrip", path)
	}
	if !r.isJSON() {
		return nil
	}
	pointer := reflect.New(r.typ)
	pointer.Elem().Set(sample)
	if other, err := r.codec.Marshal(pointer.Interface()); err != nil || !bytes.Equal(data, other) {
		return Invalidf("type", "is encoded in one way as a value and in another by a pointer (%.100s, %.100s): a MarshalJSON or MarshalText "+
			"in it has a pointer receiver; give it a value receiver", data, other)
	}
	return nil
}

// copyOf returns a copy of a value, or a pointer to a copy of what it points to.
func copyOf(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(v.Elem())
	return c
}

// difference returns where a value differs from the original, "" where it does not. What is empty is as good as what is nil, and a time as
// good as the same time of another zone. A field that is not exported counts when the original has something in it.
func difference(path string, original, back reflect.Value) string {
	if !original.IsValid() || !back.IsValid() || original.Type() != back.Type() {
		if original.IsValid() == back.IsValid() && !original.IsValid() {
			return ""
		}
		return path
	}
	switch original.Kind() {
	case reflect.Struct:
		return structDifference(path, original, back)
	case reflect.Pointer, reflect.Interface:
		if original.IsNil() || back.IsNil() {
			return pathUnless(original.IsNil() == back.IsNil(), path)
		}
		return difference(path, original.Elem(), back.Elem())
	case reflect.Slice, reflect.Array:
		if original.Len() != back.Len() {
			return path
		}
		for i := range original.Len() {
			if at := difference(path+"["+strconv.Itoa(i)+"]", original.Index(i), back.Index(i)); at != "" {
				return at
			}
		}
		return ""
	case reflect.Map:
		if original.Len() != back.Len() {
			return path
		}
		for _, key := range original.MapKeys() {
			if at := difference(fmt.Sprintf("%s[%v]", path, key), original.MapIndex(key), back.MapIndex(key)); at != "" {
				return at
			}
		}
		return ""
	case reflect.Func:
		return pathUnless(original.IsNil() && back.IsNil(), path)
	default:
		return pathUnless(original.Equal(back), path)
	}
}

func pathUnless(same bool, path string) string {
	if same {
		return ""
	}
	return path
}

func structDifference(path string, original, back reflect.Value) string {
	typ := original.Type()
	if typ == reflect.TypeFor[time.Time]() && original.CanInterface() && back.CanInterface() {
		a, isTime := reflect.TypeAssert[time.Time](original)
		b, isTimeToo := reflect.TypeAssert[time.Time](back)
		return pathUnless(isTime && isTimeToo && a.Equal(b), path)
	}
	for i := range typ.NumField() {
		field := typ.Field(i)
		switch {
		case field.Tag.Get("json") == "-":
			continue
		case !field.IsExported() && !isEmbedded(field) && (original.Field(i).IsZero() || writesItself(typ)):
			continue
		}
		if at := difference(path+"."+field.Name, original.Field(i), back.Field(i)); at != "" {
			return at
		}
	}
	return ""
}
