package eventsourcing_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// shop is an event store with a command handler whose decision a test can change.
type shop struct {
	*testing.T

	store   es.EventStore
	decide  es.Decide
	decided atomic.Int64
}

func newShop(t *testing.T, decide es.Decide) *shop {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return &shop{T: t, store: backend.Events(), decide: decide}
}

// handler makes a new handler, as a program does that starts again.
func (s *shop) handler(name string) *es.CommandHandler {
	s.Helper()
	h, err := es.NewCommandHandler(es.CommandConfig{Name: name, Events: s.store}, func(ctx context.Context, c *es.Message) (es.Append, error) {
		s.decided.Add(1)
		return s.decide(ctx, c)
	})
	if err != nil {
		s.Fatal(err)
	}
	return h
}

func (s *shop) do(c *es.Message) es.CommandResult {
	s.Helper()
	result, err := s.handler("orders").Do(s.Context(), c)
	if err != nil {
		s.Fatal(err)
	}
	return result
}

// events are all that the store has.
func (s *shop) events() []*es.Message {
	s.Helper()
	var events []*es.Message
	for m, err := range s.store.Read(s.Context(), es.Query{Unsettled: true}) {
		if err != nil {
			s.Fatal(err)
		}
		events = append(events, m)
	}
	return events
}

func event(stream, name string) *es.Message { return es.NewMessage(stream, name, []byte(`{}`)) }

// always decides for events with names, all in one stream.
func always(stream string, names ...string) es.Decide {
	return func(context.Context, *es.Message) (es.Append, error) {
		events := make([]*es.Message, len(names))
		for i, name := range names {
			events[i] = event(stream, name)
		}
		return es.AppendTo(stream, es.Any, events...), nil
	}
}

// never turns commands down.
func never(err error) es.Decide {
	return func(context.Context, *es.Message) (es.Append, error) { return es.Append{}, err }
}

var errTurnedDown = errors.New("turned down")

func TestACommandIsTheCauseOfItsEvents(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	given := event("order-1", "Placed")
	given.Tags, given.Metadata = []string{"customer:7"}, map[string]string{"user": "own"}
	s.decide = func(context.Context, *es.Message) (es.Append, error) {
		return es.AppendTo("order-1", es.NoStream, given), nil
	}
	c := event("order-1", "Place")
	c.CorrelationID = "conversation"
	ctx := es.WithOrigin(t.Context(), es.Origin{CorrelationID: "of the request", Metadata: map[string]string{"user": "u", "tenant": "t"}})
	result, err := s.handler("orders").Do(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	m := s.events()[0]
	if m.CorrelationID != "conversation" || m.CausationID != c.ID.String() {
		t.Errorf("correlation %q, causation %q", m.CorrelationID, m.CausationID)
	}
	if m.Metadata["tenant"] != "t" || m.Metadata["user"] != "own" || !slices.Equal(m.Tags, []string{"customer:7", es.CommandTag(c.ID)}) {
		t.Errorf("metadata %v, tags %v", m.Metadata, m.Tags)
	}
	if len(given.Tags) != 1 || len(given.Metadata) != 1 || given.CausationID != "" {
		t.Errorf("the message of the decision was changed: %+v", given)
	}
	head, err := s.store.Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if result.Version != 1 || result.Checkpoint != head || result.Repeated {
		t.Errorf("result %+v, the head is %+v", result, head)
	}

	c = event("order-2", "Place")
	s.decide = always("order-2", "Placed")
	if _, err := s.handler("orders").Do(ctx, c); err != nil {
		t.Fatal(err)
	}
	if m := s.events()[1]; m.CorrelationID != "of the request" {
		t.Errorf("a command without correlation leads to events with %q, want that of its context", m.CorrelationID)
	}
	c = event("order-3", "Place")
	s.decide = always("order-3", "Placed")
	s.do(c)
	if m := s.events()[2]; m.CorrelationID != c.ID.String() {
		t.Errorf("a command without a context leads to events with correlation %q, want its ID %s", m.CorrelationID, c.ID)
	}
}

func TestACommandThatComesAgainChangesNothing(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]es.Decide{
		"the same decision": always("order-1", "Placed", "Paid"),
		"fewer events":      always("order-1", "Placed"),
		"more events":       always("order-1", "Placed", "Paid", "Shipped"),
		"other events":      always("order-1", "Canceled", "Refunded"),
		"another stream":    always("order-2", "Placed", "Paid"),
		"no events":         always("order-1"),
		"turned down":       never(errTurnedDown),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, always("order-1", "Placed", "Paid"))
			c := event("order-1", "Place")
			first := s.do(c)
			s.decide = always("order-1", "Noted")
			s.do(event("order-1", "Note"))

			s.decide = later
			again := s.do(c)
			if !again.Repeated || again.Existing != 2 {
				t.Errorf("it is not told to be a repetition: %+v", again)
			}
			if !slices.Equal(again.Places, first.Places) || again.Version != first.Version || again.Checkpoint != first.Checkpoint {
				t.Errorf("the result is %+v, at first it was %+v", again, first)
			}
			if n := len(s.events()); n != 3 {
				t.Errorf("the store has %d events, want 3", n)
			}
			if n := s.decided.Load(); n != 2 {
				t.Errorf("it was decided %d times, want once for each command", n)
			}
		})
	}
}

