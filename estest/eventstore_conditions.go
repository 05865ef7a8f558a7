package estest

import (
	"errors"

	es "github.com/eventsourcing-go/eventsourcing"
)

func conditionLines() []eventLine {
	return []eventLine{
		onEvents("E6", "matches_names_tags_both_and_everything", conditionMatches),
		onEvents("E6", "several_criteria_are_or", criteriaAreOr),
		onEvents("E6", "several_conditions_all_hold", conditionsAllHold),
		onEvents("E6", "only_what_came_since_counts", onlySinceCounts),
		onEvents("E6", "what_was_seen_does_not_count", seenDoesNotCount),
		onEvents("E6", "plain_appends_are_seen", plainAppendsAreSeen),
		onEvents("E6", "its_own_events_do_not_count", ownDoNotCount),
		onEvents("E6", "works_beside_expectations", conditionAndExpectation),
		onEvents("E6", "broken_conditions_are_invalid", brokenConditions),
	}
}

// unless is an append of one new event under a condition.
func unless(stream string, conditions ...es.Condition) es.Append {
	a := es.AppendTo(stream, es.Any, made(stream, "Decided", "decided"))
	a.Unless = conditions
	return a
}

// conflictsOver makes an append that must fail because a condition, by its index, does not hold, and tell so.
func (b *eventBench) conflictsOver(a es.Append, index, matches int) {
	b.Helper()
	err := b.refusal(a, es.ErrConflict)
	var conflict *es.ConflictError
	if !errors.As(err, &conflict) {
		b.Fatalf("the error %v (%T) is no *ConflictError", err, err)
	}
	want := a.Unless[index]
	if c := conflict.Condition; c == nil || c.After != want.After || c.Seen != want.Seen || len(c.Match) != len(want.Match) {
		b.Fatalf("the conflict tells of %+v; want the condition %+v", conflict, want)
	}
	if conflict.Matches < want.Seen+1 || conflict.Matches > matches {
		b.Fatalf("the conflict tells of %d matches where the decision saw %d and there are %d", conflict.Matches, want.Seen, matches)
	}
}

func conditionMatches(b *eventBench) {
	both := es.Criterion{Names: []string{"Opened", "Closed"}, Tags: []string{"door:1", "floor:2"}}
	for _, test := range []struct {
		what      string
		criterion es.Criterion
		hits      []*es.Message
		misses    []*es.Message
	}{
		{
			"a name", es.Criterion{Names: []string{"Opened"}},
			[]*es.Message{made("x-1", "Opened"), made("x-1", "Opened", "door:9")},
			[]*es.Message{made("x-1", "opened"), made("x-1", "Opened2"), made("x-1", "Closed", "Opened"), made("Opened", "Other")},
		}, {
			"one of several names", es.Criterion{Names: []string{"Opened", "Closed"}},
			[]*es.Message{made("x-1", "Opened"), made("x-1", "Closed")},
			[]*es.Message{made("x-1", "Locked")},
		}, {
			"a tag", es.Criterion{Tags: []string{"door:1"}},
			[]*es.Message{made("x-1", "Any", "door:1"), made("x-1", "Other", "a", "door:1", "b")},
			[]*es.Message{made("x-1", "Any", "door:10"), made("x-1", "Any", "Door:1"), made("x-1", "Any"), made("door:1", "door:1")},
		}, {
			"all of several tags", es.Criterion{Tags: []string{"door:1", "floor:2"}},
			[]*es.Message{made("x-1", "Any", "floor:2", "door:1"), made("x-1", "Any", "door:1", "x", "floor:2")},
			[]*es.Message{made("x-1", "Any", "door:1"), made("x-1", "Any", "floor:2"), made("x-1", "Any", "door:1", "floor:3")},
		}, {
			"names and tags", both,
			[]*es.Message{made("x-1", "Opened", "door:1", "floor:2"), made("x-1", "Closed", "floor:2", "door:1")},
			[]*es.Message{made("x-1", "Locked", "door:1", "floor:2"), made("x-1", "Opened", "door:1"), made("x-1", "Closed")},
		}, {
			"everything", es.Criterion{},
			[]*es.Message{made("x-1", "Whatever"), made("x-1", "Whatever", "tag")}, nil,
		},
	} {
		b.Logf("a condition on %s", test.what)
		for _, hit := range test.hits {
			c := es.Condition{Match: []es.Criterion{test.criterion}, After: b.settledNow()}
			b.put(hit.Stream, es.Any, hit)
			b.conflictsOver(unless("decision-1", c), 0, 1)
		}
		c := es.Condition{Match: []es.Criterion{test.criterion}, After: b.settledNow()}
		for _, miss := range test.misses {
			b.put(miss.Stream, es.Any, miss)
		}
		b.must(unless("decision-1", c))
	}
}

