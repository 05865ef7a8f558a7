package eventsourcing_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// schemaCheck tells whether JSON fits a JSON Schema: as much of draft 2020-12 as a catalogue has.
type schemaCheck struct{ document map[string]any }

func (c schemaCheck) fits(schema, value any) error {
	s, ok := schema.(map[string]any)
	if !ok {
		return fmt.Errorf("the schema is a %T", schema)
	}
	for _, check := range []func(s map[string]any, value any) error{c.reference, c.choice, kind, bounds, c.members, c.items} {
		if err := check(s, value); err != nil {
			return err
		}
	}
	return nil
}

func (c schemaCheck) reference(s map[string]any, value any) error {
	ref, ok := s["$ref"].(string)
	if !ok {
		return nil
	}
	pointer, err := url.PathUnescape(strings.TrimPrefix(ref, "#/"))
	if err != nil {
		return err
	}
	var at any = c.document
	for step := range strings.SplitSeq(pointer, "/") {
		object, _ := at.(map[string]any)
		if at, ok = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !ok {
			return fmt.Errorf("%s leads nowhere", ref)
		}
	}
	return c.fits(at, value)
}

func (c schemaCheck) choice(s map[string]any, value any) error {
	for _, word := range []string{"anyOf", "oneOf"} {
		choices, ok := s[word].([]any)
		if !ok {
			continue
		}
		fitting := 0
		for _, choice := range choices {
			if c.fits(choice, value) == nil {
				fitting++
			}
		}
		if fitting == 0 || word == "oneOf" && fitting > 1 {
			return fmt.Errorf("%v fits %d of %s", value, fitting, word)
		}
	}
	return nil
}

func kind(s map[string]any, value any) error {
	kinds, ok := s["type"].([]any)
	if one, isOne := s["type"].(string); isOne {
		kinds, ok = []any{one}, true
	}
	if !ok {
		return nil
	}
	for _, kind := range kinds {
		var fits bool
		switch v := value.(type) {
		case nil:
			fits = kind == "null"
		case bool:
			fits = kind == "boolean"
		case float64:
			fits = kind == "number" || kind == "integer" && v == math.Trunc(v)
		case string:
			fits = kind == "string"
		case []any:
			fits = kind == "array"
		case map[string]any:
			fits = kind == "object"
		}
		if fits {
			return nil
		}
	}
	return fmt.Errorf("%v is no %v", value, kinds)
}

func bounds(s map[string]any, value any) error {
	if constant, ok := s["const"]; ok && constant != value {
		return fmt.Errorf("%v is not %v", value, constant)
	}
	number, isNumber := value.(float64)
	if least, ok := s["minimum"].(float64); ok && isNumber && number < least {
		return fmt.Errorf("%v is below %v", number, least)
	}
	return nil
}

