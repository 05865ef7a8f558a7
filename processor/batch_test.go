package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

var _ es.Component = (*processor.Batch)(nil)

// calls notes the size of each batch that the publisher is given, by stream.
type calls struct {
	mu    sync.Mutex
	sizes map[string][]int
}

func (c *calls) note(stream string, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sizes[stream] = append(c.sizes[stream], size)
}

func (c *calls) of(stream string) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sizes[stream])
}

// batch starts a processor that is stopped when the test ends, and returns the batches that it publishes.
func (b *bench) batch(f processor.Flush) (*processor.Batch, *calls) {
	b.Helper()
	b.config.Retry.Attempts = 0
	sizes := b.noteCalls()
	p, err := processor.NewBatch(b.config, f)
	b.run(p, err)
	return p, sizes
}

func (b *bench) noteCalls() *calls {
	sizes, before := &calls{sizes: map[string][]int{}}, b.publisher.before
	b.publisher.before = func(ctx context.Context, pubs []es.Publication) error {
		stream := pubs[0].Message.Stream
		for _, pub := range pubs {
			if pub.Message.Stream != stream {
				b.Errorf("a batch has messages of %s and of %s", stream, pub.Message.Stream)
			}
		}
		sizes.note(stream, len(pubs))
		if before != nil {
			return before(ctx, pubs)
		}
		return nil
	}
	return sizes
}

func (b *bench) sizes(what string, got []int, want ...int) {
	b.Helper()
	if !slices.Equal(got, want) {
		b.Errorf("%s: batches of %v, want %v", what, got, want)
	}
}

func TestABatchIsFlushedAtOnceWhenItIsFull(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Hour})
		synctest.Wait()
		begin := time.Now()
		b.enqueue(slices.Concat(numbered("a-1", 25), numbered("b-1", 10), numbered("c-1", 9))...)
		synctest.Wait()
		if passed := time.Since(begin); passed != 0 {
			b.Errorf("it took %v, nothing had to wait", passed)
		}
		b.sizes("a-1", sizes.of("a-1"), 10, 10)
		b.sizes("b-1", sizes.of("b-1"), 10)
		b.sizes("c-1", sizes.of("c-1"))
		b.same("published of a-1", of("a-1", b.publisher.published()), numbered("a-1", 20))
		if s := b.stats(); s.Depth != 5+9 || s.Failures != 0 {
			b.Errorf("stats are %+v, want the rest in the outbox", s)
		}
	})
}

func TestABatchIsFlushedWhenItsOldestHasWaitedForTheInterval(t *testing.T) {
	inBubble(t, func(b *bench) {
		p, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Minute})
		b.enqueue("a-1/1")
		time.Sleep(30 * time.Second)
		b.enqueue("a-1/2", "b-1/1")
		time.Sleep(30*time.Second - time.Nanosecond)
		synctest.Wait()
		b.sizes("a-1 before the interval", sizes.of("a-1"))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		b.sizes("a-1 after the interval", sizes.of("a-1"), 2)
		b.sizes("b-1 after half of it", sizes.of("b-1"))
		time.Sleep(30 * time.Second)
		synctest.Wait()
		b.sizes("b-1 after the interval", sizes.of("b-1"), 1)
		stats, err := p.Stats(b.Context())
		b.ok(err)
		want := processor.Stats{Appended: 3, Published: 3, Completed: 3, Batches: 2}
		if stats != want {
			b.Errorf("stats are %+v, want %+v", stats, want)
		}
	})
}

func TestTheIntervalBeginsAnewWithEachBatchOfABusyStream(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Minute})
		for round := range 6 { // there is always something of the stream in hand
			b.enqueue(numbered("a-1", 15)[:10+5*((round+1)%2)]...)
			time.Sleep(25 * time.Second)
		}
		synctest.Wait()
		for _, size := range sizes.of("a-1") {
			if size != 10 {
				b.Errorf("batches of %v, want full ones only", sizes.of("a-1"))
				break
			}
		}
	})
}