// TestTheSameCommandInTwoProcesses lets the second decide when the first has appended after the second had looked.
func TestTheSameCommandInTwoProcesses(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]es.Decide{
		"the same decision": always("order-1", "Placed", "Paid"),
		"fewer events":      always("order-1", "Placed"),
		"more events":       always("order-1", "Placed", "Paid", "Shipped"),
		"other events":      always("order-1", "Placed", "Canceled"),
		"another stream":    always("order-2", "Placed", "Paid"),
		"no events":         always("order-1"),
		"nothing":           func(context.Context, *es.Message) (es.Append, error) { return es.Append{}, nil },
		"turned down":       never(errTurnedDown),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, nil)
			c := event("order-1", "Place")
			var first es.CommandResult
			s.decide = func(ctx context.Context, command *es.Message) (es.Append, error) {
				s.decide = always("order-1", "Placed", "Paid")
				var err error
				if first, err = s.handler("orders").Do(ctx, c); err != nil {
					t.Error(err)
				}
				return second(ctx, command)
			}
			result := s.do(c)
			if !result.Repeated || !slices.Equal(result.Places, first.Places) || result.Version != 2 {
				t.Errorf("the second has %+v, the first %+v", result, first)
			}
			if n := len(s.events()); n != 2 {
				t.Errorf("the store has %d events, want 2", n)
			}
		})
	}
}

