package router

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	es "github.com/eventsourcing-go/eventsourcing"
)

type added struct{ Count int }

type removed struct{ Count int }

func itemTypes() *es.Types {
	types := es.NewTypes()
	es.Register[added](types, "ItemAdded")
	es.Register[removed](types, "ItemRemoved", es.WithSchema(2))
	return types
}

func itemMessage(t *testing.T, types *es.Types, v any) *es.Message {
	t.Helper()
	m, err := types.Encode("item-1", v)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTypedHandlersGetTheValue: each the one of its type, with the delivery beside it, and what they return is sent.
func TestTypedHandlersGetTheValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		types := itemTypes()
		b, sent := newBroker(t), &outbox{}
		r, err := New(Config{Subscriber: b, Emit: sent.emit})
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		err = errors.Join(
			r.Route("item", Switch(
				On(types, func(_ context.Context, e added, d *es.Delivery) ([]*es.Message, error) {
					count += e.Count
					if d.Name != "ItemAdded" || d.Group != "stock" || d.Attempt != 1 {
						t.Errorf("the delivery is %+v", d)
					}
					return []*es.Message{message("out-1", "Out")}, nil
				}),
				On(types, func(_ context.Context, e removed, _ *es.Delivery) ([]*es.Message, error) {
					count -= e.Count
					return nil, nil
				}),
			), Options{Name: "stock"}),
			r.Start(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		other := message("item-1", "ItemLost")
		b.publish(itemMessage(t, types, added{7}), itemMessage(t, types, removed{3}), other)
		synctest.Wait()
		halt(t, r)
		if got := r.Stats()[0]; count != 4 || got.Handled != 2 || got.Skipped != 1 || got.Dead != 0 {
			t.Errorf("counted %d, stats %+v", count, got)
		}
		if len(sent.sent()) != 1 {
			t.Errorf("sent %v", sent.sent())
		}
	})
}

// TestWhatTypedHandlersCannotTake is a dead letter at once, skipped, or somebody else's, and never tried again.
func TestWhatTypedHandlersCannotTake(t *testing.T) {
	t.Parallel()
	types := itemTypes()
	handle := func(context.Context, added, *es.Delivery) ([]*es.Message, error) { return nil, nil }
	named := func(name string, schema int, data string) *es.Message {
		m := es.NewMessage("item-1", name, []byte(data))
		m.Schema = schema
		return m
	}
	others := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if d.Name != "Other" {
			t.Errorf("the handler of other names was given %s", d.Name)
		}
		return nil, nil
	})
	for name, test := range map[string]struct {
		handler es.Handler
		message *es.Message
		dead    string // what the dead letter says; empty: none
		stats   Stats
	}{
		"payload that does not fit":  {On(types, handle), named("ItemAdded", 1, `{"Count":"x"}`), "decode ItemAdded", Stats{Dead: 1}},
		"schema that is not known":   {On(types, handle), named("ItemAdded", 9, `{}`), "schema 9", Stats{Dead: 1}},
		"payload in a switch":        {Switch(On(types, handle)), named("ItemAdded", 1, `{`), "decode ItemAdded", Stats{Dead: 1}},
		"other name, one case":       {On(types, handle), named("Other", 1, `{}`), "", Stats{Skipped: 1}},
		"other name, switch":         {Switch(On(types, handle)), named("Other", 1, `{}`), "", Stats{Skipped: 1}},
		"other name, to be dead":     {Switch(On(types, handle), DeadLetterOthers()), named("Other", 1, `{}`), `no handler takes messages named "Other"`, Stats{Dead: 1}},
		"other name, with a handler": {Switch(Otherwise(others), On(types, handle)), named("Other", 1, `{}`), "", Stats{Handled: 1}},
		"known name, with a handler": {Switch(Otherwise(others), On(types, handle)), named("ItemAdded", 1, `{}`), "", Stats{Handled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, dead := newBroker(t), &outbox{}
				r, err := New(Config{Subscriber: b, DeadLetter: dead.emit})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(r.Route("item", test.handler, Options{}), r.Start(t.Context())); err != nil {
					t.Fatal(err)
				}
				b.publish(test.message)
				synctest.Wait()
				halt(t, r)
				want := test.stats
				want.Topic, want.Name, want.State = "item", "item", Stopped
				if got := r.Stats()[0]; got != want {
					t.Errorf("stats are %+v, not %+v", got, want)
				}
				if test.dead == "" {
					return
				}
				if _, record := letter(t, dead); !strings.Contains(record.Error, test.dead) || record.Attempts != 1 {
					t.Errorf("the dead letter is %+v", record)
				}
			})
		})
	}
}

