package estest

import (
	"fmt"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxFailLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/no_overtaking_of_a_failing_entry", outboxNoOvertaking),
		outboxLine("O2/one_streams_failure_holds_up_no_other", func(b *outboxBench) {
			b.enqueue("a1", "b1", "a2", "b2", "c1")
			entries := b.take("a1", "a2", "b1", "b2", "c1")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release all but a1")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Delay: time.Hour}), "fail a1")
			b.has(b.await(b.role, "B", 3, longLease), "b1", "b2", "c1")
		}),
		outboxLine("O2/a_failed_entry_comes_back_in_its_place", func(b *outboxBench) {
			b.enqueue("a1", "a2", "a3")
			entries := b.take("a1", "a2", "a3")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom}), "fail a1")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2 and a3")
			again := b.await(b.role, "B", 3, longLease)
			b.has(again, "a1", "a2", "a3")
			b.attempts(again, 2, 1, 1)
		}),
		outboxLine("O2/not_before_its_delay", func(b *outboxBench) {
			b.enqueue("a1", "a2")
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			const delay = 3 * shortLease
			before := time.Now()
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Delay: delay}), "fail a1")
			b.has(b.await(b.role, "A", 2, longLease), "a1", "a2")
			if waited := time.Since(before); waited < delay-clockSlack {
				b.Fatalf("a retry that was due after %v came after %v", delay, waited)
			}
		}),
		outboxLine("O2/each_failure_is_an_attempt", func(b *outboxBench) {
			b.enqueue("a1")
			for attempt := 1; attempt <= 4; attempt++ {
				entries := b.await(b.role, "A", 1, longLease)
				b.attempts(entries, attempt)
				b.ok(b.role.Fail(b.ctx, entries, es.Failure{Err: errBoom}), "fail")
			}
		}),
		outboxLine("O2/release_is_no_attempt_and_keeps_order", func(b *outboxBench) {
			b.enqueue("a1", "a2", "b1")
			entries := b.take("a1", "a2", "b1")
			b.ok(b.role.Release(b.ctx, []es.Entry{entries[1], entries[2], entries[0]}), "release in another order")
			again := b.await(b.role, "B", 3, longLease)
			b.has(again, "a1", "a2", "b1")
			b.attempts(again, 1, 1, 1)
		}),
		outboxLine("O2/the_time_of_enqueueing_stays", func(b *outboxBench) {
			b.enqueue("a1")
			first := b.take("a1")
			same := func(got time.Time, after string) {
				b.Helper()
				if !got.Equal(first[0].Enqueued) {
					b.Fatalf("enqueued at %v, and after %s at %v", first[0].Enqueued, after, got)
				}
			}
			b.ok(b.role.Release(b.ctx, first), "release")
			again := b.await(b.role, "A", 1, longLease)
			same(again[0].Enqueued, "a release")
			b.ok(b.role.Fail(b.ctx, again, es.Failure{Err: errBoom}), "fail")
			same(b.await(b.role, "A", 1, shortLease)[0].Enqueued, "a failure")
			again = b.await(b.role, "B", 1, longLease)
			same(again[0].Enqueued, "the end of a lease")
			b.ok(b.role.Fail(b.ctx, again, es.Failure{Err: errBoom, Dead: true}), "fail for good")
			same(b.isDead(b.role, "a1")[0].Enqueued, "its death")
		}),
		outboxLine("O2/attempts_and_delays_outlive_a_handle", func(b *outboxBench) {
			b.keeps()
			b.enqueue("a1", "b1")
			entries := b.take("a1", "b1")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom}), "fail a1")
			b.ok(b.role.Fail(b.ctx, entries[1:], es.Failure{Err: errBoom, Delay: time.Hour}), "fail b1")
			b.reopened()
			again := b.await(b.role, "A", 1, longLease)
			b.has(again, "a1")
			b.attempts(again, 2)
		}),
		outboxLine("O2/a_failure_needs_an_error", func(b *outboxBench) {
			b.enqueue("a1")
			entries := b.take("a1")
			b.is(b.role.Fail(b.ctx, entries, es.Failure{Dead: true}), es.ErrInvalid, "fail without an error")
			b.isDead(b.role)
			b.nothing(b.role, "B", "the entry is still with its owner")
			b.ok(b.role.Complete(b.ctx, entries), "complete after a failure that was invalid")
		}),
	}
}

