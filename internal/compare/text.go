// Package compare compares Go values field by field and says in a readable way how they differ: the failure messages of the testing
// helpers are made of it.
package compare

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Text writes a value on one line, much as it is written in Go: always the same for the same content, with what pointers point to,
// with unexported fields, and without the fields that have their zero value.
func Text(v any) string {
	r := renderer{open: map[visit]struct{}{}}
	r.write(reachable(reflect.ValueOf(v)), true)
	return r.String()
}

// Raw is Text without asking any type for its own text, apart from times: what a type leaves out there, because it is secret or a matter of
// taste, is in it. So two values with the same Raw hold the same.
func Raw(v any) string {
	r := renderer{open: map[visit]struct{}{}, raw: true}
	r.write(reachable(reflect.ValueOf(v)), true)
	return r.String()
}

func rawOfPart(v reflect.Value) string {
	r := renderer{open: map[visit]struct{}{}, raw: true}
	r.write(reachable(v), false)
	return r.String()
}

// textOfPart writes a part of a value, whose type goes without saying.
func textOfPart(v reflect.Value) string {
	r := renderer{open: map[visit]struct{}{}}
	r.write(reachable(v), false)
	return r.String()
}

// Clip cuts a text that is too long for a line that is to be read.
func Clip(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	cut := most
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes more)", s[:cut], len(s)-cut)
}

type renderer struct {
	strings.Builder

	open map[visit]struct{} // the pointers that are being followed
	raw  bool               // types are not asked for their own text
}

// visit is a pair of pointers that are followed together; the renderer follows one.
type visit struct {
	got, want uintptr
	typ       reflect.Type
	length    int // of slices: a shorter one may begin at the same place
}

// write writes v; with its type where that says something.
func (r *renderer) write(v reflect.Value, typed bool) {
	if !v.IsValid() {
		r.WriteString("nil")
		return
	}
	if text, ok := r.ownText(v); ok {
		r.WriteString(text)
		return
	}
	switch v.Kind() {
	case reflect.String:
		r.WriteString(strconv.Quote(v.String()))
	case reflect.Interface:
		r.write(reachable(v.Elem()), true)
	case reflect.Pointer:
		r.follow(v, func() {
			r.WriteByte('&')
			r.write(v.Elem(), typed)
		})
	case reflect.Struct:
		r.writeStruct(v, typed)
	case reflect.Slice:
		r.once(visit{got: v.Pointer(), typ: v.Type(), length: v.Len()}, func() { r.writeList(v) })
	case reflect.Array:
		r.writeList(v)
	case reflect.Map:
		r.writeMap(v)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		if v.IsNil() {
			r.WriteString("nil")
			return
		}
		r.WriteString(v.Type().String())
	default: // a number or a truth: %v would ask a String method that has just failed
		fmt.Fprint(r, plain(v))
	}
}

// follow does write for a pointer that may be nil, or lead back to itself.
func (r *renderer) follow(v reflect.Value, write func()) {
	if v.IsNil() {
		r.WriteString("nil")
		return
	}
	r.once(visit{got: v.Pointer(), typ: v.Type()}, write)
}

// once does write, unless it is under way further up.
func (r *renderer) once(at visit, write func()) {
	if _, again := r.open[at]; again {
		r.WriteString("(itself)")
		return
	}
	r.open[at] = struct{}{}
	write()
	delete(r.open, at)
}

func (r *renderer) writeStruct(v reflect.Value, typed bool) {
	if typed && v.Type().Name() != "" {
		r.WriteString(v.Type().String())
	}
	r.WriteByte('{')
	separator := ""
	for _, field := range fieldsOf(v.Type()) {
		value := fieldOf(v, field)
		if value.IsZero() {
			continue
		}
		r.WriteString(separator + field.Name + ": ")
		r.write(value, false)
		separator = ", "
	}
	r.WriteByte('}')
}

func (r *renderer) writeList(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		r.writeBytes(bytesOf(v))
		return
	}
	r.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			r.WriteString(", ")
		}
		r.write(v.Index(i), false)
	}
	r.WriteByte(']')
}

