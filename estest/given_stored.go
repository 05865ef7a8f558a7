package estest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/internal/compare"
)

// StoredPast is the events that something is done after; see [GivenStored].
type StoredPast struct {
	t         testing.TB
	store     es.EventStore
	types     *es.Types
	given     []StreamEvents
	meanwhile []StreamEvents
	ignored   []string
}

// GivenStored begins a test of what a program appends to a store: a decision over tags, a command handler, an update of a repository.
// It appends the given events, each stream after the other; those of streams "-" and tags are made by [In]. The store should be new:
// memory.New().Events() for example, and the same test can run on any other. Nobody else may append to it meanwhile.
//
//	estest.GivenStored(t, memory.New().Events(), types,
//		estest.In("course-go", CourseOpened{Seats: 1}),
//	).When(func(ctx context.Context, store es.EventStore) error {
//		return Enroll(ctx, store, "go", "ann")
//	}).Then(
//		estest.In("student-ann", Enrolled{Course: "go"}),
//	)
func GivenStored(t testing.TB, store es.EventStore, types *es.Types, given ...StreamEvents) *StoredPast {
	t.Helper()
	if _, err := appendAll(patient(t), store, types, given); err != nil {
		t.Fatalf("estest.GivenStored: %v", err)
	}
	return &StoredPast{t: t, store: store, types: types, given: given}
}

// Meanwhile lets somebody else append events just before the first append of what is done, after it has read what it decides from: so a
// test can see what becomes of a decision that is overtaken.
func (p *StoredPast) Meanwhile(events ...StreamEvents) *StoredPast {
	next := *p
	next.meanwhile = slices.Concat(p.meanwhile, events)
	return &next
}

// Ignoring leaves fields out when events are compared: "At", or "Enrolled.At" for those of one type.
func (p *StoredPast) Ignoring(fields ...string) *StoredPast {
	next := *p
	next.ignored = slices.Concat(p.ignored, fields)
	return &next
}

// When does something. The function is called once, with a store that notes what is appended to it, and makes what it tests with that. What
// comes of it is to be looked at: by a method of the outcome that begins with Then, or by Err.
func (p *StoredPast) When(act func(ctx context.Context, store es.EventStore) error) *StoredOutcome {
	p.t.Helper()
	if act == nil {
		p.t.Fatalf("estest.GivenStored: When has no function that does something")
	}
	ctx := patient(p.t)
	w, err := watch(ctx, p.store)
	if err != nil {
		p.t.Fatalf("estest.GivenStored: look at the store: %v", err)
	}
	if len(p.meanwhile) > 0 {
		w.meanwhile = func() ([]*es.Message, error) { return appendAll(ctx, p.store, p.types, p.meanwhile) }
	}
	o := &StoredOutcome{past: p}
	o.err = act(ctx, w)
	if err := w.notePassed(patient(p.t)); err != nil && !errors.Is(err, es.ErrClosed) { // it may have closed what it was given
		p.t.Fatalf("estest.GivenStored: look at the store: %v", err)
	}
	untouched, err := w.take(o)
	if err != nil {
		p.t.Fatalf("append what happens meanwhile: %v", err)
	}
	if untouched {
		o.failf("nothing happened meanwhile, because it ended without an append; its error: %v\n", o.err)
	}
	o.expected = expect(p.t, o.unexpected)
	return o
}

// StoredOutcome is what was appended; see [StoredPast].When.
type StoredOutcome struct {
	past       *StoredPast
	appended   []*es.Message // in the order of the store
	passed     bool          // something was appended without the store that notes it
	conditions []es.Condition
	conflicts  int
	err        error
	expected   *expectation
}

// unexpected is the report on a test that has done something and wants nothing of it.
func (o *StoredOutcome) unexpected() string {
	if o.err != nil {
		return fmt.Sprintf("it failed, and the test says nothing about that; end it with ThenError\n  error: %v\n", o.err)
	}
	return fmt.Sprintf("appended %s, and the test says nothing about that; end it with Then\n%s", count(len(o.appended), "event"), o.list())
}

// list writes what was appended.
func (o *StoredOutcome) list() string {
	var b strings.Builder
	for stream, messages := range sorted(byStream(o.appended)) {
		compare.DescribeList(&b, "  "+stream+": ", o.values(messages))
	}
	return b.String()
}

