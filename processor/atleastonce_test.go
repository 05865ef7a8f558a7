package processor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func TestMessagesAreStoredAndPublishedAsStored(t *testing.T) {
	inBubble(t, func(b *bench) {
		var all []string
		for i := range 1000 {
			all = append(all, fmt.Sprintf("order-%d/%d", i%7, i))
		}
		sent := b.enqueue(all...)
		p := b.start(b.config)
		synctest.Wait()

		stored := b.stored()
		if len(stored) != len(all) {
			b.Fatalf("%d messages are stored, %d were sent", len(stored), len(all))
		}
		for i := range 7 {
			stream := fmt.Sprintf("order-%d", i)
			b.same("stored in "+stream, of(stream, stored), of(stream, all))
			b.same("published of "+stream, of(stream, b.publisher.published()), of(stream, all))
		}
		places := map[int64]*es.Message{}
		for m, err := range b.backend.Events().Read(b.Context(), es.Query{}) {
			b.ok(err)
			places[m.Position] = m
		}
		for _, pub := range b.publisher.taken {
			m := places[pub.Message.Position]
			if pub.Topic != "order" {
				b.Fatalf("published to topic %q, want order", pub.Topic)
			}
			if m == nil || m.ID != pub.Message.ID || m.Version != pub.Message.Version || !m.Recorded.Equal(pub.Message.Recorded) ||
				m.Recorded.IsZero() {
				b.Fatalf("published %+v, stored is %+v", pub.Message, m)
			}
		}
		if sent[0].Version != 0 || sent[0].Position != 0 {
			b.Error("the sender's message was changed")
		}
		stats, err := p.Stats(b.Context())
		b.ok(err)
		want := processor.Stats{Appended: 1000, Published: 1000, Completed: 1000}
		if stats != want {
			b.Errorf("stats are %+v, want %+v", stats, want)
		}
	})
}

func TestWithoutAPublisherAppendingAndCompletingAreOneStep(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.events.appendEach = func(context.Context, []es.Append) []es.Outcome {
			b.Error("appended in a step of its own")
			return nil
		}
		b.config.Publisher, b.config.Outbox = nil, b.backend.Outbox()
		p := b.start(b.config)
		taken := message("other-1/1")
		_, err := b.backend.Events().Append(b.Context(), es.AppendTo("other-1", es.Any, taken))
		b.ok(err)
		duplicate := message("a-1/duplicate")
		duplicate.ID = taken.ID
		b.ok(b.outbox.Enqueue(b.Context(), message("a-1/1"), duplicate, message("a-1/2"), message("b-1/1")))
		synctest.Wait()
		b.same("stored", of("a-1", b.stored()), []string{"a-1/1", "a-1/2"})
		if dead := b.dead(); len(dead) != 1 || dead[0].Original.ID != taken.ID {
			b.Errorf("dead letters are %+v", dead)
		}
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.Appended != 3 || stats.Completed != 3 || stats.Dead != 1 || stats.Outbox.Depth != 0 || stats.Outbox.Dead != 1 {
			b.Errorf("stats are %+v", stats)
		}
	})
}

// holdingBack is an outbox whose Forward holds back all but the first of each call, for a while.
type holdingBack struct {
	es.Outbox

	times    int
	attempts []int // that were handed to Forward
}

func (h *holdingBack) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	for _, e := range entries {
		h.attempts = append(h.attempts, e.Attempt)
	}
	forwarder, _ := h.Outbox.(es.Forwarder) // the one in memory is
	if h.times == 0 {
		return forwarder.Forward(ctx, entries)
	}
	h.times--
	outcomes := forwarder.Forward(ctx, entries[:1])
	for range entries[1:] {
		outcomes = append(outcomes, es.Outcome{Err: fmt.Errorf("stream: %w", es.ErrHeldBack)})
	}
	return outcomes
}

func TestWhatIsHeldBackIsNoFailure(t *testing.T) {
	inBubble(t, func(b *bench) {
		outbox := &holdingBack{Outbox: b.backend.Outbox(), times: 3}
		b.config.Publisher, b.config.Outbox = nil, outbox
		b.enqueue(numbered("a-1", 5)...)
		p := b.start(b.config)
		synctest.Wait() // and no time: there is no delay to wait for
		b.same("stored", b.stored(), numbered("a-1", 5))
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.Outbox.Failures != 0 || stats.Retried != 0 || stats.Released != 4+3+2 {
			b.Errorf("stats are %+v, want 9 releases and no failure", stats)
		}
		for _, attempt := range outbox.attempts {
			if attempt != 1 {
				b.Errorf("attempts are %v; what was held back was not tried", outbox.attempts)
			}
		}
	})
}

