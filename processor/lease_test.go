package processor_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestLeasesAreExtendedWhileWorkTakesLong(t *testing.T) {
	t.Parallel()
	for _, slow := range []string{"append", "publish", "complete"} {
		t.Run(slow, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.config.Lease = 10 * time.Second
				const long = 5 * time.Minute
				var calls atomic.Int64
				switch slow {
				case "append":
					b.events.appendEach = func(ctx context.Context, as []es.Append) []es.Outcome {
						calls.Add(1)
						time.Sleep(long)
						return b.events.EventStore.AppendEach(ctx, as)
					}
				case "publish":
					b.publisher.before = func(context.Context, []es.Publication) error {
						calls.Add(1)
						time.Sleep(long)
						return nil
					}
				case "complete":
					b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
						calls.Add(1)
						time.Sleep(long)
						return b.outbox.Outbox.Complete(ctx, entries)
					}
				}
				p := b.start(b.config)
				b.start(b.config) // another one, who would take what is not extended
				b.enqueue("a-1/1", "a-1/2")
				time.Sleep(2 * long)
				synctest.Wait()
				if calls.Load() != 1 {
					b.Errorf("%d calls, want one", calls.Load())
				}
				b.same("published", b.publisher.published(), numbered("a-1", 2))
				stats, err := p.Stats(b.Context())
				b.ok(err)
				if stats.LeasesLost != 0 || stats.Outbox.Depth != 0 {
					b.Errorf("stats are %+v", stats)
				}
			})
		})
	}
}

func TestWhatIsLostIsDropped(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Lease = 10 * time.Second
		b.outbox.extend = func(context.Context, []es.Entry) error { return es.ErrLeaseLost }
		b.outbox.complete = func(context.Context, []es.Entry) error {
			b.Error("completed what was lost")
			return nil
		}
		b.outbox.release = func(context.Context, []es.Entry) error {
			b.Error("released what was lost")
			return nil
		}
		var broken error
		b.publisher.before = func(ctx context.Context, _ []es.Publication) error {
			b.outbox.claim = func(context.Context, []es.Entry, es.ClaimOptions) (int, error) { return 0, nil }
			<-ctx.Done() // it takes for ever, and nobody needs it any more
			broken = ctx.Err()
			return broken
		}
		p := b.start(b.config)
		b.enqueue("a-1/1", "b-1/1")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !errors.Is(broken, context.Canceled) {
			b.Errorf("publishing was not broken off: %v", broken)
		}
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.LeasesLost != 2 || stats.Completed != 0 || stats.Retried != 0 || stats.Released != 0 {
			b.Errorf("stats are %+v", stats)
		}
	})
}

func TestWhatIsLostInPartIsDroppedInPart(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Lease = 10 * time.Second
		b.outbox.extend = func(_ context.Context, entries []es.Entry) error {
			errs := make([]error, len(entries))
			for i, e := range entries {
				if e.Stream == "a-1" {
					errs[i] = es.ErrLeaseLost
				}
			}
			return es.BatchErr(errs)
		}
		var completed []string
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			for _, e := range entries {
				completed = append(completed, label(e.Message))
			}
			return b.outbox.Outbox.Complete(ctx, entries)
		}
		b.events.appendEach = func(ctx context.Context, as []es.Append) []es.Outcome {
			time.Sleep(5 * time.Second)
			return b.events.EventStore.AppendEach(ctx, as)
		}
		p := b.start(b.config)
		b.enqueue("a-1/1", "b-1/1")
		time.Sleep(6 * time.Second)
		synctest.Wait()
		b.same("published", b.publisher.published(), []string{"b-1/1"})
		b.same("completed", completed, []string{"b-1/1"})
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.LeasesLost != 1 {
			b.Errorf("stats are %+v", stats)
		}
		b.outbox.extend = nil
	})
}

func TestAnOutboxThatCannotExtendForAWhileLosesNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Lease = 10 * time.Second
		b.outbox.extend = func(context.Context, []es.Entry) error { return errDown }
		b.publisher.before = func(context.Context, []es.Publication) error { time.Sleep(8 * time.Second); return nil }
		p := b.start(b.config)
		b.enqueue("a-1/1")
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 1))
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.Completed != 1 || stats.LeasesLost != 0 {
			b.Errorf("stats are %+v", stats)
		}
	})
}

func TestAnAnswerIsTriedAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		times := 0
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			switch times++; times {
			case 1:
				return errDown
			case 2: // it took the answer, which did not get here
				b.ok(b.outbox.Outbox.Complete(ctx, entries))
				return errDown
			}
			return b.outbox.Outbox.Complete(ctx, entries)
		}
		p := b.start(b.config)
		b.enqueue("a-1/1", "a-1/2", "b-1/1")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := len(b.publisher.published()); n != 3 {
			b.Errorf("%d messages are published, want 3", n)
		}
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.LeasesLost != 0 || stats.Outbox.Depth != 0 || times != 3 {
			b.Errorf("after %d answers stats are %+v", times, stats)
		}
	})
}

func TestAnAnswerThatIsNotTakenComesBackAfterTheLease(t *testing.T) {
	inBubble(t, func(b *bench) {
		var down atomic.Bool
		down.Store(true)
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			if down.Load() {
				return errDown
			}
			return b.outbox.Outbox.Complete(ctx, entries)
		}
		b.config.Retry.Backoff.Max = time.Second
		b.start(b.config)
		sent := b.enqueue("a-1/1")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 1))
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("stored", b.stored(), numbered("a-1", 1))
		b.same("published", b.publisher.published(), []string{"a-1/1", "a-1/1"})
		for _, pub := range b.publisher.taken {
			if pub.Message.ID != sent[0].ID || pub.Message.Version != 1 {
				b.Errorf("published %+v", pub.Message)
			}
		}
		if b.stats().Depth != 0 {
			b.Errorf("stats are %+v", b.stats())
		}
	})
}
