package estest

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func runtimeCrashLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("O3/crash_before_the_append_loses_nothing", runtimeCrashAt("Events.Append", beforeIt)),
		runtimeLine("O3/crash_after_the_append_loses_nothing", runtimeCrashAt("Events.Append", afterIt)),
		runtimeLine("O3/crash_before_the_publication_loses_nothing", runtimeCrashAt("Publish", beforeIt)),
		runtimeLine("O3/crash_after_the_publication_loses_nothing", runtimeCrashAt("Publish", afterIt)),
		runtimeLine("O3/crash_before_the_completion_loses_nothing", runtimeCrashAt("Outbox.Complete", beforeIt)),
		runtimeLine("O3/crash_after_the_completion_repeats_nothing", runtimeCrashAt("Outbox.Complete", afterIt)),
		runtimeLine("O3/crash_of_a_processor_that_only_appends_loses_nothing", runtimeCrashUnpublished),
		runtimeLine("O3/a_restart_goes_on_without_a_conflict", runtimeRestart),
		runtimeLine("O3/published_is_what_is_stored", runtimePublishedAsStored),
		runtimeLine("O5/crash_publishes_nothing_twice", runtimeCrashAtMostOnce),
	}
}

// side is on which side of a call a program dies.
type side bool

const (
	beforeIt side = false
	afterIt  side = true
)

// dieAt kills the program when it makes a call.
func (p *program) dieAt(fatal string, at side) (died <-chan struct{}) {
	dying := make(chan struct{})
	over := false
	p.link.obey(func(call string, done bool) error {
		if call != fatal || done != bool(at) || over {
			return nil
		}
		over = true
		p.link.sever()
		close(dying)
		return errSevered
	})
	return dying
}

// linked is a shelf that a program reaches by its link.
func (p *program) linked(s *shelf) func(c *processor.Config) {
	return func(c *processor.Config) { c.Publisher = linkedPublisher{s, p.link} }
}

type linkedPublisher struct {
	es.Publisher

	link *link
}

func (l linkedPublisher) Publish(ctx context.Context, pubs ...es.Publication) error {
	return l.link.try("Publish", func() error { return l.Publisher.Publish(ctx, pubs...) })
}

// wantStored fails unless the store has these messages of each stream, in order and without a gap, and no others.
func (p *program) wantStored(msgs ...*es.Message) {
	p.Helper()
	byStream := map[string][]uuid.UUID{}
	for _, m := range msgs {
		byStream[m.Stream] = append(byStream[m.Stream], m.ID)
	}
	for stream, ids := range byStream {
		var stored []uuid.UUID
		for i, m := range p.events(es.Query{Stream: stream}) {
			if m.Version != int64(i+1) {
				p.Fatalf("event %d of %s has version %d", i+1, stream, m.Version)
			}
			stored = append(stored, m.ID)
		}
		if !slices.Equal(stored, ids) {
			p.Fatalf("stream %s has %d events, want the %d that were enqueued, once each and in order", stream, len(stored), len(ids))
		}
	}
}

// runtimeCrashAt kills a processor between two steps. Another one takes over: every message is stored once and published at least
// once, in order, always as the same message.
func runtimeCrashAt(call string, at side) func(t *runtimeTest) {
	return func(t *runtimeTest) {
		published := newShelf(t)
		p := t.openMortal()
		died := p.dieAt(call, at)
		p.process(p.linked(published))
		msgs := t.messages("a1", "b1", "a2", "c1", "a3")
		p.enqueue(msgs...)
		t.wait("the processor dies", died)
		p.crash()
		next := t.openMortal()
		next.process(next.linked(published))
		next.awaitEmptyOutbox()
		next.wantStored(msgs...)
		places := map[uuid.UUID]es.Place{}
		taken := published.awaitCount(len(msgs))
		for _, m := range taken {
			place := es.Place{Version: m.Version, Position: m.Position}
			if known, again := places[m.ID]; again && known != place {
				t.Errorf("%s was published at %+v and at %+v", runtimeText(m), known, place)
			}
			places[m.ID] = place
		}
		if len(places) != len(msgs) {
			t.Fatalf("published were %v, want each of the %d messages at least once", messageTexts(taken), len(msgs))
		}
		if call == "Outbox.Complete" && at == afterIt && len(taken) != len(msgs) {
			t.Fatalf("published were %v, although the crash came after all was done", messageTexts(taken))
		}
	}
}

