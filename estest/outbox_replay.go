package estest

import (
	"context"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxReplayLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/replay_in_its_place_with_attempts_anew", func(b *outboxBench) {
			msgs := b.enqueue("a1", "a2", "a3", "a4")
			entries := b.take("a1", "a2", "a3", "a4")
			b.ok(b.role.Fail(b.ctx, []es.Entry{entries[0], entries[2]}, es.Failure{Err: errBoom}), "fail a1 and a3")
			b.ok(b.role.Release(b.ctx, []es.Entry{entries[1], entries[3]}), "release a2 and a4")
			entries = b.await(b.role, "A", 4, longLease)
			b.ok(b.role.Fail(b.ctx, []es.Entry{entries[0], entries[2]}, es.Failure{Err: errBoom, Dead: true}), "fail a1 and a3 for good")
			b.ok(b.role.Release(b.ctx, []es.Entry{entries[1], entries[3]}), "release a2 and a4")
			b.ok(b.role.Replay(b.ctx, msgs[2].ID, msgs[0].ID), "replay a3 and a1")
			b.isDead(b.role)
			again := b.await(b.role, "B", 4, longLease)
			b.has(again, "a1", "a2", "a3", "a4")
			b.attempts(again, 1, 1, 1, 1)
		}),
		outboxLine("O2/replay_comes_before_what_was_enqueued_later", func(b *outboxBench) {
			msgs := b.enqueue("a1", "a2")
			b.ok(b.role.Fail(b.ctx, b.take("a1", "a2"), es.Failure{Err: errBoom, Dead: true}), "fail for good")
			b.enqueue("a3")
			b.ok(b.role.Replay(b.ctx, idsOf(msgs)...), "replay a1 and a2")
			b.has(b.await(b.role, "A", 3, longLease), "a1", "a2", "a3")
		}),
		outboxLine("O2/replay_is_enqueued_anew", func(b *outboxBench) {
			m := b.enqueue("a1")[0]
			b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom, Dead: true}), "fail for good")
			b.paused(2 * clockSlack) // so that the times differ
			before := time.Now()
			b.ok(b.role.Replay(b.ctx, m.ID), "replay")
			after := time.Now()
			b.about(b.stats(b.role).Oldest, before, after, "Oldest")
			b.about(b.await(b.role, "A", 1, longLease)[0].Enqueued, before, after, "Enqueued")
		}),
		outboxLine("O2/replay_unparks", func(b *outboxBench) {
			msgs := b.enqueue("a1", "a2")
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail a1 for good")
			b.ok(b.role.Replay(b.ctx, msgs[0].ID), "replay a1")
			again := b.await(b.role, "A", 2, longLease)
			b.has(again, "a1", "a2")
			b.ok(b.role.Complete(b.ctx, again), "complete")
			b.holds(b.role, 0)
		}),
		outboxLine("O2/replay_of_what_is_not_dead", func(b *outboxBench) { outboxNotDead(b, b.role.Replay) }),
		outboxLine("O2/discard_is_for_good", func(b *outboxBench) {
			b.keeps()
			msgs := b.enqueue("a1", "a2", "a3")
			entries := b.take("a1", "a2", "a3")
			b.ok(b.role.Release(b.ctx, entries[2:]), "release a3")
			b.ok(b.role.Fail(b.ctx, entries[:2], es.Failure{Err: errBoom, Dead: true}), "fail a1 and a2 for good")
			b.ok(b.role.Discard(b.ctx, msgs[0].ID), "discard a1")
			b.isDead(b.role, "a2")
			b.reopened()
			b.isDead(b.role, "a2")
			b.is(b.role.Replay(b.ctx, msgs[0].ID), es.ErrNotFound, "replay what was discarded")
			b.has(b.await(b.role, "A", 1, longLease), "a3")
		}),
		outboxLine("O2/discard_unparks", func(b *outboxBench) {
			msgs := b.enqueue("a1", "a2")
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail a1 for good")
			b.ok(b.role.Discard(b.ctx, msgs[0].ID), "discard a1")
			b.has(b.await(b.role, "A", 1, longLease), "a2")
		}),
		outboxLine("O2/discard_of_what_is_not_dead", func(b *outboxBench) { outboxNotDead(b, b.role.Discard) }),
	}
}

// outboxNotDead names what is no dead letter, to Replay or to Discard: it is not found, and nothing is done to the others.
func outboxNotDead(b *outboxBench, call deadLetterCall) {
	msgs := b.enqueue("a1", "b1", "c1")
	entries := b.take("a1", "b1", "c1")
	b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true}), "fail a1 for good")
	b.ok(b.role.Release(b.ctx, entries[1:2]), "release b1")
	b.is(call(b.ctx, msgs[0].ID, es.NewID()), es.ErrNotFound, "a dead letter, and an ID that nobody knows")
	b.is(call(b.ctx, msgs[1].ID, msgs[0].ID), es.ErrNotFound, "an entry that waits, and a dead letter")
	b.is(call(b.ctx, msgs[0].ID, msgs[2].ID), es.ErrNotFound, "a dead letter, and an entry that is claimed")
	b.isDead(b.role, "a1")
	b.has(b.await(b.role, "A", 1, longLease), "b1")
	b.ok(b.role.Complete(b.ctx, entries[2:]), "complete c1")
	b.ok(call(b.ctx), "no ID at all")
	b.ok(call(b.ctx, msgs[0].ID), "the dead letter alone")
	b.isDead(b.role)
}

// deadLetterCall is Replay or Discard.
type deadLetterCall = func(ctx context.Context, ids ...uuid.UUID) error