func TestManyAtOnceCarryOutACommandOnce(t *testing.T) {
	t.Parallel()
	var turn atomic.Int64
	s := newShop(t, func(ctx context.Context, c *es.Message) (es.Append, error) { // each time something else
		names := make([]string, 1+turn.Add(1)%4)
		for i := range names {
			names[i] = "Placed"
		}
		return always(c.Stream, names...)(ctx, c)
	})
	c := event("order-1", "Place")
	results := make([]es.CommandResult, 16)
	var all sync.WaitGroup
	for i := range results {
		h := s.handler("orders")
		all.Go(func() {
			var err error
			if results[i], err = h.Do(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, r := range results {
		if !slices.Equal(r.Places, results[0].Places) || r.Checkpoint != results[0].Checkpoint {
			t.Errorf("one has %+v, another %+v", results[0], r)
		}
	}
	if n := len(s.events()); n != len(results[0].Places) {
		t.Errorf("the store has %d events, the result of the command %d", n, len(results[0].Places))
	}
}

func TestPlacesAreInTheOrderOfTheDecision(t *testing.T) {
	t.Parallel()
	s := newShop(t, func(context.Context, *es.Message) (es.Append, error) {
		return es.Append{Streams: []es.StreamAppend{
			{Stream: "stock-1", Events: []*es.Message{event("stock-1", "Reserved")}},
			{Stream: "order-1", Events: []*es.Message{event("order-1", "Placed"), event("order-1", "Paid")}},
		}}, nil
	})
	c := event("order-1", "Place")
	first := s.do(c)
	if again := s.do(c); !slices.Equal(again.Places, first.Places) || again.Version != 2 || first.Version != 2 {
		t.Errorf("at first %+v, then %+v", first, again)
	}
	s.store = backwards{s.store} // as one that has its streams in another order
	if again := s.do(c); !slices.Equal(again.Places, first.Places) || again.Version != 2 {
		t.Errorf("at first %+v, then from another order %+v", first, again)
	}
}

// backwards is a store that is read in the other direction.
type backwards struct{ es.EventStore }

func (b backwards) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	q.Reverse = !q.Reverse
	return b.EventStore.Read(ctx, q)
}

func TestWhyACommandFailedIsToldAlthoughItsTimeIsOver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newShop(t, func(context.Context, *es.Message) (es.Append, error) {
		cancel()
		return es.Append{}, errTurnedDown
	})
	if _, err := s.handler("orders").Do(ctx, event("order-1", "Place")); !errors.Is(err, errTurnedDown) {
		t.Errorf("it failed with %v", err)
	}
}

func TestACommandThatLeftNothingIsDecidedAnew(t *testing.T) {
	t.Parallel()
	s := newShop(t, never(errTurnedDown))
	c := event("order-1", "Place")
	if _, err := s.handler("orders").Do(t.Context(), c); !errors.Is(err, errTurnedDown) {
		t.Errorf("it was not turned down: %v", err)
	}
	s.decide = always("order-1")
	if r := s.do(c); len(r.Places) != 0 || r.Checkpoint.Position != 0 || r.Repeated {
		t.Errorf("a command without events has %+v", r)
	}
	s.decide = always("order-1", "Placed")
	if r := s.do(c); r.Version != 1 || r.Repeated {
		t.Errorf("a command that had left nothing has %+v", r)
	}
}

func TestTheIDOfAnotherCommandIsFoundOut(t *testing.T) {
	t.Parallel()
	s := newShop(t, always("order-1", "Placed"))
	c := event("order-1", "Place")
	s.do(c)
	for name, change := range map[string]func(*es.Message){
		"other data":         func(m *es.Message) { m.Data = []byte(`{"total":1}`) },
		"another name":       func(m *es.Message) { m.Name = "Cancel" },
		"another stream":     func(m *es.Message) { m.Stream = "order-2" },
		"another schema":     func(m *es.Message) { m.Schema = 2 },
		"other tags":         func(m *es.Message) { m.Tags = []string{"a"} },
		"another media type": func(m *es.Message) { m.ContentType = "text/plain" },
	} {
		other := c.Clone()
		change(other)
		_, err := s.handler("orders").Do(t.Context(), other)
		if duplicate, ok := errors.AsType[*es.DuplicateError](err); !ok || duplicate.ID != c.ID || duplicate.Stream != "order-1" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.handler("other").Do(t.Context(), c); !errors.Is(err, es.ErrDuplicate) {
		t.Errorf("another handler: %v", err)
	}
	retry := c.Clone()
	retry.Time, retry.Metadata, retry.CorrelationID = es.Timestamp(c.Time.Add(1e9)), map[string]string{"trace": "b"}, "other"
	if r := s.do(retry); !r.Repeated {
		t.Errorf("the same command at another time is taken for another one: %+v", r)
	}
}

// TestTagsThatAreCopied decides on events with the tags of others, those of an earlier command included, and its own.
func TestTagsThatAreCopied(t *testing.T) {
	t.Parallel()
	s := newShop(t, always("order-1", "Placed"))
	first, second := event("order-1", "Place"), event("order-1", "Cancel")
	placed := s.do(first)
	s.decide = func(_ context.Context, c *es.Message) (es.Append, error) {
		e := event("order-1", "Canceled")
		e.Tags = slices.Concat(s.events()[0].Tags, []string{es.CommandTag(c.ID)})
		return es.AppendTo("order-1", es.Any, e), nil
	}
	if r := s.do(second); r.Version != 2 || r.Repeated {
		t.Errorf("%+v", r)
	}
	if r := s.do(first); !r.Repeated || !slices.Equal(r.Places, placed.Places) {
		t.Errorf("the first command again has %+v, at first %+v", r, placed)
	}
}

// forgetful is a store whose answer to an append is lost once, after it has appended or before.
type forgetful struct {
	es.EventStore

	after, lost bool
}

var errLost = errors.New("the answer was lost")

func (f *forgetful) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if f.lost {
		return f.EventStore.Append(ctx, a)
	}
	f.lost = true
	if f.after {
		if done, err := f.EventStore.Append(ctx, a); err != nil {
			return done, err
		}
	}
	return es.Appended{}, errLost
}

func TestACommandWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{true, false} {
		s := newShop(t, always("order-1", "Placed"))
		s.store = &forgetful{EventStore: s.store, after: after}
		c := event("order-1", "Place")
		r, err := s.handler("orders").Do(t.Context(), c)
		if after && (err != nil || r.Version != 1) || !after && !errors.Is(err, errLost) {
			t.Errorf("appended: %t: %+v, %v", after, r, err)
		}
		if r := s.do(c); r.Version != 1 || len(s.events()) != 1 {
			t.Errorf("appended: %t: again %+v with %d events", after, r, len(s.events()))
		}
	}
}

func TestSomebodyElseFirst(t *testing.T) {
	t.Parallel()
	// overtaken decides by the version that it has seen, and is overtaken so many times.
	overtaken := func(s *shop, times int) es.Decide {
		return func(ctx context.Context, c *es.Message) (es.Append, error) {
			seen := int64(len(s.events()))
			if times > 0 {
				times--
				if _, err := s.store.Append(ctx, es.AppendTo(c.Stream, es.Any, event(c.Stream, "Noted"))); err != nil {
					return es.Append{}, err
				}
			}
			return es.AppendTo(c.Stream, es.Exactly(seen), event(c.Stream, "Placed")), nil
		}
	}
	t.Run("it decides again", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, nil)
		s.decide = overtaken(s, 2)
		if r := s.do(event("order-1", "Place")); r.Version != 3 {
			t.Errorf("%+v", r)
		}
	})
	t.Run("not without end", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, nil)
		s.decide = overtaken(s, 1000)
		if _, err := s.handler("orders").Do(t.Context(), event("order-1", "Place")); !errors.Is(err, es.ErrConflict) || s.decided.Load() != 3 {
			t.Errorf("decided %d times, %v", s.decided.Load(), err)
		}
	})
	t.Run("a caller who expects something is told", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, nil)
		s.decide = overtaken(s, 1)
		_, err := s.handler("orders").DoIf(t.Context(), event("order-1", "Place"), es.NoStream)
		if !errors.Is(err, es.ErrConflict) || s.decided.Load() != 1 {
			t.Errorf("decided %d times, %v", s.decided.Load(), err)
		}
	})
	t.Run("a conflict of the decision itself is its own", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, never(fmt.Errorf("taken: %w", es.ErrConflict)))
		if _, err := s.handler("orders").Do(t.Context(), event("order-1", "Place")); !errors.Is(err, es.ErrConflict) || s.decided.Load() != 1 {
			t.Errorf("decided %d times, %v", s.decided.Load(), err)
		}
	})
}