// settledNow returns the settled head when everything that was appended so far is settled.
func (b *eventBench) settledNow() int64 {
	b.Helper()
	newest := b.read(es.Query{Unsettled: true, Reverse: true, Limit: 1})
	if len(newest) == 0 {
		return b.head().Position
	}
	return b.settled(newest[0].Position).Position
}

func criteriaAreOr(b *eventBench) {
	either := []es.Criterion{{Names: []string{"First"}}, {Tags: []string{"second"}}, {Names: []string{"Third"}, Tags: []string{"third"}}}
	for _, hit := range []*es.Message{
		made("x-1", "First"), made("x-1", "Other", "second"), made("x-1", "Third", "third"), made("x-1", "First", "second"),
	} {
		after := b.settledNow()
		b.put("x-1", es.Any, hit)
		b.conflictsOver(unless("decision-1", es.Condition{Match: either, After: after}), 0, 1)
	}
	after := b.settledNow()
	b.put("x-1", es.Any, made("x-1", "Third"), made("x-1", "Other", "third"), made("x-1", "Other", "First"))
	b.must(unless("decision-1", es.Condition{Match: either, After: after}))

	// An event that meets two criteria is one event.
	after = b.settledNow()
	b.put("x-1", es.Any, made("x-1", "First", "second"))
	b.must(unless("decision-1", es.Condition{Match: either, After: after, Seen: 1}))
}

func conditionsAllHold(b *eventBench) {
	on := func(tag string, after int64) es.Condition {
		return es.Condition{Match: []es.Criterion{{Tags: []string{tag}}}, After: after}
	}
	after := b.settledNow()
	b.put("x-1", es.Any, made("x-1", "Happened", "b"))
	b.must(unless("decision-1", on("a", after), on("c", after)))
	b.conflictsOver(unless("decision-1", on("b", after), on("c", after)), 0, 1)
	b.conflictsOver(unless("decision-1", on("a", after), on("b", after)), 1, 1)
	b.must(unless("decision-1", on("a", after), on("b", b.settledNow())))
}

func onlySinceCounts(b *eventBench) {
	all := []es.Criterion{{Tags: []string{"t"}}}
	first := b.put("x-1", es.Any, made("x-1", "Happened", "t")).Position
	second := b.put("x-2", es.Any, made("x-2", "Happened", "t")).Position
	b.settled(second)
	b.conflictsOver(unless("decision-1", es.Condition{Match: all}), 0, 2)
	b.conflictsOver(unless("decision-1", es.Condition{Match: all, After: first - 1}), 0, 2)
	b.conflictsOver(unless("decision-1", es.Condition{Match: all, After: first}), 0, 1)
	b.conflictsOver(unless("decision-1", es.Condition{Match: all, After: second - 1}), 0, 1)
	b.must(unless("decision-1", es.Condition{Match: all, After: second}))
}

// seenDoesNotCount has events committed between the decision's Head and its reading, which are seen, and others after that,
// which are not.
func seenDoesNotCount(b *eventBench) {
	match := []es.Criterion{{Tags: []string{"t"}}}
	after := b.settledNow()
	b.put("x-1", es.Any, made("x-1", "Happened", "t"))
	b.conflictsOver(unless("decision-1", es.Condition{Match: match, After: after}), 0, 1)
	b.must(unless("decision-1", es.Condition{Match: match, After: after, Seen: 1}))
	b.put("x-2", es.Any, made("x-2", "Happened", "t"), made("x-2", "Happened"))
	b.conflictsOver(unless("decision-1", es.Condition{Match: match, After: after, Seen: 1}), 0, 2)
	b.must(unless("decision-1", es.Condition{Match: match, After: after, Seen: 2}))
}

