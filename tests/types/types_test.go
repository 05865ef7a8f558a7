// Package types_test tries typed messages on chains of upcasters that nobody has thought of.
package types_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The Go types of the four names that messages have. Each holds any JSON object of numbers.
type (
	alpha map[string]int
	beta  map[string]int
	gamma map[string]int
	delta map[string]int
)

var names = []string{"Alpha", "Beta", "Gamma", "Delta"}

// newest is the highest schema that a name may have.
const newest = 4

// wire is what a message is: an index into the names, and a schema.
type wire struct{ name, schema int }

// program is what a program has registered: the schema of each name, 0 for none, and the upcasters.
type program struct {
	registered [4]int
	upcasters  map[wire]es.Upcaster
}

// drawProgram draws what a program has registered. What an upcaster makes has a higher schema or a later name, so that chains end.
func drawProgram(t *rapid.T) program {
	p := program{upcasters: map[wire]es.Upcaster{}}
	for name := range names {
		p.registered[name] = rapid.IntRange(0, newest).Draw(t, "schema of "+names[name])
		for schema := 1; schema < newest; schema++ {
			if p.registered[name] != 0 && schema >= p.registered[name] {
				break
			}
			if rapid.IntRange(0, 3).Draw(t, "has upcaster") > 0 {
				p.upcasters[wire{name, schema}] = drawUpcaster(t, wire{name, schema})
			}
		}
	}
	return p
}

// types registers what the program has, with those of its upcasters that are chosen.
func (p program) types(chosen func(wire) bool) *es.Types {
	types := es.NewTypes()
	for name, register := range []func(*es.Types, string, ...es.TypeOption){
		es.Register[alpha], es.Register[beta], es.Register[gamma], es.Register[delta],
	} {
		if p.registered[name] != 0 {
			register(types, names[name], es.WithSchema(p.registered[name]))
		}
	}
	for from, up := range p.upcasters {
		if chosen(from) {
			es.Upcast(types, names[from.name], from.schema, up)
		}
	}
	return types
}

func drawUpcaster(t *rapid.T, from wire) es.Upcaster {
	switch rapid.IntRange(0, 9).Draw(t, "kind of upcaster") {
	case 0:
		return es.DropEvent
	case 1:
		to := drawTarget(t, from)
		return es.RenameEvent(names[to.name], to.schema)
	case 2, 3:
		return drawSplit(t, from)
	default:
		return es.UpcastJSON(rapid.IntRange(from.schema+1, newest).Draw(t, "to schema"), drawChanges(t)...)
	}
}

// drawTarget draws what a message may become.
func drawTarget(t *rapid.T, from wire) wire {
	to := wire{name: rapid.IntRange(from.name, len(names)-1).Draw(t, "to name")}
	least := 1
	if to.name == from.name {
		least = from.schema + 1
	}
	to.schema = rapid.IntRange(least, newest).Draw(t, "to schema")
	return to
}

type change = func(map[string]json.RawMessage) error

func drawChanges(t *rapid.T) []change {
	field := rapid.SampledFrom([]string{"a", "b", "c"})
	changes := make([]change, rapid.IntRange(0, 3).Draw(t, "changes"))
	for i := range changes {
		switch rapid.IntRange(0, 2).Draw(t, "kind of change") {
		case 0:
			changes[i] = es.RenameField(field.Draw(t, "from"), field.Draw(t, "to")) // an error where it is taken
		case 1:
			changes[i] = es.AddField(field.Draw(t, "add"), rapid.IntRange(0, 9).Draw(t, "value"))
		default:
			changes[i] = es.RemoveField(field.Draw(t, "remove"))
		}
	}
	return changes
}

// drawSplit draws an upcaster that makes several of one, each with a mark.
func drawSplit(t *rapid.T, from wire) es.Upcaster {
	targets := make([]wire, rapid.IntRange(0, 3).Draw(t, "parts"))
	for i := range targets {
		targets[i] = drawTarget(t, from)
	}
	return func(m *es.Message) ([]*es.Message, error) {
		var parts []*es.Message
		for i, to := range targets {
			part := m.Clone()
			part.Name, part.Schema = names[to.name], to.schema
			var fields map[string]int
			if err := json.Unmarshal(m.Data, &fields); err != nil && !m.Erased() {
				return nil, err
			}
			if !m.Erased() {
				fields["part"] = i
				part.Data, _ = json.Marshal(fields) // numbers always have a form in JSON
			}
			parts = append(parts, part)
		}
		return parts, nil
	}
}

// drawMessages draws a message of each name and schema.
func drawMessages(t *rapid.T) []*es.Message {
	var messages []*es.Message
	for _, name := range names {
		for schema := 1; schema <= newest; schema++ {
			messages = append(messages, drawMessage(t, name, schema))
		}
	}
	return messages
}

func drawMessage(t *rapid.T, name string, schema int) *es.Message {
	fields := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.IntRange(0, 99)).Draw(t, "fields")
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	m := es.NewMessage("alpha-1", name, data)
	m.Schema = schema
	m.Version, m.Position, m.Recorded = 3, 30, m.Time.Add(time.Millisecond)
	m.Tags, m.Metadata = []string{"tag"}, map[string]string{"user": "dana"}
	m.CorrelationID, m.CausationID = es.NewID().String(), es.NewID().String()
	switch rapid.IntRange(0, 19).Draw(t, "kind of message") {
	case 0:
		m.Data, m.Metadata = nil, map[string]string{es.MetadataErased: es.NewID().String()}
	case 1:
		m.Data = []byte(`{"a":`)
	}
	return m
}

