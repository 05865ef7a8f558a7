package estest

import (
	"errors"

	es "github.com/eventsourcing-go/eventsourcing"
)

func deleteLines() []eventLine {
	return []eventLine{
		onEvents("E12", "delete_hides_from_every_reader", deleteHides, needEdits()),
		onEvents("E12", "soft_delete_frees_the_name", softDeleteFrees, needEdits()),
		onEvents("E12", "soft_delete_keeps_versions_and_ids", softDeleteKeeps, needEdits()),
		onEvents("E12", "tombstone_closes_for_good", tombstoneCloses, needEdits()),
		onEvents("E12", "tombstone_comes_before_a_conflict", tombstoneFirst, needEdits()),
		onEvents("E12", "positions_do_not_come_again", positionsDoNotComeAgain, needEdits()),
	}
}

func deleteHides(b *eventBench) {
	for _, how := range []es.Deletion{es.SoftDelete, es.Tombstone} {
		one := openEvents(b.TB, b.harness)
		one.delete("edit-3", how) // what was never there
		for range 2 {
			one.put("edit-1", es.Any, tagged("edit-1", 2)...)
			one.put("edit-2", es.Any, tagged("edit-2", 1)...)
		}
		all := one.all()
		one.delete("edit-1", how)
		one.sees(without(all, "edit-1", 1, 4), "deleted")
		one.delete("edit-1", how)
		one.sees(without(all, "edit-1", 1, 4), "deleted twice")
		if needReopen().met(b.harness) {
			one.reopen()
			one.sees(without(all, "edit-1", 1, 4), "deleted and opened again")
		}
		if err := one.store.Delete(one.ctx, "", how); !isInvalid(err) {
			one.Errorf("deleting a stream without a name: %v", err)
		}
	}
}

func softDeleteFrees(b *eventBench) {
	b.put("edit-1", es.Any, tagged("edit-1", 3)...)
	b.put("edit-2", es.Any, tagged("edit-2", 1)...)
	all := b.all()
	b.delete("edit-1", es.SoftDelete)
	for _, expect := range []es.Expectation{es.StreamExists, es.Exactly(1), es.Exactly(2), es.Exactly(4)} {
		b.conflicts(es.AppendTo("edit-1", expect, some("edit-1", 1)...), "edit-1", expect, 3)
		b.conflicts(es.AppendTo("edit-1", expect), "edit-1", expect, 3)
	}
	b.must(es.AppendTo("edit-1", es.NoStream))
	b.must(es.AppendTo("edit-1", es.Exactly(3)))

	fresh := tagged("edit-1", 2)
	if done := b.put("edit-1", es.NoStream, fresh...); done.Places[0].Version != 4 || done.Places[1].Version != 5 {
		b.Fatalf("a stream that was deleted at version 3 goes on at %+v", done.Places)
	}
	b.holdsFrom("edit-1", 4, fresh...)
	stored := append(without(all, "edit-1", 1, 3), b.stream("edit-1")...)
	b.sees(stored, "deleted and begun again")
	b.refused(es.AppendTo("edit-1", es.NoStream, some("edit-1", 1)...), es.ErrConflict)
	b.must(es.AppendTo("edit-1", es.StreamExists))

	b.delete("edit-1", es.SoftDelete)
	b.sees(without(stored, "edit-1", 1, 5), "deleted a second time")
	third := tagged("edit-1", 1)
	b.put("edit-1", es.Exactly(5), third...)
	b.holdsFrom("edit-1", 6, third...)
}

func softDeleteKeeps(b *eventBench) {
	events := tagged("edit-1", 3)
	places := b.put("edit-1", es.NoStream, events...).Places
	b.delete("edit-1", es.SoftDelete)
	for _, expect := range everyExpectation() {
		b.repeats(es.AppendTo("edit-1", expect, events...), places)
	}
	if needReopen().met(b.harness) {
		b.reopen()
		b.repeats(es.AppendTo("edit-1", es.NoStream, events...), places)
	}
	moved := events[1].Clone()
	moved.Stream = "edit-2"
	b.duplicate(es.AppendTo("edit-2", es.Any, moved), events[1], "edit-1")
	fresh := tagged("edit-1", 1)
	done := b.must(es.AppendTo("edit-1", es.Any, append(events, fresh...)...))
	if done.Existing != 3 || done.Places[3].Version != 4 {
		b.Fatalf("deleted events and a new one, appended together: %+v", done)
	}
	b.holdsFrom("edit-1", 4, fresh...)
}