// TestMistakesInCasesAreFoundWhenTheRouteIsAdded.
func TestMistakesInCasesAreFoundWhenTheRouteIsAdded(t *testing.T) {
	t.Parallel()
	types := itemTypes()
	handle := func(context.Context, added, *es.Delivery) ([]*es.Message, error) { return nil, nil }
	r, err := New(Config{Subscriber: newBroker(t)})
	if err != nil {
		t.Fatal(err)
	}
	var none *Case
	for name, test := range map[string]struct {
		handler es.Handler
		says    string
	}{
		"no types":          {On(nil, handle), "es.NewTypes"},
		"no handler":        {On[added](types, nil), "is nil"},
		"nil case":          {none, "case: it is nil"},
		"empty case":        {&Case{}, "is empty"},
		"empty switch":      {Switch(), "has no case"},
		"name twice":        {Switch(On(types, handle), On(types, handle)), `index 1: invalid case: it is a second one for messages named "ItemAdded"`},
		"two for others":    {Switch(DeadLetterOthers(), Otherwise(es.HandlerFunc(nothing))), "second one for all other names"},
		"nil for others":    {Switch(Otherwise(nil)), "is nil"},
		"mistake in a case": {Switch(On[added](types, nil), nil), "index 1"},
	} {
		if err := r.Route("item", test.handler, Options{}); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
	}
	type unknown struct{}
	h := On(types, func(context.Context, unknown, *es.Delivery) ([]*es.Message, error) { return nil, nil })
	if err := r.Route("item", h, Options{}); !errors.Is(err, es.ErrUnknownType) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("a type that is not registered: %v", err)
	}
	for _, h := range []es.Handler{h, Switch()} { // who uses it without a router is told as well
		if _, err := h.Handle(t.Context(), &es.Delivery{Message: message("item-1", "X")}); err == nil {
			t.Error("a case with a mistake handles messages")
		}
	}
}

// TestMistakesInsideOfACaseAreFound as well, and a function that is nil.
func TestMistakesInsideOfACaseAreFound(t *testing.T) {
	t.Parallel()
	r, err := New(Config{Subscriber: newBroker(t)})
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]es.Handler{
		"case in a case":           Otherwise(On[string](es.NewTypes(), nil)),
		"switch in a case":         Switch(Otherwise(Switch())),
		"nil function":             es.HandlerFunc(nil),
		"nil function in a switch": Switch(Otherwise(es.HandlerFunc(nil))),
	} {
		if err := r.Route("order", h, Options{Name: name}); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTypedHandlersAreChosenByWhatAMessageIsCalledToday: renamed, split and dropped events, in a case by itself and in a switch.
func TestTypedHandlersAreChosenByWhatAMessageIsCalledToday(t *testing.T) {
	t.Parallel()
	types := itemTypes()
	es.Upcast(types, "ThingAdded", 1, es.RenameEvent("ItemAdded", 1))
	es.Upcast(types, "ThingMoved", 1, func(m *es.Message) ([]*es.Message, error) {
		out, in := m.Clone(), m.Clone()
		out.Name, out.Schema = "ItemRemoved", 2
		in.Name = "ItemAdded"
		return []*es.Message{out, in}, nil
	})
	es.Upcast(types, "ThingNoted", 1, es.DropEvent)
	broken := errors.New("broken")
	es.Upcast(types, "ThingBroken", 1, func(*es.Message) ([]*es.Message, error) { return nil, broken })
	refused := errors.New("refused")
	count := 0
	add := On(types, func(_ context.Context, e added, d *es.Delivery) ([]*es.Message, error) {
		if e.Count == 13 {
			return nil, refused
		}
		count += e.Count
		return []*es.Message{message("out-1", d.Name)}, nil
	})
	remove := On(types, func(_ context.Context, e removed, d *es.Delivery) ([]*es.Message, error) {
		count -= e.Count
		return []*es.Message{message("out-1", d.Name)}, nil
	})
	for _, c := range []struct {
		name, data string
		h          es.Handler
		outputs    int
		want       error
		verdict    es.Verdict
	}{
		{"ThingAdded", `{"Count":1}`, add, 1, nil, es.VerdictDone},
		{"ThingAdded", `{"Count":1}`, remove, 0, nil, es.VerdictSkip},
		{"ThingMoved", `{"Count":1}`, add, 1, nil, es.VerdictDone},
		{"ThingAdded", `{"Count":1}`, Switch(add, remove), 1, nil, es.VerdictDone},
		{"ThingMoved", `{"Count":1}`, Switch(remove, add), 2, nil, es.VerdictDone},
		{"ThingNoted", `{"Count":1}`, Switch(remove, add), 0, nil, es.VerdictSkip},
		{"ThingMoved", `{"Count":13}`, Switch(remove, add), 0, refused, es.VerdictFailed},
		{"ThingBroken", `{}`, Switch(remove, add), 0, broken, es.VerdictDead},
		{"Other", `{}`, Switch(remove, add), 0, nil, es.VerdictSkip},
	} {
		m := es.NewMessage("item-1", c.name, []byte(c.data))
		d := &es.Delivery{Message: m, Topic: "item", Attempt: 1}
		out, err := c.h.Handle(t.Context(), d)
		if verdict, _ := es.Judge(err); len(out) != c.outputs || verdict != c.verdict || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %d outputs, %v (%v), want %d and %v", c.name, len(out), err, verdict, c.outputs, c.verdict)
		}
		if d.Message != m || m.Name != c.name {
			t.Errorf("the delivery has become %+v", d)
		}
	}
}