// attempts ends the test unless the entries have these attempts.
func (b *outboxBench) attempts(entries []es.Entry, want ...int) {
	b.Helper()
	for i, e := range b.sorted(entries) {
		if e.Attempt != want[i] {
			b.Fatalf("entry %s comes as attempt %d, want %d", e.Name, e.Attempt, want[i])
		}
	}
}

func outboxNoOvertaking(b *outboxBench) {
	b.enqueue("a1", "a2")
	entries := b.take("a1", "a2")
	b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Delay: time.Hour}), "fail a1")
	b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
	b.nothing(b.role, "A", "an earlier entry of the stream waits for its retry")
	b.enqueue("a3")
	b.nothing(b.role, "A", "an earlier entry of the stream waits for its retry")
	b.nothing(b.role, "B", "an earlier entry of the stream waits for its retry")
	b.holds(b.role, 3)
}

func outboxDeadLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/what_can_never_succeed_is_dead_at_once", outboxPermanent),
		outboxLine("O2/dead_on_request", func(b *outboxBench) {
			b.enqueue("a1", "b1")
			b.ok(b.role.Fail(b.ctx, b.take("a1", "b1")[:1], es.Failure{Err: errBoom, Delay: time.Hour, Dead: true}), "fail for good")
			b.isDead(b.role, "a1")
			b.holds(b.role, 1)
		}),
		outboxLine("O2/a_dead_letter_tells_what_happened", outboxDeadLetter),
		outboxLine("O2/dead_letters_come_oldest_first", func(b *outboxBench) {
			for _, label := range []string{"b1", "c1", "a1"} { // enqueued and failed in this order
				b.enqueue(label)
				b.ok(b.role.Fail(b.ctx, b.take(label), es.Failure{Err: errBoom, Dead: true}), "fail %s", label)
				b.paused(2 * time.Millisecond) // the precision of a clock
			}
			b.isDead(b.role, "b1", "c1", "a1")
			for e, err := range b.role.DeadLetters(b.ctx) {
				b.ok(err, "dead letters")
				if e.Name != "b1" {
					b.Fatalf("the oldest dead letter is %s, want b1", e.Name)
				}
				break
			}
			b.isDead(b.role, "b1", "c1", "a1")
		}),
		outboxLine("O2/any_error_text_is_kept", func(b *outboxBench) {
			b.enqueue("a1", "b1")
			entries := b.take("a1", "b1")
			odd := fmt.Errorf("it broke: %q \x00 \xff\xfe 'quoted'", "x")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: odd, Dead: true}), "fail with an odd error text")
			if got := b.isDead(b.role, "a1")[0].Error; !strings.Contains(got, "it broke: \"x\"") {
				b.Fatalf("the dead letter's error is %q, want something of %q", got, odd)
			}
			b.ok(b.role.Fail(b.ctx, entries[1:], es.Failure{Err: odd}), "fail with an odd error text")
			b.has(b.await(b.role, "A", 1, longLease), "b1")
		}),
		outboxLine("O2/dead_letters_are_kept", func(b *outboxBench) {
			b.keeps()
			b.enqueue("a1", "a2", "b1")
			b.ok(b.role.Fail(b.ctx, b.take("a1", "a2", "b1")[:2], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail for good")
			b.reopened()
			letters := b.dead(b.role)
			if len(letters) != 2 || !letters[0].Parked || letters[0].Error != errBoom.Error() {
				b.Fatalf("the dead letters are %+v, want a1 and a2, parked, with %q", letters, errBoom)
			}
			b.enqueue("a3")
			b.nothing(b.role, "A", "its stream is parked, on any handle")
		}),
		outboxLine("O2/after_a_dead_letter_the_stream_goes_on", func(b *outboxBench) {
			b.enqueue("a1", "a2")
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true}), "fail a1 for good")
			b.enqueue("a3")
			b.has(b.await(b.role, "B", 2, longLease), "a2", "a3")
		}),
		outboxLine("O2/a_parked_stream_waits", func(b *outboxBench) {
			b.enqueue("a1", "b1", "a2")
			entries := b.take("a1", "a2", "b1")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2 and b1")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: es.ErrInvalid, Park: true}), "fail a1 for good")
			b.enqueue("a3", "b2")
			b.has(b.await(b.role, "B", 2, longLease), "b1", "b2")
			b.nothing(b.role, "A", "its stream is parked")
			b.holds(b.role, 4)
		}),
		outboxLine("O2/parked_by_two_dead_letters", func(b *outboxBench) {
			msgs := b.enqueue("a1", "a2", "a3")
			entries := b.take("a1", "a2", "a3")
			b.ok(b.role.Fail(b.ctx, entries[:2], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail a1 and a2 for good")
			b.ok(b.role.Release(b.ctx, entries[2:]), "release a3")
			b.ok(b.role.Discard(b.ctx, msgs[0].ID), "discard a1")
			b.nothing(b.role, "A", "the second dead letter parks the stream still")
			b.ok(b.role.Discard(b.ctx, msgs[1].ID), "discard a2")
			b.has(b.await(b.role, "A", 1, longLease), "a3")
		}),
	}
}

