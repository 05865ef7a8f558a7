package eventsourcing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// stored is a message as a store hands it out.
func stored(name string, schema int, data string) *es.Message {
	m := es.NewMessage("item-1", name, []byte(data))
	m.Schema, m.Version, m.Position, m.Recorded = schema, 7, 70, m.Time.Add(time.Second)
	m.CorrelationID, m.CausationID = es.NewID().String(), es.NewID().String()
	m.Tags, m.Metadata = []string{"sku:A-1"}, map[string]string{"user": "dana"}
	return m
}

// erased is a message whose data a store has removed.
func erased(name string, schema int) *es.Message {
	m := stored(name, schema, "")
	m.Metadata = map[string]string{es.MetadataErased: es.NewID().String()}
	return m
}

// values returns the Go values of decoded events.
func values(all []es.Decoded) []any {
	var vs []any
	for _, d := range all {
		vs = append(vs, d.Value)
	}
	return vs
}

// copyAll returns the message with all that it has in it, to see later whether it was changed.
func copyAll(m *es.Message) *es.Message { return m.Clone() }

func TestUpcastReadsWhatWasStoredUnderOlderSchemas(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(3))
	es.Register[itemRemoved](types, "ItemRemoved", es.WithSchema(2))
	es.Upcast(types, "ItemAdded", 1, es.UpcastJSON(2, es.RenameField("article", "sku"), es.RemoveField("shade")))
	es.Upcast(types, "ItemAdded", 2, es.UpcastJSON(3, es.AddField("quantity", 1)))
	es.Upcast(types, "ItemLost", 4, es.RenameEvent("ItemRemoved", 1))
	es.Upcast(types, "ItemRemoved", 1, es.UpcastJSON(2, es.RenameField("id", "sku")))
	es.Upcast(types, "ItemSeen", 1, es.DropEvent)
	es.Upcast(types, "ItemsMoved", 1, func(m *es.Message) ([]*es.Message, error) {
		removed, added := m.Clone(), m.Clone()
		removed.Name, removed.Data = "ItemRemoved", []byte(`{"id":"old"}`)
		added.Name, added.Data, added.Schema = "ItemAdded", []byte(`{"sku":"new"}`), 2
		seen := m.Clone()
		seen.Name = "ItemSeen"
		return []*es.Message{removed, seen, added}, nil
	})
	for _, test := range []struct {
		name string
		m    *es.Message
		want []any
	}{
		{"today", stored("ItemAdded", 3, `{"sku":"A-1","quantity":2}`), []any{itemAdded{"A-1", 2}}},
		{"one step", stored("ItemAdded", 2, `{"sku":"A-1"}`), []any{itemAdded{"A-1", 1}}},
		{"two steps", stored("ItemAdded", 1, `{"article":"A-1","shade":"red"}`), []any{itemAdded{"A-1", 1}}},
		{"a field that is there is not added", stored("ItemAdded", 2, `{"sku":"A-1","quantity":5}`), []any{itemAdded{"A-1", 5}}},
		{"renamed, then changed", stored("ItemLost", 4, `{"id":"A-1"}`), []any{itemRemoved{"A-1"}}},
		{"dropped", stored("ItemSeen", 1, `whatever`), nil},
		{"split, each part on its own way", stored("ItemsMoved", 1, `{}`), []any{itemRemoved{"old"}, itemAdded{"new", 1}}},
		{"erased today", erased("ItemAdded", 3), []any{itemAdded{}}},
		{"erased, two steps", erased("ItemAdded", 1), []any{itemAdded{}}},
		{"erased and renamed", erased("ItemLost", 4), []any{itemRemoved{}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			before := copyAll(test.m)
			all, err := types.DecodeAll(nil, test.m, es.FailUnknown)
			if err != nil {
				t.Fatal(err)
			}
			if got := values(all); !slices.Equal(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			for i, d := range all {
				if d.Index != i {
					t.Errorf("event %d has index %d", i, d.Index)
				}
				if name, _ := nameOf(types, d.Value); d.Message.Name != name {
					t.Errorf("event %d is a %s, its message a %s", i, name, d.Message.Name)
				}
				if d.Message.ID != before.ID || d.Message.Version != 7 || d.Message.Position != 70 || d.Message.Tags[0] != "sku:A-1" {
					t.Errorf("event %d lost who it is: %+v", i, d.Message)
				}
			}
			if !reflect.DeepEqual(before, test.m) {
				t.Errorf("the stored message was changed: from %+v to %+v", before, test.m)
			}
			one, err := types.Decode(test.m)
			if len(test.want) == 1 {
				if err != nil || one != test.want[0] {
					t.Errorf("Decode: %v, %v", one, err)
				}
			} else if want := fmt.Sprintf("%d events today", len(test.want)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Decode of what is not one event: %v, %v", one, err)
			}
		})
	}
}

