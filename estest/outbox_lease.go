package estest

import (
	"errors"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxLeaseLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/a_dead_owners_entries_come_back", func(b *outboxBench) {
			b.enqueue("a1", "a2", "b1")
			b.abandon()
			b.has(b.await(b.role, "B", 3, longLease), "a1", "a2", "b1")
			b.holds(b.role, 3)
		}),
		outboxLine("O2/a_crashed_owners_entries_come_back", func(b *outboxBench) {
			b.enqueue("a1", "a2", "b1")
			b.abandon()
			b.crashed()
			b.has(b.await(b.role, "B", 3, longLease), "a1", "a2", "b1")
		}),
		outboxLine("O2/not_before_the_lease_ends", func(b *outboxBench) {
			b.enqueue("a1")
			before := time.Now()
			held := b.claim(b.role, "A", 5*shortLease)
			b.about(held[0].Deadline, before.Add(5*shortLease), time.Now().Add(5*shortLease), "Deadline")
			b.await(b.role, "B", 1, longLease)
			if now := time.Now(); now.Before(held[0].Deadline.Add(-clockSlack)) {
				b.Fatalf("another owner had the entry at %v, and the lease ends at %v", now, held[0].Deadline)
			}
		}),
		outboxLine("O2/a_lease_is_30_seconds_by_default", func(b *outboxBench) {
			b.enqueue("a1")
			before := time.Now()
			held := b.claim(b.role, "A", 0)
			const lease = 30 * time.Second
			b.about(held[0].Deadline, before.Add(lease), time.Now().Add(lease), "Deadline")
		}),
		outboxLine("O2/no_overtaking_when_a_lease_ends", func(b *outboxBench) {
			b.enqueue("a1", "a2", "a3")
			b.claimUpTo(b.role, "A", 1, shortLease)
			b.has(b.await(b.role, "B", 3, longLease), "a1", "a2", "a3")
		}),
		outboxLine("O2/the_end_of_a_lease_is_an_attempt", func(b *outboxBench) {
			b.enqueue("a1")
			for attempt, owner := range []string{"A", "B", "B"} {
				held := b.await(b.role, owner, 1, shortLease)
				b.attempts(held, attempt+1)
			}
		}),
		outboxLine("O2/failures_and_ends_of_leases_add_up", func(b *outboxBench) {
			b.enqueue("a1")
			b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom}), "fail")
			b.attempts(b.await(b.role, "A", 1, shortLease), 2)
			again := b.await(b.role, "B", 1, longLease)
			b.attempts(again, 3)
			b.ok(b.role.Fail(b.ctx, again, es.Failure{Err: errBoom, Dead: true}), "fail for good")
			if got := b.isDead(b.role, "a1")[0].Attempts; got != 3 {
				b.Fatalf("the dead letter tells of %d attempts, want 3", got)
			}
		}),
		outboxLine("O2/extend_keeps_the_lease", outboxExtend),
		outboxLine("O2/extend_goes_for_the_stream", outboxExtendPart),
	}
}

// outboxExtend extends a lease until its first end is over: the entry is not another's as long as the extended lease lasts.
// When the machine stalls for longer than the lease, the round says nothing, and another follows with a longer one.
func outboxExtend(b *outboxBench) {
	for lease := 5 * shortLease; ; lease *= 2 {
		b.enqueue("a1")
		held, renewed, kept := b.outlive(lease, "a1")
		got := b.claim(b.role, "B", longLease)
		if kept = kept && time.Now().Before(renewed.Add(lease-clockSlack)); kept {
			if len(got) > 0 {
				b.Fatalf("another owner has the entry, whose lease was extended to %v", held[0].Deadline)
			}
			return
		}
		got = append(got, b.await(b.role, "B", 1-len(got), longLease)...)
		b.ok(b.role.Complete(b.ctx, got), "complete")
	}
}

// outboxExtendPart extends the lease of one entry of two of a stream: the other one goes on with it.
func outboxExtendPart(b *outboxBench) {
	for lease := 5 * shortLease; ; lease *= 2 {
		b.enqueue("a1", "a2")
		held, renewed, kept := b.outlive(lease, "a1", "a2")
		err := b.role.Complete(b.ctx, held[1:])
		if kept && time.Now().Before(renewed.Add(lease-clockSlack)) {
			b.ok(err, "complete a2, whose claim was extended by way of a1")
			b.ok(b.role.Complete(b.ctx, held[:1]), "complete a1")
			return
		}
		left := 2
		if err == nil {
			left = 1
		}
		b.ok(b.role.Complete(b.ctx, b.await(b.role, "B", left, longLease)), "complete")
	}
}

