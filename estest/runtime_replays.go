package estest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeReplayLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R5/dead_letters_can_be_inspected_and_discarded", runtimeDiscard),
		runtimeLine("R5/a_replay_goes_to_the_route_that_failed_and_no_other", runtimeReplayed),
		runtimeLine("R5/all_are_replayed_in_order", runtimeReplayAll),
		runtimeLine("R5/what_fails_again_is_another_dead_letter", runtimeReplayFails),
		runtimeLine("R5/a_replay_is_handled_although_deduped", runtimeReplayDeduped),
		runtimeLine("R5/a_dead_letter_of_a_processor_goes_back_into_the_outbox", runtimeReplayEntry),
	}
}

// hospital is a program with a route that fails for good until it is healed, one beside it that is healthy, and dead letters.
type hospital struct {
	*program

	sick, healthy *journal
	healed        atomic.Bool
	letters       DeadLetters
}

// hospital opens it. The route that fails remembers what it has handled.
func (t *runtimeTest) hospital() *hospital {
	t.Helper()
	h := &hospital{program: t.open(), sick: t.journal(), healthy: t.journal()}
	h.process()
	r := h.router()
	o := with(t.parts.Dedupe(h.backend.Dedupe(), middleware.DedupeConfig{}))
	o.Name = "sick"
	h.route(r, h.sick.withContext(func(context.Context, int) error {
		if h.healed.Load() {
			return nil
		}
		return es.DeadLetter(errBoom)
	}), o)
	h.route(r, h.healthy.succeeding(), router.Options{Name: "healthy"})
	h.run(r)
	h.letters = h.deadLetters()
	return h
}

// fall publishes messages, each of which becomes a dead letter, and returns the IDs of these in order.
func (h *hospital) fall(texts ...string) []uuid.UUID {
	h.Helper()
	h.publish(h.messages(texts...)...)
	h.sick.await(len(texts))
	h.healthy.await(len(texts))
	msgs, _ := h.awaitLetters(len(texts))
	ids := make([]uuid.UUID, len(msgs))
	for i, m := range msgs {
		ids[i] = m.ID
	}
	return ids
}

// count fails unless there are so many dead letters that nobody has dealt with.
func (h *hospital) count(want int) {
	h.Helper()
	n, err := h.letters.Count(h.ctx, deadletter.Filter{})
	h.ok(err, "count the dead letters")
	if n != want {
		h.Fatalf("there are %d dead letters, want %d", n, want)
	}
}

func runtimeDiscard(t *runtimeTest) {
	h := t.hospital()
	ids := h.fall("a1", "b1")
	h.count(2)
	letter, err := h.letters.Get(t.ctx, ids[0])
	t.ok(err, "get a dead letter")
	if letter.ID != ids[0] || letter.Group != "sick" || letter.Attempts != 1 {
		t.Errorf("Get of %s gives %+v", ids[0], letter)
	}
	t.ok(h.letters.Discard(t.ctx, ids[0]), "discard")
	h.count(1)
	if err := h.letters.Replay(t.ctx, ids[0]); !errors.Is(err, es.ErrNotFound) {
		t.Errorf("the replay of what was discarded gives %v, want ErrNotFound", err)
	}
}

func runtimeReplayed(t *runtimeTest) {
	h := t.hospital()
	ids := h.fall("a1")
	h.healed.Store(true)
	t.ok(h.letters.Replay(t.ctx, ids...), "replay")
	h.publish(t.messages("b1")...)
	again := h.sick.awaitCall("a1", 2)
	first := h.sick.seen()[0]
	if again.ID != first.ID || again.Topic != runtimeTopic || again.Group != "sick" || again.Attempt != 1 || again.Stream != first.Stream {
		t.Errorf("the replay came as %s of topic %q, group %q, stream %q, attempt %d; want %s as it came at first",
			again.ID, again.Topic, again.Group, again.Stream, again.Attempt, first.ID)
	}
	h.healthy.awaitCall("b1", 1)
	h.healthy.wantKey("a", "a1")
	h.count(0)
}

func runtimeReplayAll(t *runtimeTest) {
	h := t.hospital()
	var texts []string
	for i := range 5 {
		texts = append(texts, fmt.Sprint("a", i))
	}
	h.fall(texts...)
	h.healed.Store(true)
	n, err := h.letters.ReplayAll(t.ctx, deadletter.Filter{Group: "sick"})
	t.ok(err, "replay all")
	if n != len(texts) {
		t.Fatalf("ReplayAll of %d letters says %d", len(texts), n)
	}
	h.sick.want(append(texts, texts...)...)
	h.count(0)
}

func runtimeReplayFails(t *runtimeTest) {
	h := t.hospital()
	first := h.fall("a1")
	t.ok(h.letters.Replay(t.ctx, first...), "replay")
	msgs, records := h.awaitLetters(2)
	if msgs[0].ID == msgs[1].ID || records[0].Original.ID != records[1].Original.ID || records[1].Topic != runtimeTopic {
		t.Fatalf("after a replay that failed the dead letters are %+v, want two of one original", records)
	}
	h.count(1)
	h.healed.Store(true)
	t.ok(h.letters.Replay(t.ctx, msgs[1].ID), "replay the second one")
	h.sick.want("a1", "a1", "a1")
}

func runtimeReplayDeduped(t *runtimeTest) {
	h := t.hospital()
	ids := h.fall("a1")
	h.healed.Store(true)
	t.ok(h.letters.Replay(t.ctx, ids...), "replay")
	h.sick.want("a1", "a1")
}

// runtimeReplayEntry has the publisher turn a message down, and replays it when it does not any more.
func runtimeReplayEntry(t *runtimeTest) {
	p := t.open()
	saw := newShelf(t)
	saw.refuse("a1", es.ErrInvalid)
	p.process(saw.publishTo)
	p.enqueue(t.messages("a1", "b1")...)
	saw.awaitTexts("b1")
	msgs, records := p.awaitLetters(1)
	if records[0].Group != "" || records[0].Handler != "processor" {
		t.Errorf("the dead letter of a processor is %+v", records[0])
	}
	t.until("the entry is a dead letter", func() bool { return p.outboxStats().Dead == 1 })
	saw.refuse("", nil)
	t.ok(p.deadLetters().Replay(t.ctx, msgs[0].ID), "replay")
	saw.awaitTexts("b1", "a1")
	p.awaitEmptyOutbox()
	if stats := p.outboxStats(); stats.Dead != 0 {
		t.Fatalf("after the replay the outbox has %+v", stats)
	}
}
