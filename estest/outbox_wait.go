package estest

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxWaitLines() []Line[Harness[es.Outbox]] {
	wakes := func(name string, prepare func(b *outboxBench) (wake func() error)) Line[Harness[es.Outbox]] {
		return outboxLine(name, func(b *outboxBench) { outboxWakes(b, b.role, prepare(b)) })
	}
	return []Line[Harness[es.Outbox]]{
		outboxLine("O7/no_wait_when_there_is_something", func(b *outboxBench) {
			b.enqueue("a1", "a2")
			b.ok(b.role.Wait(b.ctx), "wait when there is something")
			b.ok(b.role.Wait(b.ctx), "wait again, as nothing was claimed")
			b.claimUpTo(b.role, "A", 1, longLease)
			b.enqueue("b1")
			b.ok(b.role.Wait(b.ctx), "wait when there is another stream's entry")
		}),
		outboxLine("O7/no_enqueue_is_missed", outboxNoneMissed),
		outboxLine("O7/an_enqueue_on_another_handle_wakes", func(b *outboxBench) {
			other := b.another()
			outboxWakes(b, other, func() error { return b.role.Enqueue(b.ctx, labeled("a1")) })
		}),
		wakes("O7/a_release_wakes", func(b *outboxBench) func() error {
			b.enqueue("a1")
			entries := b.take("a1")
			return func() error { return b.role.Release(b.ctx, entries) }
		}),
		wakes("O7/a_failure_without_delay_wakes", func(b *outboxBench) func() error {
			b.enqueue("a1")
			entries := b.take("a1")
			return func() error { return b.role.Fail(b.ctx, entries, es.Failure{Err: errBoom}) }
		}),
		wakes("O7/a_dead_letter_that_frees_its_stream_wakes", func(b *outboxBench) func() error {
			b.enqueue("a1", "a2")
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			return func() error { return b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true}) }
		}),
		wakes("O7/a_completion_that_frees_its_stream_wakes", func(b *outboxBench) func() error {
			b.enqueue("a1", "a2")
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			return func() error { return b.role.Complete(b.ctx, entries[:1]) }
		}),
		wakes("O7/a_due_retry_wakes", func(b *outboxBench) func() error {
			b.enqueue("a1")
			entries := b.take("a1")
			return func() error { return b.role.Fail(b.ctx, entries, es.Failure{Err: errBoom, Delay: shortLease}) }
		}),
		wakes("O7/a_due_retry_wakes_who_came_later", func(b *outboxBench) func() error {
			b.enqueue("a1")
			b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom, Delay: shortLease}), "fail")
			return func() error { return nil }
		}),
		wakes("O7/the_end_of_a_lease_wakes", func(b *outboxBench) func() error {
			b.enqueue("a1")
			b.abandon()
			return func() error { return nil }
		}),
		wakes("O7/a_replay_wakes", func(b *outboxBench) func() error {
			m := b.enqueue("a1")[0]
			b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom, Dead: true}), "fail for good")
			return func() error { return b.role.Replay(b.ctx, m.ID) }
		}),
		wakes("O7/a_discard_that_unparks_wakes", func(b *outboxBench) func() error {
			m := b.enqueue("a1", "a2")[0]
			entries := b.take("a1", "a2")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2")
			b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail for good")
			return func() error { return b.role.Discard(b.ctx, m.ID) }
		}),
		outboxLine("O7/wait_ends_with_its_context", func(b *outboxBench) {
			ctx, cancel := context.WithCancel(b.ctx)
			waiting := b.begun(func(context.Context) error { return outboxIdle(ctx, b.role) })
			cancel()
			b.is(b.ended(waiting, "Wait whose context has ended"), context.Canceled, "wait")
		}),
		outboxLine("O7/wait_does_not_spin", outboxDoesNotSpin),
	}
}

