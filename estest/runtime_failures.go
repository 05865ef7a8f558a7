package estest

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func runtimeFailureLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("O4/a_failed_append_is_tried_again", runtimeAppendFails(errLost)),
		runtimeLine("O4/an_append_that_conflicts_is_tried_again", runtimeAppendFails(fmt.Errorf("too late: %w", es.ErrConflict))),
		runtimeLine("O4/an_unknown_outcome_of_an_append_is_resolved", runtimeAppendUnknown),
		runtimeLine("O4/a_failed_publication_is_tried_and_then_a_dead_letter", runtimePublishFails),
		runtimeLine("O4/a_failing_stream_holds_up_no_other", runtimeStreamFails),
		runtimeLine("O4/what_can_never_succeed_is_a_dead_letter_at_once", runtimePermanent),
		runtimeLine("O4/a_stream_goes_on_after_a_dead_letter", runtimeContinue),
		runtimeLine("O4/a_parked_stream_waits_for_its_dead_letter", runtimeParked),
		runtimeLine("O4/order_of_a_stream_is_kept_through_failures", runtimeFailuresInOrder),
	}
}

// runtimeAppendFails has the first appends fail.
func runtimeAppendFails(failure error) func(t *runtimeTest) {
	return func(t *runtimeTest) {
		p := t.open()
		failed := 0
		p.link.obey(func(call string, done bool) error {
			if call == "Events.Append" && !done && failed < 3 {
				failed++
				return failure
			}
			return nil
		})
		published := newShelf(t)
		p.process(published.publishTo)
		msgs := t.messages("a1", "a2", "b1")
		p.enqueue(msgs...)
		published.awaitCount(3)
		p.awaitEmptyOutbox()
		published.wantKey("a", "a1", "a2")
		published.wantKey("b", "b1")
		p.wantStored(msgs...)
		p.wantLetters()
	}
}

// runtimeAppendUnknown has appends succeed whose answers are lost.
func runtimeAppendUnknown(t *runtimeTest) {
	p := t.open()
	lost := 0
	p.link.obey(func(call string, done bool) error {
		if call == "Events.Append" && done && lost < 2 {
			lost++
			return errLost
		}
		return nil
	})
	published := newShelf(t)
	p.process(published.publishTo)
	msgs := t.messages("a1", "a2", "b1")
	p.enqueue(msgs...)
	published.awaitCount(3)
	p.awaitEmptyOutbox()
	p.wantStored(msgs...)
	published.wantKey("a", "a1", "a2")
}

// attempts bounds how often a processor tries.
func attempts(n int) func(c *processor.Config) {
	return func(c *processor.Config) { c.Retry.Attempts = n }
}

func runtimePublishFails(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", errBoom)
	proc := p.process(published.publishTo, attempts(3), func(c *processor.Config) { c.Name = "mover" })
	p.enqueue(t.messages("a1")...)
	letters, records := p.awaitLetters(1)
	if n := published.tries("a1"); n != 3 {
		t.Errorf("the message was tried %d times, want 3", n)
	}
	if r := records[0]; r.Handler != "mover" || r.Group != "" || r.Error == "" || r.Original.ID == letters[0].ID ||
		runtimeText(r.Original.Message()) != "a1" {
		t.Errorf("the dead letter is %+v", r)
	}
	p.wantLetters("a1")
	t.until("the entry is a dead letter of the outbox", func() bool { s := p.outboxStats(); return s.Dead == 1 && s.Depth == 0 })
	t.until("the processor has counted 1 dead and 2 retried", func() bool {
		stats, err := proc.Stats(t.ctx)
		t.ok(err, "statistics of the processor")
		return stats.Dead == 1 && stats.Retried == 2
	})
}

// runtimeStreamFails has one stream fail for ever. All others get through.
func runtimeStreamFails(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", errBoom)
	p.process(published.publishTo, attempts(1_000_000))
	p.enqueue(t.messages("a1", "b1", "a2", "c1")...)
	published.awaitTries("a1", 3)
	p.enqueue(t.messages("b2", "a3", "d1")...)
	published.awaitCount(4)
	published.wantKey("a")
	published.wantKey("b", "b1", "b2")
	published.refuse("", nil)
	published.awaitCount(7)
	published.wantKey("a", "a1", "a2", "a3")
}

func runtimePermanent(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", fmt.Errorf("too long: %w", es.ErrInvalid))
	p.process(published.publishTo, attempts(1_000))
	p.enqueue(t.messages("a1", "a2")...)
	published.awaitTexts("a2")
	p.wantLetters("a1")
	if n := published.tries("a1"); n != 1 {
		t.Fatalf("what can never succeed was tried %d times", n)
	}
}

func runtimeContinue(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a2", errBoom)
	p.process(published.publishTo, attempts(2))
	p.enqueue(t.messages("a1", "a2", "a3", "b1")...)
	published.awaitCount(3)
	published.wantKey("a", "a1", "a3")
	p.wantLetters("a2")
}

// runtimeParked parks a stream, which goes on when its dead letter is replayed.
func runtimeParked(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", errBoom)
	p.process(published.publishTo, attempts(1), func(c *processor.Config) { c.AfterDeadLetter = processor.Park })
	p.enqueue(t.messages("a1", "a2", "b1")...)
	p.awaitLetters(1)
	t.until("the stream is parked", func() bool { return p.outboxStats().Parked == 1 })
	p.enqueue(t.messages("a3", "b2")...)
	published.awaitTexts("b1", "b2")
	published.refuse("", nil)
	var parked es.DeadEntry
	for entry, err := range p.handle.Outbox().DeadLetters(t.ctx) {
		t.ok(err, "dead letters of the outbox")
		parked = entry
	}
	if parked.Message == nil || runtimeText(parked.Message) != "a1" || !parked.Parked {
		t.Fatalf("the dead letter of the outbox is %+v, want a1, parked", parked)
	}
	t.ok(p.handle.Outbox().Replay(t.ctx, parked.ID), "replay")
	published.awaitTexts("b1", "b2", "a1", "a2", "a3")
}

// runtimeFailuresInOrder has a publisher that fails now and then, whole and in part.
func runtimeFailuresInOrder(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	calls := 0
	published.before = func(context.Context, []*es.Message) error {
		if calls++; calls%3 == 1 && calls < 20 {
			return errors.New("the broker was away")
		}
		return nil
	}
	p.process(published.publishTo, attempts(1_000), func(c *processor.Config) { c.InHand = 5 })
	var msgs []*es.Message
	want := map[string][]string{}
	for i := range 8 {
		for _, key := range []string{"a", "b", "c"} {
			text := fmt.Sprint(key, i)
			msgs = append(msgs, t.message(key, text))
			want[key] = append(want[key], text)
		}
	}
	p.enqueue(msgs...)
	published.awaitCount(len(msgs))
	for key, texts := range want {
		published.wantKey(key, texts...)
	}
	p.wantStored(msgs...)
}
