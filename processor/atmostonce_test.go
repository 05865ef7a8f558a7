package processor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

var _ es.Component = (*processor.AtMostOnce)(nil)

// run starts a component that is stopped when the test ends.
func (b *bench) run(c es.Component, err error) {
	b.Helper()
	b.ok(err)
	b.ok(c.Start(b.Context()))
	b.Cleanup(func() { b.ok(c.Stop(context.Background())) })
}

// atMostOnce starts a processor that is stopped when the test ends.
func (b *bench) atMostOnce() *processor.AtMostOnce {
	b.Helper()
	b.config.Retry = processor.Retry{}
	p, err := processor.NewAtMostOnce(b.config)
	b.run(p, err)
	return p
}

// dropped looks for how much was dropped and how much is left in the outbox.
func (b *bench) dropped(p *processor.AtMostOnce, want, left int) {
	b.Helper()
	stats, err := p.Stats(b.Context())
	b.ok(err)
	if stats.Dropped != int64(want) || stats.Outbox.Depth != left || stats.Outbox.Dead != 0 || stats.Outbox.Failures != 0 {
		b.Errorf("stats are %+v, want %d dropped, %d left in the outbox, and no failure there", stats, want, left)
	}
}

func TestAtMostOnceStoresAndPublishesAsStored(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.enqueue("a-1/1", "b-1/1", "a-1/2")
		p := b.atMostOnce()
		synctest.Wait()
		b.same("stored", of("a-1", b.stored()), numbered("a-1", 2))
		b.same("published", of("a-1", b.publisher.published()), numbered("a-1", 2))
		for _, pub := range b.publisher.taken {
			if pub.Message.Version == 0 || pub.Message.Position == 0 || pub.Message.Recorded.IsZero() {
				b.Errorf("published %+v, which is not as it is stored", pub.Message)
			}
		}
		b.dropped(p, 0, 0)
	})
}

func TestAtMostOnceWithoutEventsOnlyPublishes(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Events = nil
		b.enqueue("a-1/1", "a-1/2")
		p := b.atMostOnce()
		synctest.Wait()
		b.same("stored", b.stored(), []string{})
		b.same("published", b.publisher.published(), numbered("a-1", 2))
		b.dropped(p, 0, 0)
	})
}

func TestAtMostOnceWithoutAPublisherOnlyAppends(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Publisher = nil
		b.enqueue("a-1/1", "a-1/2")
		p := b.atMostOnce()
		synctest.Wait()
		b.same("stored", b.stored(), numbered("a-1", 2))
		b.dropped(p, 0, 0)
	})
}

func TestAtMostOnceCompletesBeforeItAppendsAndPublishes(t *testing.T) {
	inBubble(t, func(b *bench) {
		look := func(what string) {
			if depth := b.stats().Depth; depth != 0 {
				b.Errorf("%s while the outbox has %d entries", what, depth)
			}
		}
		b.events.appendEach = func(ctx context.Context, as []es.Append) []es.Outcome {
			look("appended")
			return b.events.EventStore.AppendEach(ctx, as)
		}
		b.publisher.before = func(context.Context, []es.Publication) error { look("published"); return nil }
		b.enqueue("a-1/1", "b-1/1")
		b.atMostOnce()
		synctest.Wait()
		if n := len(b.publisher.published()); n != 2 {
			b.Errorf("%d messages are published, want 2", n)
		}
	})
}

func TestAtMostOnceDropsWhatFailsAndGoesOn(t *testing.T) {
	t.Parallel()
	refuse := func(err error) func(*es.Message) error {
		return func(m *es.Message) error {
			if label(m) == "a-1/2" {
				return err
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		spoil                func(b *bench)
		drops                int
		stored, publishedOfA []string
	}{
		"a store that is down": {
			spoil: func(b *bench) { b.events.failStream("a-1", func(int) error { return errDown }) },
			drops: 3, stored: []string{}, publishedOfA: []string{},
		},
		"a message that can never be appended": {
			spoil: func(b *bench) {
				b.events.failStream("a-1", func(int) error { return es.ErrDuplicate })
				b.events.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
					if a.Streams[0].Events[0].Name == "2" {
						return es.Appended{}, es.ErrDuplicate
					}
					return b.events.EventStore.Append(ctx, a)
				}
			},
			drops: 1, stored: []string{"a-1/1", "a-1/3"}, publishedOfA: []string{"a-1/1", "a-1/3"},
		},
		"a publisher that fails one, and what follows it": {
			spoil: func(b *bench) { b.publisher.fail = refuse(errDown) },
			drops: 2, stored: numbered("a-1", 3), publishedOfA: numbered("a-1", 1),
		},
		"a publisher that fails one, and does not try what follows it": {
			spoil: func(b *bench) {
				b.publisher.fail = refuse(errDown)
				b.config.Publisher = holdsBack{b.publisher}
			},
			drops: 1, stored: numbered("a-1", 3), publishedOfA: []string{"a-1/1", "a-1/3"},
		},
		"a publisher that refuses a call because of one": {
			spoil: func(b *bench) {
				b.publisher.before = func(_ context.Context, pubs []es.Publication) error {
					for _, pub := range pubs {
						if label(pub.Message) == "a-1/2" {
							return es.Invalidf("message", "is bad")
						}
					}
					return nil
				}
			},
			drops: 1, stored: numbered("a-1", 3), publishedOfA: []string{"a-1/1", "a-1/3"},
		},
		"a publisher that holds back for ever": {
			spoil: func(b *bench) { b.publisher.fail = refuse(es.ErrHeldBack) },
			drops: 2, stored: numbered("a-1", 3), publishedOfA: numbered("a-1", 1),
		},
		"a topic that cannot be found": {
			spoil: func(b *bench) {
				b.config.Topic = func(m *es.Message) string {
					if label(m) == "a-1/2" {
						panic("no topic")
					}
					return "topic"
				}
			},
			drops: 1, stored: numbered("a-1", 3), publishedOfA: []string{"a-1/1", "a-1/3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				c.spoil(b)
				b.enqueue("a-1/1", "a-1/2", "a-1/3", "b-1/1", "b-1/2")
				p := b.atMostOnce()
				time.Sleep(time.Hour) // nothing comes again
				synctest.Wait()
				b.same("stored of a-1", of("a-1", b.stored()), c.stored)
				b.same("published of a-1", of("a-1", b.publisher.published()), c.publishedOfA)
				b.same("published of b-1", of("b-1", b.publisher.published()), numbered("b-1", 2))
				b.dropped(p, c.drops, 0)
			})
		})
	}
}

