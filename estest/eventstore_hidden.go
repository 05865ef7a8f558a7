package estest

import (
	"errors"
	"fmt"
	"math"

	es "github.com/eventsourcing-go/eventsourcing"
)

func hiddenLines() []eventLine {
	return []eventLine{
		onEvents("E12", "truncate_hides_what_is_there", truncateWhatIsThere, needEdits()),
		onEvents("E12", "truncated_whole_is_not_deleted", truncatedWhole, needEdits()),
		onEvents("E12", "hidden_events_match_no_condition", hiddenMatchNothing, needEdits()),
		onEvents("E12", "what_was_seen_and_is_hidden_conflicts", seenAndHidden, needEdits()),
		onEvents("E12", "tombstone_against_appends", tombstoneAgainstAppends, needEdits()),
		onEvents("E12", "erase_takes_what_can_be_read", eraseWhatCanBeRead, needEdits()),
	}
}

// truncateWhatIsThere truncates before versions that the stream does not have: it is no promise for what comes later.
func truncateWhatIsThere(b *eventBench) {
	b.truncate("edit-3", 10) // what was never there
	for _, before := range []int64{100, math.MaxInt64} {
		b.put("edit-1", es.Any, tagged("edit-1", 3)...)
		b.truncate("edit-1", before)
		b.sees(nil, "truncated before more than there is")
	}
	last := tagged("edit-1", 2)
	b.put("edit-1", es.Exactly(6), last...)
	b.holdsFrom("edit-1", 7, last...)
	b.put("edit-3", es.NoStream, tagged("edit-3", 2)...)
	all := b.all()
	again := func(when string) {
		b.Helper()
		b.sees(all, when)
		for _, before := range []int64{0, 1, 7} {
			b.truncate("edit-1", before)
			b.truncate("edit-3", min(before, 1))
			b.sees(all, "truncated before the first version that is left, or less, and "+when)
		}
	}
	again("appended to")
	for _, before := range []int64{-1, math.MinInt64} {
		if err := b.store.Truncate(b.ctx, "edit-1", before); !isInvalid(err) {
			b.Errorf("truncating before version %d gives %v; want an ErrInvalid", before, err)
		}
	}
	if needReopen().met(b.harness) {
		b.reopen()
		again("opened again")
	}
}

// truncatedWhole has a stream of which nothing can be read and which exists all the same; and one that is deleted, which is not
// there again because it is truncated.
func truncatedWhole(b *eventBench) {
	b.put("edit-1", es.Any, tagged("edit-1", 3)...)
	b.put("edit-2", es.Any, tagged("edit-2", 3)...)
	b.truncate("edit-1", 4)
	b.delete("edit-2", es.SoftDelete)
	b.truncate("edit-2", 2)
	look := func() {
		b.Helper()
		b.conflicts(es.AppendTo("edit-1", es.NoStream, some("edit-1", 1)...), "edit-1", es.NoStream, 3)
		b.conflicts(es.AppendTo("edit-1", es.NoStream), "edit-1", es.NoStream, 3)
		b.must(es.AppendTo("edit-1", es.StreamExists))
		b.must(es.AppendTo("edit-1", es.Exactly(3)))
		b.conflicts(es.AppendTo("edit-2", es.StreamExists), "edit-2", es.StreamExists, 3)
		b.must(es.AppendTo("edit-2", es.NoStream))
	}
	look()
	if needReopen().met(b.harness) {
		b.reopen()
		look()
	}
	if done := b.put("edit-1", es.StreamExists, tagged("edit-1", 1)...); done.Places[0].Version != 4 {
		b.Fatalf("a stream that was truncated at version 3 goes on at %+v", done.Places)
	}
}

// hiddenMatchNothing decides on what can be read: an event that came and went meanwhile would not be there for a new decision
// either.
func hiddenMatchNothing(b *eventBench) {
	for what, hide := range map[string]func(stream string){
		"truncated":        func(stream string) { b.truncate(stream, 3) },
		"softly deleted":   func(stream string) { b.delete(stream, es.SoftDelete) },
		"deleted for good": func(stream string) { b.delete(stream, es.Tombstone) },
	} {
		stream := es.NewID().String() + "-1"
		conditions := []es.Condition{
			{Match: []es.Criterion{{Tags: []string{stream}}}}, {Match: []es.Criterion{{Names: []string{"N" + stream}}}},
			{Match: []es.Criterion{{Names: []string{"N" + stream}, Tags: []string{stream}}}}, {Match: []es.Criterion{{}}},
		}
		after := b.settledNow()
		b.put(stream, es.Any, made(stream, "N"+stream, stream), made(stream, "N"+stream, stream))
		for i := range conditions {
			conditions[i].After = after
			b.conflictsOver(unless("decision-1", conditions[i]), 0, 2)
		}
		hide(stream)
		for _, c := range conditions {
			if _, err := b.store.Append(b.ctx, es.Append{Unless: []es.Condition{c}}); err != nil {
				b.Fatalf("under the condition %+v, of whose matches all are %s: %v", c, what, err)
			}
		}
		if what == "truncated" { // what is left of the stream matches
			b.put(stream, es.Any, made(stream, "N"+stream, stream))
			for _, c := range conditions {
				b.conflictsOver(unless("decision-1", c), 0, 1)
			}
		}
	}
}