func outboxPermanent(b *outboxBench) {
	for i, err := range []error{
		es.ErrInvalid, es.ErrDuplicate, es.ErrStreamDeleted, es.ErrUnsupported, es.Invalidf("stream", "is odd"),
		fmt.Errorf("append: %w", &es.DuplicateError{Stream: "a"}), es.DeadLetter(errBoom),
	} {
		label := fmt.Sprint("a", i)
		m := b.enqueue(label)[0]
		b.ok(b.role.Fail(b.ctx, b.take(label), es.Failure{Err: err, Delay: time.Hour}), "fail with %v", err)
		letters := b.isDead(b.role, label)
		if letters[0].Error != err.Error() || letters[0].Parked {
			b.Fatalf("the dead letter is %+v, want the error %q, and a stream that is not parked", letters[0], err)
		}
		b.ok(b.role.Discard(b.ctx, m.ID), "discard")
	}
	for _, err := range []error{errBoom, es.ErrConflict, es.ErrClosed, es.RetryAfter(0, es.ErrInvalid)} {
		b.enqueue("b1")
		b.ok(b.role.Fail(b.ctx, b.take("b1"), es.Failure{Err: err}), "fail with %v", err)
		b.isDead(b.role)
		b.ok(b.role.Complete(b.ctx, b.await(b.role, "A", 1, longLease)), "complete")
	}
}

func outboxDeadLetter(b *outboxBench) {
	before := time.Now()
	m := b.enqueue("a1")[0]
	enqueued := time.Now()
	b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom}), "fail")
	failing := time.Now()
	err := fmt.Errorf("second: %w", errBoom)
	b.ok(b.role.Fail(b.ctx, b.await(b.role, "A", 1, longLease), es.Failure{Err: err, Dead: true, Park: true}), "fail for good")
	letter := b.isDead(b.role, "a1")[0]
	if diff := differMessage(letter.Message, m); diff != "" {
		b.Fatalf("the dead letter's message is not what was enqueued: %s", diff)
	}
	if letter.Attempts != 2 || letter.Error != err.Error() || !letter.Parked {
		b.Fatalf("the dead letter is %+v, want 2 attempts, the error %q, and a parked stream", letter, err)
	}
	b.about(letter.Enqueued, before, enqueued, "Enqueued")
	b.about(letter.Died, failing, time.Now(), "Died")
}
