package eventsourcing

import (
	"reflect"
	"slices"
	"strings"
)

// jsonField is a field of a struct as encoding/json sees it.
type jsonField struct {
	name     string
	typ      reflect.Type
	optional bool // it may be left out
	quoted   bool // a number or boolean as a string
	tagged   bool // the name stands in a tag
	depth    int  // of the structs it is embedded in
}

// fieldsOf returns the fields of a struct, in the order of their names, by the rules of encoding/json: those of an embedded struct are
// fields of the outer one; of several with the same name the least deep one counts, of several as deep the one with a tag, and none when
// that does not decide.
func fieldsOf(typ reflect.Type) []jsonField {
	all := appendFields(nil, typ, jsonField{}, nil)
	slices.SortStableFunc(all, func(a, b jsonField) int {
		switch {
		case a.name != b.name:
			return strings.Compare(a.name, b.name)
		case a.depth != b.depth:
			return a.depth - b.depth
		case a.tagged != b.tagged && a.tagged:
			return -1
		case a.tagged != b.tagged:
			return 1
		}
		return 0
	})
	var fields []jsonField
	for len(all) > 0 {
		same := 1
		for same < len(all) && all[same].name == all[0].name {
			same++
		}
		if same == 1 || all[0].depth != all[1].depth || all[0].tagged != all[1].tagged {
			fields = append(fields, all[0])
		}
		all = all[same:]
	}
	return fields
}

// appendFields appends the fields of a struct and of those that are embedded in it. outer says where the struct is.
func appendFields(fields []jsonField, typ reflect.Type, outer jsonField, parents []reflect.Type) []jsonField {
	if slices.Contains(parents, typ) { // it embeds itself: what is deeper does not count
		return fields
	}
	parents = append(parents, typ)
	for f := range typ.Fields() {
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, list, _ := strings.Cut(tag, ",")
		options := strings.Split(list, ",")
		inner := f.Type
		if inner.Name() == "" && inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			embedded := jsonField{depth: outer.depth + 1, optional: outer.optional || f.Type.Kind() == reflect.Pointer}
			fields = appendFields(fields, inner, embedded, parents)
		case f.IsExported():
			field := jsonField{name: name, typ: f.Type, tagged: name != "", depth: outer.depth}
			if name == "" {
				field.name = f.Name
			}
			field.optional = outer.optional || slices.Contains(options, "omitempty") || slices.Contains(options, "omitzero")
			field.quoted = slices.Contains(options, "string") && canBeQuoted(inner.Kind())
			fields = append(fields, field)
		}
	}
	return fields
}

// canBeQuoted tells whether the option "string" of a tag has a meaning for a kind of type.
func canBeQuoted(kind reflect.Kind) bool {
	return kind >= reflect.Bool && kind <= reflect.Float64 || kind == reflect.String
}