// stepwise decodes a message by programs that know one upcaster each, one step after the other, and in the end by one that knows none.
func stepwise(p program, m *es.Message, unknown es.Unknown) ([]any, error) {
	messages := []*es.Message{m}
	for progress := true; progress; {
		progress = false
		for at, m := range messages {
			from := wire{slices.Index(names, m.Name), m.Schema}
			if p.upcasters[from] == nil {
				continue
			}
			one := program{upcasters: map[wire]es.Upcaster{from: p.upcasters[from]}}
			made, err := one.types(func(wire) bool { return true }).DecodeAll(nil, m, es.KeepRaw)
			if err != nil {
				return nil, err
			}
			var parts []*es.Message
			for _, d := range made {
				parts = append(parts, d.Message)
			}
			messages, progress = slices.Replace(messages, at, at+1, parts...), true
			break
		}
	}
	var values []any
	last := p.types(func(wire) bool { return false })
	for _, m := range messages {
		all, err := last.DecodeAll(nil, m, unknown)
		if err != nil {
			return nil, err
		}
		for _, d := range all {
			values = append(values, content(d.Value))
		}
	}
	return values, nil
}

// content is a value, or what is in a raw message.
func content(value any) any {
	if m, raw := value.(*es.Message); raw {
		return fmt.Sprintf("%s %d %s %t", m.Name, m.Schema, m.Data, m.Erased())
	}
	return value
}

// A chain of upcasters is what its steps are, one after the other: the same events in the same order, or an error in both.
func TestAChainOfUpcastersIsItsSteps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := drawProgram(t)
		for _, m := range drawMessages(t) {
			checkChain(t, p, m, drawUnknown(t))
		}
	})
}

func drawUnknown(t *rapid.T) es.Unknown {
	return rapid.SampledFrom([]es.Unknown{es.FailUnknown, es.KeepRaw, es.SkipUnknown}).Draw(t, "unknown")
}

func checkChain(t *rapid.T, p program, m *es.Message, unknown es.Unknown) {
	want, wantErr := stepwise(p, m, unknown)
	all, err := p.types(func(wire) bool { return true }).DecodeAll(nil, m, unknown)
	var got []any
	for i, d := range all {
		got = append(got, content(d.Value))
		if d.Index < i || i > 0 && d.Index <= all[i-1].Index || unknown != es.SkipUnknown && d.Index != i {
			t.Errorf("event %d has index %d", i, d.Index)
		}
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("the chain gives %v, its steps %v", err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("the chain gives\n%v, its steps\n%v", got, want)
	}
}

// Decoding leaves the stored message, and what was decoded before, as they are; and it gives the same each time.
func TestDecodeAllChangesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		types := drawProgram(t).types(func(wire) bool { return true })
		room := rapid.IntRange(0, 8).Draw(t, "room")
		for _, m := range drawMessages(t) {
			checkNothingChanges(t, types, m, drawUnknown(t), room)
		}
	})
}

func checkNothingChanges(t *rapid.T, types *es.Types, m *es.Message, unknown es.Unknown, room int) {
	before := m.Clone()
	kept := make([]es.Decoded, 2, 2+room)
	kept[0], kept[1] = es.Decoded{Value: "first"}, es.Decoded{Value: "second", Index: 1}

	all, err := types.DecodeAll(kept, m, unknown)
	if !reflect.DeepEqual(before, m) {
		t.Fatalf("the message was\n%+v and is\n%+v", before, m)
	}
	if !reflect.DeepEqual(all[:2], []es.Decoded{{Value: "first"}, {Value: "second", Index: 1}}) {
		t.Fatalf("what was there before is %v now", all[:2])
	}
	if err != nil && len(all) != 2 {
		t.Fatalf("with the error %v it gives %v", err, all[2:])
	}
	for _, d := range all[2:] {
		if d.Message.ID != m.ID || d.Message.Stream != m.Stream || d.Message.Version != m.Version || d.Message.Position != m.Position {
			t.Fatalf("%v became another message: %v", m, d.Message)
		}
	}
	again, errAgain := types.DecodeAll(kept[:2:2], m, unknown)
	if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(all, again) {
		t.Fatalf("first %v, %v, then %v, %v", all, err, again, errAgain)
	}
}

// Decode agrees with DecodeAll: it gives what that gives where it is one event, and an error everywhere else.
func TestDecodeIsDecodeAllOfOneEvent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		types := drawProgram(t).types(func(wire) bool { return true })
		for _, m := range drawMessages(t) {
			all, err := types.DecodeAll(nil, m, es.FailUnknown)
			one, oneErr := types.Decode(m)
			if err == nil && len(all) == 1 {
				if oneErr != nil || !reflect.DeepEqual(one, all[0].Value) {
					t.Fatalf("Decode gives %v, %v; DecodeAll %v", one, oneErr, all[0].Value)
				}
			} else if oneErr == nil {
				t.Fatalf("Decode gives %v; DecodeAll %v, %v", one, all, err)
			}
		}
	})
}
