package estest

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/internal/compare"
)

// Past is the events that a decision of an aggregate is made after; see [Given]. S is its state and E the type of its events, as a
// rule an interface. Its methods leave it as it is and return another one, so that several tests can begin with the same past; those that
// are tests of their own, such as subtests, take it by For.
type Past[S, E any] struct {
	t       testing.TB
	evolve  func(S, E) S
	initial func() S
	clone   func(S) S
	types   *es.Types
	ignored []string
	events  []E
}

// Given begins a test of what an aggregate decides: given these events, when it decides something, then these events are the result,
// or this error. It takes the function that the aggregate makes its state with, and needs neither a store nor a context:
//
//	estest.Given(t, Evolve).
//		After(Opened{Owner: "Ann"}, Deposited{Amount: 100}).
//		When(Withdraw(30)).
//		Then(Withdrawn{Amount: 30})
//
// What everybody relies on who calls the functions of an aggregate is looked after on the way: the same events make the same state each
// time, and a decision does not change the state that it is given. A test in which that is not so fails and says what differs. So does a
// test that decides something and says nothing about what comes of it.
//
// Events and states are compared field by field, unexported ones too. Nil and empty lists and maps are the same, times are when they are
// the same instant, and a type that has a method Equal is asked: what that overlooks, the test overlooks.
func Given[S, E any](t testing.TB, evolve func(S, E) S) *Past[S, E] {
	t.Helper()
	if evolve == nil {
		t.Fatalf("estest.Given: evolve is nil; give it the function that makes a state of a state and an event")
	}
	return &Past[S, E]{t: t, evolve: evolve}
}

// For returns the past for another test: a subtest that begins with the past of the test that it belongs to. What is wrong fails that one.
func (p *Past[S, E]) For(t testing.TB) *Past[S, E] {
	next := *p
	next.t = t
	return &next
}

// After adds events to the past.
func (p *Past[S, E]) After(events ...E) *Past[S, E] {
	next := *p
	next.events = slices.Concat(p.events, events)
	return &next
}

// Initially sets what makes the state before the first event. Without it that is the zero value.
func (p *Past[S, E]) Initially(initial func() S) *Past[S, E] {
	next := *p
	next.initial = initial
	return &next
}

// Cloning sets what gives a decision a state of its own, as the aggregate's Clone does: then the decision may change it. The test fails
// when the clone differs from the state, or shares with it what the decision changes.
func (p *Past[S, E]) Cloning(clone func(S) S) *Past[S, E] {
	next := *p
	next.clone = clone
	return &next
}

// Through passes each event through its stored form, those that are given and those that are decided: it is encoded and decoded as a
// store has it done. An event that loses something that way, such as an unexported field, fails the test.
func (p *Past[S, E]) Through(types *es.Types) *Past[S, E] {
	p.t.Helper()
	if types == nil {
		p.t.Fatalf("estest.Given: Through has no types; give it those that the program stores events with")
	}
	next := *p
	next.types = types
	return &next
}

// Ignoring leaves fields out when events and states are compared: "At", or "Deposited.At" for those of one type. It is for what the
// code under test makes up, such as an ID or the present time, if that cannot be given to it.
func (p *Past[S, E]) Ignoring(fields ...string) *Past[S, E] {
	next := *p
	next.ignored = slices.Concat(p.ignored, fields)
	return &next
}

// State is the state after the events.
func (p *Past[S, E]) State() S {
	p.t.Helper()
	state := p.fold()
	text, first := compare.Text(state), compare.Raw(state)
	again := p.fold()
	differs := compare.Values(again, state, nil)
	if then := compare.Raw(state); len(differs) == 0 && then != first { // they are one and the same
		before, after := readable(text, compare.Text(state), first, then)
		differs = []compare.Difference{{Got: after, Want: before}}
	}
	if len(differs) > 0 {
		p.t.Fatal(unsteady(differs))
	}
	return state
}

// readable returns two texts when they differ, and otherwise those that have all that two values hold.
func readable(before, after, rawBefore, rawAfter string) (was, is string) {
	if before != after {
		return before, after
	}
	return rawBefore, rawAfter
}

// ThenState fails the test unless the events make this state. It compares field by field, unexported ones too; see [Given].
func (p *Past[S, E]) ThenState(want S) *Past[S, E] {
	p.t.Helper()
	got := p.State()
	differs := compare.Values(got, want, p.ignored)
	if len(differs) == 0 {
		return p
	}
	var b strings.Builder
	b.WriteString("the state is not the wanted one\n")
	compare.Describe(&b, "  ", differs)
	p.describe(&b, &got)
	p.t.Fatal(strings.TrimSuffix(b.String(), "\n"))
	return p
}

