package projection_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// Removed is an event that has two of today in one of old.
type Removed struct {
	From string `json:"from"`
}

func nothing(context.Context, *projection.Batch, *es.Message) error { return nil }

func TestHandlersAreCalledByTypeAndByName(t *testing.T) {
	inBubble(t, func(w *world) {
		es.Register[Removed](w.types, "Removed")
		note := func(who string) func(context.Context, *projection.Batch, *es.Message) error {
			return func(_ context.Context, _ *projection.Batch, m *es.Message) error {
				w.calls = append(w.calls, who+":"+m.Name)
				return nil
			}
		}
		w.append("a-1", Added{To: "x"})
		m, err := w.types.Encode("a-1", Removed{From: "x"})
		w.ok(err)
		w.appendMessage(m)
		w.appendMessage(es.NewMessage("a-1", "Raw", []byte("no JSON")))
		w.caughtUp(
			projection.On(func(ctx context.Context, b *projection.Batch, _ Added, m *es.Message) error {
				return note("typed")(ctx, b, m)
			}),
			projection.OnMessage("", note("every")),
			projection.OnMessage("Raw", note("named")),
			projection.OnMessage("Removed", note("first")),
			projection.OnMessage("Removed", note("second")),
		)
		w.same("calls", w.calls, []string{"every:Added", "typed:Added", "every:Removed", "first:Removed", "second:Removed", "every:Raw", "named:Raw"})
	})
}

func TestAnEventIsHandledAsItIsToday(t *testing.T) {
	inBubble(t, func(w *world) {
		es.Upcast(w.types, "AddedTwice", 1, func(m *es.Message) ([]*es.Message, error) {
			one, two := m.Clone(), m.Clone()
			one.Name, two.Name = "Added", "Added"
			return []*es.Message{one, two}, nil
		})
		es.Upcast(w.types, "Gone", 1, es.DropEvent)
		for _, name := range []string{"AddedTwice", "Gone", "Added"} {
			w.appendMessage(es.NewMessage("a-1", name, []byte(`{"to":"x","n":3}`)))
		}
		w.caughtUp()
		w.total("x", 3, 9)
	})
}

func TestAnUnknownEventIsDealtWithAsAsked(t *testing.T) {
	for _, unknown := range []es.Unknown{es.FailUnknown, es.SkipUnknown, es.KeepRaw} {
		t.Run(fmt.Sprint(unknown), func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.config.Unknown = unknown
				w.append("a-1", Added{To: "x", N: 1})
				w.appendMessage(es.NewMessage("a-1", "Unheard", nil))
				p := w.start()
				if unknown != es.FailUnknown {
					w.await(p)
					w.total("x", 1, 1)
					return
				}
				if err := w.ended(p); !errors.Is(err, es.ErrUnknownType) || !strings.Contains(err.Error(), "Unheard") {
					w.Errorf("it ended by %v", err)
				}
			})
		})
	}
}

func TestWhatIsWrongWithAConfigurationIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for want, change := range map[string]func(c *projection.Config){
		"has no Events":             func(c *projection.Config) { c.Events = nil },
		"has no Models":             func(c *projection.Config) { c.Models = nil },
		"projection name":           func(c *projection.Config) { c.Name = "" },
		"at most 200":               func(c *projection.Config) { c.Name = strings.Repeat("x", 201) },
		"owner":                     func(c *projection.Config) { c.Owner = "a\nb" },
		"model":                     func(c *projection.Config) { c.Writes = []string{""} },
		"twice":                     func(c *projection.Config) { c.Writes = []string{"a", "a"} },
		"at most 200 are allowed":   func(c *projection.Config) { c.Writes = []string{strings.Repeat("x", 201)} },
		"keeps its parked":          func(c *projection.Config) { c.Writes = []string{"totals.parked"} },
		"category":                  func(c *projection.Config) { c.Category = "\n" },
		"batch size":                func(c *projection.Config) { c.BatchSize = -1 },
		"batch time":                func(c *projection.Config) { c.BatchTime = -1 },
		"interval":                  func(c *projection.Config) { c.Interval = -1 },
		"parallel":                  func(c *projection.Config) { c.Parallel = -1 },
		"policy":                    func(c *projection.Config) { c.OnError = 3 },
		"attempts":                  func(c *projection.Config) { c.Attempts = -1 },
		"number of parked":          func(c *projection.Config) { c.MaxParked = -1 },
		"lease":                     func(c *projection.Config) { c.LeaseTTL = time.Microsecond },
		"unhealthy":                 func(c *projection.Config) { c.UnhealthyAfter = -1 },
		"maximal lag":               func(c *projection.Config) { c.MaxLag = -1 },
		"unknown":                   func(c *projection.Config) { c.Unknown = 7 },
		"retry base":                func(c *projection.Config) { c.Backoff.Base = -1 },
		"no Types to decode it":     func(c *projection.Config) { c.Types = nil },
		"Removed is not registered": func(c *projection.Config) { c.Types = es.NewTypes() },
	} {
		c := w.config
		change(&c)
		handler := w.count()
		if strings.HasPrefix(want, "Removed") {
			handler = projection.On(func(context.Context, *projection.Batch, Removed, *es.Message) error { return nil })
		}
		_, err := projection.New(c, handler)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, es.ErrInvalid) && !errors.Is(err, es.ErrUnknownType) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, handlers := range map[string][]projection.Handler{
		"has no handlers": nil,
		"is empty":        {{}},
		"message name":    {projection.OnMessage("\n", nothing)},
	} {
		if _, err := projection.New(w.config, handlers...); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, p := range []projection.Policy{projection.Stop, projection.Skip, projection.Park, 9} {
		if p.String() == "" {
			t.Errorf("policy %d has no name", p)
		}
	}
}
