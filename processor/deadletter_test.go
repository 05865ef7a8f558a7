package processor_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func TestWhatCanNeverBeAppendedIsADeadLetterAtOnce(t *testing.T) {
	t.Parallel()
	for _, policy := range []processor.Policy{processor.Continue, processor.Park} {
		for _, published := range []string{"published", "not published"} {
			t.Run(policy.String()+", "+published, func(t *testing.T) {
				inBubble(t, func(b *bench) {
					if published == "not published" {
						b.config.Publisher, b.config.Outbox = nil, b.backend.Outbox()
					}
					b.config.AfterDeadLetter = policy
					testDeadAtOnce(b, policy)
				})
			})
		}
	}
}

func testDeadAtOnce(b *bench, policy processor.Policy) {
	taken := message("other-1/1")
	_, err := b.backend.Events().Append(b.Context(), es.AppendTo("other-1", es.Any, taken))
	b.ok(err)
	duplicate := message("a-1/2")
	duplicate.ID = taken.ID
	b.ok(b.outbox.Enqueue(b.Context(), message("a-1/1"), duplicate, message("a-1/3"), message("b-1/1")))
	b.start(b.config)
	synctest.Wait()

	dead := b.dead()
	if len(dead) != 1 || dead[0].Original.Name != "2" || dead[0].Original.Stream != "a-1" || dead[0].Handler != "processor" ||
		dead[0].Attempts != 1 || !strings.Contains(dead[0].Error, "duplicate") {
		b.Fatalf("dead letters are %+v", dead)
	}
	letters := 0
	for letter, err := range b.outbox.DeadLetters(b.Context()) {
		b.ok(err)
		if letters++; letter.Parked != (policy == processor.Park) {
			b.Errorf("parked is %v by policy %v", letter.Parked, policy)
		}
	}
	if letters != 1 {
		b.Errorf("the outbox has %d dead letters, want 1", letters)
	}
	b.same("stored of others", of("b-1", b.stored()), []string{"b-1/1"})
	whole := []string{"a-1/1", "a-1/3"}
	if policy == processor.Park {
		b.same("stored while parked", of("a-1", b.stored()), whole[:1])
		b.ok(b.outbox.Discard(b.Context(), taken.ID))
		synctest.Wait()
	}
	b.same("stored", of("a-1", b.stored()), whole)
	if b.config.Publisher != nil {
		b.same("published", of("a-1", b.publisher.published()), whole)
	}
	if b.stats().Depth != 0 {
		b.Errorf("outbox still has %+v", b.stats())
	}
}

func TestPublishingIsTriedAsOftenAsToldAndThenIsADeadLetter(t *testing.T) {
	inBubble(t, func(b *bench) {
		tries := 0
		b.publisher.fail = func(m *es.Message) error {
			if label(m) == "a-1/2" {
				tries++
				return errDown
			}
			return nil
		}
		p := b.start(b.config)
		b.enqueue("a-1/1", "a-1/2", "a-1/3", "b-1/1")
		synctest.Wait()
		b.same("published at once", b.publisher.published(), []string{"a-1/1", "b-1/1"})
		b.same("stored at once", of("a-1", b.stored()), numbered("a-1", 3))
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("published", of("a-1", b.publisher.published()), []string{"a-1/1", "a-1/3"})
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if tries != 3 || stats.Retried != 2 { // those behind it were given back, which is no attempt of theirs
			b.Errorf("tried %d times with %d retries, want 3 and 2", tries, stats.Retried)
		}
		if dead := b.dead(); len(dead) != 1 || dead[0].Original.Name != "2" || dead[0].Attempts != 3 ||
			!strings.Contains(dead[0].Error, errDown.Error()) {
			b.Errorf("dead letters are %+v", dead)
		}
	})
}

func TestAReplayedDeadLetterIsPublishedAndNotStoredAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.fail = func(*es.Message) error { return errDown }
		b.start(b.config)
		m := b.enqueue("a-1/1")[0]
		time.Sleep(time.Minute)
		synctest.Wait()
		if b.stats().Dead != 1 {
			b.Fatalf("stats are %+v, want a dead letter", b.stats())
		}
		b.publisher.mu.Lock()
		failures := 0
		b.publisher.fail = func(*es.Message) error {
			if failures++; failures < 3 { // it has all its attempts again
				return errDown
			}
			return nil
		}
		b.publisher.mu.Unlock()
		b.ok(b.outbox.Replay(b.Context(), m.ID))
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("stored", b.stored(), []string{"a-1/1"})
		b.same("published", b.publisher.published(), []string{"a-1/1"})
	})
}