// When decides. The function is that which the aggregate's repository is called with; often it is made from a command. It is called
// once. What comes of it is to be looked at: by a method of the outcome that begins with Then, or by Err; Events will do where there is no
// error.
func (p *Past[S, E]) When(decide func(state S) ([]E, error)) *Outcome[S, E] {
	p.t.Helper()
	if decide == nil {
		p.t.Fatalf("estest.Given: When has no function that decides")
	}
	state := p.State()
	text, before := compare.Text(state), compare.Raw(state)
	events, err := decide(p.lent(state))
	if after := compare.Raw(state); after != before {
		p.t.Fatal(p.meddled(readable(text, compare.Text(state), before, after)))
	}
	events = slices.Clone(events)
	for i, event := range events {
		events[i] = p.stored(event)
	}
	o := &Outcome[S, E]{past: p, state: state, events: events, err: err}
	o.expected = expect(p.t, o.unexpected)
	return o
}

// lent is the state that a decision gets.
func (p *Past[S, E]) lent(state S) S {
	p.t.Helper()
	if p.clone == nil {
		return state
	}
	lent := p.clone(state)
	if differs := compare.Values(lent, state, nil); len(differs) > 0 {
		var b strings.Builder
		b.WriteString("the clone of the state is not like it\n")
		compare.Describe(&b, "  ", differs)
		p.t.Fatal(strings.TrimSuffix(b.String(), "\n"))
	}
	return lent
}

// meddled is the report on a decision that has changed the state.
func (p *Past[S, E]) meddled(before, after string) string {
	what := "the decision changed the state that it was given, which is not its own; return events, or give the aggregate a Clone"
	if p.clone != nil {
		what = "the decision changed a clone of the state, and with it the state: they share what the clone should have copied"
	}
	return fmt.Sprintf("%s\n  before: %s\n  after:  %s", what, compare.Clip(before), compare.Clip(after))
}

// fold makes the state of the events.
func (p *Past[S, E]) fold() S {
	p.t.Helper()
	var state S
	if p.initial != nil {
		state = p.initial()
	}
	for _, event := range p.events {
		state = p.evolve(state, p.stored(event))
	}
	return state
}

// stored returns an event as it comes out of a store.
func (p *Past[S, E]) stored(event E) E {
	p.t.Helper()
	if p.types == nil {
		return event
	}
	m, err := p.types.Encode("estest", event)
	if err != nil {
		p.t.Fatalf("%s cannot be stored: %v", compare.Clip(compare.Text(event)), err)
	}
	decoded, err := p.types.Decode(m)
	if err != nil {
		p.t.Fatalf("%s cannot be read again: %v", compare.Clip(compare.Text(event)), err)
	}
	again, ok := decoded.(E)
	if !ok {
		p.t.Fatalf("%s comes out of a store as a %T, which is not a %v", compare.Clip(compare.Text(event)), decoded, reflect.TypeFor[E]())
	}
	if differs := compare.Values(again, event, nil); len(differs) > 0 {
		var b strings.Builder
		fmt.Fprintf(&b, "%s does not survive being stored as %s\n", compare.Clip(compare.Text(event)), compare.Clip(string(m.Data)))
		compare.Describe(&b, "  ", differs)
		p.t.Fatal(strings.TrimSuffix(b.String(), "\n"))
	}
	return again
}

// unsteady is the report on an evolve that makes two states of the same events.
func unsteady(differs []compare.Difference) string {
	var b strings.Builder
	b.WriteString("the same events made another state when they were applied again; evolve may use nothing but the state and the event, " +
		"and what makes the initial state makes a new one each time\n")
	for _, d := range differs {
		fmt.Fprintf(&b, "  %s: first %s, then %s\n", cmp.Or(d.Path, "state"), compare.Clip(d.Want), compare.Clip(d.Got))
	}
	return b.String()
}

// describe writes what the decision was made after.
func (p *Past[S, E]) describe(b *strings.Builder, state *S) {
	if len(p.events) == 0 {
		b.WriteString("given no event\n")
	} else {
		fmt.Fprintf(b, "given %s\n", count(len(p.events), "event"))
		compare.DescribeList(b, "  ", anys(p.events))
	}
	fmt.Fprintf(b, "state %s\n", compare.Clip(compare.Text(*state)))
}

// Outcome is what an aggregate decided; see [Past].When. Each test says what it should have been by one of the methods that begin
// with Then.
type Outcome[S, E any] struct {
	past     *Past[S, E]
	state    S // that the decision was made on
	events   []E
	err      error
	expected *expectation
}