// Then fails the test unless these events were appended: of each stream these in this order, with these tags, and to no other stream
// any. The tag that an es.CommandHandler gives its events does not count. None at all means that nothing was appended, and no error. What
// was appended to the store itself counts too, and not only what was appended to the one that the function was given.
func (o *StoredOutcome) Then(want ...StreamEvents) *StoredOutcome {
	o.past.t.Helper()
	o.expected.meet()
	if o.err != nil {
		o.failf("it failed, want %s and no error\n  error: %v\n%s", count(total(want), "event"), o.err, o.list())
	}
	wanted, err := o.wanted(want)
	if err != nil {
		o.past.t.Fatalf("estest: what is wanted: %v", err)
	}
	got := byStream(o.appended)
	var b strings.Builder
	streams := maps.Clone(got)
	maps.Copy(streams, wanted)
	for _, stream := range slices.Sorted(maps.Keys(streams)) {
		o.compare(&b, stream, got[stream], wanted[stream])
	}
	if b.Len() > 0 {
		o.failf("what was appended is not what is wanted\n%s", b.String())
	}
	return o
}

// OnCondition fails the test unless what was appended last was appended on the condition that nothing else has happened that meets one of
// these criteria, whatever their order. The condition of an es.CommandHandler does not count. Without criteria it wants no condition.
func (o *StoredOutcome) OnCondition(criteria ...es.Criterion) *StoredOutcome {
	o.past.t.Helper()
	if o.err == nil {
		o.expected.meet()
	}
	switch {
	case len(o.appended) == 0:
		o.failf("nothing was appended, want a condition\n")
	case o.passed:
		o.failf("something was appended to the store itself, and its condition is not known; append to the store that When gives\n%s", o.list())
	}
	var got []es.Criterion
	for _, c := range o.conditions {
		got = append(got, c.Match...)
	}
	had, wanted := criteriaTexts(got), criteriaTexts(criteria)
	if slices.Equal(had, wanted) {
		return o
	}
	var b strings.Builder
	b.WriteString("the condition of the append is another one\n")
	for _, text := range had {
		if !slices.Contains(wanted, text) {
			fmt.Fprintf(&b, "  unexpected  %s\n", text)
		}
	}
	for _, text := range wanted {
		if !slices.Contains(had, text) {
			fmt.Fprintf(&b, "  missing     %s\n", text)
		}
	}
	o.failf("%s", b.String())
	return o
}

// ThenError fails the test unless it failed with this error or one that wraps it, as errors.Is tells, and nothing was appended.
func (o *StoredOutcome) ThenError(target error) *StoredOutcome {
	o.past.t.Helper()
	wantsError(o.past.t, target, "Then is for what does not fail")
	return o.ThenErrorThat(fmt.Sprintf("the error %q", target), func(err error) bool { return errors.Is(err, target) })
}

// ThenErrorThat is ThenError with a function that tells whether the error is the right one. The name is what the report calls such an
// error, as in "an error that names the course".
func (o *StoredOutcome) ThenErrorThat(name string, accepts func(error) bool) *StoredOutcome {
	o.past.t.Helper()
	o.expected.meet()
	switch {
	case o.err == nil:
		o.failf("appended %s, want %s\n%s", count(len(o.appended), "event"), name, o.list())
	case !accepts(o.err):
		o.failf("it failed with another error, want %s\n  error: %v\n%s", name, o.err, sameText(name, o.err))
	case len(o.appended) > 0:
		o.failf("it failed as wanted, and appended %s\n%s", count(len(o.appended), "event"), o.list())
	}
	return o
}

// ThenEither is for tables that have a column for the events and one for the error: it is ThenError when err is not nil, and Then
// otherwise.
func (o *StoredOutcome) ThenEither(want []StreamEvents, err error) *StoredOutcome {
	o.past.t.Helper()
	switch {
	case err == nil:
		return o.Then(want...)
	case len(want) > 0:
		o.past.t.Fatalf("the test wants events and the error %q; what fails appends nothing", err)
	}
	return o.ThenError(err)
}

