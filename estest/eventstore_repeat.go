package estest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func repeatLines() []eventLine {
	return []eventLine{
		onEvents("E4", "repeated_whatever_is_expected", repeatedWhateverIsExpected),
		onEvents("E4", "repeated_whatever_the_condition", repeatedWhateverTheCondition),
		onEvents("E4", "repeated_in_part_or_another_order", repeatedInPart),
		onEvents("E4", "repeated_with_other_particulars", repeatedWithOtherParticulars),
		onEvents("E4", "repeated_over_several_streams", repeatedOverStreams),
		onEvents("E4", "repeated_after_reopening", repeatedAfterReopening, needReopen()),
		onEvents("E4", "repeated_at_once", repeatedAtOnce),
		onEvents("E4", "repeated_at_once_by_handles", repeatedByHandles, needHandles()),
		onEvents("E4", "id_of_another_stream_is_duplicate", idOfAnotherStream),
		onEvents("E4", "other_content_is_duplicate", otherContent),
	}
}

// everyExpectation is each kind of expectation, right and wrong.
func everyExpectation() []es.Expectation {
	return []es.Expectation{es.Any, es.NoStream, es.StreamExists, es.Exactly(1), es.Exactly(2), es.Exactly(3), es.Exactly(1000)}
}

// repeats makes an append again, which must change nothing and tell the places that its events have.
func (b *eventBench) repeats(a es.Append, places []es.Place) {
	b.Helper()
	before := b.all()
	done := b.must(a)
	if !slices.Equal(done.Places, places) || done.Existing != len(places) {
		b.Fatalf("an append to %s, repeated, gives %+v; want the places %+v, all existing", streamsOf(a), done, places)
	}
	b.same(b.all(), before, "after a repeated append")
}

func repeatedWhateverIsExpected(b *eventBench) {
	b.put("other-1", es.Any, some("other-1", 2)...)
	events := some("again-1", 3)
	places := b.put("again-1", es.NoStream, events...).Places
	for _, expect := range everyExpectation() {
		b.repeats(es.AppendTo("again-1", expect, events...), places)
	}
	next := some("again-1", 2) // and when the stream has gone on
	b.put("again-1", es.Exactly(3), next...)
	for _, expect := range everyExpectation() {
		b.repeats(es.AppendTo("again-1", expect, events...), places)
	}
	b.holds("again-1", append(events, next...)...)
}

func repeatedWhateverTheCondition(b *eventBench) {
	event := made("seat-1", "Reserved", "seat:1")
	condition := es.Condition{Match: []es.Criterion{{Tags: []string{"seat:1"}}}, After: b.head().Position}
	a := es.AppendTo("seat-1", es.NoStream, event)
	a.Unless = []es.Condition{condition}
	places := b.must(a).Places
	b.repeats(a, places) // its own event matches its condition, and does not count against it
	b.put("seat-2", es.Any, made("seat-2", "Reserved", "seat:1"))
	b.repeats(a, places) // nor does what came since
}

func repeatedInPart(b *eventBench) {
	events := some("part-1", 4)
	places := b.put("part-1", es.Any, events...).Places
	for i := range events {
		b.repeats(es.AppendTo("part-1", es.NoStream, events[i]), places[i:i+1])
	}
	b.repeats(es.AppendTo("part-1", es.Any, events[3], events[1]), []es.Place{places[3], places[1]})
	b.repeats(es.AppendTo("part-1", es.Exactly(2), events[2:]...), places[2:])
}

// repeatedWithOtherParticulars differs in all that may differ between two attempts at the same work.
func repeatedWithOtherParticulars(b *eventBench) {
	first := made("work-1", "Done")
	first.Tags = []string{"a", "b"}
	first.Metadata = map[string]string{"traceparent": "first"}
	first.CorrelationID, first.CausationID = "correlation", "causation"
	places := b.put("work-1", es.NoStream, first).Places

	again := first.Clone()
	again.Time = again.Time.Add(time.Minute)
	again.Metadata = map[string]string{"traceparent": "second", "more": "of it"}
	again.CorrelationID, again.CausationID = "another", ""
	again.Version, again.Position, again.Recorded = 9, 99, again.Time
	b.repeats(es.AppendTo("work-1", es.NoStream, again), places)
	if diff := differMessage(b.few("work-1", 1)[0], first); diff != "" {
		b.Errorf("the repeated append changed the event: %s", diff)
	}

	bare := made("work-1", "Bare")
	bare.Data = nil
	places = b.put("work-1", es.Any, bare).Places
	again = bare.Clone()
	again.Tags, again.Metadata, again.Data = []string{}, map[string]string{}, []byte{} // nil and empty mean the same
	b.repeats(es.AppendTo("work-1", es.Any, again), places)
}