// unexpected is the report on a test that has decided something and wants nothing of it.
func (o *Outcome[S, E]) unexpected() string {
	if o.err != nil {
		return fmt.Sprintf("the decision failed, and the test says nothing about that; end it with ThenError\n  error: %v", o.err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "decided %s, and the test says nothing about that; end it with Then\n", count(len(o.events), "event"))
	compare.DescribeList(&b, "  ", anys(o.events))
	return b.String()
}

// Then fails the test unless these events were decided, in this order; none of them means that nothing was decided, and no error. It
// returns the past with the events in it, so that the next decision can follow.
func (o *Outcome[S, E]) Then(want ...E) *Past[S, E] {
	o.past.t.Helper()
	o.expected.meet()
	if o.err != nil {
		o.failf("the decision failed, want %s\n  error: %v\n", count(len(want), "event"), o.err)
	}
	got := anys(o.events)
	if lists := compare.Align(got, anys(want), o.past.ignored); !lists.Same() {
		var b strings.Builder
		lists.Describe(&b, "  ")
		o.failf("decided %s, want %s\n%s", count(len(got), "event"), instead(len(got), len(want)), b.String())
	}
	next := *o.past
	next.events = slices.Concat(o.past.events, o.events)
	return &next
}

// ThenError fails the test unless the decision failed with this error or one that wraps it, as errors.Is tells.
func (o *Outcome[S, E]) ThenError(target error) *Past[S, E] {
	o.past.t.Helper()
	wantsError(o.past.t, target, "Then is for a decision that does not fail")
	return o.thenError(fmt.Sprintf("the error %q", target), func(err error) bool { return errors.Is(err, target) })
}

// ThenErrorThat fails the test unless the decision failed with an error that a function accepts. The name is what the report calls
// such an error, as in "an error that names the account".
func (o *Outcome[S, E]) ThenErrorThat(name string, accepts func(error) bool) *Past[S, E] {
	o.past.t.Helper()
	return o.thenError(name, accepts)
}

// ThenEither is for tables that have a column for the events and one for the error: it is ThenError when err is not nil, and Then
// otherwise. A row that wants both is a mistake, and fails.
func (o *Outcome[S, E]) ThenEither(want []E, err error) *Past[S, E] {
	o.past.t.Helper()
	switch {
	case err == nil:
		return o.Then(want...)
	case len(want) > 0:
		o.past.t.Fatalf("the test wants %s and the error %q; a decision that fails decides nothing", count(len(want), "event"), err)
	}
	return o.ThenError(err)
}

// Events returns what was decided, for what the methods that begin with Then do not say.
func (o *Outcome[S, E]) Events() []E {
	if o.err == nil {
		o.expected.meet()
	}
	return slices.Clone(o.events)
}

// Err returns the error of the decision.
func (o *Outcome[S, E]) Err() error {
	o.expected.meet()
	return o.err
}

func (o *Outcome[S, E]) thenError(name string, accepts func(error) bool) *Past[S, E] {
	o.past.t.Helper()
	o.expected.meet()
	switch {
	case o.err == nil:
		var b strings.Builder
		compare.DescribeList(&b, "  ", anys(o.events))
		o.failf("decided %s, want %s\n%s", count(len(o.events), "event"), name, b.String())
	case !accepts(o.err):
		o.failf("the decision failed with another error, want %s\n  error: %v\n%s", name, o.err, sameText(name, o.err))
	case len(o.events) > 0:
		var b strings.Builder
		compare.DescribeList(&b, "  ", anys(o.events))
		o.failf("the decision failed as wanted, and decided %s besides, which nobody will see\n%s", count(len(o.events), "event"), b.String())
	}
	return o.past
}

// sameText explains an error that reads as the wanted one and is not it.
func sameText(name string, err error) string {
	if name != fmt.Sprintf("the error %q", err) {
		return ""
	}
	return "  it has the same text, and is not that error nor wraps it: is it made anew each time, or formatted with %v instead of %w?\n"
}

// failf ends the test with what is wrong and what the decision was made after.
func (o *Outcome[S, E]) failf(format string, args ...any) {
	o.past.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, format, args...)
	o.past.describe(&b, &o.state)
	o.past.t.Fatal(strings.TrimSuffix(b.String(), "\n"))
}

// instead is how many events are wanted, as a number where that is what is wrong.
func instead(got, want int) string {
	switch {
	case got != want:
		return count(want, "event")
	case want == 1:
		return "another one"
	}
	return "other ones"
}

// anys is a list of events as a list of values to compare.
func anys[E any](list []E) []any {
	all := make([]any, len(list))
	for i, e := range list {
		all[i] = e
	}
	return all
}

// count is such as "no event", "1 event" and "2 events".
func count(n int, one string) string {
	switch n {
	case 0:
		return "no " + one
	case 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