func TestWhatTheCallerExpects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decided, expected es.Expectation
		conflict          bool
	}{ // of a stream at version 2
		{es.Any, es.Exactly(2), false},
		{es.Any, es.Exactly(1), true},
		{es.Any, es.Exactly(3), true},
		{es.Any, es.NoStream, true},
		{es.Any, es.StreamExists, false},
		{es.Exactly(2), es.Exactly(2), false},
		{es.Exactly(2), es.Exactly(1), true},
		{es.Exactly(2), es.StreamExists, false},
		{es.Exactly(2), es.NoStream, true},
		{es.Exactly(1), es.StreamExists, true},
		{es.NoStream, es.StreamExists, true},
		{es.NoStream, es.NoStream, true},
		{es.NoStream, es.Exactly(2), true},
		{es.StreamExists, es.Exactly(2), false},
		{es.StreamExists, es.Exactly(1), true},
		{es.StreamExists, es.NoStream, true},
		{es.StreamExists, es.StreamExists, false},
	} {
		t.Run(fmt.Sprintf("decided for %v, expected %v", c.decided, c.expected), func(t *testing.T) {
			t.Parallel()
			s := newShop(t, always("order-1", "Placed", "Paid"))
			s.do(event("order-1", "Place"))
			s.decide = func(context.Context, *es.Message) (es.Append, error) {
				return es.AppendTo("order-1", c.decided, event("order-1", "Shipped")), nil
			}
			command := event("order-1", "Ship")
			_, err := s.handler("orders").DoIf(t.Context(), command, c.expected)
			if errors.Is(err, es.ErrConflict) != c.conflict || (err != nil) != c.conflict {
				t.Errorf("%v, want a conflict: %v", err, c.conflict)
			}
			if c.conflict {
				return
			}
			if _, err := s.handler("orders").DoIf(t.Context(), command, c.expected); err != nil {
				t.Errorf("again, when its own event has changed the version: %v", err)
			}
		})
	}
	t.Run("of a stream that the decision leaves alone", func(t *testing.T) {
		t.Parallel()
		s := newShop(t, always("log-1", "Noted"))
		if _, err := s.handler("orders").DoIf(t.Context(), event("order-1", "Ship"), es.StreamExists); !errors.Is(err, es.ErrConflict) {
			t.Errorf("%v", err)
		}
	})
}

