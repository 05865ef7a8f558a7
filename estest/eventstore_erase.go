package estest

import (
	"bytes"
	"errors"
	"maps"

	es "github.com/eventsourcing-go/eventsourcing"
)

func eraseLines() []eventLine {
	return []eventLine{
		onEvents("E12", "erase_removes_data_and_metadata", eraseRemoves, needEdits()),
		onEvents("E12", "erase_all_of_a_stream", eraseAll, needEdits()),
		onEvents("E12", "erase_appends_its_audit_event", eraseAudits, needEdits()),
		onEvents("E12", "erase_again_changes_nothing", eraseAgain, needEdits()),
		onEvents("E12", "erase_all_or_nothing", eraseAllOrNothing, needEdits()),
		onEvents("E12", "erased_events_count_as_before", erasedCount, needEdits()),
	}
}

// personal makes n events with something to erase.
func personal(stream string, n int) []*es.Message {
	events := tagged(stream, n)
	for _, m := range events {
		m.Data = []byte(`{"name":"Ada"}`)
		m.Metadata = map[string]string{"user": "ada", "tenant": "t1"}
		m.CorrelationID, m.CausationID = "correlation", "causation"
	}
	return events
}

func (b *eventBench) erase(e es.Erasure) es.Appended {
	b.Helper()
	done, err := b.store.Erase(b.ctx, e)
	if err != nil {
		b.Fatalf("erase versions %v of %q: %v", e.Versions, e.Stream, err)
	}
	if len(done.Places) != 1 || done.Position != done.Places[0].Position {
		b.Fatalf("an erasure tells of its audit event %+v", done)
	}
	return done
}

// erasedAs fails unless got is what is left of an event after it was erased.
func (b *eventBench) erasedAs(got, was, audit *es.Message) {
	b.Helper()
	want := was.Clone()
	want.Data, want.Metadata = nil, map[string]string{es.MetadataErased: audit.ID.String()}
	if len(got.Data) != 0 || !maps.Equal(got.Metadata, want.Metadata) {
		b.Fatalf("an erased event has the data %q and the metadata %v", got.Data, got.Metadata)
	}
	if diff := differOne(got, want); diff != "" {
		b.Fatalf("an erased event: %s", diff)
	}
}

func eraseRemoves(b *eventBench) {
	b.put("edit-1", es.Any, personal("edit-1", 4)...)
	b.put("edit-2", es.Any, personal("edit-2", 2)...)
	before := b.all()
	kept := make([][]byte, len(before))
	for i, m := range before {
		kept[i] = bytes.Clone(m.Data)
	}
	audit := made("audit-1", "Erased")
	b.erase(es.Erasure{Stream: "edit-1", Versions: []int64{4, 2}, Audit: audit})
	look := func() {
		b.Helper()
		for _, q := range []es.Query{
			{Unsettled: true}, {Stream: "edit-1"}, {Category: "edit", Unsettled: true}, {Tags: []string{"t"}, Unsettled: true},
		} {
			found := b.read(q)
			was := model(before, q)
			if len(found) < len(was) {
				b.Fatalf("read %+v gives %d events after an erasure, %d before", q, len(found), len(was))
			}
			for i, m := range was {
				if m.Stream == "edit-1" && m.Version%2 == 0 {
					b.erasedAs(found[i], m, audit)
				} else {
					b.same(found[i:i+1], was[i:i+1], "an event that was not erased")
				}
			}
		}
	}
	look()
	for i, m := range before { // what was handed out before is its reader's
		if !bytes.Equal(m.Data, kept[i]) || len(m.Metadata) != 2 {
			b.Fatal("an erasure reaches into messages that were handed out before it")
		}
	}
	if needReopen().met(b.harness) {
		b.reopen()
		look()
	}
}

func eraseAll(b *eventBench) {
	b.put("edit-1", es.Any, personal("edit-1", 3)...)
	before := b.stream("edit-1")
	audit := made("edit-1", "Erased") // in the very stream
	audit.Data, audit.Metadata = []byte(`{"why":"asked"}`), map[string]string{"by": "dpo"}
	done := b.erase(es.Erasure{Stream: "edit-1", Audit: audit})
	if done.Places[0].Version != 4 {
		b.Fatalf("the audit event in the stream of 3 events has version %d", done.Places[0].Version)
	}
	after := b.stream("edit-1")
	if len(after) != 4 {
		b.Fatalf("there are %d events after the erasure, want 4", len(after))
	}
	for i, m := range before {
		b.erasedAs(after[i], m, audit)
	}
	if diff := differMessage(after[3], audit); diff != "" {
		b.Fatalf("the audit event: %s", diff)
	}
}

