package estest

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func positionLines() []eventLine {
	return []eventLine{
		onEvents("E10", "a_position_is_never_given_twice", positionsOnce),
		onEvents("E10", "positions_go_on_after_reopening", positionsAfterReopening, needReopen()),
		onEvents("E10", "incarnation_stays", incarnationStays),
		onEvents("E10", "another_incarnation_is_an_error", anotherIncarnation),
		onEvents("E10", "beyond_the_last_position_is_an_error", beyondTheLast),
	}
}

// positionsOnce looks at all the positions that appends were given, one after the other and at once, with failures in between.
func positionsOnce(b *eventBench) {
	given := map[int64]string{}
	take := func(who string, done es.Appended) {
		b.Helper()
		for _, p := range done.Places {
			if before, twice := given[p.Position]; twice {
				b.Fatalf("position %d was given to %s and to %s", p.Position, before, who)
			}
			given[p.Position] = who
		}
	}
	last := int64(0)
	for i := range 20 {
		b.refused(es.AppendTo("some-1", es.Exactly(1000), some("some-1", 3)...), es.ErrConflict)
		done := b.put("some-1", es.Any, some("some-1", 1+i%3)...)
		take(fmt.Sprintf("append %d", i), done)
		for _, p := range done.Places {
			if p.Position <= last {
				b.Fatalf("an append that began after another had returned has position %d, the other %d", p.Position, last)
			}
			last = p.Position
		}
	}
	type outcome struct {
		done []es.Appended
		err  error
	}
	for i, o := range together(racers, func(i int) outcome {
		var o outcome
		for n := range 10 {
			stream := fmt.Sprintf("some-%d", (i+n)%5)
			expect := es.Any
			if n%3 == 2 {
				expect = es.NoStream
			}
			done, err := b.store.Append(b.ctx, es.AppendTo(stream, expect, some(stream, 1+n%2)...))
			if err == nil {
				o.done = append(o.done, done)
			} else if !errors.Is(err, es.ErrConflict) {
				o.err = err
			}
		}
		return o
	}) {
		if o.err != nil {
			b.Fatal(o.err)
		}
		for _, done := range o.done {
			take(fmt.Sprintf("writer %d", i), done)
		}
	}
	if all := b.all(); len(all) != len(given) {
		b.Fatalf("%d positions were given, and %d events are there", len(given), len(all))
	}
}

func positionsAfterReopening(b *eventBench) {
	var all []*es.Message
	for round := range 4 {
		events := some("some-1", 3)
		done := b.put("some-1", es.Exactly(int64(3*round)), events...)
		for _, p := range done.Places {
			if len(all) > 0 && p.Position <= all[len(all)-1].Position {
				b.Fatalf("after reopening, position %d is given; %d was given before", p.Position, all[len(all)-1].Position)
			}
		}
		b.refused(es.AppendTo("some-1", es.NoStream, some("some-1", 3)...), es.ErrConflict)
		now := b.all()
		b.same(now[:min(len(all), len(now))], all, "what was there before reopening")
		all = now
		head := b.settled(done.Position)
		b.reopen()
		if got := b.settled(done.Position); got.Position < head.Position || got.Incarnation != head.Incarnation {
			b.Fatalf("the head was %+v, and after reopening it is %+v", head, got)
		}
	}
	b.same(b.all(), all, "what was there before reopening")
}

func incarnationStays(b *eventBench) {
	first := b.head()
	if first.Incarnation == uuid.Nil {
		b.Fatal("the store has no incarnation; a checkpoint of it could not be told from that of another store")
	}
	last := b.put("some-1", es.Any, some("some-1", 2)...)
	waited := b.settled(last.Position)
	if again := b.head(); again.Incarnation != first.Incarnation || waited.Incarnation != first.Incarnation {
		b.Fatalf("the incarnation changes from %v to %v and %v without a reason", first.Incarnation, waited.Incarnation, again.Incarnation)
	}
	if needHandles().met(b.harness) {
		if other := b.another().head(); other.Incarnation != first.Incarnation {
			b.Fatalf("two handles to one storage have the incarnations %v and %v", first.Incarnation, other.Incarnation)
		}
	}
	if other := openEvents(b.TB, b.harness).head(); other.Incarnation == first.Incarnation {
		b.Fatalf("two storages have the same incarnation %v", first.Incarnation)
	}
}