func TestCommandHandlersThatCannotBe(t *testing.T) {
	t.Parallel()
	store := memory.New()
	defer store.Close()
	decide := always("a", "b")
	for want, c := range map[string]struct {
		config es.CommandConfig
		decide es.Decide
	}{
		"no Events":                    {es.CommandConfig{Name: "a"}, decide},
		"no function":                  {es.CommandConfig{Name: "a", Events: store.Events()}, nil},
		"Attempts":                     {es.CommandConfig{Name: "a", Events: store.Events(), Attempts: -1}, decide},
		"command handler: it is empty": {es.CommandConfig{Events: store.Events()}, decide},
	} {
		if _, err := es.NewCommandHandler(c.config, c.decide); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to speak of %q", err, want)
		}
	}
	s := newShop(t, decide)
	if _, err := s.handler("orders").Do(t.Context(), &es.Message{}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a command without anything: %v", err)
	}
	if _, err := s.handler("orders").DoIf(t.Context(), event("a", "b"), es.Exactly(-1)); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a negative version: %v", err)
	}
}

type place struct {
	Total int `json:"total"`
}

type placed struct {
	Total int `json:"total"`
}

func TestTypedCommands(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[place](types, "Place")
	es.Register[placed](types, "Placed")
	for name, of := range map[string]*es.Types{"by the types": types, "as JSON": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, es.DecideAs(of, func(_ context.Context, c place, m *es.Message) (es.Append, error) {
				return types.AppendTo(m.Stream, es.NoStream, placed(c), &placed{Total: 1})
			}))
			c, err := types.Encode("order-1", place{Total: 42})
			if err != nil {
				t.Fatal(err)
			}
			s.do(c)
			events := s.events()
			if got, err := es.Decode[placed](types, events[0]); err != nil || got.Total != 42 || len(events) != 2 {
				t.Errorf("%+v %v, %d events", got, err, len(events))
			}
			for _, data := range []string{`{"total":"x"}`, `{"total":`} {
				m := es.NewMessage("order-2", "Place", []byte(data))
				if _, err := s.handler("orders").Do(t.Context(), m); !errors.Is(err, es.ErrInvalid) {
					t.Errorf("%s: %v", data, err)
				}
			}
		})
	}
	if _, err := types.AppendTo("order-1", es.Any, 1); !errors.Is(err, es.ErrUnknownType) {
		t.Errorf("a value of no registered type: %v", err)
	}
}

func TestACommandHandlerIsAHandlerOfMessages(t *testing.T) {
	t.Parallel()
	s := newShop(t, always("order-1", "Placed"))
	h := s.handler("orders")
	d := &es.Delivery{Message: event("order.commands-1", "Place"), Attempt: 1}
	for range 2 {
		if out, err := h.Handle(es.WithDelivery(t.Context(), d), d); err != nil || len(out) != 0 {
			t.Errorf("%v %v", out, err)
		}
	}
	if events := s.events(); len(events) != 1 || events[0].CausationID != d.ID.String() {
		t.Errorf("%d events", len(events))
	}
	if _, err := h.Handle(t.Context(), &es.Delivery{Message: event("a", "b"), Err: errTurnedDown}); !errors.Is(err, errTurnedDown) {
		t.Errorf("one that could not be decoded: %v", err)
	}
}

func BenchmarkCommandHandler(b *testing.B) {
	backend := memory.New()
	defer backend.Close()
	data := []byte(`{"total":42}`)
	decide := func(_ context.Context, c *es.Message) (es.Append, error) {
		return es.AppendTo(c.Stream, es.Any, es.NewMessage(c.Stream, "Placed", data)), nil
	}
	h, err := es.NewCommandHandler(es.CommandConfig{Name: "orders", Events: backend.Events()}, decide)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("plain append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := es.NewMessage("order-1", "Place", data)
			a, _ := decide(b.Context(), c)
			if _, err := backend.Events().Append(b.Context(), a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("command", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.Do(b.Context(), es.NewMessage("order-1", "Place", data)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
