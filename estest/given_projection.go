package estest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/internal/compare"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// Engine is something that follows an event store, as a projection does.
type Engine interface {
	es.Component
	es.Waiter
}

// Projected is a projection under test; see [Project].
type Projected[B es.Backend] struct {
	t       testing.TB
	open    func() B
	build   func(backend B, batch int) (Engine, error)
	types   *es.Types
	given   []StreamEvents
	ignored []string

	expected *expectation
}

// Project begins a test of a projection: given events, then these documents are in its read models. It runs the projection itself, on
// new backends that open makes, and each of them is closed; memory.New will do. The function build makes the projection with its real
// handlers, and with batches of a size that it is told; one of package projection that takes other batches fails the test.
//
//	estest.Project(t, memory.New, func(b *memory.Backend, batch int) (estest.Engine, error) {
//		return projection.New(projection.Config{
//			Name: "balances", Events: b.Events(), Models: b.ReadModels(), Types: types, BatchSize: batch,
//		}, handlers()...)
//	}).
//		Given(types, estest.In("account-7", Opened{}, Deposited{Amount: 5})).
//		Then(estest.Documents("balances", map[string]Balance{"7": {Amount: 5}}))
//
// The events are handled several times over, each time on an empty backend: each event in a commit of its own; all of them in one
// commit; and with a stop in the middle and a new start. The documents must be the same. Nothing is handled before a method is called that
// begins with Then, and a test that calls none fails.
func Project[B es.Backend](t testing.TB, open func() B, build func(backend B, batch int) (Engine, error)) *Projected[B] {
	t.Helper()
	if open == nil || build == nil {
		t.Fatalf("estest.Project: it takes a function that opens a backend, and one that makes the projection")
	}
	p := &Projected[B]{t: t, open: open, build: build}
	p.expected = expect(t, func() string {
		return "estest.Project: no event was handled, because the test says nothing about what should come of it; end it with Then"
	})
	return p
}

// Given says which events there are. They are appended in this order, those of one [In] together, after those of an earlier Given.
func (p *Projected[B]) Given(types *es.Types, given ...StreamEvents) *Projected[B] {
	next := *p
	next.types, next.given = types, slices.Concat(p.given, given)
	return &next
}

// Ignoring leaves fields out when documents are compared: "At", or "Balance.At" for those of one type.
func (p *Projected[B]) Ignoring(fields ...string) *Projected[B] {
	next := *p
	next.ignored = append(slices.Clip(next.ignored), fields...)
	return &next
}

// Expected is what a model must hold; see [Documents].
type Expected struct {
	model  string
	differ func(documents []es.Document, ignored []string) ([]compare.Difference, error)
}

// Documents says what a model must hold: these documents by their keys, and no others. They are compared as Go values, field by field,
// and decoded as JSON; their revisions do not count, and neither does what T has no field for. See [Given] for what is the same.
func Documents[T any](model string, want map[string]T) Expected {
	return DocumentsAs(es.JSON{}, model, want)
}

// DocumentsAs is [Documents] with another codec.
func DocumentsAs[T any](codec es.Codec, model string, want map[string]T) Expected {
	return Expected{model: model, differ: func(documents []es.Document, ignored []string) ([]compare.Difference, error) {
		got := make(map[string]T, len(documents))
		for _, d := range documents {
			var value T
			if err := codec.Unmarshal(d.Data, &value); err != nil {
				return nil, fmt.Errorf("document %q cannot be decoded as %v: %w\n  it is %s", d.Key, reflect.TypeFor[T](), err,
					compare.Clip(compare.Text(d.Data)))
			}
			got[d.Key] = value
		}
		return compare.Values(got, want, ignored), nil
	}}
}

// Then fails the test unless the projection makes these documents of the events, in every way that it may come to handle them. It wants the
// documents of one model at least.
func (p *Projected[B]) Then(want ...Expected) *Projected[B] {
	p.t.Helper()
	if len(want) == 0 {
		p.t.Fatalf("estest.Project: Then wants nothing, and cannot fail; give it Documents of a model, of which there may be none")
	}
	passed := ""
	p.each(func(way string, b B, came result) {
		p.t.Helper()
		p.wantNoError(way, came)
		for _, expected := range want {
			if report := p.differ(b.ReadModels(), expected); report != "" {
				p.failf("model %q is not as wanted %s%s\n%s%s", expected.model, way, passed, report, came.trouble)
			}
		}
		if passed == "" {
			passed = ", and it is " + way
		}
	})
	return p
}

func (p *Projected[B]) wantNoError(way string, came result) {
	p.t.Helper()
	if came.err != nil {
		p.failf("the projection failed %s\n  error: %v\n", way, came.err)
	}
}

// ThenThat calls a function with the backend when the events have been handled, in every way that they may be: for tables of the
// program's own, and for what else is to be looked at.
func (p *Projected[B]) ThenThat(check func(t testing.TB, backend B)) *Projected[B] {
	p.t.Helper()
	p.each(func(way string, b B, came result) {
		p.t.Helper()
		p.wantNoError(way, came)
		failed := p.t.Failed()
		defer func() {
			p.t.Helper()
			if !failed && p.t.Failed() {
				p.t.Logf("this is what has come of the events %s\n%s", way, came.trouble)
			}
		}()
		check(p.t, b)
	})
	return p
}

