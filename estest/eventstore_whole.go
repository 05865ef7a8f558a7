package estest

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	es "github.com/eventsourcing-go/eventsourcing"
)

func wholeLines() []eventLine {
	return []eventLine{
		onEvents("E5", "several_streams_all_or_nothing", allOrNothing),
		onEvents("E5", "several_streams_at_once", severalStreams),
		onEvents("E5", "readers_see_all_or_nothing", readersSeeWhole),
		onEvents("E5", "what_is_there_twice_is_invalid", twiceIsInvalid),
		onEvents("E5", "an_empty_append_checks", emptyAppendChecks),
		onEvents("E5", "another_stream_can_be_asserted", assertAnother),
		onEvents("E5", "messages_are_left_alone", messagesAreLeftAlone),
		onEvents("E5", "append_each_is_independent", eachIsIndependent),
		onEvents("E5", "append_each_goes_in_order", eachInOrder),
	}
}

func allOrNothing(b *eventBench) {
	taken := made("taken-1", "Taken")
	b.put("taken-1", es.Any, taken)
	moved := taken.Clone()
	moved.Stream = "c-1"
	nameless := made("c-1", "")
	for _, test := range []struct {
		what string
		last es.StreamAppend
		want error
	}{
		{"a conflict", es.StreamAppend{Stream: "c-1", Expect: es.Exactly(1), Events: some("c-1", 1)}, es.ErrConflict},
		{"a conflict without events", es.StreamAppend{Stream: "taken-1", Expect: es.NoStream}, es.ErrConflict},
		{"an invalid event", es.StreamAppend{Stream: "c-1", Events: []*es.Message{nameless}}, es.ErrInvalid},
		{"an event of another stream", es.StreamAppend{Stream: "c-1", Events: some("c-2", 1)}, es.ErrInvalid},
		{"a duplicate", es.StreamAppend{Stream: "c-1", Events: []*es.Message{made("c-1", "New"), moved}}, es.ErrDuplicate},
	} {
		for _, at := range []int{0, 1, 2} { // the one that fails comes first, in the middle, and last
			b.Logf("%s at %d", test.what, at)
			streams := []es.StreamAppend{{Stream: "a-1", Events: some("a-1", 2)}, {Stream: "b-1", Events: some("b-1", 1)}}
			streams = append(streams[:at:at], append([]es.StreamAppend{test.last}, streams[at:]...)...)
			b.refused(es.Append{Streams: streams}, test.want)
		}
	}
	b.put("a-1", es.NoStream, some("a-1", 1)...)
	b.put("b-1", es.NoStream, some("b-1", 1)...)
}

func severalStreams(b *eventBench) {
	first := some("a-1", 1)
	b.put("a-1", es.Any, first...)
	a, c := some("a-1", 2), some("c-1", 1)
	done := b.must(es.Append{Streams: []es.StreamAppend{
		{Stream: "c-1", Expect: es.NoStream, Events: c},
		{Stream: "b-1", Expect: es.NoStream},
		{Stream: "a-1", Expect: es.Exactly(1), Events: a},
	}})
	b.holds("a-1", append(first, a...)...)
	b.holds("b-1")
	b.holds("c-1", c...)
	stored := append(b.few("c-1", 1), b.few("a-1", 3)[1:]...)
	for i, m := range stored {
		if got := (es.Place{Version: m.Version, Position: m.Position}); got != done.Places[i] {
			b.Errorf("the append says %+v of its event %d, which stands at %+v", done.Places[i], i, got)
		}
	}
}

