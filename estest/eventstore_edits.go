package estest

import (
	"errors"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

func truncateLines() []eventLine {
	return []eventLine{
		onEvents("E12", "truncate_hides_from_every_reader", truncateHides, needEdits()),
		onEvents("E12", "truncate_leaves_the_stream_as_it_was", truncateLeaves, needEdits()),
		onEvents("E12", "truncate_keeps_ids_taken", truncateKeepsIDs, needEdits()),
		onEvents("E12", "what_cannot_be_done_is_unsupported", editsUnsupported, needNoEdits()),
	}
}

func (b *eventBench) truncate(stream string, before int64) {
	b.Helper()
	if err := b.store.Truncate(b.ctx, stream, before); err != nil {
		b.Fatalf("truncate %q before %d: %v", stream, before, err)
	}
}

func (b *eventBench) delete(stream string, how es.Deletion) {
	b.Helper()
	if err := b.store.Delete(b.ctx, stream, how); err != nil {
		b.Fatalf("delete %q (%v): %v", stream, how, err)
	}
}

// sees fails unless every way of reading gives exactly these events of what there is.
func (b *eventBench) sees(want []*es.Message, when string) {
	b.Helper()
	last := int64(0)
	if len(want) > 0 {
		last = want[len(want)-1].Position
	}
	b.settled(max(last, 1))
	for _, q := range []es.Query{
		{}, {Unsettled: true}, {Reverse: true}, {Category: "edit"}, {Names: []string{"Happened"}}, {Tags: []string{"t"}},
		{Any: []es.Criterion{{Names: []string{"Happened"}}, {Tags: []string{"t"}}}}, {Stream: "edit-1"}, {Stream: "edit-2"},
		{Stream: "edit-1", Reverse: true}, {Stream: "edit-1", After: 2}, {Stream: "edit-1", UpTo: 3}, {Stream: "edit-1", Limit: 2},
		{Limit: 1}, {Reverse: true, Limit: 2}, {After: 1}, {Tags: []string{"t"}, Limit: 2}, {Stream: "edit-1", Tags: []string{"t"}},
	} {
		b.same(b.read(q), model(want, q), when+", reading "+describe(q))
	}
	if _, seen, err := decide(b, b.store, []es.Criterion{{}}); err != nil || seen != len(want) {
		b.Fatalf("%s: a decision reads %d events, want %d (%v)", when, seen, len(want), err)
	}
}

func describe(q es.Query) string {
	switch {
	case q.Stream != "":
		return "stream " + q.Stream
	case q.Category != "":
		return "category " + q.Category
	case len(q.Names)+len(q.Tags)+len(q.Any) > 0:
		return "by names or tags"
	}
	return "the global order"
}

// tagged makes n events with a tag.
func tagged(stream string, n int) []*es.Message {
	events := some(stream, n)
	for _, m := range events {
		m.Tags = []string{"t"}
	}
	return events
}

// without returns the events that are not of a stream's versions from to to, both included.
func without(events []*es.Message, stream string, from, to int64) []*es.Message {
	return slices.DeleteFunc(slices.Clone(events), func(m *es.Message) bool {
		return m.Stream == stream && m.Version >= from && m.Version <= to
	})
}

func truncateHides(b *eventBench) {
	for range 3 {
		b.put("edit-1", es.Any, tagged("edit-1", 2)...)
		b.put("edit-2", es.Any, tagged("edit-2", 1)...)
	}
	all := b.all()
	b.truncate("edit-1", 1)
	b.sees(all, "truncated before the first version")
	b.truncate("edit-1", 3)
	b.sees(without(all, "edit-1", 1, 2), "truncated before version 3")
	b.truncate("edit-1", 3)
	b.truncate("edit-1", 2)
	b.sees(without(all, "edit-1", 1, 2), "truncated again, and before less")
	b.truncate("edit-1", 6)
	b.sees(without(all, "edit-1", 1, 5), "truncated before version 6")
	b.truncate("edit-1", 7)
	b.sees(without(all, "edit-1", 1, 6), "truncated before the next version")
	if needReopen().met(b.harness) {
		b.reopen()
		b.sees(without(all, "edit-1", 1, 6), "truncated and opened again")
	}
	if err := b.store.Truncate(b.ctx, "bad\x00name", 2); !isInvalid(err) {
		b.Errorf("truncating a stream without a valid name: %v", err)
	}
}

func truncateLeaves(b *eventBench) {
	b.put("edit-2", es.Any, tagged("edit-2", 3)...)
	b.put("edit-1", es.Any, tagged("edit-1", 4)...)
	b.truncate("edit-1", 4)
	b.conflicts(es.AppendTo("edit-1", es.NoStream, some("edit-1", 1)...), "edit-1", es.NoStream, 4)
	b.conflicts(es.AppendTo("edit-1", es.Exactly(1), some("edit-1", 1)...), "edit-1", es.Exactly(1), 4)
	b.conflicts(es.AppendTo("edit-1", es.Exactly(3), some("edit-1", 1)...), "edit-1", es.Exactly(3), 4)
	if done := b.put("edit-1", es.Exactly(4), tagged("edit-1", 1)...); done.Places[0].Version != 5 {
		b.Fatalf("after truncation the next version is %d, want 5", done.Places[0].Version)
	}
	last := b.put("edit-1", es.StreamExists, tagged("edit-1", 1)...).Position

	b.truncate("edit-1", 7) // nothing is left to see, and the stream is where it was
	if got := b.stream("edit-1"); len(got) != 0 {
		b.Fatalf("%d events are left", len(got))
	}
	if needReopen().met(b.harness) {
		b.reopen()
	}
	b.conflicts(es.AppendTo("edit-1", es.Exactly(5), some("edit-1", 1)...), "edit-1", es.Exactly(5), 6)
	done := b.put("edit-1", es.Exactly(6), tagged("edit-1", 1)...)
	if p := done.Places[0]; p.Version != 7 || p.Position <= last {
		b.Fatalf("after truncation of everything the next event is at %+v; want version 7 and a position beyond %d", p, last)
	}
	if got := b.stream("edit-1"); len(got) != 1 || got[0].Version != 7 {
		b.Fatalf("%d events can be read after truncation and another append", len(got))
	}
	// A checkpoint in the part that is gone is as good as any other.
	for _, err := range b.resumed(es.Checkpoint{Position: last - 1}) {
		if err != nil {
			b.Fatalf("resuming in a truncated part: %v", err)
		}
	}
}

func truncateKeepsIDs(b *eventBench) {
	events := tagged("edit-1", 4)
	places := b.put("edit-1", es.NoStream, events...).Places
	b.truncate("edit-1", 3)
	b.repeats(es.AppendTo("edit-1", es.NoStream, events...), places)
	b.repeats(es.AppendTo("edit-1", es.Exactly(4), events[:2]...), places[:2])
	if needReopen().met(b.harness) {
		b.reopen()
		b.repeats(es.AppendTo("edit-1", es.NoStream, events...), places)
	}
	moved := events[0].Clone()
	moved.Stream = "edit-2"
	b.duplicate(es.AppendTo("edit-2", es.Any, moved), events[0], "edit-1")
	done := b.must(es.AppendTo("edit-1", es.Any, append(events, tagged("edit-1", 1)...)...))
	if done.Existing != 4 || done.Places[4].Version != 5 {
		b.Fatalf("the rest of a half-truncated append: %+v", done)
	}
}

func editsUnsupported(b *eventBench) {
	event := made("edit-1", "Happened")
	b.put("edit-1", es.Any, event)
	before := b.all()
	_, erased := b.store.Erase(b.ctx, es.Erasure{Stream: "edit-1", Audit: made("audit-1", "Erased")})
	for what, err := range map[string]error{
		"Truncate":  b.store.Truncate(b.ctx, "edit-1", 2),
		"Delete":    b.store.Delete(b.ctx, "edit-1", es.SoftDelete),
		"Tombstone": b.store.Delete(b.ctx, "edit-1", es.Tombstone),
		"Erase":     erased,
	} {
		if !errors.Is(err, es.ErrUnsupported) {
			b.Errorf("%s gives %v; want ErrUnsupported", what, err)
		}
	}
	b.same(b.all(), before, "after edits that are not supported")
}