func repeatedOverStreams(b *eventBench) {
	left, right := some("left-1", 2), some("right-1", 2)
	a := es.Append{Streams: []es.StreamAppend{
		{Stream: "left-1", Expect: es.NoStream, Events: left},
		{Stream: "right-1", Expect: es.NoStream, Events: right},
	}}
	places := b.must(a).Places
	b.put("left-1", es.Any, some("left-1", 1)...)
	b.repeats(a, places)
	slices.Reverse(a.Streams)
	b.repeats(a, []es.Place{places[2], places[3], places[0], places[1]})
}

func repeatedAfterReopening(b *eventBench) {
	events := some("again-1", 3)
	a := es.AppendTo("again-1", es.NoStream, events...)
	places := b.must(a).Places
	stored := b.stream("again-1")
	b.reopen()
	b.same(b.stream("again-1"), stored, "after reopening")
	b.repeats(a, places)
	b.conflicts(es.AppendTo("again-1", es.NoStream, some("again-1", 1)...), "again-1", es.NoStream, 3)
	next := some("again-1", 1)
	b.put("again-1", es.Exactly(3), next...) // versions are the store's, not the program's that was closed
	b.holds("again-1", append(events, next...)...)
}

func (b *eventBench) repeatAtOnce(stores ...es.EventStore) {
	b.Helper()
	type outcome struct {
		es.Appended
		err error
	}
	for round, expect := range []es.Expectation{es.Any, es.NoStream, es.Any, es.NoStream, es.Any, es.NoStream} {
		stream := fmt.Sprintf("again-%d", round)
		events := some(stream, 3)
		outcomes := together(racers, func(i int) outcome {
			done, err := stores[i%len(stores)].Append(b.ctx, es.AppendTo(stream, expect, events...))
			return outcome{done, err}
		})
		for _, o := range outcomes {
			if o.err != nil {
				b.Fatalf("the same append by many at once, expecting %v: %v", expect, o.err)
			}
			if !slices.Equal(o.Places, outcomes[0].Places) {
				b.Fatalf("the same append has the places %v and %v", o.Places, outcomes[0].Places)
			}
		}
		b.holds(stream, events...)
	}
}

func repeatedAtOnce(b *eventBench) { b.repeatAtOnce(b.store) }

func repeatedByHandles(b *eventBench) { b.repeatAtOnce(b.handles(4)...) }

// duplicate makes an append that must fail because of an ID that is taken.
func (b *eventBench) duplicate(a es.Append, id *es.Message, stream string) {
	b.Helper()
	err := b.refusal(a, es.ErrDuplicate)
	var duplicate *es.DuplicateError
	if !errors.As(err, &duplicate) || duplicate.ID != id.ID || duplicate.Stream != stream {
		b.Fatalf("the error is %v (%T); want a *DuplicateError for %s, which stands in %q", err, err, id.ID, stream)
	}
}

func idOfAnotherStream(b *eventBench) {
	taken := made("home-1", "Happened")
	b.put("home-1", es.Any, made("home-1", "Before"), taken)
	moved := taken.Clone()
	moved.Stream = "away-1"
	b.duplicate(es.AppendTo("away-1", es.Any, moved), taken, "home-1")
	b.duplicate(es.AppendTo("away-1", es.NoStream, made("away-1", "New"), moved), taken, "home-1")
	b.duplicate(es.Append{Streams: []es.StreamAppend{
		{Stream: "other-1", Events: some("other-1", 2)},
		{Stream: "away-1", Events: []*es.Message{moved}},
	}}, taken, "home-1")
	b.put("away-1", es.NoStream, some("away-1", 1)...)
	b.duplicate(es.AppendTo("away-1", es.Exactly(1), moved), taken, "home-1")
	// Trying again helps with a conflict and not with this, so this is what is told of.
	b.duplicate(es.AppendTo("away-1", es.Exactly(7), moved), taken, "home-1")
	late := es.AppendTo("away-1", es.NoStream, moved)
	late.Unless = []es.Condition{{Match: []es.Criterion{{}}}}
	b.duplicate(late, taken, "home-1")
}

func otherContent(b *eventBench) {
	taken := made("content-1", "Happened", "a", "b")
	b.put("content-1", es.Any, made("content-1", "Before"), taken)
	for what, change := range map[string]func(m *es.Message){
		"name":         func(m *es.Message) { m.Name = "Happened2" },
		"schema":       func(m *es.Message) { m.Schema = 2 },
		"content type": func(m *es.Message) { m.ContentType = "text/plain" },
		"tags":         func(m *es.Message) { m.Tags = []string{"a"} },
		"other tags":   func(m *es.Message) { m.Tags = []string{"a", "c"} },
		"data":         func(m *es.Message) { m.Data = append(m.Data, ' ') },
		"no data":      func(m *es.Message) { m.Data = nil },
	} {
		other := taken.Clone()
		change(other)
		b.Logf("with another %s", what)
		b.duplicate(es.AppendTo("content-1", es.Any, other), taken, "content-1")
		b.duplicate(es.AppendTo("content-1", es.Exactly(2), made("content-1", "New"), other), taken, "content-1")
	}
}