// seenAndHidden hides an event that a decision has seen, and appends one that it has not: there are as many as before.
func seenAndHidden(b *eventBench) {
	for _, hide := range []func(stream string){
		func(stream string) { b.truncate(stream, 2) },
		func(stream string) { b.delete(stream, es.SoftDelete) },
	} {
		tag := es.NewID().String()
		c := es.Condition{Match: []es.Criterion{{Tags: []string{tag}}}, After: b.settledNow(), Seen: 1}
		seen := made("seen-"+tag, "Seen", tag)
		b.put(seen.Stream, es.Any, seen)
		b.must(unless("decision-1", c))
		hide(seen.Stream)
		b.put("unseen-"+tag, es.Any, made("unseen-"+tag, "Unseen", tag))
		err := b.refusal(unless("decision-1", c), es.ErrConflict)
		var conflict *es.ConflictError
		if !errors.As(err, &conflict) || conflict.Condition == nil || conflict.Condition.After != c.After || conflict.Condition.Seen != 1 {
			b.Fatalf("the conflict is %v; want one that tells of the condition %+v", err, c)
		}
		c, read, err := decide(b, b.store, c.Match) // made again, it holds
		if err != nil || read != 1 {
			b.Fatalf("the decision, made again, reads %d events (%v), want 1", read, err)
		}
		b.settledNow()
		b.must(unless("decision-1", c))
	}
}

// tombstoneAgainstAppends closes a stream while others append to it: of what was appended last, too, nothing can be read.
func tombstoneAgainstAppends(b *eventBench) {
	for round := range 10 {
		stream := fmt.Sprintf("edit-%d", round)
		before := b.settledNow()
		for i, err := range together(4, func(i int) error {
			if i == 0 {
				if _, err := b.store.Wait(b.ctx, es.Checkpoint{Position: before}); err != nil {
					return err
				}
				return b.store.Delete(b.ctx, stream, es.Tombstone)
			}
			for {
				_, err := b.store.Append(b.ctx, es.AppendTo(stream, es.Any, tagged(stream, 2)...))
				switch {
				case errors.Is(err, es.ErrStreamDeleted):
					return nil
				case err != nil:
					return err
				}
			}
		}) {
			if err != nil {
				b.Fatalf("closing a stream (0) and appending to it at once: %d gets %v", i, err)
			}
		}
		b.settledNow()
		for _, q := range []es.Query{{Stream: stream}, {}, {Tags: []string{"t"}}, {Reverse: true, Unsettled: true}} {
			if got := b.read(q); len(got) != 0 {
				b.Fatalf("read %+v gives %d events of a stream that was closed while they were appended", q, len(got))
			}
		}
	}
}

// eraseWhatCanBeRead names events that are hidden, erased before, or named twice, and streams of which nothing can be read.
func eraseWhatCanBeRead(b *eventBench) {
	b.put("edit-1", es.Any, personal("edit-1", 5)...)
	b.put("edit-2", es.Any, personal("edit-2", 2)...)
	b.truncate("edit-1", 3)
	b.delete("edit-2", es.SoftDelete)
	was := b.stream("edit-1")
	before := b.all()
	for _, e := range []es.Erasure{
		{Stream: "edit-1", Versions: []int64{2}, Audit: made("audit-1", "Erased")},
		{Stream: "edit-1", Versions: []int64{4, 1}, Audit: made("audit-1", "Erased")},
		{Stream: "edit-2", Versions: []int64{1}, Audit: made("audit-1", "Erased")},
		{Stream: "edit-1", Versions: []int64{math.MaxInt64}, Audit: made("audit-1", "Erased")},
		{Stream: "edit-1", Versions: []int64{math.MinInt64}, Audit: made("audit-1", "Erased")},
		{Stream: "edit-1", Versions: []int64{1<<32 + 4}, Audit: made("audit-1", "Erased")},
	} {
		if _, err := b.store.Erase(b.ctx, e); !errors.Is(err, es.ErrNotFound) {
			b.Fatalf("erasing the versions %v of %q, which cannot be read, gives %v; want ErrNotFound", e.Versions, e.Stream, err)
		}
		b.same(b.all(), before, "after an erasure of what cannot be read")
	}
	first, second := made("audit-1", "Erased"), made("audit-1", "Erased")
	b.erase(es.Erasure{Stream: "edit-1", Versions: []int64{4, 3, 4}, Audit: first})
	b.erase(es.Erasure{Stream: "edit-1", Audit: second}) // all that is left, of which two are erased already
	look := func() {
		b.Helper()
		for i, m := range b.few("edit-1", 3) {
			b.erasedAs(m, was[i], []*es.Message{first, first, second}[i])
		}
	}
	look()
	for _, stream := range []string{"edit-2", "edit-3"} { // nothing to erase, and that is on record
		audit := made("audit-1", "Erased")
		b.erase(es.Erasure{Stream: stream, Audit: audit})
		if newest := b.stream("audit-1"); newest[len(newest)-1].ID != audit.ID {
			b.Fatalf("erasing all of %q, of which nothing can be read, appends no audit event", stream)
		}
	}
	// An audit event that is there already stands for an erasure that was done.
	b.put("edit-1", es.Any, personal("edit-1", 1)...)
	before = b.all()
	if done := b.erase(es.Erasure{Stream: "edit-1", Audit: first}); done.Existing != 1 {
		b.Fatalf("erasing with an audit event that is there gives %+v", done)
	}
	b.same(b.all(), before, "after an erasure whose audit event is there")
	if needReopen().met(b.harness) {
		b.reopen()
		b.same(b.all(), before, "after erasures and opening again")
	}
	closed := made("audit-2", "Erased")
	b.delete("audit-2", es.Tombstone)
	if _, err := b.store.Erase(b.ctx, es.Erasure{Stream: "edit-1", Audit: closed}); !errors.Is(err, es.ErrStreamDeleted) {
		b.Fatalf("an erasure whose audit event goes to a closed stream gives %v; want ErrStreamDeleted", err)
	}
	b.same(b.all(), before, "after an erasure that could not be recorded")
}