// When does the next thing, after what was appended. It fails the test when this one has failed and nobody has asked for that.
func (o *StoredOutcome) When(act func(ctx context.Context, store es.EventStore) error) *StoredOutcome {
	o.past.t.Helper()
	return o.Past().When(act)
}

// Past is the past of the next step: the same store, with what was appended. It fails the test when this step has failed and nobody has
// asked for that.
func (o *StoredOutcome) Past() *StoredPast {
	o.past.t.Helper()
	if o.err != nil && !o.expected.met.Load() {
		o.failf("it failed, and the test goes on as if it had not; say ThenError before the next step\n  error: %v\n", o.err)
	}
	o.expected.meet()
	next := *o.past
	next.given, next.meanwhile = slices.Concat(next.given, next.meanwhile), nil
	for stream, messages := range sorted(byStream(o.appended)) {
		next.given = append(next.given, In(stream, anys(messages)...))
	}
	return &next
}

// Messages returns what was appended, in the order of the store, with its places.
func (o *StoredOutcome) Messages() []*es.Message {
	if o.err == nil {
		o.expected.meet()
	}
	return slices.Clone(o.appended)
}

// Conflicts tells how many appends were turned down because somebody else had been first.
func (o *StoredOutcome) Conflicts() int { return o.conflicts }

// Err returns the error of what was done.
func (o *StoredOutcome) Err() error {
	o.expected.meet()
	return o.err
}

// wanted makes messages of what a test wants, so that both sides have been encoded.
func (o *StoredOutcome) wanted(want []StreamEvents) (map[string][]*es.Message, error) {
	byStream := map[string][]*es.Message{}
	for _, s := range want {
		messages, err := s.messages(o.past.types)
		if err != nil {
			return nil, err
		}
		byStream[s.stream] = append(byStream[s.stream], messages...)
	}
	return byStream, nil
}

// compare writes how the events of a stream differ: in what they say, or else in what they are stored as, and in their tags.
func (o *StoredOutcome) compare(b *strings.Builder, stream string, got, want []*es.Message) {
	lists := compare.Align(o.values(got), o.values(want), o.past.ignored)
	if !lists.Same() {
		fmt.Fprintf(b, "  stream %q: %s, want %s\n", stream, count(len(got), "event"), instead(len(got), len(want)))
		lists.Describe(b, "    ")
		return
	}
	for i, m := range got {
		if w := want[i]; m.Name != w.Name || m.Schema != w.Schema { // an upcaster makes the same of both
			fmt.Fprintf(b, "  stream %q: event %d is stored as %s (schema %d), want %s (schema %d)\n", stream, i+1, m.Name, m.Schema, w.Name,
				w.Schema)
		}
		if had, wanted := ownTags(m), ownTags(want[i]); !slices.Equal(had, wanted) {
			fmt.Fprintf(b, "  stream %q: event %d, %s, is tagged %q, want %q\n", stream, i+1, m.Name, had, wanted)
		}
	}
}

func (o *StoredOutcome) values(messages []*es.Message) []any {
	values := make([]any, len(messages))
	for i, m := range messages {
		values[i] = valueOf(o.past.types, m)
	}
	return values
}

func (o *StoredOutcome) failf(format string, args ...any) {
	o.past.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, format, args...)
	describeStreams(&b, "given", o.past.types, o.past.given)
	if len(o.past.meanwhile) > 0 {
		describeStreams(&b, "meanwhile", o.past.types, o.past.meanwhile)
	}
	o.past.t.Fatal(strings.TrimSuffix(b.String(), "\n"))
}

// ownTags are the tags of a message in order, without that of a command.
func ownTags(m *es.Message) []string {
	tags := slices.DeleteFunc(slices.Clone(m.Tags), isCommandTag)
	slices.Sort(tags)
	return tags
}

// criteriaTexts writes criteria in an order of their own, without those of commands.
func criteriaTexts(criteria []es.Criterion) []string {
	var texts []string
	for _, c := range criteria {
		if slices.ContainsFunc(c.Tags, isCommandTag) {
			continue
		}
		names, tags := slices.Clone(c.Names), slices.Clone(c.Tags)
		slices.Sort(names)
		slices.Sort(tags)
		texts = append(texts, fmt.Sprintf("names %q, tags %q", names, tags))
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}