func TestABatchThatIsCollectedIsFlushedSoonAfterItIsFull(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Minute})
		for i := range 10 {
			b.enqueue(fmt.Sprintf("a-1/%d", i+1))
			time.Sleep(time.Second)
		}
		synctest.Wait()
		time.Sleep(time.Second) // a thirtieth of the interval is over
		synctest.Wait()
		b.sizes("a-1", sizes.of("a-1"), 10)
		b.same("published", b.publisher.published(), numbered("a-1", 10))
	})
}

func TestAnotherStreamDoesNotWaitForWhatIsCollected(t *testing.T) {
	inBubble(t, func(b *bench) {
		_, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Hour})
		b.enqueue("a-1/1")
		time.Sleep(time.Second)
		synctest.Wait()
		b.enqueue(numbered("b-1", 10)...)
		synctest.Wait() // and no time
		b.sizes("b-1", sizes.of("b-1"), 10)
		b.sizes("a-1", sizes.of("a-1"))
	})
}

func TestCollectingDoesNotSpin(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(context.Context) error{
		"when nothing comes":                              nil,
		"when the outbox hints at something all the time": func(ctx context.Context) error { return ctx.Err() },
		"when the outbox cannot be waited for":            func(context.Context) error { return errDown },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				var claims atomic.Int64
				b.outbox.wait = wait
				b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
					claims.Add(1)
					return b.outbox.Outbox.Claim(ctx, dst, opts)
				}
				b.enqueue("a-1/1")
				b.batch(processor.Flush{Size: 10, Interval: time.Minute})
				time.Sleep(30 * time.Second)
				synctest.Wait()
				if n := claims.Load(); n > 60 {
					b.Errorf("%d claims in half an interval, in which there was nothing to flush", n)
				}
				time.Sleep(30 * time.Second)
				synctest.Wait()
				b.same("published", b.publisher.published(), numbered("a-1", 1))
			})
		})
	}
}

func TestAnOutboxWhoseClockIsAheadDoesNotProlongTheInterval(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			n, err := b.outbox.Outbox.Claim(ctx, dst, opts)
			for i := range dst[:n] {
				dst[i].Enqueued = dst[i].Enqueued.Add(time.Hour)
			}
			return n, err
		}
		_, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Minute})
		b.enqueue("a-1/1")
		time.Sleep(time.Minute - time.Nanosecond)
		synctest.Wait()
		b.sizes("before the interval", sizes.of("a-1"))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		b.sizes("after the interval", sizes.of("a-1"), 1)
	})
}

func TestTheHandsOfABatchAreBounded(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.InHand = 20
		most := 0
		b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			most = max(most, len(dst))
			return b.outbox.Outbox.Claim(ctx, dst, opts)
		}
		p, _ := b.batch(processor.Flush{Size: 10, Interval: time.Hour})
		var all []string
		for i := range 50 {
			all = append(all, numbered(fmt.Sprint("s-", i), 2)...)
		}
		b.enqueue(all...)
		synctest.Wait() // and no time: who has no room cannot wait for more
		if n := len(b.publisher.published()); n < len(all)-20 {
			b.Errorf("%d of %d messages are published; at most 20 fit in hand", n, len(all))
		}
		for i := range 50 {
			stream := fmt.Sprint("s-", i)
			if got := of(stream, b.publisher.published()); !slices.Equal(got, numbered(stream, len(got))) {
				b.Errorf("published of %s: %v", stream, got)
			}
		}
		b.ok(p.Health(b.Context()))
		if most > 20 {
			b.Errorf("%d entries in hand, at most 20 are allowed", most)
		}
	})
}

func TestLeasesOfWhatIsCollectedAreKept(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Lease = time.Second
		p, sizes := b.batch(processor.Flush{Size: 10, Interval: 10 * time.Minute})
		b.enqueue("a-1/1")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		b.sizes("a-1", sizes.of("a-1"), 1)
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.LeasesLost != 0 {
			b.Errorf("stats are %+v", stats)
		}
	})
}

