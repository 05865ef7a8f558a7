package processor_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// slowPublisher makes each call of the publisher take a minute, unless its context ends.
func (b *bench) slowPublisher() {
	b.publisher.before = func(ctx context.Context, _ []es.Publication) error {
		select {
		case <-time.After(time.Minute):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *bench) running(c processor.Config) *processor.AtLeastOnce {
	b.Helper()
	p, err := processor.NewAtLeastOnce(c)
	b.ok(err)
	b.ok(p.Start(b.Context()))
	return p
}

// waiting returns the attempts of the entries that can be claimed.
func (b *bench) waiting() []int {
	b.Helper()
	entries := make([]es.Entry, 10)
	n, err := b.backend.Outbox().Claim(b.Context(), entries, es.ClaimOptions{Owner: "test"})
	b.ok(err)
	var attempts []int
	for _, e := range entries[:n] {
		attempts = append(attempts, e.Attempt)
	}
	return attempts
}

func TestStopFinishesWhatIsInHandAndClaimsNothingMore(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slowPublisher()
		b.config.InHand = 2
		p := b.running(b.config)
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		begin := time.Now()
		b.ok(p.Stop(b.Context()))
		if took := time.Since(begin); took != time.Minute {
			b.Errorf("stopped after %v, want a minute", took)
		}
		b.same("published", b.publisher.published(), numbered("a-1", 2))
		if attempts := b.waiting(); len(attempts) != 1 || attempts[0] != 1 {
			b.Errorf("entries that wait have attempts %v, want one at its first", attempts)
		}
		select {
		case <-p.Done():
		default:
			b.Error("stopped, and not done")
		}
		if p.Err() != nil || p.Health(b.Context()) == nil {
			b.Errorf("after Stop: error %v, health %v", p.Err(), p.Health(b.Context()))
		}
	})
}

func TestStopWithoutPatienceGivesBackWhatIsInHand(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slowPublisher()
		p := b.running(b.config)
		b.enqueue("a-1/1", "a-1/2", "b-1/1")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("Stop returned %v", err)
		}
		if took := time.Since(begin); took != time.Second {
			b.Errorf("stopped after %v, want a second", took)
		}
		b.same("published", b.publisher.published(), []string{})
		if attempts := b.waiting(); len(attempts) != 3 || attempts[0] != 1 || attempts[1] != 1 || attempts[2] != 1 {
			b.Errorf("entries that wait have attempts %v, want three at their first", attempts)
		}
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.Released != 3 || stats.Retried != 0 || stats.Dead != 0 {
			b.Errorf("stats are %+v", stats)
		}
	})
}

func TestStopWithoutPatienceThatFinishesAllTheSameIsNoError(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.before = func(context.Context, []es.Publication) error { time.Sleep(time.Minute); return nil }
		p := b.running(b.config)
		b.enqueue("a-1/1")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		b.ok(p.Stop(ctx))
		b.same("published", b.publisher.published(), numbered("a-1", 1))
		if s := b.stats(); s.Depth != 0 {
			b.Errorf("not completed: %+v", s)
		}
	})
}

func TestWhatIsClaimedDuringAStopIsGivenBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
			time.Sleep(time.Minute)
			return b.outbox.Outbox.Claim(ctx, dst, opts)
		}
		p := b.running(b.config)
		b.enqueue("a-1/1")
		synctest.Wait()
		b.ok(p.Stop(b.Context()))
		b.same("stored", b.stored(), []string{})
		if attempts := b.waiting(); len(attempts) != 1 || attempts[0] != 1 {
			b.Errorf("entries that wait have attempts %v", attempts)
		}
	})
}

func TestStopDoesNotWaitForARetry(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Retry = processor.Retry{Backoff: middleware.Backoff{Base: time.Hour, Max: time.Hour}}
		b.outbox.claim = func(context.Context, []es.Entry, es.ClaimOptions) (int, error) { return 0, errDown }
		p := b.running(b.config)
		synctest.Wait()
		begin := time.Now()
		b.ok(p.Stop(b.Context()))
		if took := time.Since(begin); took != 0 {
			b.Errorf("stopped after %v", took)
		}
	})
}