// runtimeCrashUnpublished kills a processor without a publisher, which may append and complete in one commit.
func runtimeCrashUnpublished(t *runtimeTest) {
	for _, at := range []side{beforeIt, afterIt} {
		p := t.openMortal()
		dying := make(chan struct{})
		over := false
		p.link.obey(func(call string, done bool) error {
			if over || call != "Outbox.Forward" && call != "Events.Append" || done != bool(at) {
				return nil
			}
			over = true
			p.link.sever()
			close(dying)
			return errSevered
		})
		appendOnly := func(c *processor.Config) { c.Publisher = nil }
		p.process(appendOnly)
		key := map[side]string{beforeIt: "b", afterIt: "c"}[at]
		msgs := t.messages(key+"1", key+"2")
		p.enqueue(msgs...)
		t.wait("the processor dies", dying)
		p.crash()
		next := t.openMortal()
		proc := next.process(appendOnly)
		next.awaitEmptyOutbox()
		next.stop(proc)
		next.wantStored(msgs...)
	}
}

// runtimeRestart has processors follow each other, and somebody else append to the same streams meanwhile.
func runtimeRestart(t *runtimeTest) {
	var all []*es.Message
	for round := range 3 {
		p := t.open()
		published := newShelf(t)
		proc := p.process(published.publishTo)
		msgs := t.messages(fmt.Sprint("a", round), fmt.Sprint("a", round, "'"))
		p.enqueue(msgs...)
		published.awaitCount(len(msgs))
		p.stop(proc)
		direct := t.message("a", "direct")
		_, err := p.handle.Events().Append(t.ctx, es.AppendTo(direct.Stream, es.StreamExists, direct))
		t.ok(err, "append past the outbox")
		all = append(append(all, msgs...), direct)
		p.wantStored(all...)
		if stats := p.outboxStats(); stats.Depth != 0 || stats.Dead != 0 || stats.Failures != 0 {
			t.Fatalf("after round %d the outbox has %+v, want nothing, and no failure", round, stats)
		}
		t.ok(t.storage.Close(t.TB, p.handle), "close")
	}
}

func runtimePublishedAsStored(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	p.process(published.publishTo)
	p.enqueue(t.messages("a1", "a2", "b1")...)
	for _, m := range published.awaitCount(3) {
		stored := p.events(es.Query{Stream: m.Stream, After: max(m.Version, 1) - 1, Limit: 1})
		if m.Version == 0 || len(stored) != 1 || stored[0].ID != m.ID ||
			stored[0].Position != m.Position || !stored[0].Recorded.Equal(m.Recorded) {
			t.Errorf("%s was published at version %d, position %d, recorded %v, and is not stored like that",
				runtimeText(m), m.Version, m.Position, m.Recorded)
		}
	}
	published.wantKey("a", "a1", "a2")
}

// runtimeCrashAtMostOnce kills a processor that publishes at most once when it has just published.
func runtimeCrashAtMostOnce(t *runtimeTest) {
	published := newShelf(t)
	p := t.openMortal()
	died := p.dieAt("Publish", afterIt)
	p.processBy(t.parts.AtMostOnce, p.linked(published))
	p.enqueue(t.messages("a1")...)
	t.wait("the processor dies", died)
	p.crash()
	next := t.openMortal()
	next.processBy(t.parts.AtMostOnce, next.linked(published))
	next.awaitEmptyOutbox()
	next.enqueue(t.messages("a2")...)
	published.awaitTexts("a1", "a2")
}