func plainAppendsAreSeen(b *eventBench) {
	c := es.Condition{Match: []es.Criterion{{Tags: []string{"t"}}}, After: b.settledNow()}
	event := func(stream string) *es.Message { return made(stream, "Happened", "t") }
	for i, plain := range []func(){
		func() { b.put("x-1", es.Any, event("x-1")) },
		func() { b.put("x-2", es.NoStream, event("x-2")) },
		func() { b.eachOK(es.AppendTo("x-3", es.Any, event("x-3"))) },
		func() {
			b.must(es.Append{Streams: []es.StreamAppend{
				{Stream: "x-4", Events: some("x-4", 1)}, {Stream: "x-5", Events: []*es.Message{event("x-5")}},
			}})
		},
		func() {
			b.must(es.Append{Streams: unlessOther("x-6", event("x-6")).Streams, Unless: unlessOther("x-6").Unless})
		},
	} {
		b.must(unless("decision-1", es.Condition{Match: c.Match, After: c.After, Seen: i}))
		plain()
		b.conflictsOver(unless("decision-1", es.Condition{Match: c.Match, After: c.After, Seen: i}), 0, i+1)
	}
}

// unlessOther is an append under a condition that has nothing to do with it.
func unlessOther(stream string, events ...*es.Message) es.Append {
	a := es.AppendTo(stream, es.Any, events...)
	a.Unless = []es.Condition{{Match: []es.Criterion{{Names: []string{"NeverHappened"}}}}}
	return a
}

func ownDoNotCount(b *eventBench) {
	c := es.Condition{Match: []es.Criterion{{}}, After: b.settledNow()}
	a := es.Append{Unless: []es.Condition{c}, Streams: []es.StreamAppend{
		{Stream: "x-1", Events: some("x-1", 2)}, {Stream: "x-2", Events: some("x-2", 2)},
	}}
	b.must(a)
	b.conflictsOver(unless("x-3", c), 0, 4)
}

func conditionAndExpectation(b *eventBench) {
	b.put("x-1", es.Any, made("x-1", "Happened", "t"))
	holds := es.Condition{Match: []es.Criterion{{Tags: []string{"t"}}}, After: b.settledNow()}
	broken := es.Condition{Match: holds.Match}
	with := func(expect es.Expectation, c es.Condition) es.Append {
		a := es.AppendTo("x-1", expect, some("x-1", 1)...)
		a.Unless = []es.Condition{c}
		return a
	}
	b.conflicts(with(es.Exactly(2), holds), "x-1", es.Exactly(2), 1)
	b.conflictsOver(with(es.Exactly(1), broken), 0, 1)
	b.refused(with(es.Exactly(2), broken), es.ErrConflict)
	b.must(with(es.Exactly(1), holds))

	// A condition can be checked without any event, and with other streams asserted.
	b.must(es.Append{Unless: []es.Condition{holds}})
	b.must(es.Append{Streams: []es.StreamAppend{{Stream: "x-1", Expect: es.Exactly(2)}}, Unless: []es.Condition{holds}})
	b.conflictsOver(es.Append{Unless: []es.Condition{broken}}, 0, 1)
}

func brokenConditions(b *eventBench) {
	for _, c := range []es.Condition{
		{},
		{Match: []es.Criterion{{}}, After: -1},
		{Match: []es.Criterion{{}}, Seen: -1},
		{Match: []es.Criterion{{Tags: []string{""}}}},
		{Match: []es.Criterion{{}, {Names: []string{""}}}},
		{Match: []es.Criterion{{Tags: []string{"nul\x00"}}}},
		{Match: []es.Criterion{{Names: []string{"\xff"}}}},
	} {
		b.refused(unless("x-1", c), es.ErrInvalid)
		b.refused(es.Append{Unless: []es.Condition{c}}, es.ErrInvalid)
	}
}
