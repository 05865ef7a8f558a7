package processor_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestAtMostOnceKeepsTheOrderOfWhatIsCompletedInParts has an outbox that takes the first message of a stream at the second try.
func TestAtMostOnceKeepsTheOrderOfWhatIsCompletedInParts(t *testing.T) {
	inBubble(t, func(b *bench) {
		times := 0
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			if times++; times > 1 {
				return b.outbox.Outbox.Complete(ctx, entries)
			}
			b.ok(b.outbox.Outbox.Complete(ctx, entries[1:]))
			errs := make([]error, len(entries))
			errs[0] = errDown
			return es.BatchErr(errs)
		}
		b.enqueue(numbered("a-1", 3)...)
		p := b.atMostOnce()
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("stored", b.stored(), numbered("a-1", 3))
		b.same("published", b.publisher.published(), numbered("a-1", 3))
		b.dropped(p, 0, 0)
	})
}

// TestAtMostOncePassesOnWhatWasCompletedWhileItsLeaseWasExtended has an Extend that is under way when the messages are completed,
// and then finds nothing to extend any more. That is no reason to break off what comes next.
func TestAtMostOncePassesOnWhatWasCompletedWhileItsLeaseWasExtended(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Lease = 9 * time.Second
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			time.Sleep(4 * time.Second) // the first Extend begins after 3
			return b.outbox.Outbox.Complete(ctx, entries)
		}
		b.outbox.extend = func(ctx context.Context, entries []es.Entry) error {
			time.Sleep(2 * time.Second)
			return b.outbox.Outbox.Extend(ctx, entries)
		}
		b.slowPublisher()
		b.enqueue(numbered("a-1", 2)...)
		p := b.atMostOnce()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 2))
		b.dropped(p, 0, 0)
	})
}

// TestAtMostOnceCountsWhatMayHaveBeenCompletedBeforeTheOutboxWasClosed loses the answer of an outbox that is closed before it can
// be asked again.
func TestAtMostOnceCountsWhatMayHaveBeenCompletedBeforeTheOutboxWasClosed(t *testing.T) {
	inBubble(t, func(b *bench) {
		times := 0
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			if times++; times > 1 {
				return es.ErrClosed
			}
			b.ok(b.outbox.Outbox.Complete(ctx, entries))
			return errDown
		}
		b.enqueue("a-1/1")
		p := b.atMostOnce()
		<-p.Done()
		b.same("published", b.publisher.published(), []string{})
		b.dropped(p, 1, 0)
	})
}

func TestAtMostOnceDropsNothingWhenTheOutboxIsClosed(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.outbox.complete = func(context.Context, []es.Entry) error { return es.ErrClosed }
		b.enqueue("a-1/1")
		p := b.atMostOnce()
		<-p.Done()
		b.same("published", b.publisher.published(), []string{})
		b.dropped(p, 0, 1)
	})
}