func TestStartAndStopOutOfTurn(t *testing.T) {
	inBubble(t, func(b *bench) {
		never, err := processor.NewAtLeastOnce(b.config)
		b.ok(err)
		if never.Health(b.Context()) == nil {
			b.Error("healthy before it was started")
		}
		b.ok(never.Stop(b.Context()))
		b.ok(never.Stop(b.Context()))
		<-never.Done()
		if err := never.Start(b.Context()); !errors.Is(err, es.ErrInvalid) {
			b.Errorf("started after it was stopped: %v", err)
		}
		p := b.running(b.config)
		if err := p.Start(b.Context()); !errors.Is(err, es.ErrInvalid) {
			b.Errorf("started twice: %v", err)
		}
		b.ok(p.Stop(b.Context()))
		b.ok(p.Stop(b.Context()))

		ended, cancel := context.WithCancel(b.Context())
		cancel()
		late, err := processor.NewAtLeastOnce(b.config)
		b.ok(err)
		if err := late.Start(ended); !errors.Is(err, context.Canceled) {
			b.Errorf("started with a context that has ended: %v", err)
		}
	})
}

func TestAClosedRoleEndsTheProcessorAndIsNoAttempt(t *testing.T) {
	t.Parallel()
	closed := map[string]func(b *bench){
		"publisher": func(b *bench) {
			b.publisher.before = func(context.Context, []es.Publication) error { return es.ErrClosed }
		},
		"event store": func(b *bench) {
			b.events.failStream("a-1", func(int) error { return es.ErrClosed })
		},
		"dead stream": func(b *bench) {
			b.events.failStream("a-1", func(int) error { return es.ErrInvalid })
			b.events.append = func(context.Context, es.Append) (es.Appended, error) { return es.Appended{}, es.ErrClosed }
		},
	}
	for what, closeIt := range closed {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				closeIt(b)
				p := b.running(b.config)
				b.enqueue("a-1/1", "a-1/2")
				<-p.Done()
				if !errors.Is(p.Err(), es.ErrClosed) || p.Health(b.Context()) == nil {
					b.Errorf("error %v, health %v", p.Err(), p.Health(b.Context()))
				}
				b.ok(p.Stop(b.Context()))
				if attempts := b.waiting(); len(attempts) != 2 || attempts[0] != 1 || attempts[1] != 1 {
					b.Errorf("entries that wait have attempts %v", attempts)
				}
			})
		})
	}
	t.Run("outbox", func(t *testing.T) {
		inBubble(t, func(b *bench) {
			p := b.running(b.config)
			synctest.Wait()
			b.ok(b.backend.Close())
			<-p.Done()
			if !errors.Is(p.Err(), es.ErrClosed) {
				b.Errorf("error %v", p.Err())
			}
			if _, err := p.Stats(b.Context()); !errors.Is(err, es.ErrClosed) {
				b.Errorf("statistics: %v", err)
			}
		})
	})
}

func TestHealth(t *testing.T) {
	t.Parallel()
	t.Run("an outbox that cannot be claimed from", func(t *testing.T) {
		inBubble(t, func(b *bench) {
			var down atomic.Bool
			down.Store(true)
			b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
				if down.Load() {
					return 0, errDown
				}
				return b.outbox.Outbox.Claim(ctx, dst, opts)
			}
			p := b.start(b.config)
			time.Sleep(9 * time.Second)
			b.ok(p.Health(b.Context()))
			time.Sleep(3 * time.Second)
			if err := p.Health(b.Context()); !errors.Is(err, errDown) {
				b.Errorf("down for long: %v", err)
			}
			synctest.Wait()
			down.Store(false)
			time.Sleep(time.Minute)
			b.ok(p.Health(b.Context()))
		})
	})
	t.Run("everything fails", func(t *testing.T) {
		inBubble(t, func(b *bench) {
			b.events.failStream("a-1", func(int) error { return errDown })
			p := b.start(b.config)
			b.enqueue("a-1/1")
			time.Sleep(time.Minute)
			if err := p.Health(b.Context()); !errors.Is(err, errDown) {
				b.Errorf("nothing works: %v", err)
			}
			b.enqueue("b-1/1")
			synctest.Wait()
			b.ok(p.Health(b.Context()))
		})
	})
	t.Run("what was given up is over", func(t *testing.T) {
		inBubble(t, func(b *bench) {
			b.publisher.fail = func(*es.Message) error { return errDown }
			p := b.start(b.config)
			b.enqueue("a-1/1")
			time.Sleep(time.Hour)
			b.ok(p.Health(b.Context()))
		})
	})
	t.Run("lag", func(t *testing.T) {
		inBubble(t, func(b *bench) {
			b.slowPublisher()
			b.config.MaxLag = 10 * time.Second
			p := b.start(b.config)
			b.ok(p.Health(b.Context()))
			b.enqueue("a-1/1")
			time.Sleep(10 * time.Second)
			b.ok(p.Health(b.Context()))
			time.Sleep(time.Second)
			if p.Health(b.Context()) == nil {
				b.Error("healthy, although it lags by 11 seconds")
			}
			time.Sleep(time.Minute)
			b.ok(p.Health(b.Context()))
		})
	})
}

