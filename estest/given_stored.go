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

// StreamEvents is events of one stream, made by [In].
type StreamEvents struct {
	stream string
	tags   []string
	events []any
}

// In is events of a stream: Go values of registered types, or messages. As a past they are appended, and as an outcome they are
// compared with what was appended; of a message the name, the schema, the data and the tags count, and neither ID nor time.
func In(stream string, events ...any) StreamEvents {
	return StreamEvents{stream: stream, events: events}
}

// Tagged adds tags to those that the events have themselves, see [es.Tagged].
func (s StreamEvents) Tagged(tags ...string) StreamEvents {
	s.tags = slices.Concat(s.tags, tags)
	return s
}

// messages makes the messages of the events.
func (s StreamEvents) messages(types *es.Types) ([]*es.Message, error) {
	messages := make([]*es.Message, len(s.events))
	for i, event := range s.events {
		m, raw := event.(*es.Message)
		if raw {
			m = m.Clone()
			m.Stream = s.stream
		} else {
			var err error
			if m, err = types.Encode(s.stream, event); err != nil {
				return nil, fmt.Errorf("event %d of stream %q: %w", i+1, s.stream, err)
			}
		}
		m.Tags = slices.Concat(m.Tags, s.tags)
		messages[i] = m
	}
	return messages, nil
}

// appendAll appends the events of streams to a store, one append for each.
func appendAll(ctx context.Context, store es.EventStore, types *es.Types, all []StreamEvents) error {
	for _, s := range all {
		messages, err := s.messages(types)
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			continue
		}
		if _, err := store.Append(ctx, es.AppendTo(s.stream, es.Any, messages...)); err != nil {
			return fmt.Errorf("append to %q: %w", s.stream, err)
		}
	}
	return nil
}

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
// memory.New().Events() for example, and the same test can run on any other.
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
	if err := appendAll(patient(t), store, types, given); err != nil {
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

// When does something. The function is called once, with a store that notes what is appended to it, and makes what it tests with that.
func (p *StoredPast) When(act func(ctx context.Context, store es.EventStore) error) *StoredOutcome {
	p.t.Helper()
	ctx := patient(p.t)
	head, err := p.store.Head(ctx)
	if err != nil {
		p.t.Fatalf("the head of the store: %v", err)
	}
	w := &watchedStore{EventStore: p.store, after: head.Position}
	if len(p.meanwhile) > 0 {
		w.meanwhile = func() error { return appendAll(ctx, p.store, p.types, p.meanwhile) }
	}
	o := &StoredOutcome{past: p}
	o.err = act(ctx, w)
	untouched, err := w.take(o)
	if err != nil {
		p.t.Fatalf("append what happens meanwhile: %v", err)
	}
	if untouched {
		o.failf("nothing happened meanwhile, because it ended without an append; its error: %v\n", o.err)
	}
	return o
}

// StoredOutcome is what was appended; see [StoredPast].When.
type StoredOutcome struct {
	past       *StoredPast
	appended   []*es.Message // in the order of the store
	conditions []es.Condition
	conflicts  int
	err        error
}

// Then fails the test unless these events were appended: of each stream these in this order, with these tags, and to no other stream
// any. The tag that an es.CommandHandler gives its events does not count. None at all means that nothing was appended, and no error.
func (o *StoredOutcome) Then(want ...StreamEvents) *StoredOutcome {
	t := o.past.t
	t.Helper()
	if o.err != nil {
		o.failf("it failed, want events\n  error: %v\n", o.err)
	}
	wanted, err := o.wanted(want)
	if err != nil {
		t.Fatalf("estest: what is wanted: %v", err)
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
	if len(o.appended) == 0 {
		o.failf("nothing was appended, want a condition\n")
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
	return o.ThenErrorThat(fmt.Sprintf("the error %q", fmt.Sprint(target)), func(err error) bool { return errors.Is(err, target) })
}

// ThenErrorThat is ThenError with a function that tells whether the error is the right one. The name is what the report calls such an
// error, as in "an error that names the course".
func (o *StoredOutcome) ThenErrorThat(name string, accepts func(error) bool) *StoredOutcome {
	o.past.t.Helper()
	var b strings.Builder
	for stream, messages := range sorted(byStream(o.appended)) {
		compare.DescribeList(&b, "  "+stream+": ", o.values(messages))
	}
	switch {
	case o.err == nil:
		o.failf("appended %s, want %s\n%s", count(len(o.appended), "event"), name, b.String())
	case !accepts(o.err):
		o.failf("it failed with another error, want %s\n  error: %v\n", name, o.err)
	case len(o.appended) > 0:
		o.failf("it failed as wanted, and appended %s\n%s", count(len(o.appended), "event"), b.String())
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

// When does the next thing, after what was appended.
func (o *StoredOutcome) When(act func(ctx context.Context, store es.EventStore) error) *StoredOutcome {
	o.past.t.Helper()
	return o.Past().When(act)
}

// Past is the past of the next step: the same store, with what was appended.
func (o *StoredOutcome) Past() *StoredPast {
	next := *o.past
	next.given, next.meanwhile = slices.Concat(next.given, next.meanwhile), nil
	for stream, messages := range sorted(byStream(o.appended)) {
		next.given = append(next.given, In(stream, anys(messages)...))
	}
	return &next
}

// Messages returns what was appended, in the order of the store, with its places.
func (o *StoredOutcome) Messages() []*es.Message { return slices.Clone(o.appended) }

// Conflicts tells how many appends were turned down because somebody else had been first.
func (o *StoredOutcome) Conflicts() int { return o.conflicts }

// Err returns the error of what was done.
func (o *StoredOutcome) Err() error { return o.err }

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

// compare writes how the events of a stream differ: in what they say, or else in their tags.
func (o *StoredOutcome) compare(b *strings.Builder, stream string, got, want []*es.Message) {
	lists := compare.Align(o.values(got), o.values(want), o.past.ignored)
	if !lists.Same() {
		fmt.Fprintf(b, "  stream %q: %s, want %s\n", stream, count(len(got), "event"), count(len(want), "event"))
		lists.Describe(b, "    ")
		return
	}
	for i, m := range got {
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
	o.past.t.Fatal(b.String())
}

// describeStreams writes events with their streams.
func describeStreams(b *strings.Builder, what string, types *es.Types, all []StreamEvents) {
	total := 0
	for _, s := range all {
		total += len(s.events)
	}
	fmt.Fprintf(b, "%s %s\n", what, count(total, "event"))
	const most = 20
	left := most
	for _, s := range all {
		for _, event := range s.events {
			if left--; left < 0 {
				fmt.Fprintf(b, "  and %d more\n", total-most)
				return
			}
			if m, raw := event.(*es.Message); raw {
				event = valueOf(types, m)
			}
			fmt.Fprintf(b, "  %s: %s\n", s.stream, compare.Clip(compare.Text(event)))
		}
	}
}

// unregistered stands for a message of which there is no Go type.
type unregistered struct {
	Name   string
	Schema int
	Data   []byte
}

// valueOf is what a message is compared as.
func valueOf(types *es.Types, m *es.Message) any {
	if types != nil {
		if v, err := types.Decode(m); err == nil {
			return v
		}
	}
	return unregistered{Name: m.Name, Schema: m.Schema, Data: m.Data}
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