func eraseAudits(b *eventBench) {
	last := b.put("edit-1", es.Any, personal("edit-1", 2)...).Position
	b.put("audit-1", es.Any, some("audit-1", 3)...)
	audit := made("audit-1", "Erased", "gdpr")
	audit.Metadata = map[string]string{"by": "dpo"}
	done := b.erase(es.Erasure{Stream: "edit-1", Versions: []int64{1}, Audit: audit})
	if done.Places[0].Version != 4 || done.Position <= last || done.Existing != 0 {
		b.Fatalf("the audit event stands at %+v", done)
	}
	b.settled(done.Position) // and whoever waits hears of it
	got := b.read(es.Query{Tags: []string{"gdpr"}})
	if len(got) != 1 || got[0].ID != audit.ID || got[0].Version != 4 || got[0].Position != done.Position {
		b.Fatalf("the audit event cannot be read: %d events", len(got))
	}
	if diff := differMessage(got[0], audit); diff != "" {
		b.Fatalf("the audit event: %s", diff)
	}
	b.conflicts(es.AppendTo("audit-1", es.Exactly(3), some("audit-1", 1)...), "audit-1", es.Exactly(3), 4)
}

func eraseAgain(b *eventBench) {
	b.put("edit-1", es.Any, personal("edit-1", 3)...)
	audit := made("audit-1", "Erased")
	erasure := es.Erasure{Stream: "edit-1", Versions: []int64{1, 2}, Audit: audit}
	first := b.erase(erasure)
	before := b.all()
	again := func() {
		b.Helper()
		done := b.erase(erasure)
		if done.Places[0] != first.Places[0] || done.Existing != 1 {
			b.Fatalf("erasing again with the same audit event gives %+v; it stands at %+v", done, first.Places)
		}
		b.same(b.all(), before, "after erasing again")
	}
	again()
	if needReopen().met(b.harness) {
		b.reopen()
		again()
	}
}

func eraseAllOrNothing(b *eventBench) {
	b.put("edit-1", es.Any, personal("edit-1", 2)...)
	taken := made("audit-2", "Taken")
	b.put("audit-2", es.Any, taken)
	moved := taken.Clone()
	moved.Stream = "audit-1"
	before := b.all()
	for _, test := range []struct {
		what string
		es.Erasure
		want error
	}{
		{"a version beyond the last", es.Erasure{Stream: "edit-1", Versions: []int64{1, 3}, Audit: made("audit-1", "Erased")}, es.ErrNotFound},
		{"version 0", es.Erasure{Stream: "edit-1", Versions: []int64{0, 1}, Audit: made("audit-1", "Erased")}, es.ErrNotFound},
		{"a version of no stream", es.Erasure{Stream: "edit-2", Versions: []int64{1}, Audit: made("audit-1", "Erased")}, es.ErrNotFound},
		{"no audit event", es.Erasure{Stream: "edit-1"}, es.ErrInvalid},
		{"a broken audit event", es.Erasure{Stream: "edit-1", Audit: made("audit-1", "")}, es.ErrInvalid},
		{"a broken stream", es.Erasure{Stream: "", Audit: made("audit-1", "Erased")}, es.ErrInvalid},
		{"an audit event whose ID is taken", es.Erasure{Stream: "edit-1", Audit: moved}, es.ErrDuplicate},
	} {
		_, err := b.store.Erase(b.ctx, test.Erasure)
		if !errors.Is(err, test.want) {
			b.Errorf("an erasure with %s gives %v; want %v", test.what, err, test.want)
		}
		b.same(b.all(), before, "after an erasure with "+test.what)
	}
}

// erasedCount appends erased events again, whose content is not that of the store any more, and goes on with their stream.
func erasedCount(b *eventBench) {
	events := personal("edit-1", 3)
	after := b.settledNow()
	done := b.put("edit-1", es.NoStream, events...)
	b.erase(es.Erasure{Stream: "edit-1", Versions: []int64{1, 2}, Audit: made("audit-1", "Erased")})
	b.repeats(es.AppendTo("edit-1", es.NoStream, events...), done.Places)
	if got := b.few("edit-1", 3); len(got[0].Data) != 0 {
		b.Fatal("an append that was repeated brings erased data back")
	}
	b.conflicts(es.AppendTo("edit-1", es.NoStream, some("edit-1", 1)...), "edit-1", es.NoStream, 3)
	b.conflictsOver(unless("x-1", es.Condition{Match: []es.Criterion{{Tags: []string{"t"}}}, After: after}), 0, 3)
	moved := events[0].Clone()
	moved.Stream = "edit-2"
	b.duplicate(es.AppendTo("edit-2", es.Any, moved), events[0], "edit-1")
	b.put("edit-1", es.Exactly(3), tagged("edit-1", 1)...)
}