func TestWhatAPublisherHoldsBackIsNoFailure(t *testing.T) {
	inBubble(t, func(b *bench) {
		held := 0
		b.config.Retry.Attempts = 1
		b.publisher.fail = func(*es.Message) error {
			if held++; held <= 3 {
				return es.ErrHeldBack
			}
			return nil
		}
		b.enqueue("a-1/1")
		b.start(b.config)
		synctest.Wait()
		b.same("published", b.publisher.published(), []string{"a-1/1"})
		if s := b.stats(); s.Failures != 0 || s.Dead != 0 {
			b.Errorf("stats are %+v", s)
		}
	})
}

func TestAppendIsTriedForAsLongAsItCanHelp(t *testing.T) {
	t.Parallel()
	for _, forwards := range []string{"in two steps", "in one step"} {
		t.Run(forwards, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				const times = 50
				b.config.Publisher, b.config.Retry.Backoff.Max = nil, 2*time.Second
				b.events.failStream("a-1", func(n int) error {
					if n <= times {
						return errDown
					}
					return nil
				})
				if forwards == "in one step" {
					b.config.Outbox = &forwarder{Outbox: b.backend.Outbox(), events: b.events}
				}
				p := b.start(b.config)
				b.enqueue("a-1/1", "a-1/2", "b-1/1")
				synctest.Wait()
				b.same("stored while a-1 fails", b.stored(), []string{"b-1/1"})
				b.enqueue("a-1/3", "b-1/2")
				time.Sleep(times * 2 * time.Second) // the longest delay, each time
				synctest.Wait()
				b.same("stored", of("a-1", b.stored()), []string{"a-1/1", "a-1/2", "a-1/3"})
				stats, err := p.Stats(b.Context())
				b.ok(err)
				if stats.Retried != times || stats.Dead != 0 || stats.Outbox.Depth != 0 {
					b.Errorf("stats are %+v, want %d retries and nothing left", stats, times)
				}
			})
		})
	}
}

// forwarder forwards by way of an event store that can be told to fail.
type forwarder struct {
	es.Outbox

	events *events
}

func (f *forwarder) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	as := make([]es.Append, len(entries))
	blocked := map[string]bool{}
	outcomes := make([]es.Outcome, len(entries))
	for i, e := range entries {
		as[i] = es.AppendTo(e.Stream, es.Any, e.Message)
		if blocked[e.Stream] {
			outcomes[i].Err = errors.New("one before it has failed")
			continue
		}
		outcomes[i] = f.events.AppendEach(ctx, as[i:i+1])[0]
		if outcomes[i].Err == nil {
			outcomes[i].Err = f.Complete(ctx, entries[i:i+1])
		}
		blocked[e.Stream] = outcomes[i].Err != nil
	}
	return outcomes
}

func TestAStoreThatWasDownDoesNotUseUpTheAttemptsToPublish(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.events.failStream("a-1", func(n int) error {
			if n <= 10 {
				return errDown
			}
			return nil
		})
		failures := 0
		b.publisher.fail = func(*es.Message) error {
			if failures++; failures < 3 { // three attempts are allowed
				return errDown
			}
			return nil
		}
		b.start(b.config)
		b.enqueue("a-1/1")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		b.same("published", b.publisher.published(), []string{"a-1/1"})
		if b.stats().Dead != 0 {
			b.Error("it became a dead letter")
		}
	})
}

func TestNothingOvertakesWhatCouldNotBePublished(t *testing.T) {
	t.Parallel()
	for topics, topic := range map[string]func(*es.Message) string{
		"one topic":        nil,
		"a topic for each": func(m *es.Message) string { return m.Name },
		"topics that take turns": func(m *es.Message) string {
			return []string{"even", "odd"}[m.Version%2]
		},
	} {
		t.Run(topics, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.config.Topic = topic
				b.config.Retry.Attempts = 100
				fails := map[string]int{"a-1/3": 2, "a-1/4": 3, "b-1/1": 1}
				b.publisher.fail = func(m *es.Message) error {
					if fails[label(m)] > 0 {
						fails[label(m)]--
						return errDown
					}
					return nil
				}
				b.start(b.config)
				b.enqueue(slices.Concat(numbered("a-1", 9), numbered("b-1", 5), numbered("c-1", 5))...)
				synctest.Wait()
				b.same("published at once of c-1", of("c-1", b.publisher.published()), numbered("c-1", 5))
				b.same("published at once of a-1", of("a-1", b.publisher.published()), numbered("a-1", 2))
				time.Sleep(time.Minute)
				synctest.Wait()
				b.same("published of a-1", of("a-1", b.publisher.published()), numbered("a-1", 9))
				b.same("published of b-1", of("b-1", b.publisher.published()), numbered("b-1", 5))
			})
		})
	}
}

func TestReadingBackIsTriedAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		times := 0
		b.events.read = func(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
			if times++; times == 1 {
				return func(yield func(*es.Message, error) bool) { yield(nil, errDown) }
			}
			return b.events.EventStore.Read(ctx, q)
		}
		b.start(b.config)
		b.enqueue("a-1/1", "a-1/2", "b-1/1")
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("stored", of("a-1", b.stored()), numbered("a-1", 2))
		b.same("published", of("a-1", b.publisher.published()), numbered("a-1", 2))
		b.same("published", of("b-1", b.publisher.published()), numbered("b-1", 1))
	})
}

func TestWhatWasHiddenMeanwhileIsPublishedAllTheSame(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.events.appendEach = func(ctx context.Context, as []es.Append) []es.Outcome {
			outcomes := b.events.EventStore.AppendEach(ctx, as)
			b.ok(b.backend.Events().Delete(ctx, "a-1", es.SoftDelete))
			return outcomes
		}
		b.start(b.config)
		b.enqueue("a-1/1", "a-1/2")
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 2))
		for i, pub := range b.publisher.taken {
			if pub.Message.Version != int64(i+1) || pub.Message.Position == 0 {
				b.Errorf("published version %d at position %d", pub.Message.Version, pub.Message.Position)
			}
		}
	})
}

func TestSeveralProcessorsBesideEachOther(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.InHand = 16
		processors := make([]*processor.AtLeastOnce, 4)
		for i := range processors {
			processors[i] = b.start(b.config)
		}
		var all []string
		for i := range 2000 {
			all = append(all, fmt.Sprintf("s-%d/%d", i%50, i))
		}
		for part := range slices.Chunk(all, 100) {
			b.enqueue(part...)
		}
		synctest.Wait()
		published := b.publisher.published()
		if len(published) != len(all) {
			b.Fatalf("%d messages are published, want each of %d once", len(published), len(all))
		}
		for i := range 50 {
			stream := fmt.Sprintf("s-%d", i)
			b.same("stored in "+stream, of(stream, b.stored()), of(stream, all))
			b.same("published of "+stream, of(stream, published), of(stream, all))
		}
	})
}

func TestARestartedProcessorGoesOn(t *testing.T) {
	inBubble(t, func(b *bench) {
		for i := range 3 {
			p, err := processor.NewAtLeastOnce(b.config)
			b.ok(err)
			b.ok(p.Start(b.Context()))
			b.enqueue(fmt.Sprintf("a-1/%d", i+1))
			synctest.Wait()
			b.ok(p.Stop(b.Context()))
		}
		b.same("stored", b.stored(), numbered("a-1", 3))
		b.same("published", b.publisher.published(), numbered("a-1", 3))
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := processor.NewAtLeastOnce(processor.Config{})
	if !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), "Outbox") || !strings.Contains(err.Error(), "Events") {
		t.Errorf("without anything: %v", err)
	}
	backend := memory.New()
	good := processor.Config{Outbox: backend.Outbox(), Events: backend.Events()}
	if _, err := processor.NewAtLeastOnce(good); err != nil {
		t.Errorf("with what is required: %v", err)
	}
	for want, change := range map[string]func(*processor.Config){
		"processor name": func(c *processor.Config) { c.Name = strings.Repeat("n", 230) },
		"dead stream":    func(c *processor.Config) { c.DeadStream = "a\x00b" },
		"poll interval":  func(c *processor.Config) { c.PollInterval = time.Microsecond },
		"number in hand": func(c *processor.Config) { c.InHand = -1 },
		"lease":          func(c *processor.Config) { c.Lease = -1 },
		"retry attempts": func(c *processor.Config) { c.Retry.Attempts = -1 },
		"retry base":     func(c *processor.Config) { c.Retry.Backoff.Base = -1 },
		"retry maximum":  func(c *processor.Config) { c.Retry.Backoff.Base, c.Retry.Backoff.Max = 2, 1 },
		"base of 100ms":  func(c *processor.Config) { c.Retry.Backoff.Max = 10 * time.Millisecond }, // which is the default
		"policy":         func(c *processor.Config) { c.AfterDeadLetter = 7 },
		"unhealthy":      func(c *processor.Config) { c.UnhealthyAfter = -1 },
		"lag":            func(c *processor.Config) { c.MaxLag = -1 },
	} {
		c := good
		change(&c)
		if _, err := processor.NewAtLeastOnce(c); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("wrong %s: %v", want, err)
		}
	}
}