// holdsBack is a publisher that says of what follows a failed message that it was not tried.
type holdsBack struct{ *publisher }

func (h holdsBack) Publish(ctx context.Context, pubs ...es.Publication) error {
	err := h.publisher.Publish(ctx, pubs...)
	errs := make([]error, len(pubs))
	failed := map[string]bool{}
	for i, pub := range pubs {
		if errs[i] = es.Of(err, i); errs[i] != nil && failed[pub.Message.Stream] {
			errs[i] = es.ErrHeldBack
		}
		failed[pub.Message.Stream] = failed[pub.Message.Stream] || errs[i] != nil
	}
	return es.BatchErr(errs)
}

func TestAtMostOnceDoesNotPublishWhatItCouldNotComplete(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		complete      func(b *bench) func(context.Context, []es.Entry) error
		drops, depth  int
		publishedInAn []string // hour
	}{
		"because somebody else has it": {
			complete: func(*bench) func(context.Context, []es.Entry) error {
				return func(context.Context, []es.Entry) error { return es.ErrLeaseLost }
			},
			depth: 1, publishedInAn: []string{},
		},
		"because the outbox does not answer, having done it": {
			complete: func(b *bench) func(context.Context, []es.Entry) error {
				return func(ctx context.Context, entries []es.Entry) error {
					_ = b.outbox.Outbox.Complete(ctx, entries)
					return errDown
				}
			},
			drops: 1, publishedInAn: []string{},
		},
		"because the answer of the outbox got lost": {
			complete: func(b *bench) func(context.Context, []es.Entry) error {
				times := 0
				return func(ctx context.Context, entries []es.Entry) error {
					err := b.outbox.Outbox.Complete(ctx, entries)
					if times++; times == 1 {
						return errDown
					}
					return err
				}
			},
			drops: 1, publishedInAn: []string{},
		},
		"until the outbox answers again": {
			complete: func(b *bench) func(context.Context, []es.Entry) error {
				times := 0
				return func(ctx context.Context, entries []es.Entry) error {
					if times++; times <= 7 {
						return errDown
					}
					return b.outbox.Outbox.Complete(ctx, entries)
				}
			},
			publishedInAn: numbered("a-1", 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.outbox.complete = c.complete(b)
				b.enqueue("a-1/1")
				p := b.atMostOnce()
				time.Sleep(time.Hour)
				synctest.Wait()
				b.same("published", b.publisher.published(), c.publishedInAn)
				b.dropped(p, c.drops, c.depth)
			})
		})
	}
}

func TestStoppingAtMostOnceDropsNothing(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slowPublisher()
		b.config.InHand = 2
		p := b.atMostOnce()
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		b.ok(p.Stop(b.Context()))
		b.same("published", b.publisher.published(), numbered("a-1", 2))
		b.dropped(p, 0, 1)
	})
}

func TestStoppingAtMostOnceWithoutPatienceDropsWhatIsUnderWay(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.slowPublisher()
		p, err := processor.NewAtMostOnce(processor.Config{Outbox: b.outbox, Publisher: b.publisher, InHand: 2})
		b.ok(err)
		b.ok(p.Start(b.Context()))
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("Stop returned %v", err)
		}
		b.same("published", b.publisher.published(), []string{})
		b.dropped(p, 2, 1)
	})
}

func TestAClosedPublisherEndsAtMostOnce(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.before = func(context.Context, []es.Publication) error { return es.ErrClosed }
		b.config.InHand = 2
		p := b.atMostOnce()
		b.enqueue(numbered("a-1", 5)...)
		<-p.Done()
		if !errors.Is(p.Err(), es.ErrClosed) {
			b.Errorf("error %v", p.Err())
		}
		b.dropped(p, 2, 3)
	})
}

func TestConfigOfAtMostOnceIsChecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for want, change := range map[string]func(*processor.Config){
			"Outbox":               func(c *processor.Config) { c.Outbox = nil },
			"neither Events nor a": func(c *processor.Config) { c.Events, c.Publisher = nil, nil },
			"retry attempts":       func(c *processor.Config) { c.Retry.Attempts = 2 },
			"no dead letters":      func(c *processor.Config) { c.AfterDeadLetter = processor.Park },
		} {
			c := processor.Config{Outbox: b.outbox, Events: b.events, Publisher: b.publisher}
			change(&c)
			if _, err := processor.NewAtMostOnce(c); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
				t.Errorf("wrong %s: %v", want, err)
			}
		}
	})
}