// nameOf returns the name that a value is registered under.
func nameOf(types *es.Types, v any) (string, error) {
	m, err := types.Encode("item-1", v)
	if err != nil {
		return "", err
	}
	return m.Name, nil
}

func TestDecodeAllDoesWithUnknownEventsWhatItIsTold(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
	es.Upcast(types, "ItemsMoved", 1, func(m *es.Message) ([]*es.Message, error) {
		first, second := m.Clone(), m.Clone()
		first.Name, second.Name, second.Schema = "ItemGone", "ItemAdded", 2
		return []*es.Message{first, second}, nil
	})
	kept := []es.Decoded{{Value: "kept", Index: 9}}
	for _, test := range []struct {
		name    string
		m       *es.Message
		raw     int // the index of what is kept raw
		skipped []any
	}{
		{"name", stored("ItemGone", 1, `{}`), 0, nil},
		{"newer schema", stored("ItemAdded", 3, `{}`), 0, nil},
		{"older schema without upcaster", stored("ItemAdded", 1, `{}`), 0, nil},
		{"one of two", stored("ItemsMoved", 1, `{"sku":"A-1"}`), 0, []any{itemAdded{SKU: "A-1"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			all, err := types.DecodeAll(kept, test.m, es.FailUnknown)
			if !errors.Is(err, es.ErrUnknownType) || !reflect.DeepEqual(all, kept) {
				t.Errorf("FailUnknown gives %+v, %v", all, err)
			}
			if all, err = types.DecodeAll(kept, test.m, es.SkipUnknown); err != nil || !slices.Equal(values(all[1:]), test.skipped) {
				t.Errorf("SkipUnknown gives %+v, %v", all, err)
			}
			if n := len(test.skipped); n > 0 && all[n].Index != 1 {
				t.Errorf("the event behind one that was left out has index %d, so that its identity depends on what is registered", all[n].Index)
			}
			all, err = types.DecodeAll(kept, test.m, es.KeepRaw)
			if err != nil || len(all) != 2+len(test.skipped) {
				t.Fatalf("KeepRaw gives %+v, %v", all, err)
			}
			raw, ok := all[1+test.raw].Value.(*es.Message)
			if !ok || raw != all[1+test.raw].Message || raw.ID != test.m.ID || !bytes.Equal(raw.Data, test.m.Data) {
				t.Errorf("the raw event is %+v", all[1+test.raw])
			}
		})
	}
	if err := es.Unknown(3).Validate(); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("an Unknown that there is not: %v", err)
	}
	for _, unknown := range []es.Unknown{es.FailUnknown, es.KeepRaw, es.SkipUnknown} {
		if err := unknown.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// nested is a type whose own decoding fails because something in it is not registered.
type nested struct{ Inner string }

func (n *nested) UnmarshalJSON(data []byte) error {
	if string(data) == `{"Inner":""}` {
		return nil
	}
	return fmt.Errorf("inner: %w", es.ErrUnknownType)
}

func TestDecodeAllDoesNotTakeDataThatDoesNotFitForUnknown(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded")
	es.Register[nested](types, "Nested")
	for _, m := range []*es.Message{stored("ItemAdded", 1, `{"sku":1}`), stored("Nested", 1, `{"Inner":"x"}`)} {
		for _, unknown := range []es.Unknown{es.FailUnknown, es.KeepRaw, es.SkipUnknown} {
			if all, err := types.DecodeAll(nil, m, unknown); err == nil || !strings.Contains(err.Error(), m.ID.String()) {
				t.Errorf("%s with %d: %+v, %v", m.Name, unknown, all, err)
			}
		}
	}
}

func TestDecodeAllSaysWhatAnUpcasterDidWrong(t *testing.T) {
	t.Parallel()
	clone := func(change func(*es.Message)) es.Upcaster {
		return func(m *es.Message) ([]*es.Message, error) {
			next := m.Clone()
			next.Schema = 2
			change(next)
			return []*es.Message{next}, nil
		}
	}
	mistake := errors.New("mistake")
	for name, test := range map[string]struct {
		up   es.Upcaster
		data string
		want string
	}{
		"error":           {func(*es.Message) ([]*es.Message, error) { return nil, mistake }, `{}`, "mistake"},
		"nil":             {func(*es.Message) ([]*es.Message, error) { return []*es.Message{nil}, nil }, `{}`, "nil"},
		"not a clone":     {func(m *es.Message) ([]*es.Message, error) { return []*es.Message{m}, nil }, `{}`, "Clone"},
		"same schema":     {clone(func(m *es.Message) { m.Schema = 1 }), `{}`, "has schema 1"},
		"ID":              {clone(func(m *es.Message) { m.ID = uuid.Max }), `{}`, "another message"},
		"stream":          {clone(func(m *es.Message) { m.Stream = "item-2" }), `{}`, "another message"},
		"version":         {clone(func(m *es.Message) { m.Version++ }), `{}`, "another message"},
		"position":        {clone(func(m *es.Message) { m.Position++ }), `{}`, "another message"},
		"time":            {clone(func(m *es.Message) { m.Time = m.Time.Add(1) }), `{}`, "another message"},
		"recorded":        {clone(func(m *es.Message) { m.Recorded = time.Time{} }), `{}`, "another message"},
		"correlation":     {clone(func(m *es.Message) { m.CorrelationID = "" }), `{}`, "another message"},
		"causation":       {clone(func(m *es.Message) { m.CausationID = "" }), `{}`, "another message"},
		"erased":          {clone(func(m *es.Message) { m.Metadata[es.MetadataErased] = "" }), `{}`, "es.erased"},
		"unknown name":    {clone(func(m *es.Message) { m.Name = "Other" }), `{}`, `"Other"`},
		"unknown schema":  {clone(func(m *es.Message) { m.Schema = 5 }), `{}`, "schema 5"},
		"no JSON":         {es.UpcastJSON(2), `{`, "JSON"},
		"no object":       {es.UpcastJSON(2), `[]`, "array"},
		"null":            {es.UpcastJSON(2), `null`, "null"},
		"no data":         {es.UpcastJSON(2), ``, "JSON"},
		"invalid change":  {es.UpcastJSON(2, func(f map[string]json.RawMessage) error { f["a"] = []byte("{"); return nil }), `{}`, "JSON"},
		"failing change":  {es.UpcastJSON(2, func(map[string]json.RawMessage) error { return mistake }), `{}`, "mistake"},
		"name taken":      {es.UpcastJSON(2, es.RenameField("a", "b")), `{"a":1,"b":2}`, `"b"`},
		"value not taken": {es.UpcastJSON(2, es.AddField("a", func() {})), `{}`, `"a"`},
		"does not fit":    {es.UpcastJSON(2, es.AddField("sku", 7)), `{}`, "decode ItemAdded (schema 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			types := es.NewTypes()
			es.Register[itemAdded](types, "ItemAdded", es.WithSchema(3))
			es.Upcast(types, "ItemAdded", 2, es.RenameEvent("ItemAdded", 3))
			es.Upcast(types, "Middle", 1, test.up)
			es.Upcast(types, "ItemAdded", 1, test.up)
			m := stored("ItemAdded", 1, test.data)
			dst := []es.Decoded{{Value: "kept"}}
			all, err := types.DecodeAll(dst, m, es.FailUnknown)
			if name == "does not fit" {
				test.want = "decode ItemAdded (schema 3)"
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || len(all) != 1 {
				t.Fatalf("got %+v, %v; want an error with %q", all, err, test.want)
			}
			if !errors.Is(err, es.ErrUnknownType) && strings.Count(err.Error(), m.ID.String()) != 1 {
				t.Errorf("the error does not name the message once: %v", err)
			}
			if _, other := types.Decode(m); other == nil || other.Error() != err.Error() {
				t.Errorf("Decode says something else: %v", other)
			}
		})
	}
}

func TestUpcastersThatLeadInACircleAreAnError(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Upcast(types, "A", 1, es.RenameEvent("B", 1))
	es.Upcast(types, "B", 1, func(m *es.Message) ([]*es.Message, error) {
		next, other := m.Clone(), m.Clone() // two each time: all of them would be more than there is room for
		next.Name, other.Name = "A", "A"
		return []*es.Message{next, other}, nil
	})
	if all, err := types.DecodeAll(nil, stored("A", 1, `{}`), es.SkipUnknown); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestUpcastPanicsOnAMistake(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		upcast func(*es.Types)
		want   string
	}{
		"empty name":        {func(types *es.Types) { es.Upcast(types, "", 1, es.DropEvent) }, "is empty"},
		"schema zero":       {func(types *es.Types) { es.Upcast(types, "ItemAdded", 0, es.DropEvent) }, "count from 1"},
		"nil":               {func(types *es.Types) { es.Upcast(types, "ItemAdded", 1, nil) }, "is nil"},
		"twice":             {func(types *es.Types) { es.Upcast(types, "ItemGone", 1, es.DropEvent) }, "there already"},
		"registered schema": {func(types *es.Types) { es.Upcast(types, "ItemAdded", 2, es.DropEvent) }, "below"},
		"above registered":  {func(types *es.Types) { es.Upcast(types, "ItemAdded", 3, es.DropEvent) }, "below"},
		"registered after": {func(types *es.Types) {
			es.Upcast(types, "ItemRemoved", 1, es.DropEvent)
			es.Register[itemRemoved](types, "ItemRemoved")
		}, "below"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			types := es.NewTypes()
			es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
			es.Upcast(types, "ItemGone", 1, es.DropEvent)
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), test.want) {
					t.Errorf("recovered %v, want %q", p, test.want)
				}
			}()
			test.upcast(types)
		})
	}
}