// ThenError fails the test unless the projection ends by itself with this error or one that wraps it, as errors.Is tells.
func (p *Projected[B]) ThenError(target error) *Projected[B] {
	p.t.Helper()
	wantsError(p.t, target, "Then is for a projection that does not fail")
	name := fmt.Sprintf("the error %q", target)
	p.each(func(way string, _ B, came result) {
		p.t.Helper()
		switch {
		case came.err == nil:
			p.failf("the projection did not fail %s, want %s\n%s", way, name, came.trouble)
		case !errors.Is(came.err, target):
			p.failf("the projection failed with another error %s, want %s\n  error: %v\n%s", way, name, came.err, sameText(name, came.err))
		}
	})
	return p
}

// result is what has come of the events in one way: the error that the projection has ended with, and what else has gone wrong.
type result struct {
	err     error
	trouble string
}

// each has the events handled in each way, and shows what has come of it.
func (p *Projected[B]) each(show func(way string, b B, came result)) {
	p.t.Helper()
	p.expected.meet()
	n := total(p.given)
	before, after := halves(p.given, n/2)
	p.one("with each event in a commit of its own", 1, show, p.given)
	if n > 1 {
		p.one(fmt.Sprintf("with all %d events in one commit", n), n, show, p.given)
		p.one(fmt.Sprintf("when it is stopped after %s and started again", count(n/2, "event")), n, show, before, after)
	}
}

// one has the events handled in one way, on a new backend: the parts after each other, each by a new projection.
func (p *Projected[B]) one(way string, batch int, show func(way string, b B, came result), parts ...[]StreamEvents) {
	p.t.Helper()
	b := p.open()
	defer func() {
		p.t.Helper()
		if err := b.Close(); err != nil {
			p.t.Errorf("close the backend: %v", err)
		}
	}()
	ctx := patient(p.t)
	var came result
	for _, part := range parts {
		if _, err := appendAll(ctx, b.Events(), p.types, part); err != nil {
			p.t.Fatalf("estest.Project: %v", err)
		}
		engine, err := p.build(b, batch)
		if err == nil && engine == nil {
			err = errors.New("it is nil")
		}
		if err != nil {
			p.t.Fatalf("estest.Project: make the projection: %v", err)
		}
		came.err = handleAll(ctx, engine, b.Events())
		s := statusOf(ctx, engine)
		came.trouble += troubleOf(s)
		if came.err != nil {
			break
		}
		if batch == 1 && s.Commits < s.Handled {
			p.t.Fatalf("estest.Project: the projection took several events in one batch, and was to take each in its own; set its BatchSize " +
				"to what the function gets")
		}
	}
	show(way, b, came)
}

// statusOf is how a projection of package projection has done; zero for another engine, and when it cannot be read.
func statusOf(ctx context.Context, engine Engine) projection.Status {
	p, ok := engine.(interface {
		Status(ctx context.Context) (projection.Status, error)
	})
	if !ok {
		return projection.Status{}
	}
	s, err := p.Status(ctx)
	if err != nil {
		return projection.Status{LastError: err}
	}
	return s
}

// troubleOf writes what has gone wrong with a projection that has not ended because of it.
func troubleOf(s projection.Status) string {
	if s.Skipped+s.Parked == 0 && s.LastError == nil {
		return ""
	}
	return fmt.Sprintf("skipped %s, parked %s; what went wrong last: %v\n", count(int(s.Skipped), "event"), count(int(s.Parked), "event"),
		s.LastError)
}

// handleAll runs an engine until it has handled what a store holds.
func handleAll(ctx context.Context, engine Engine, store es.EventStore) error {
	head, err := store.Head(ctx)
	if err != nil {
		return err
	}
	if err := engine.Start(ctx); err != nil {
		return err
	}
	wait, giveUp := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-engine.Done(): // it will not get there any more
			giveUp()
		case <-wait.Done():
		}
	}()
	waited := engine.WaitFor(wait, head)
	ended := engine.Err()
	giveUp()
	<-watched
	stopped := engine.Stop(ctx)
	switch {
	case ended != nil:
		return ended
	case waited != nil && engine.Err() != nil:
		return engine.Err()
	case waited != nil:
		return fmt.Errorf("it did not come to position %d: %w", head.Position, errors.Join(waited, engine.Health(ctx)))
	}
	return stopped
}

// halves splits events after the n-th.
func halves(all []StreamEvents, n int) (before, after []StreamEvents) {
	for _, s := range all {
		first, rest := s, s
		k := min(n, len(s.events))
		n -= k
		first.events, rest.events = s.events[:k], s.events[k:]
		before, after = append(before, first), append(after, rest)
	}
	return before, after
}

// differ is how a model differs from what it must hold; empty when it does not.
func (p *Projected[B]) differ(models es.ReadModels, expected Expected) string {
	var all []es.Document
	for q := (es.ListQuery{Model: expected.model, Limit: es.DefaultListLimit}); ; {
		page, err := models.List(patient(p.t), q)
		if err != nil {
			return fmt.Sprintf("  list its documents: %v\n", err)
		}
		all = append(all, page...)
		if len(page) < q.Limit {
			break
		}
		q.After = page[len(page)-1].Key
	}
	differs, err := expected.differ(all, p.ignored)
	if err != nil {
		return fmt.Sprintf("  %v\n", err)
	}
	var b strings.Builder
	compare.Describe(&b, "  ", differs)
	if len(all) == 0 && len(differs) > 0 {
		b.WriteString("  there are no documents at all: is that the name of the model, and has the projection a handler for the events?\n")
	}
	return b.String()
}

func (p *Projected[B]) failf(format string, args ...any) {
	p.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, format, args...)
	describeStreams(&b, "given", p.types, p.given)
	p.t.Fatal(strings.TrimSuffix(b.String(), "\n"))
}