// readersSeeWhole reads one stream and then another while appends to both go on: what the first reading saw of an append, the
// second one sees too.
func readersSeeWhole(b *eventBench) {
	const appends, events = 40, 3
	written := make(chan error, 1)
	go func() {
		for range appends {
			_, err := b.store.Append(b.ctx, es.Append{Streams: []es.StreamAppend{
				{Stream: "b-1", Events: some("b-1", events)},
				{Stream: "a-1", Events: some("a-1", events)},
			}})
			if err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	var failed error
	for done := false; !done && failed == nil; {
		select {
		case failed = <-written:
			done = true
		default:
		}
		before, err := readAll(b.ctx, b.store, es.Query{Stream: "a-1"})
		after, err2 := readAll(b.ctx, b.store, es.Query{Stream: "b-1"})
		failed = errors.Join(failed, err, err2)
		switch {
		case failed != nil:
		case len(before)%events != 0 || len(after)%events != 0:
			failed = fmt.Errorf("%d and %d events can be read of appends of %d to each of two streams", len(before), len(after), events)
		case len(after) < len(before):
			failed = fmt.Errorf("%d events of one stream are there, and then %d of the other", len(before), len(after))
		case done && (len(before) != appends*events || len(after) != appends*events):
			failed = fmt.Errorf("at the end there are %d and %d events, want %d", len(before), len(after), appends*events)
		}
		if failed != nil && !done {
			failed = errors.Join(failed, <-written)
		}
	}
	if failed != nil {
		b.Fatal(failed)
	}
}

func twiceIsInvalid(b *eventBench) {
	event := made("a-1", "Happened")
	b.refused(es.AppendTo("a-1", es.Any, event, made("a-1", "Happened"), event), es.ErrInvalid)
	b.refused(es.Append{Streams: []es.StreamAppend{
		{Stream: "a-1", Events: some("a-1", 1)},
		{Stream: "b-1", Events: some("b-1", 1)},
		{Stream: "a-1", Events: some("a-1", 1)},
	}}, es.ErrInvalid)
	b.refused(es.Append{Streams: []es.StreamAppend{{Stream: "a-1"}, {Stream: "a-1"}}}, es.ErrInvalid)
	copied := event.Clone()
	copied.Stream = "b-1"
	b.refused(es.Append{Streams: []es.StreamAppend{
		{Stream: "a-1", Events: []*es.Message{event}},
		{Stream: "b-1", Events: []*es.Message{copied}},
	}}, es.ErrInvalid)
	b.refused(es.Append{}, es.ErrInvalid)
	b.put("a-1", es.NoStream, event)
	b.refused(es.AppendTo("a-1", es.Any, event, event), es.ErrInvalid) // also when it is there already
}

func emptyAppendChecks(b *eventBench) {
	b.put("a-1", es.Any, some("a-1", 2)...)
	before := b.all()
	head := b.settled(b.lastOf(before))
	for _, expect := range []es.Expectation{es.Any, es.StreamExists, es.Exactly(2)} {
		if done := b.must(es.AppendTo("a-1", expect)); done.Existing != 0 || done.Position != 0 {
			b.Errorf("an append without events gives %+v", done)
		}
	}
	for _, expect := range []es.Expectation{es.Any, es.NoStream, es.Exactly(0)} {
		b.must(es.AppendTo("b-1", expect))
	}
	b.same(b.all(), before, "after appends without events")
	b.conflicts(es.AppendTo("a-1", es.NoStream), "a-1", es.NoStream, 2)
	b.conflicts(es.AppendTo("a-1", es.Exactly(1)), "a-1", es.Exactly(1), 2)
	b.conflicts(es.AppendTo("a-1", es.Exactly(3)), "a-1", es.Exactly(3), 2)
	b.conflicts(es.AppendTo("b-1", es.StreamExists), "b-1", es.StreamExists, 0)

	unless := func(after int64) es.Append {
		return es.Append{Unless: []es.Condition{{Match: []es.Criterion{{}}, After: after}}}
	}
	b.must(unless(head.Position))
	b.conflictsOver(unless(0), 0, 2)
}

func assertAnother(b *eventBench) {
	b.put("price-1", es.Any, some("price-1", 3)...)
	order := some("order-1", 1)
	asserting := func(v int64) es.Append {
		return es.Append{Streams: []es.StreamAppend{
			{Stream: "order-1", Expect: es.NoStream, Events: order},
			{Stream: "price-1", Expect: es.Exactly(v)},
		}}
	}
	b.conflicts(asserting(2), "price-1", es.Exactly(2), 3)
	b.conflicts(asserting(4), "price-1", es.Exactly(4), 3)
	b.must(asserting(3))
	b.holds("order-1", order...)
	if n := len(b.stream("price-1")); n != 3 {
		b.Errorf("the stream that was only asserted has %d events, want 3", n)
	}
}

func messagesAreLeftAlone(b *eventBench) {
	events := some("alone-1", 3)
	for i, m := range events {
		m.Tags, m.Metadata = []string{"b", "a"}, map[string]string{"i": strconv.Itoa(i)}
	}
	given := []*es.Message{events[0].Clone(), events[1].Clone(), events[2].Clone()}
	look := func(after string) {
		b.Helper()
		for i := range events {
			if !reflect.DeepEqual(events[i], given[i]) {
				b.Fatalf("%s changed the message it was given: %+v, it was %+v", after, *events[i], *given[i])
			}
		}
	}
	b.put("alone-1", es.Any, events[0])
	look("Append")
	b.must(es.AppendTo("alone-1", es.Any, events[:2]...))
	look("Append of some that are there")
	b.refused(es.AppendTo("alone-1", es.NoStream, events...), es.ErrConflict)
	look("Append with a conflict")
	b.eachOK(es.AppendTo("alone-1", es.Any, events...))
	look("AppendEach")
}

// eachOK makes one append by AppendEach, which must be taken.
func (b *eventBench) eachOK(a es.Append) es.Appended {
	b.Helper()
	outcomes := b.store.AppendEach(b.ctx, []es.Append{a})
	if len(outcomes) != 1 || outcomes[0].Err != nil {
		b.Fatalf("AppendEach of an append to %s: %+v", streamsOf(a), outcomes)
	}
	b.checkAppended(a, outcomes[0].Appended)
	return outcomes[0].Appended
}

func eachIsIndependent(b *eventBench) {
	if outcomes := b.store.AppendEach(b.ctx, nil); len(outcomes) != 0 {
		b.Errorf("AppendEach of nothing has %d outcomes", len(outcomes))
	}
	taken := made("taken-1", "Taken")
	place := b.put("taken-1", es.Any, taken).Places[0]
	moved := taken.Clone()
	moved.Stream = "e-1"
	a, d, g := some("a-1", 2), some("d-1", 1), some("g-1", 1)
	appends := []es.Append{
		es.AppendTo("a-1", es.NoStream, a...),
		es.AppendTo("b-1", es.Exactly(5), some("b-1", 1)...),
		es.AppendTo("c-1", es.Any, made("c-1", "Fine"), made("c-1", "")),
		es.AppendTo("d-1", es.NoStream, d...),
		es.AppendTo("e-1", es.Any, made("e-1", "Fine"), moved),
		es.AppendTo("taken-1", es.NoStream, taken),
		{Streams: []es.StreamAppend{{Stream: "f-1", Events: some("f-1", 1)}},
			Unless: []es.Condition{{Match: []es.Criterion{{Names: []string{"Taken"}}}}}},
		es.AppendTo("g-1", es.NoStream, g...),
		{},
	}
	want := []error{nil, es.ErrConflict, es.ErrInvalid, nil, es.ErrDuplicate, nil, es.ErrConflict, nil, es.ErrInvalid}
	outcomes := b.store.AppendEach(b.ctx, appends)
	if len(outcomes) != len(want) {
		b.Fatalf("%d appends have %d outcomes", len(want), len(outcomes))
	}
	for i, o := range outcomes {
		if !errors.Is(o.Err, want[i]) {
			b.Errorf("append %d, to %s, gives %v; want %v", i, streamsOf(appends[i]), o.Err, want[i])
		}
		if want[i] == nil && o.Err == nil {
			b.checkAppended(appends[i], o.Appended)
		}
	}
	if o := outcomes[5]; len(o.Places) != 1 || o.Places[0] != place || o.Existing != 1 {
		b.Errorf("the one that was there has %+v; want the place %+v", o.Appended, place)
	}
	b.holds("a-1", a...)
	b.holds("d-1", d...)
	b.holds("g-1", g...)
	if n := len(b.all()); n != 1+len(a)+len(d)+len(g) {
		b.Errorf("there are %d events in all, want %d", n, 1+len(a)+len(d)+len(g))
	}
}

func eachInOrder(b *eventBench) {
	events := some("order-1", 5)
	outcomes := b.store.AppendEach(b.ctx, []es.Append{
		es.AppendTo("order-1", es.NoStream, events[0]),
		es.AppendTo("order-1", es.Exactly(1), events[1:3]...),
		es.AppendTo("order-1", es.Exactly(1), some("order-1", 1)...),
		es.AppendTo("order-1", es.Any, events[2], events[3]),
		es.AppendTo("order-1", es.Exactly(4), events[4]),
		es.AppendTo("order-1", es.NoStream, events...),
	})
	if len(outcomes) != 6 {
		b.Fatalf("6 appends have %d outcomes", len(outcomes))
	}
	last := int64(0)
	for i, o := range outcomes {
		if want := []int{0, 0, 0, 1, 0, 5}[i]; o.Existing != want {
			b.Errorf("append %d finds %d of its events there, want %d", i, o.Existing, want)
		}
		if i == 2 {
			if !errors.Is(o.Err, es.ErrConflict) {
				b.Errorf("the third append expects the version before the second: %v", o.Err)
			}
			continue
		}
		if o.Err != nil {
			b.Fatalf("append %d: %v", i, o.Err)
		}
		if i < 5 && o.Position <= last {
			b.Errorf("append %d has position %d, after %d", i, o.Position, last)
		}
		last = o.Position
	}
	b.holds("order-1", events...)
}
