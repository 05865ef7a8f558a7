package processor_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func TestNothingWaitsForThePollInterval(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.PollInterval, b.config.InHand = time.Hour, 10
		b.start(b.config)
		synctest.Wait() // it waits for something to do
		begin := time.Now()
		b.enqueue("lone-1/entry")
		synctest.Wait()
		b.same("published", b.publisher.published(), []string{"lone-1/entry"})
		b.enqueue(numbered("many-1", 1000)...)
		synctest.Wait()
		if n := len(b.publisher.published()); n != 1001 {
			b.Errorf("%d messages are published, want 1001", n)
		}
		if passed := time.Since(begin); passed != 0 {
			b.Errorf("it took %v, nobody had to wait", passed)
		}
	})
}

func TestPollingFindsWhatNobodyWokeFor(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.outbox.wait = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() } // it never wakes anybody
		b.config.PollInterval = time.Minute
		p := b.start(b.config)
		synctest.Wait()
		b.enqueue("a-1/1")
		synctest.Wait()
		b.same("published at once", b.publisher.published(), []string{})
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("published after the interval", b.publisher.published(), []string{"a-1/1"})
		b.ok(p.Health(b.Context()))
	})
}

// TestPollingGoesOnWhenTheOutboxCannotBeWaitedFor has an outbox that can be claimed from and not waited for, for so long that the
// delay between attempts would have grown far beyond the interval.
func TestPollingGoesOnWhenTheOutboxCannotBeWaitedFor(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.outbox.wait = func(context.Context) error { return errDown }
		b.config.PollInterval = time.Second
		b.config.Retry.Backoff.Random = func() float64 { return 1 }
		b.start(b.config)
		time.Sleep(10 * time.Minute)
		b.enqueue("a-1/1")
		time.Sleep(time.Second + 10*time.Millisecond)
		synctest.Wait()
		b.same("published after the interval", b.publisher.published(), []string{"a-1/1"})
	})
}

// TestWhoHasLongBeenIdleWakesAtOnce enqueues at many moments of an idle processor, each after some rounds in which it found nothing.
func TestWhoHasLongBeenIdleWakesAtOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.PollInterval = 100 * time.Millisecond
		b.start(b.config)
		for n := range 100 {
			time.Sleep(time.Second + time.Duration(n)*time.Millisecond)
			b.enqueue("a-1/1")
			synctest.Wait() // and no time
			if got := len(b.publisher.published()); got != n+1 {
				b.Fatalf("after %d ms: %d of %d messages are published at once", n, got, n+1)
			}
		}
	})
}

func TestHintsInVainDoNotMakeItSpin(t *testing.T) {
	inBubble(t, func(b *bench) {
		var claims atomic.Int64
		b.outbox.wait = func(ctx context.Context) error { return ctx.Err() } // it always hints at something
		b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			claims.Add(1)
			return b.outbox.Outbox.Claim(ctx, dst, opts)
		}
		b.start(b.config)
		time.Sleep(time.Second)
		synctest.Wait()
		if n := claims.Load(); n > 150 {
			b.Errorf("%d claims in a second in which there was nothing", n)
		}
		b.enqueue("a-1/1")
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		b.same("published", b.publisher.published(), []string{"a-1/1"})
	})
}
