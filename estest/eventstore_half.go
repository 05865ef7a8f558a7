package estest

import (
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

func repeatHalfLines() []eventLine {
	return []eventLine{
		onEvents("E4", "half_there_any_appends_rest", halfThereAny),
		onEvents("E4", "half_there_otherwise_conflicts", halfThereConflicts),
		onEvents("E4", "half_there_over_several_streams", halfThereStreams),
		onEvents("E4", "half_there_each_stream_for_itself", halfThereForItself),
		onEvents("E4", "half_there_still_has_its_condition", halfThereCondition),
		onEvents("E4", "half_there_its_own_do_not_count", halfThereOwn),
	}
}

func halfThereAny(b *eventBench) {
	events := some("half-1", 6)
	places := b.put("half-1", es.Any, events[0], events[3]).Places
	done := b.must(es.AppendTo("half-1", es.Any, events[:4]...)) // those that are there stand first and last
	want := []int64{1, 3, 4, 2}
	for i, p := range done.Places {
		if p.Version != want[i] {
			b.Fatalf("the versions are %+v, want %v", done.Places, want)
		}
	}
	if done.Existing != 2 || done.Places[0] != places[0] || done.Places[3] != places[1] {
		b.Fatalf("got %+v; want the 2 existing ones at %+v", done, places)
	}
	done = b.must(es.AppendTo("half-1", es.Any, events[4], events[2], events[5]))
	if done.Existing != 1 || done.Places[1].Version != 4 {
		b.Fatalf("got %+v; want 1 existing event, at version 4", done)
	}
	b.holds("half-1", events[0], events[3], events[1], events[2], events[4], events[5])
}

func halfThereConflicts(b *eventBench) {
	events := some("half-1", 4)
	b.put("half-1", es.Any, events[:2]...)
	for _, expect := range everyExpectation() {
		if expect == es.Any {
			continue
		}
		// Also at the very version that the stream has, and at the one it had before.
		b.conflicts(es.AppendTo("half-1", expect, events...), "half-1", expect, 2)
		b.conflicts(es.AppendTo("half-1", expect, events[2], events[1]), "half-1", expect, 2)
	}
	b.holds("half-1", events[:2]...)
}

func halfThereStreams(b *eventBench) {
	left, right := some("left-1", 3), some("right-1", 3)
	there := b.put("left-1", es.Any, left...).Places
	done := b.must(es.Append{Streams: []es.StreamAppend{
		{Stream: "right-1", Events: right},
		{Stream: "left-1", Events: left},
	}})
	if done.Existing != 3 || !slices.Equal(done.Places[3:], there) {
		b.Fatalf("got %+v; want the left ones at %+v", done, there)
	}
	b.holds("left-1", left...)
	b.holds("right-1", right...)

	// One stream's half conflicts, and takes the other stream's events with it.
	more, last := some("right-1", 1), some("middle-1", 1)
	b.conflicts(es.Append{Streams: []es.StreamAppend{
		{Stream: "middle-1", Events: last},
		{Stream: "right-1", Expect: es.Exactly(3), Events: append(right[:1:1], more...)},
	}}, "right-1", es.Exactly(3), 3)
	b.holds("middle-1")
}

// halfThereForItself judges each stream by its own events: one that has none of them is as expected or not, like any other.
func halfThereForItself(b *eventBench) {
	left, right := some("left-1", 3), some("right-1", 3)
	b.put("left-1", es.Any, left[:2]...)
	b.put("right-1", es.Any, right[0])
	two := func(l []*es.Message, expect es.Expectation, stream string, events ...*es.Message) es.Append {
		return es.Append{Streams: []es.StreamAppend{
			{Stream: "left-1", Events: l}, {Stream: stream, Expect: expect, Events: events},
		}}
	}
	// What is there of the one stream is nothing against the other, whether all of it is there or a part.
	for i, l := range [][]*es.Message{left[:2], left} {
		next := right[i+1]
		b.conflicts(two(l, es.Exactly(int64(i)), "right-1", next), "right-1", es.Exactly(int64(i)), int64(i+1))
		b.conflicts(two(l, es.Exactly(int64(i+2)), "right-1", next), "right-1", es.Exactly(int64(i+2)), int64(i+1))
		b.conflicts(two(l, es.NoStream, "right-1", next), "right-1", es.NoStream, int64(i+1))
		b.conflicts(two(l, es.StreamExists, "none-1", some("none-1", 1)...), "none-1", es.StreamExists, 0)
		if done := b.must(two(l, es.Exactly(int64(i+1)), "right-1", next)); done.Existing != 2 {
			b.Fatalf("%d events of %d are told of as existing, want 2", done.Existing, len(l)+1)
		}
	}
	b.must(two(append(left, some("left-1", 1)...), es.NoStream, "new-1", some("new-1", 2)...))
	b.must(two(append(left, some("left-1", 1)...), es.StreamExists, "right-1")) // a stream that is only asserted
	b.conflicts(two(append(left, some("left-1", 1)...), es.NoStream, "right-1"), "right-1", es.NoStream, 3)

	// A stream that has its events already and expects something is a conflict when the append is not there as a whole: also at
	// the version it has, and the one it had.
	for _, expect := range everyExpectation() {
		if expect != es.Any {
			b.conflicts(two(append(left, some("left-1", 1)...), expect, "right-1", right...), "right-1", expect, 3)
		}
	}
}

// halfThereOwn does the rest of an append under its condition: the half that is there matches, and does not count.
func halfThereOwn(b *eventBench) {
	for _, match := range []es.Criterion{
		{}, {Tags: []string{"t"}}, {Names: []string{"Half"}}, {Names: []string{"Half"}, Tags: []string{"t"}},
	} {
		one := openEvents(b.TB, b.harness)
		events := []*es.Message{made("half-1", "Half", "t"), made("half-1", "Half", "t"), made("half-1", "Half", "t")}
		a := es.AppendTo("half-1", es.Any, events[:2]...)
		a.Unless = []es.Condition{{Match: []es.Criterion{match}, After: one.head().Position}}
		one.put("half-1", es.Any, events[0])
		if done := one.must(a); done.Existing != 1 {
			one.Fatalf("the rest of an append under a condition that its own events match: %+v", done)
		}
		a.Streams[0].Events = events[1:] // of which events[0], which matches, is no part
		one.conflictsOver(a, 0, 1)
		one.holds("half-1", events[:2]...)
	}
}

func halfThereCondition(b *eventBench) {
	events := some("half-1", 2)
	b.put("half-1", es.Any, events[0])
	a := es.AppendTo("half-1", es.Any, events...)
	a.Unless = []es.Condition{{Match: []es.Criterion{{Tags: []string{"stop"}}}, After: b.head().Position}}
	b.put("other-1", es.Any, made("other-1", "Stopped", "stop"))
	b.conflictsOver(a, 0, 1)
	b.holds("half-1", events[0])
}