func TestWhatThePublisherRefusesDoesNotHurtOthers(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.before = func(_ context.Context, pubs []es.Publication) error { // nothing of the call is published
			for _, pub := range pubs {
				if pub.Message.Name == "bad" {
					return es.Invalidf("message", "is bad")
				}
			}
			return nil
		}
		b.start(b.config)
		b.enqueue("a-1/1", "a-1/bad", "a-1/2", "b-1/1", "b-1/2")
		synctest.Wait()
		b.same("published of a-1", of("a-1", b.publisher.published()), numbered("a-1", 2))
		b.same("published of b-1", of("b-1", b.publisher.published()), numbered("b-1", 2))
		if dead := b.dead(); len(dead) != 1 || dead[0].Original.Name != "bad" {
			b.Errorf("dead letters are %+v", dead)
		}
	})
}

func TestATopicThatCannotBeFoundIsADeadLetter(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Topic = func(m *es.Message) string {
			switch m.Name {
			case "none":
				return ""
			case "panic":
				panic("no topic")
			}
			return "topic"
		}
		b.start(b.config)
		b.enqueue("a-1/1", "a-1/none", "a-1/2", "a-1/panic", "a-1/3")
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 3))
		dead := b.dead()
		if len(dead) != 2 || !strings.Contains(dead[0].Error, "topic") || dead[1].Stack == "" {
			b.Errorf("dead letters are %+v", dead)
		}
	})
}

func TestNothingIsGivenUpThatIsNotOnRecord(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"transient": errDown, "permanent": es.ErrStreamDeleted} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				times := 0
				b.events.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
					if a.Streams[0].Stream == "dead" {
						if times++; times <= 5 {
							return es.Appended{}, cause
						}
					}
					return b.events.EventStore.Append(ctx, a)
				}
				b.events.failStream("a-1", func(int) error { return es.Invalidf("message", "is wrong") })
				b.start(b.config)
				b.enqueue("a-1/1", "b-1/1")
				synctest.Wait()
				if s := b.stats(); s.Dead != 0 || s.Depth != 1 {
					b.Fatalf("given up without a record: %+v", s)
				}
				b.same("published", b.publisher.published(), []string{"b-1/1"})
				time.Sleep(time.Hour)
				synctest.Wait()
				if s := b.stats(); s.Dead != 1 || s.Depth != 0 {
					b.Errorf("stats are %+v, want one dead letter and nothing else", s)
				}
				if dead := b.dead(); len(dead) != 1 || !strings.Contains(dead[0].Error, "is wrong") || dead[0].Attempts != 6 {
					b.Errorf("dead letters are %+v", dead)
				}
			})
		})
	}
}

func TestADeadLetterThatIsOnRecordAlreadyIsNotTriedAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.events.failStream("a-1", func(int) error { return es.Invalidf("message", "is wrong") })
		b.events.append = func(_ context.Context, a es.Append) (es.Appended, error) { // it was recorded before a crash
			return es.Appended{}, &es.DuplicateError{ID: a.Streams[0].Events[0].ID, Stream: "dead", Reason: "with other content"}
		}
		b.start(b.config)
		b.enqueue("a-1/1")
		synctest.Wait()
		if s := b.stats(); s.Dead != 1 || s.Depth != 0 || s.Failures != 1 {
			b.Errorf("stats are %+v, want one dead letter after one failure", s)
		}
	})
}

func TestAReplayedMessageThatDiesAgainIsAnotherDeadLetter(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.events.failStream("a-1", func(int) error { return es.Invalidf("message", "is wrong") })
		b.start(b.config)
		m := b.enqueue("a-1/1")[0]
		for deaths := 1; deaths <= 3; deaths++ {
			time.Sleep(time.Second)
			synctest.Wait()
			if dead := b.dead(); len(dead) != deaths || dead[deaths-1].Original.ID != m.ID || dead[deaths-1].Attempts != 1 {
				b.Fatalf("after death %d the dead letters are %+v", deaths, dead)
			}
			if s := b.stats(); s.Dead != 1 || s.Depth != 0 {
				b.Fatalf("after death %d the stats are %+v", deaths, s)
			}
			b.ok(b.outbox.Replay(b.Context(), m.ID))
		}
	})
}

// TestADeadLetterOfARouteThatIsOnRecordIsDone has a route send a dead letter again whose record it did not get to hear of, with
// another number of attempts.
func TestADeadLetterOfARouteThatIsOnRecordIsDone(t *testing.T) {
	inBubble(t, func(b *bench) {
		letter := es.NewMessage("dead", es.DeadLetterName, []byte(`{"attempts":1}`))
		_, err := b.backend.Events().Append(b.Context(), es.AppendTo("dead", es.Any, letter))
		b.ok(err)
		again := letter.Clone()
		again.Data = []byte(`{"attempts":2}`)
		b.ok(b.outbox.Enqueue(b.Context(), again))
		b.start(b.config)
		synctest.Wait()
		if n := len(b.dead()); n != 1 || b.stats().Dead != 0 || b.stats().Depth != 0 {
			b.Errorf("%d dead letters are on record, the outbox has %+v, want the one that was there", n, b.stats())
		}
	})
}