func tombstoneCloses(b *eventBench) {
	events := tagged("edit-1", 2)
	places := b.put("edit-1", es.Any, events...).Places
	soft := tagged("edit-2", 2)
	softPlaces := b.put("edit-2", es.Any, soft...).Places
	b.delete("edit-1", es.Tombstone)
	b.delete("edit-2", es.SoftDelete)
	b.delete("edit-2", es.Tombstone)
	b.delete("edit-3", es.Tombstone)

	closed := func() {
		b.Helper()
		for _, stream := range []string{"edit-1", "edit-2", "edit-3"} {
			for _, expect := range []es.Expectation{es.Any, es.NoStream, es.Exactly(2)} {
				b.refused(es.AppendTo(stream, expect, some(stream, 1)...), es.ErrStreamDeleted)
			}
		}
		b.repeats(es.AppendTo("edit-1", es.Any, events...), places)
		b.repeats(es.AppendTo("edit-1", es.NoStream, events...), places)
		b.repeats(es.AppendTo("edit-2", es.Any, soft...), softPlaces)
	}
	closed()
	b.refused(es.Append{Streams: []es.StreamAppend{
		{Stream: "other-1", Events: some("other-1", 1)}, {Stream: "edit-1", Events: some("edit-1", 1)},
	}}, es.ErrStreamDeleted)
	b.refused(es.AppendTo("edit-1", es.Any, append(tagged("edit-1", 1), events...)...), es.ErrStreamDeleted)
	b.delete("edit-1", es.SoftDelete) // does not open it again
	closed()
	if needReopen().met(b.harness) {
		b.reopen()
		closed()
	}
	outcomes := b.store.AppendEach(b.ctx, []es.Append{
		es.AppendTo("edit-1", es.Any, some("edit-1", 1)...), es.AppendTo("other-1", es.NoStream, some("other-1", 1)...),
	})
	if len(outcomes) != 2 || !errors.Is(outcomes[0].Err, es.ErrStreamDeleted) || outcomes[1].Err != nil {
		b.Fatalf("AppendEach to a closed stream and to another: %+v", outcomes)
	}
}

// tombstoneFirst appends to a closed stream what is a conflict besides: who is told of the conflict would try again in vain.
func tombstoneFirst(b *eventBench) {
	there := tagged("edit-1", 2)
	b.put("edit-1", es.Any, there...)
	b.put("edit-2", es.Any, tagged("edit-2", 2)...)
	b.delete("edit-1", es.Tombstone)
	for _, expect := range everyExpectation() {
		b.refused(es.AppendTo("edit-1", expect, some("edit-1", 1)...), es.ErrStreamDeleted)
		b.refused(es.AppendTo("edit-1", expect, append(there, some("edit-1", 1)...)...), es.ErrStreamDeleted)
	}
	wrong := es.StreamAppend{Stream: "edit-2", Expect: es.Exactly(7), Events: some("edit-2", 1)}
	closed := es.StreamAppend{Stream: "edit-1", Events: some("edit-1", 1)}
	b.refused(es.Append{Streams: []es.StreamAppend{wrong, closed}}, es.ErrStreamDeleted)
	b.refused(es.Append{Streams: []es.StreamAppend{closed, wrong}}, es.ErrStreamDeleted)
	broken := es.Append{Streams: []es.StreamAppend{closed}, Unless: []es.Condition{{Match: []es.Criterion{{}}}}}
	b.refused(broken, es.ErrStreamDeleted)

	// What appends nothing to it is judged as after a soft deletion.
	b.must(es.AppendTo("edit-1", es.NoStream))
	b.must(es.AppendTo("edit-1", es.Exactly(2)))
	b.conflicts(es.AppendTo("edit-1", es.StreamExists), "edit-1", es.StreamExists, 2)
	beside := some("edit-3", 1)
	b.must(es.Append{Streams: []es.StreamAppend{{Stream: "edit-1", Events: there}, {Stream: "edit-3", Events: beside}}})
	b.holds("edit-3", beside...)
}

// positionsDoNotComeAgain deletes what has the highest positions, and opens the store again: who takes the largest position
// that is left would give them a second time.
func positionsDoNotComeAgain(b *eventBench) {
	b.put("edit-1", es.Any, tagged("edit-1", 2)...)
	given := b.put("edit-2", es.Any, tagged("edit-2", 3)...)
	b.settled(given.Position)
	again := func(what string) {
		b.Helper()
		if needReopen().met(b.harness) {
			b.reopen()
		}
		if head := b.head(); head.Position < given.Position {
			b.Fatalf("after %s the head goes back from %d to %d", what, given.Position, head.Position)
		}
		if got := b.read(es.Query{After: given.Position}); len(got) != 0 {
			b.Fatalf("after %s there are %d events beyond the last", what, len(got))
		}
		next := b.put("edit-3", es.Any, tagged("edit-3", 2)...)
		if next.Places[0].Position <= given.Position {
			b.Fatalf("after %s the position %d is given; %d was given before", what, next.Places[0].Position, given.Position)
		}
		given = next
		b.settled(given.Position)
	}
	b.delete("edit-2", es.SoftDelete)
	again("a soft delete")
	b.truncate("edit-3", 3)
	again("truncation")
	b.delete("edit-3", es.Tombstone)
	given = b.put("edit-4", es.Any, tagged("edit-4", 1)...)
	b.settled(given.Position)
	b.delete("edit-4", es.Tombstone)
	if head := b.head(); head.Position < given.Position {
		b.Fatalf("after a tombstone the head goes back from %d to %d", given.Position, head.Position)
	}
	if next := b.put("edit-5", es.Any, tagged("edit-5", 1)...); next.Position <= given.Position {
		b.Fatalf("after a tombstone the position %d is given; %d was given before", next.Position, given.Position)
	}
}
