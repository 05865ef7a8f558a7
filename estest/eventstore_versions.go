package estest

import (
	"fmt"
	"math"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func versionLines() []eventLine {
	return []eventLine{
		onEvents("E1", "versions_have_no_holes", versionsHaveNoHoles),
		onEvents("E1", "positions_rise_as_read", positionsRiseAsRead),
		onEvents("E1", "the_store_sets_what_is_its_own", storeSetsItsOwn),
	}
}

func versionsHaveNoHoles(b *eventBench) {
	var first, second []*es.Message
	for i := range 5 { // rejected appends between the others must not cost a version
		more := some("hole-1", 1+i%3)
		done := b.put("hole-1", es.Any, more...)
		for j, p := range done.Places {
			if want := int64(len(first) + j + 1); p.Version != want {
				b.Fatalf("append %d got version %d for its event %d, want %d", i, p.Version, j, want)
			}
		}
		first = append(first, more...)

		b.refused(es.AppendTo("hole-1", es.NoStream, some("hole-1", 2)...), es.ErrConflict)
		b.refused(es.AppendTo("hole-2", es.Exactly(1000), some("hole-2", 2)...), es.ErrConflict)

		more = some("hole-2", 1)
		b.put("hole-2", es.Exactly(int64(i)), more...)
		second = append(second, more...)
	}
	b.holds("hole-1", first...)
	b.holds("hole-2", second...)
}

func positionsRiseAsRead(b *eventBench) {
	const writers, each = 8, 10
	errs := together(writers, func(i int) error {
		for n := range each {
			own, shared := fmt.Sprintf("own-%d", i), fmt.Sprintf("shared-%d", n%3)
			a := es.Append{Streams: []es.StreamAppend{
				{Stream: own, Events: some(own, 2)},
				{Stream: shared, Events: some(shared, 1)},
			}}
			done, err := b.store.Append(b.ctx, a)
			if err != nil {
				return fmt.Errorf("append %d of writer %d: %w", n, i, err)
			}
			if err := checkPlaces(a, done); err != nil {
				return err
			}
			if own := positions(done.Places[:2]); !rising(own) {
				return fmt.Errorf("two events of one stream in one append have the positions %v", own)
			}
		}
		return nil
	})
	for _, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
	}
	seen, last := map[string]int64{}, int64(0)
	for _, m := range b.all() {
		if m.Position <= last {
			b.Fatalf("position %d comes after position %d", m.Position, last)
		}
		if m.Version != seen[m.Stream]+1 {
			b.Fatalf("version %d of %q comes after version %d", m.Version, m.Stream, seen[m.Stream])
		}
		last, seen[m.Stream] = m.Position, m.Version
	}
	for i := range writers {
		if stream := fmt.Sprintf("own-%d", i); seen[stream] != 2*each {
			b.Fatalf("%q has %d events, want %d", stream, seen[stream], 2*each)
		}
	}
}

func storeSetsItsOwn(b *eventBench) {
	given := some("own-1", 2)
	for _, m := range given { // what the caller left in the store's fields must not matter
		m.Version, m.Position, m.Recorded = 77, 7777, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	done := b.put("own-1", es.NoStream, given...)
	got := b.stream("own-1")
	if len(got) != len(given) {
		b.Fatalf("%d events, want %d", len(got), len(given))
	}
	for i, m := range got {
		if place := (es.Place{Version: m.Version, Position: m.Position}); place != done.Places[i] || m.Version != int64(i+1) {
			b.Errorf("event %d reads at %+v; its append said %+v", i, place, done.Places[i])
		}
		if age := time.Since(m.Recorded).Abs(); age > time.Hour {
			b.Errorf("event %d was recorded at %v, which is %v from now", i, m.Recorded, age)
		}
		if m.Recorded.Location() != time.UTC || !m.Recorded.Equal(m.Recorded.Truncate(time.Microsecond)) {
			b.Errorf("Recorded is %v; it is UTC, in microseconds", m.Recorded)
		}
	}
}

func expectationLines() []eventLine {
	return []eventLine{
		onEvents("E2", "exactly_takes_one_version", exactlyTakesOneVersion),
		onEvents("E2", "exactly_of_a_new_stream", exactlyOfNewStream),
		onEvents("E2", "no_stream", noStream),
		onEvents("E2", "stream_exists", streamExists),
		onEvents("E2", "any", anyVersion),
		onEvents("E2", "negative_is_invalid", negativeIsInvalid),
	}
}

func exactlyTakesOneVersion(b *eventBench) {
	events := some("exact-1", 3)
	b.put("exact-2", es.Any, some("exact-2", 5)...) // so that a position is not mistaken for a version
	b.put("exact-1", es.Any, events...)
	for _, v := range []int64{1, 2, 4, 5, 8, 9, 1000, math.MaxInt32 + 1, math.MaxInt64} {
		b.conflicts(es.AppendTo("exact-1", es.Exactly(v), some("exact-1", 1)...), "exact-1", es.Exactly(v), 3)
	}
	next := some("exact-1", 2)
	b.put("exact-1", es.Exactly(3), next...)
	b.holds("exact-1", append(events, next...)...)
	b.conflicts(es.AppendTo("exact-1", es.Exactly(3), some("exact-1", 1)...), "exact-1", es.Exactly(3), 5)
}

func exactlyOfNewStream(b *eventBench) {
	for _, v := range []int64{1, 2, 1000} {
		b.conflicts(es.AppendTo("new-1", es.Exactly(v), some("new-1", 1)...), "new-1", es.Exactly(v), 0)
	}
	events := some("new-1", 1)
	b.put("new-1", es.Exactly(0), events...)
	b.conflicts(es.AppendTo("new-1", es.Exactly(0), some("new-1", 1)...), "new-1", es.NoStream, 1)
	b.holds("new-1", events...)
}

func noStream(b *eventBench) {
	b.put("none-2", es.NoStream, some("none-2", 1)...) // another stream of the category is no reason
	events := some("none-1", 2)
	b.put("none-1", es.NoStream, events...)
	b.conflicts(es.AppendTo("none-1", es.NoStream, some("none-1", 1)...), "none-1", es.NoStream, 2)
	b.holds("none-1", events...)
}

func streamExists(b *eventBench) {
	b.put("some-2", es.Any, some("some-2", 1)...)
	b.conflicts(es.AppendTo("some-1", es.StreamExists, some("some-1", 1)...), "some-1", es.StreamExists, 0)
	events := some("some-1", 2)
	b.put("some-1", es.Any, events[0])
	b.put("some-1", es.StreamExists, events[1])
	b.holds("some-1", events...)
}

func anyVersion(b *eventBench) {
	events := some("any-1", 4)
	b.put("any-1", es.Any, events[0])
	b.put("any-1", es.Any, events[1:3]...)
	b.must(es.Append{Streams: []es.StreamAppend{{Stream: "any-1", Events: events[3:]}}}) // Any is what is expected by default
	b.holds("any-1", events...)
}

func negativeIsInvalid(b *eventBench) {
	b.put("negative-1", es.Any, some("negative-1", 1)...)
	for _, e := range []es.Expectation{es.Exactly(-1), es.Exactly(-2), es.Exactly(math.MinInt64), -3, -1000, math.MinInt64} {
		b.refused(es.AppendTo("negative-1", e, some("negative-1", 1)...), es.ErrInvalid)
		b.refused(es.AppendTo("negative-2", e, some("negative-2", 1)...), es.ErrInvalid)
	}
}