// TestStopWithoutPatienceDoesNotWaitForAnOutboxThatHangs has a stop whose patience ends while the outbox does not answer. What it
// cannot give back then comes back after its lease.
func TestStopWithoutPatienceDoesNotWaitForAnOutboxThatHangs(t *testing.T) {
	t.Parallel()
	const streams = 50
	for name, begin := range map[string]func(c processor.Config) (es.Component, error){
		"at least once": func(c processor.Config) (es.Component, error) { return processor.NewAtLeastOnce(c) },
		"batch": func(c processor.Config) (es.Component, error) {
			return processor.NewBatch(c, processor.Flush{Size: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				b.publisher.fail = func(m *es.Message) error { return fmt.Errorf("%s: %w", m.Stream, errDown) }
				b.outbox.fail = func(ctx context.Context, _ []es.Entry, _ es.Failure) error { return hang(ctx) }
				b.outbox.release = func(ctx context.Context, _ []es.Entry) error { return hang(ctx) }
				b.outbox.complete = b.outbox.release
				for i := range streams {
					b.enqueue(fmt.Sprintf("s-%d/1", i))
				}
				p, err := begin(b.config)
				b.ok(err)
				b.ok(p.Start(b.Context()))
				synctest.Wait()
				ended, cancel := context.WithCancel(b.Context())
				cancel()
				began := time.Now()
				if err := p.Stop(ended); !errors.Is(err, context.Canceled) {
					b.Errorf("Stop returned %v", err)
				}
				if took := time.Since(began); took > 2*time.Second {
					b.Errorf("stopped after %v; one moment is for all answers that are not taken", took)
				}
			})
		})
	}
}

func TestTheStopThatBreaksOffSaysSo(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slowPublisher()
		p := b.running(b.config)
		b.enqueue("a-1/1")
		synctest.Wait()
		patient := make(chan error, 1)
		go func() { patient <- p.Stop(context.Background()) }()
		synctest.Wait()
		ended, cancel := context.WithCancel(b.Context())
		cancel()
		if err := p.Stop(ended); !errors.Is(err, context.Canceled) {
			b.Errorf("what was under way was broken off, and Stop returned %v", err)
		}
		if err := <-patient; !errors.Is(err, context.Canceled) {
			b.Errorf("what was under way was broken off by another Stop, and Stop returned %v", err)
		}
		b.ok(p.Stop(ended)) // it is stopped already
	})
}

// TestAPublisherThatEndsTheGoroutineEndsTheProcessor has a publisher that calls runtime.Goexit, as a test does that fails in it.
func TestAPublisherThatEndsTheGoroutineEndsTheProcessor(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.before = func(context.Context, []es.Publication) error { runtime.Goexit(); return nil }
		p := b.running(b.config)
		b.enqueue("a-1/1")
		<-p.Done()
		if p.Err() == nil || p.Health(b.Context()) == nil {
			b.Errorf("it does nothing any more: error %v, health %v", p.Err(), p.Health(b.Context()))
		}
		b.ok(p.Stop(b.Context()))
		time.Sleep(time.Minute) // and the lease is over
		if attempts := b.waiting(); !slices.Equal(attempts, []int{2}) {
			b.Errorf("entries that wait have attempts %v, want one at its second", attempts)
		}
	})
}