func (r *renderer) writeBytes(data []byte) {
	if utf8.Valid(data) && !strings.ContainsFunc(string(data), func(c rune) bool { return !unicode.IsPrint(c) && !unicode.IsSpace(c) }) {
		r.WriteString(strconv.Quote(string(data)))
		return
	}
	fmt.Fprintf(r, "0x%x", data)
}

func (r *renderer) writeMap(v reflect.Value) {
	r.follow(v, func() {
		entries := make([]string, 0, v.Len())
		for key, value := range v.Seq2() {
			// The renderer of an entry knows the pointers that are being followed, so that a map may hold itself.
			entry := renderer{open: r.open, raw: r.raw}
			entry.write(reachable(key), false)
			entry.WriteString(": ")
			entry.write(reachable(value), false)
			entries = append(entries, entry.String())
		}
		slices.Sort(entries)
		r.WriteString("{" + strings.Join(entries, ", ") + "}")
	})
}

// ownText is the text that a type gives its values, if it is to be asked.
func (r *renderer) ownText(v reflect.Value) (text string, ok bool) {
	if r.raw {
		if t, is := reflect.TypeAssert[time.Time](v); is { // its fields tell apart what is the same instant
			return t.UTC().Format(time.RFC3339Nano), true
		}
		return "", false
	}
	return textOf(v)
}

// textOf is the text of a value that has one of its own: a time, a UUID, a decimal number, an enumeration.
func textOf(v reflect.Value) (text string, ok bool) {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		return "", false // what it points to is asked
	}
	defer func() {
		if recover() != nil { // it is the value of somebody else, and may be in no state to be asked
			text, ok = "", false
		}
	}()
	if m, is := asA[encoding.TextMarshaler](v); is {
		b, err := m.MarshalText()
		return string(b), err == nil
	}
	if v.CanInt() || v.CanUint() {
		if s, is := asA[fmt.Stringer](v); is {
			return fmt.Sprintf("%s (%v)", s.String(), plain(v)), true
		}
	}
	return "", false
}

// plain is the content of a value of a basic kind, without the methods of its type.
func plain(v reflect.Value) any {
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return v.Uint()
	case v.Kind() == reflect.Float32:
		return float32(v.Float())
	case v.CanFloat():
		return v.Float()
	case v.CanComplex():
		return v.Complex()
	}
	return v.Bool()
}

// asA gives a value, or a pointer to it, as an interface that it has.
func asA[I any](v reflect.Value) (I, bool) {
	if i, ok := reflect.TypeAssert[I](v); ok {
		return i, true
	}
	if v.CanAddr() {
		i, ok := reflect.TypeAssert[I](v.Addr())
		return i, ok
	}
	var none I
	return none, false
}

// reachable returns v, or a copy of it, in a place that has an address: only then unexported fields can be read.
func reachable(v reflect.Value) reflect.Value {
	if !v.IsValid() || v.CanAddr() {
		return v
	}
	place := reflect.New(v.Type()).Elem()
	place.Set(v)
	return place
}

// fieldsOf lists the fields that are content. The messages of protobuf keep their state in unexported ones, which are not.
func fieldsOf(t reflect.Type) []reflect.StructField {
	_, generated := reflect.PointerTo(t).MethodByName("ProtoReflect")
	var fields []reflect.StructField
	for f := range t.Fields() {
		if f.Name != "_" && (f.IsExported() || !generated) {
			fields = append(fields, f)
		}
	}
	return fields
}

// fieldOf reads a field of a reachable struct, exported or not: the state of an aggregate is mostly kept in unexported fields, by
// a package that the test is not always in.
func fieldOf(v reflect.Value, field reflect.StructField) reflect.Value {
	f := v.FieldByIndex(field.Index)
	if f.CanInterface() {
		return f
	}
	return reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem()
}

func bytesOf(v reflect.Value) []byte {
	if v.Kind() == reflect.Array {
		return v.Slice(0, v.Len()).Bytes()
	}
	return v.Bytes()
}
