package eventsourcing

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// registered returns what is registered, in the order of the names.
func (t *typeTable) registered() []*registration {
	return slices.SortedFunc(maps.Values(t.byName), func(a, b *registration) int { return strings.Compare(a.name, b.name) })
}

func (t *Types) registered() []*registration { return t.table.Load().registered() }

// older returns the schemas of a name that there are upcasters for, in order.
func (t *typeTable) older(name string) []int {
	var schemas []int
	for from := range t.upcasters {
		if from.name == name {
			schemas = append(schemas, from.schema)
		}
	}
	slices.Sort(schemas)
	return schemas
}

// schemaDialect is the version of JSON Schema that a catalogue is written in.
const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// Catalogue describes the registered types as one JSON Schema (draft 2020-12), the same bytes each time. Its $defs describe the data of
// each name; x-schema there is the version of the schema, x-reads are older ones that have an upcaster, x-content-type is the media type.
// The document itself is the schema of an object with the name, schema and data of one message.
//
// It follows what encoding/json does with a type and its tags: what may be left out is not required, what is a pointer, a slice or a map
// may be null, bytes are base64. Data that is not JSON is described as a string of base64, and a type that says itself what it is in JSON
// as anything.
func (t *Types) Catalogue() ([]byte, error) {
	table := t.table.Load()
	d := describing{definitions: map[string]any{}, taken: map[string]bool{}}
	for name := range table.byName {
		d.taken[name] = true
	}
	messages := []any{}
	for _, r := range table.registered() {
		schema := d.data(r)
		schema["title"] = r.name
		schema["x-schema"] = r.schema
		schema["x-content-type"] = r.codec.ContentType()
		if older := table.older(r.name); older != nil {
			schema["x-reads"] = older
		}
		d.definitions[r.name] = schema
		messages = append(messages, map[string]any{
			"type":     "object",
			"required": []any{"name", "schema", "data"},
			"properties": map[string]any{
				"name": map[string]any{"const": r.name}, "schema": map[string]any{"const": r.schema}, "data": reference(r.name),
			},
		})
	}
	document := map[string]any{"$schema": schemaDialect, "$defs": d.definitions}
	if len(messages) > 0 { // an empty list is not allowed
		document["oneOf"] = messages
	}
	return json.MarshalIndent(document, "", "  ")
}

// reference leads to a definition: by a JSON pointer (RFC 6901) as the fragment of a URI (RFC 3986).
func reference(definition string) map[string]any {
	pointer := "/$defs/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(definition)
	return map[string]any{"$ref": "#" + (&url.URL{Fragment: pointer}).EscapedFragment()}
}

// describing describes the Go types that the data of messages is made of.
type describing struct {
	definitions map[string]any
	taken       map[string]bool         // names of definitions
	root        string                  // the message that is being described
	names       map[reflect.Type]string // of the structs in it that have a definition
}

// data describes the data of a message.
func (d *describing) data(r *registration) map[string]any {
	switch {
	case !r.isJSON() && r.codec.ContentType() == ContentTypeJSON:
		return map[string]any{} // a codec that is not ours may write anything
	case !r.isJSON():
		return map[string]any{"type": "string", "contentEncoding": "base64", "contentMediaType": r.codec.ContentType()}
	}
	d.root, d.names = r.name, map[reflect.Type]string{r.typ: r.name}
	if r.typ.Kind() == reflect.Struct && !writesItself(r.typ) {
		return d.object(r.typ) // and not a reference to itself
	}
	return d.schemaOf(r.typ)
}

// schemaOf describes a type where it is used.
func (d *describing) schemaOf(typ reflect.Type) map[string]any {
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case typ == reflect.TypeFor[uuid.UUID]():
		return map[string]any{"type": "string", "format": "uuid"}
	case typ == reflect.TypeFor[json.Number]():
		return map[string]any{"type": "number"}
	case typ.Kind() != reflect.Pointer && writesItself(typ):
		return map[string]any{}
	}
	switch typ.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Pointer:
		return nullable(d.schemaOf(typ.Elem()))
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 && !writesItself(typ.Elem()) {
			return nullable(map[string]any{"type": "string", "contentEncoding": "base64"})
		}
		return nullable(map[string]any{"type": "array", "items": d.schemaOf(typ.Elem())})
	case reflect.Array:
		return map[string]any{"type": "array", "items": d.schemaOf(typ.Elem()), "minItems": typ.Len(), "maxItems": typ.Len()}
	case reflect.Map:
		return nullable(map[string]any{"type": "object", "additionalProperties": d.schemaOf(typ.Elem())})
	case reflect.Struct:
		return d.structure(typ)
	default:
		return map[string]any{} // an interface: anything
	}
}

// nullable describes what may be null as well.
func nullable(schema map[string]any) map[string]any {
	if kind, ok := schema["type"].(string); ok {
		schema["type"] = []any{kind, "null"}
		return schema
	}
	if _, refers := schema["$ref"]; refers {
		return map[string]any{"anyOf": []any{schema, map[string]any{"type": "null"}}}
	}
	return schema // it may be null already
}

// structure describes a struct: in place when it has no name, by a definition of its own otherwise, so that it may have itself in it.
func (d *describing) structure(typ reflect.Type) map[string]any {
	if typ.Name() == "" {
		return d.object(typ)
	}
	name, known := d.names[typ]
	if !known {
		name = d.root + "." + typ.Name()
		for n := 2; d.taken[name]; n++ {
			name = fmt.Sprintf("%s.%s%d", d.root, typ.Name(), n)
		}
		d.names[typ], d.taken[name] = name, true
		d.definitions[name] = d.object(typ)
	}
	return reference(name)
}

// object describes a struct by its fields.
func (d *describing) object(typ reflect.Type) map[string]any {
	properties, required := map[string]any{}, []any{}
	for _, field := range fieldsOf(typ) {
		schema := d.schemaOf(field.typ)
		if field.quoted {
			schema = map[string]any{"type": "string"}
			if field.typ.Kind() == reflect.Pointer {
				schema = nullable(schema)
			}
		}
		properties[field.name] = schema
		if !field.optional {
			required = append(required, field.name)
		}
	}
	schema := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}