// outOfPlace fails unless an error tells of a checkpoint that does not fit.
func (b *eventBench) outOfPlace(err error, given, last es.Checkpoint) {
	b.Helper()
	var misfit *es.CheckpointError
	if !errors.Is(err, es.ErrCheckpoint) || !errors.As(err, &misfit) {
		b.Fatalf("the checkpoint %+v gives %v (%T); want a *CheckpointError", given, err, err)
	}
	if misfit.Checkpoint.Position != given.Position || misfit.Last.Incarnation != last.Incarnation || misfit.Last.Position < last.Position {
		b.Fatalf("the error tells of %+v and %+v; want %+v and %+v or later", misfit.Checkpoint, misfit.Last, given, last)
	}
	if given.Incarnation != uuid.Nil && misfit.Checkpoint.Incarnation != given.Incarnation {
		b.Fatalf("the error tells of incarnation %v; want %v", misfit.Checkpoint.Incarnation, given.Incarnation)
	}
}

// resumed reads and waits from a checkpoint, and returns the errors of both.
func (b *eventBench) resumed(c es.Checkpoint) []error {
	b.Helper()
	_, waited := b.store.Wait(b.ctx, c)
	errs := []error{waited}
	for _, q := range []es.Query{
		{}, {Category: "some"}, {Names: []string{"Never"}}, {Reverse: true}, {Unsettled: true}, {UpTo: 1}, {Limit: 1},
	} {
		found, err := readAll(b.ctx, b.store, q.Resume(c))
		if err != nil && len(found) > 0 {
			b.Fatalf("read %+v gives %d events before %v", q.Resume(c), len(found), err)
		}
		errs = append(errs, err)
	}
	return errs
}

func anotherIncarnation(b *eventBench) {
	last := b.put("some-1", es.Any, some("some-1", 3)...)
	head := b.settled(last.Position)
	other := openEvents(b.TB, b.harness)
	foreign := other.settled(other.put("some-1", es.Any, some("some-1", 2)...).Position)
	for _, given := range []es.Checkpoint{
		{Incarnation: es.NewID()}, {Incarnation: es.NewID(), Position: 1}, foreign, {Incarnation: es.NewID(), Position: math.MaxInt64},
	} {
		for _, err := range b.resumed(given) {
			b.outOfPlace(err, given, head)
		}
		_, err := readAll(b.ctx, b.store, es.Query{Stream: "some-1", After: 1, Incarnation: given.Incarnation})
		b.outOfPlace(err, es.Checkpoint{Incarnation: given.Incarnation, Position: 1}, head)
	}
	// Its own is fine, and so is none.
	for _, incarnation := range []uuid.UUID{head.Incarnation, uuid.Nil} {
		for _, err := range b.resumed(es.Checkpoint{Incarnation: incarnation, Position: last.Places[0].Position}) {
			if err != nil {
				b.Fatalf("resuming with the incarnation %v: %v", incarnation, err)
			}
		}
	}
}

func beyondTheLast(b *eventBench) {
	far := []int64{1 << 40, math.MaxInt64}
	for _, position := range far { // of a store that is empty
		for _, err := range b.resumed(es.Checkpoint{Position: position}) {
			b.outOfPlace(err, es.Checkpoint{Position: position}, es.Checkpoint{Incarnation: b.head().Incarnation})
		}
	}
	last := b.put("some-1", es.Any, some("some-1", 3)...)
	head := b.settled(last.Position)
	for _, position := range append(far, head.Position+1_000_000) {
		for _, incarnation := range []uuid.UUID{uuid.Nil, head.Incarnation} {
			given := es.Checkpoint{Incarnation: incarnation, Position: position}
			for _, err := range b.resumed(given) {
				b.outOfPlace(err, given, es.Checkpoint{Incarnation: head.Incarnation, Position: last.Position})
			}
		}
	}
	// At the last position itself there is nothing wrong, nor for versions of a stream.
	if got := b.read(es.Query{After: last.Position}); len(got) != 0 {
		b.Fatalf("%d events beyond the last", len(got))
	}
	if got := b.read(es.Query{Stream: "some-1", After: 1 << 40}); len(got) != 0 {
		b.Fatalf("%d events beyond the last version", len(got))
	}
}