func TestNoBatchBeginsBeforeTheOneInFrontOfItIsDone(t *testing.T) {
	inBubble(t, func(b *bench) {
		var down atomic.Bool
		down.Store(true)
		b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
			if down.Load() {
				return errDown
			}
			return b.outbox.Outbox.Complete(ctx, entries)
		}
		b.enqueue(numbered("a-1", 4)...)
		_, sizes := b.batch(processor.Flush{Size: 2})
		time.Sleep(10 * time.Second) // within the lease
		synctest.Wait()
		b.sizes("while the first is not completed", sizes.of("a-1"), 2)
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.sizes("afterwards", sizes.of("a-1"), 2, 2, 2)
		if s := b.stats(); s.Depth != 0 {
			b.Errorf("stats are %+v", s)
		}
	})
}

func TestStoppingABatchFlushesWhatIsCollected(t *testing.T) {
	inBubble(t, func(b *bench) {
		p, sizes := b.batch(processor.Flush{Size: 10, Interval: time.Hour})
		b.enqueue("a-1/1", "a-1/2", "b-1/1")
		synctest.Wait()
		begin := time.Now()
		b.ok(p.Stop(b.Context()))
		if took := time.Since(begin); took != 0 {
			b.Errorf("stopped after %v", took)
		}
		b.sizes("a-1", sizes.of("a-1"), 2)
		b.sizes("b-1", sizes.of("b-1"), 1)
		if s := b.stats(); s.Depth != 0 {
			b.Errorf("stats are %+v", s)
		}
	})
}

func TestStoppingABatchWithoutPatienceGivesItBack(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"while it is collected", "while it is published"} {
		t.Run(when, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.slowPublisher()
				p, err := processor.NewBatch(b.config, processor.Flush{Size: 10, Interval: time.Second})
				b.ok(err)
				b.ok(p.Start(b.Context()))
				b.enqueue("a-1/1", "a-1/2")
				if when == "while it is published" {
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				ended, cancel := context.WithCancel(b.Context())
				cancel()
				if err := p.Stop(ended); !errors.Is(err, context.Canceled) {
					b.Errorf("Stop returned %v", err)
				}
				if attempts := b.waiting(); !slices.Equal(attempts, []int{1, 1}) {
					b.Errorf("entries that wait have attempts %v, want two at their first", attempts)
				}
				if dead := b.dead(); len(dead) != 0 {
					b.Errorf("dead letters are %+v", dead)
				}
			})
		})
	}
}

func TestAClosedPublisherEndsABatch(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.before = func(context.Context, []es.Publication) error { return es.ErrClosed }
		p, _ := b.batch(processor.Flush{Size: 2})
		b.enqueue(numbered("a-1", 2)...)
		<-p.Done()
		if !errors.Is(p.Err(), es.ErrClosed) {
			b.Errorf("error %v", p.Err())
		}
		if attempts := b.waiting(); !slices.Equal(attempts, []int{1, 1}) {
			b.Errorf("entries that wait have attempts %v", attempts)
		}
	})
}

func TestConfigOfBatchIsChecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for want, c := range map[string]struct {
			config processor.Config
			flush  processor.Flush
		}{
			"Outbox":         {config: processor.Config{Events: b.events}},
			"Events":         {config: processor.Config{Outbox: b.outbox}},
			"batch size":     {config: b.config, flush: processor.Flush{Size: -1}},
			"batch interval": {config: b.config, flush: processor.Flush{Interval: time.Microsecond}},
			"number in hand": {config: processor.Config{Outbox: b.outbox, Events: b.events, InHand: 9}, flush: processor.Flush{Size: 10}},
		} {
			if _, err := processor.NewBatch(c.config, c.flush); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("wrong %s: %v", want, err)
			}
		}
	})
}