func TestTypesCanBeReadWhileTheyAreFilled(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded", es.WithSchema(2))
	m := stored("ItemAdded", 2, `{"sku":"A-1","quantity":2}`)
	done := make(chan error, 1)
	go func() {
		for range 200 {
			if v, err := types.Decode(m); err != nil || v != (itemAdded{"A-1", 2}) {
				done <- fmt.Errorf("decoded %v, %w", v, err)
				return
			}
		}
		done <- nil
	}()
	for i := range 50 {
		es.Upcast(types, fmt.Sprintf("Old%d", i), 1, es.RenameEvent("ItemAdded", 2))
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for i := range 50 {
		if v, err := types.Decode(stored(fmt.Sprintf("Old%d", i), 1, `{"sku":"A-1","quantity":2}`)); err != nil || v != (itemAdded{"A-1", 2}) {
			t.Errorf("decoded %v, %v", v, err)
		}
	}
}

func TestUpcastJSONKeepsWhatItDoesNotChange(t *testing.T) {
	t.Parallel()
	m := stored("ItemAdded", 1, `{"b": 12345678901234567890.10, "a":"<&>", "gone":1, "old":[{"x" :null}]}`)
	made, err := es.UpcastJSON(2, es.RemoveField("gone"), es.RemoveField("never"), es.RenameField("old", "new"), es.RenameField("no", "nothing"))(m)
	if err != nil || len(made) != 1 {
		t.Fatal(made, err)
	}
	if got, want := string(made[0].Data), `{"a":"<&>","b":12345678901234567890.10,"new":[{"x":null}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDecodeAllAllocatesNoMoreThanTheCodec(t *testing.T) { // not parallel: it counts allocations
	types, today, _ := benchTypes(t)
	var s sink
	bare := testing.AllocsPerRun(200, func() {
		var v itemAdded
		if err := json.Unmarshal(today.Data, &v); err != nil {
			t.Error(err)
		}
		s.value = v
	})
	var all []es.Decoded
	got := testing.AllocsPerRun(200, func() {
		var err error
		if all, err = types.DecodeAll(all[:0], today, es.FailUnknown); err != nil {
			t.Error(err)
		}
	})
	if got > bare {
		t.Errorf("DecodeAll allocates %v times, the codec and the value %v times", got, bare)
	}
}