func (c schemaCheck) members(s map[string]any, value any) error {
	object, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, there := object[fmt.Sprint(name)]; !there {
			return fmt.Errorf("%v is missing", name)
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, member := range object {
		schema, known := properties[name]
		if others, ok := s["additionalProperties"]; ok && !known {
			schema, known = others, true
		}
		if known {
			if err := c.fits(schema, member); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (c schemaCheck) items(s map[string]any, value any) error {
	array, ok := value.([]any)
	if !ok {
		return nil
	}
	least, bounded := s["minItems"].(float64)
	most, _ := s["maxItems"].(float64)
	if bounded && (float64(len(array)) < least || float64(len(array)) > most) {
		return fmt.Errorf("has %d items", len(array))
	}
	for i, item := range array {
		if schema, ok := s["items"]; ok {
			if err := c.fits(schema, item); err != nil {
				return fmt.Errorf("%d: %w", i, err)
			}
		}
	}
	return nil
}

// catalogue returns the catalogue of types, and a function that tells whether a message fits it.
func catalogue(t *testing.T, types *es.Types) (document map[string]any, fits func(name string, schema int, data string) error) {
	t.Helper()
	text, err := types.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	again, err := types.Catalogue()
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("the catalogue is not the same each time: %v\n%s\n%s", err, text, again)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	return document, func(name string, schema int, data string) error {
		var value any
		if err := json.Unmarshal([]byte(data), &value); err != nil {
			return err
		}
		message := map[string]any{"name": name, "schema": float64(schema), "data": value}
		return schemaCheck{document}.fits(document, message)
	}
}

// outer has fields whose names meet.
type outer struct {
	*optionalPart
	first
	second

	Taken string `json:"taken"`
}

type (
	optionalPart struct {
		Maybe int `json:"maybe"`
	}
	first struct {
		Taken  int
		Both   int
		Chosen int `json:"chosen"`
		Self   *first
	}
	second struct {
		Taken  bool
		Both   bool
		Chosen bool `json:"Chosen"`
	}
)

func TestCatalogueDescribesWhatIsWritten(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[everything](types, "Everything", es.WithSchema(3))
	es.Upcast(types, "Everything", 2, es.UpcastJSON(3))
	es.Upcast(types, "Everything", 1, es.UpcastJSON(2))
	es.Register[line](types, "Everything.line") // the name that a struct in it would have
	es.Register[tree](types, "a/b~c d%e[ü]")
	es.Register[outer](types, "Outer", es.WithoutRoundTrip()) // an embedded pointer to what is not exported cannot be decoded
	es.Register[price](types, "Price")
	es.Register[shadeless](types, "Words")
	es.Register[*generated](types, "Coded", es.WithCodec(wireCodec{}), es.WithSample(&generated{SKU: "A-1"}))
	document, fits := catalogue(t, types)
	if document["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("$schema is %v", document["$schema"])
	}
	samples, err := types.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range samples {
		data := string(m.Data)
		if m.Name == "Coded" {
			data = `"c2t1PUEtMQ=="`
		}
		if err := fits(m.Name, m.Schema, data); err != nil {
			t.Errorf("the sample of %s does not fit: %v\n%s", m.Name, err, data)
		}
		if err := fits(m.Name, m.Schema+1, data); err == nil {
			t.Errorf("the sample of %s fits as another schema", m.Name)
		}
	}
	for name, v := range map[string]any{
		"Everything": everything{}, "a/b~c d%e[ü]": tree{}, "Words": shadeless{}, "Outer": outer{}, "Everything.line": line{},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			continue // an empty json.Number
		}
		schema := 1
		if name == "Everything" {
			schema = 3
		}
		if err := fits(name, schema, string(data)); err != nil {
			t.Errorf("the zero value of %s does not fit: %v\n%s", name, err, data)
		}
	}
	definitions, _ := document["$defs"].(map[string]any)
	about, _ := definitions["Everything"].(map[string]any)
	if got := fmt.Sprint(about["title"], about["x-schema"], about["x-reads"], about["x-content-type"]); got != "Everything3 [1 2]application/json" {
		t.Errorf("about Everything it says %s", got)
	}
}

func TestCatalogueTurnsDownWhatIsNotWritten(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[everything](types, "Everything")
	es.Register[outer](types, "Outer", es.WithoutRoundTrip())
	_, fits := catalogue(t, types)
	samples, err := types.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for field, wrong := range map[string]any{
		"inner": 1, "bool": "yes", "int": 1.5, "int8": "1", "uint64": -1, "float32": "1", "float64": nil, "string": nil, "quoted": 1,
		"bytes": []any{1}, "array": []any{1}, "slice": []any{1}, "map": map[string]any{"a": 1}, "by_id": map[string]any{"a": "b"},
		"pointer": map[string]any{"sku": 1}, "optional": "1", "time": 1, "id": 1, "number": "1",
		"tree":     map[string]any{"name": "a", "left": map[string]any{"name": 1, "left": nil, "children": nil}, "children": nil},
		"nameless": map[string]any{"X": "1"}, "Untagged": 1,
	} {
		var object map[string]any
		if err := json.Unmarshal(samples[0].Data, &object); err != nil {
			t.Fatal(err)
		}
		object[field] = wrong
		data, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if err := fits("Everything", 1, string(data)); err == nil {
			t.Errorf("%v as %s fits", wrong, field)
		}
		if field == "optional" || field == "float64" {
			continue
		}
		delete(object, field)
		if data, err = json.Marshal(object); err != nil {
			t.Fatal(err)
		}
		if err := fits("Everything", 1, string(data)); err == nil {
			t.Errorf("it fits without %s", field)
		}
	}
	for data, want := range map[string]bool{
		`{"taken":"a","chosen":1,"Chosen":true,"Self":null}`:           true,
		`{"taken":"a","chosen":1,"Chosen":true,"Self":null,"maybe":1}`: true,
		`{"taken":1,"chosen":1,"Chosen":true,"Self":null}`:             false, // the outer field counts
		`{"chosen":1,"Chosen":true,"Self":null}`:                       false,
		`{"taken":"a","chosen":1,"Chosen":1,"Self":null}`:              false,
		`{"taken":"a","chosen":1,"Chosen":true,"Self":{"Taken":"a"}}`:  false,
	} {
		if err := fits("Outer", 1, data); (err == nil) != want {
			t.Errorf("%s: %v", data, err)
		}
	}
	if err := fits("Other", 1, `{}`); err == nil {
		t.Error("a message that is not registered fits")
	}
}

func TestCatalogueOfNothing(t *testing.T) {
	t.Parallel()
	text, err := es.NewTypes().Catalogue()
	if err != nil || strings.Contains(string(text), "oneOf") {
		t.Errorf("%s, %v", text, err)
	}
}

func ExampleTypes_Catalogue() {
	types := es.NewTypes()
	es.Register[itemRemoved](types, "ItemRemoved")

	catalogue, err := types.Catalogue()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(catalogue))
	// Output:
	// {
	//   "$defs": {
	//     "ItemRemoved": {
	//       "properties": {
	//         "sku": {
	//           "type": "string"
	//         }
	//       },
	//       "required": [
	//         "sku"
	//       ],
	//       "title": "ItemRemoved",
	//       "type": "object",
	//       "x-content-type": "application/json",
	//       "x-schema": 1
	//     }
	//   },
	//   "$schema": "https://json-schema.org/draft/2020-12/schema",
	//   "oneOf": [
	//     {
	//       "properties": {
	//         "data": {
	//           "$ref": "#/$defs/ItemRemoved"
	//         },
	//         "name": {
	//           "const": "ItemRemoved"
	//         },
	//         "schema": {
	//           "const": 1
	//         }
	//       },
	//       "required": [
	//         "name",
	//         "schema",
	//         "data"
	//       ],
	//       "type": "object"
	//     }
	//   ]
	// }
}