// outboxIdle waits on an outbox that has nothing to claim, until an error. A hint now and then is allowed.
func outboxIdle(ctx context.Context, o es.Outbox) error {
	const hints = 100
	for range hints {
		if err := o.Wait(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: Wait returned %d times with nothing to claim", errSpins, hints)
}

var errSpins = errors.New("it spins")

// outboxWakes has a processor wait on a handle while something happens that gives it an entry: it must get it.
func outboxWakes(b *outboxBench, o es.Outbox, wake func() error) {
	b.Helper()
	begun := make(chan struct{})
	got := b.begun(func(ctx context.Context) error {
		close(begun)
		dst := make([]es.Entry, 1)
		for {
			if err := o.Wait(ctx); err != nil {
				return err
			}
			if n, err := o.Claim(ctx, dst, es.ClaimOptions{Owner: "B", Lease: longLease}); n > 0 || err != nil {
				return err
			}
		}
	})
	<-begun
	b.paused(2 * time.Millisecond) // so that it most likely waits by now; either order must do
	b.ok(wake(), "what is to wake")
	b.ok(b.ended(got, "a processor that waits"), "a processor that waits")
}

// outboxNoneMissed lets each enqueue race with the wait for it.
func outboxNoneMissed(b *outboxBench) {
	const rounds = 100
	done := make(chan struct{}, rounds)
	working := b.begun(func(ctx context.Context) error {
		dst := make([]es.Entry, 1)
		for range rounds {
			for {
				n, err := b.role.Claim(ctx, dst, es.ClaimOptions{Owner: "A", Lease: longLease})
				if err != nil {
					return err
				}
				if n > 0 {
					break
				}
				if err := b.role.Wait(ctx); err != nil {
					return err
				}
			}
			if err := b.role.Complete(ctx, dst); err != nil {
				return err
			}
			done <- struct{}{}
		}
		return nil
	})
	for range rounds {
		b.enqueue("a1")
		select {
		case <-done:
		case <-b.ctx.Done():
			b.Fatal("an entry was enqueued, and who waited for it was not woken")
		}
	}
	b.ok(b.ended(working, "the processor"), "the processor")
}

// outboxDoesNotSpin waits where there is nothing that can be claimed, for four reasons.
func outboxDoesNotSpin(b *outboxBench) {
	idle := func(why string) {
		b.Helper()
		ctx, cancel := context.WithTimeout(b.ctx, clockSlack)
		defer cancel()
		b.is(outboxIdle(ctx, b.role), context.DeadlineExceeded, "wait while %s", why)
	}
	idle("the outbox is empty")
	b.enqueue("a1")
	entries := b.take("a1")
	idle("its entry is with an owner")
	b.ok(b.role.Fail(b.ctx, entries, es.Failure{Err: errBoom, Delay: time.Hour}), "fail")
	idle("its entry waits for its retry")
	b.enqueue("b1", "b2")
	entries = b.take("b1", "b2")
	b.ok(b.role.Release(b.ctx, entries[1:]), "release b2")
	b.ok(b.role.Fail(b.ctx, entries[:1], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail for good")
	idle("a stream is parked")
}

func outboxStatsLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O8/depth_and_age", func(b *outboxBench) {
			b.statsAre(es.OutboxStats{})
			before := time.Now()
			b.enqueue("a1")
			after := time.Now()
			b.paused(5 * time.Millisecond) // so that the times of enqueueing differ
			b.enqueue("a2", "b1")
			oldest := b.stats(b.role).Oldest
			b.about(oldest, before, after, "Oldest")
			b.statsAre(es.OutboxStats{Depth: 3, Oldest: oldest})
			entries := b.take("a1", "a2", "b1")
			if !entries[0].Enqueued.Equal(oldest) {
				b.Fatalf("the oldest entry was enqueued at %v, and the stats say %v", entries[0].Enqueued, oldest)
			}
			b.statsAre(es.OutboxStats{Depth: 3, Oldest: oldest})
			b.ok(b.role.Complete(b.ctx, entries[:1]), "complete a1")
			b.statsAre(es.OutboxStats{Depth: 2, Oldest: entries[1].Enqueued})
			b.ok(b.role.Complete(b.ctx, entries[1:]), "complete the rest")
			b.statsAre(es.OutboxStats{})
		}),
		outboxLine("O8/failures_and_dead_letters", outboxCounts),
		outboxLine("O8/failures_count_since_it_was_opened", func(b *outboxBench) {
			b.keeps()
			b.enqueue("a1")
			b.ok(b.role.Fail(b.ctx, b.take("a1"), es.Failure{Err: errBoom}), "fail")
			if got := b.stats(b.role).Failures; got != 1 {
				b.Fatalf("%d failures, want 1", got)
			}
			b.reopened()
			b.has(b.await(b.role, "A", 1, longLease), "a1")
			if s := b.stats(b.role); s.Depth != 1 || s.Retrying != 1 {
				b.Fatalf("the stats of what was opened again are %+v, want a depth of 1, retrying", s)
			}
		}),
	}
}

// statsAre ends the test unless the stats are these.
func (b *outboxBench) statsAre(want es.OutboxStats) {
	b.Helper()
	got := b.stats(b.role)
	if !got.Oldest.Equal(want.Oldest) {
		b.Fatalf("the oldest entry is of %v, want %v", got.Oldest, want.Oldest)
	}
	got.Oldest, want.Oldest = time.Time{}, time.Time{}
	if got != want {
		b.Fatalf("the stats are %+v, want %+v", got, want)
	}
}

func outboxCounts(b *outboxBench) {
	are := func(want es.OutboxStats) {
		b.Helper()
		want.Oldest = b.stats(b.role).Oldest
		b.statsAre(want)
	}
	msgs := b.enqueue("a1", "a2", "b1", "c1")
	entries := b.take("a1", "a2", "b1", "c1")
	b.ok(b.role.Fail(b.ctx, entries[2:3], es.Failure{Err: errBoom}), "fail b1")
	are(es.OutboxStats{Depth: 4, Retrying: 1, Failures: 1})
	b.ok(b.role.Fail(b.ctx, b.await(b.role, "A", 1, longLease), es.Failure{Err: errBoom, Delay: time.Hour}), "fail b1 again")
	are(es.OutboxStats{Depth: 4, Retrying: 1, Failures: 2})
	b.ok(b.role.Fail(b.ctx, entries[:2], es.Failure{Err: errBoom, Dead: true, Park: true}), "fail a1 and a2 for good")
	are(es.OutboxStats{Depth: 2, Retrying: 1, Dead: 2, Parked: 1, Failures: 4})
	b.ok(b.role.Fail(b.ctx, entries[3:], es.Failure{Err: es.ErrInvalid}), "fail c1 for good")
	are(es.OutboxStats{Depth: 1, Retrying: 1, Dead: 3, Parked: 1, Failures: 5})
	b.ok(b.role.Discard(b.ctx, msgs[0].ID), "discard a1")
	are(es.OutboxStats{Depth: 1, Retrying: 1, Dead: 2, Parked: 1, Failures: 5})
	b.ok(b.role.Replay(b.ctx, msgs[1].ID), "replay a2")
	are(es.OutboxStats{Depth: 2, Retrying: 1, Dead: 1, Failures: 5})
	b.ok(b.role.Release(b.ctx, b.await(b.role, "A", 1, longLease)), "release a2")
	are(es.OutboxStats{Depth: 2, Retrying: 1, Dead: 1, Failures: 5})
}