// outlive claims entries and extends the lease of the first of them until its first end is over. It returns when it was last
// extended, and false when the machine has stalled for longer than the lease.
func (b *outboxBench) outlive(lease time.Duration, names ...string) (held []es.Entry, renewed time.Time, kept bool) {
	b.Helper()
	renewed = time.Now()
	held = b.claim(b.role, "A", lease)
	b.has(held, names...)
	kept = true
	for first := held[0].Deadline; kept && time.Now().Before(first.Add(clockSlack)); {
		b.paused(lease / 4)
		before := time.Now()
		err := b.role.Extend(b.ctx, held[:1])
		if kept = err == nil || time.Now().Before(renewed.Add(lease-clockSlack)); kept {
			b.ok(err, "extend")
			b.about(held[0].Deadline, before.Add(lease), time.Now().Add(lease), "the extended Deadline")
			renewed = before
		}
	}
	return held, renewed, kept
}

// outboxStaleLines hold each way to answer to what is promised when the lease is over.
func outboxStaleLines() []Line[Harness[es.Outbox]] {
	var lines []Line[Harness[es.Outbox]]
	for _, how := range []string{"complete", "fail", "release", "extend"} {
		lines = append(lines,
			outboxLine("O2/"+how+"_of_what_was_answered_before", func(b *outboxBench) { outboxAnsweredBefore(b, how) }),
			outboxLine("O2/"+how+"_after_another_took_over", func(b *outboxBench) { outboxTakenOver(b, how) }),
			outboxLine("O2/"+how+"_after_the_lease_ended", func(b *outboxBench) { outboxLeaseEnded(b, how) }),
		)
	}
	return lines
}

// lost ends the test unless the answer was turned down for the first entry, and taken for the second if there is one.
func (b *outboxBench) lost(err error, entries int, how string) {
	b.Helper()
	var batch *es.BatchError
	if !errors.As(err, &batch) || len(batch.Errs) != entries {
		b.Fatalf("stale %s: the error is %v, want a BatchError for %d entries", how, err, entries)
	}
	b.is(batch.Errs[0], es.ErrLeaseLost, "stale %s", how)
	if entries > 1 {
		b.ok(batch.Errs[1], "%s of the other entry", how)
	}
}

func outboxAnsweredBefore(b *outboxBench, how string) {
	answer := outboxAnswers()[how]
	b.enqueue("a1", "b1")
	entries := b.take("a1", "b1")
	b.ok(b.role.Complete(b.ctx, entries[:1]), "complete a1")
	b.lost(answer(b.ctx, b.role, entries), 2, how)
	switch how {
	case "complete":
		b.holds(b.role, 0)
	case "extend":
		b.nothing(b.role, "B", "the entry that is left was extended")
	default:
		b.has(b.await(b.role, "B", 1, longLease), "b1")
		b.lost(answer(b.ctx, b.role, entries[1:]), 1, how)
	}
}

func outboxTakenOver(b *outboxBench, how string) {
	answer := outboxAnswers()[how]
	b.enqueue("a1")
	old := b.claim(b.role, "A", shortLease)
	b.has(old, "a1")
	again := b.await(b.role, "A", 1, shortLease)
	b.lost(answer(b.ctx, b.role, old), 1, how+" (the same owner has it again)")
	fresh := b.await(b.role, "B", 1, longLease)
	b.lost(answer(b.ctx, b.role, again), 1, how)
	b.nothing(b.role, "C", "the second owner holds the entry, whatever the first one says")
	b.lost(answer(b.ctx, b.role, []es.Entry{old[0], fresh[0]}), 2, how)
}

func outboxLeaseEnded(b *outboxBench, how string) {
	b.enqueue("a1")
	old := b.claim(b.role, "A", shortLease)
	b.has(old, "a1")
	b.passed(old[0].Deadline)
	b.lost(outboxAnswers()[how](b.ctx, b.role, old), 1, how)
	b.has(b.await(b.role, "B", 1, longLease), "a1")
}
