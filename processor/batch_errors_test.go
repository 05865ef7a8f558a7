package processor_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func TestAnErrorSendsTheWholeBatchToTheDeadStream(t *testing.T) {
	t.Parallel()
	spoil := func(m *es.Message) error {
		if label(m) == "a-1/2" {
			return errDown
		}
		return nil
	}
	for name, c := range map[string]struct {
		spoil  func(b *bench)
		stored []string
		sent   []string
		cause  string
	}{
		"of the store": {
			spoil:  func(b *bench) { b.events.failStream("a-1", first(errDown)) },
			stored: []string{"a-1/4"}, sent: []string{"a-1/4"}, cause: "append: down",
		},
		"of one message in the store": {
			spoil:  func(b *bench) { b.events.failStream("a-1", first(es.ErrDuplicate)) },
			stored: []string{"a-1/4"}, sent: []string{"a-1/4"}, cause: "append: duplicate ID",
		},
		"of the publisher": {
			spoil:  func(b *bench) { b.publisher.fail = spoil },
			stored: numbered("a-1", 4), sent: []string{"a-1/1", "a-1/4"}, cause: `publish to topic "a": down`,
		},
		"of the topic": {
			spoil: func(b *bench) {
				b.config.Topic = func(m *es.Message) string {
					if spoil(m) != nil {
						panic("no topic")
					}
					return "topic"
				}
			},
			stored: numbered("a-1", 4), sent: []string{"a-1/4"}, cause: "find its topic: panic: no topic",
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				c.spoil(b)
				p, _ := b.batch(processor.Flush{Size: 3, Interval: time.Second})
				b.enqueue(slices.Concat(numbered("a-1", 4), numbered("b-1", 3))...)
				synctest.Wait()
				b.same("published of b-1", of("b-1", b.publisher.published()), numbered("b-1", 3))
				time.Sleep(time.Minute)
				synctest.Wait()
				b.same("stored of a-1", of("a-1", b.stored()), c.stored)
				b.same("published of a-1", of("a-1", b.publisher.published()), c.sent)
				b.deadBatch(numbered("a-1", 3), c.cause)
				stats, err := p.Stats(b.Context())
				b.ok(err)
				if stats.Dead != 3 || stats.Retried != 0 || stats.Outbox.Dead != 3 || stats.Outbox.Depth != 0 || stats.Batches != 3 {
					b.Errorf("stats are %+v", stats)
				}
			})
		})
	}
}

// first gives an error the first time.
func first(err error) func(int) error {
	return func(times int) error {
		if times == 1 {
			return err
		}
		return nil
	}
}

// deadBatch looks for the dead letters of a batch.
func (b *bench) deadBatch(want []string, cause string) {
	b.Helper()
	var got []string
	for _, record := range b.dead() {
		got = append(got, record.Original.Stream+"/"+record.Original.Name)
		if !strings.Contains(record.Error, cause) || record.Attempts != 1 {
			b.Errorf("dead letter at attempt %d because of %q, want %q", record.Attempts, record.Error, cause)
		}
	}
	b.same("dead stream", got, want)
}

func TestTheDeadLettersOfABatchAreOneAppend(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.fail = func(*es.Message) error { return errDown }
		var letters []int
		b.events.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
			letters = append(letters, len(a.Streams[0].Events))
			return b.events.EventStore.Append(ctx, a)
		}
		b.batch(processor.Flush{Size: 3})
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		b.sizes("dead letters", letters, 3)
	})
}

func TestABatchThatIsOnRecordInPartIsRecordedInFull(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.fail = func(*es.Message) error { return errDown }
		once := false
		b.events.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
			if !once { // one of them is on record, with another time, and then the process died
				once = true
				letter := a.Streams[0].Events[0].Clone()
				letter.Data = []byte(`{}`)
				_, err := b.events.EventStore.Append(ctx, es.AppendTo("dead", es.Any, letter))
				b.ok(err)
			}
			return b.events.EventStore.Append(ctx, a)
		}
		b.batch(processor.Flush{Size: 3})
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		if n := len(b.dead()); n != 3 || b.stats().Dead != 3 {
			b.Errorf("%d dead letters are on record, the outbox has %d, want 3", n, b.stats().Dead)
		}
	})
}

func TestABatchIsNotGivenUpBeforeItIsOnRecord(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.fail = func(*es.Message) error { return errDown }
		times := 0
		b.events.append = func(ctx context.Context, a es.Append) (es.Appended, error) {
			if times++; times <= 5 {
				return es.Appended{}, errDown
			}
			return b.events.EventStore.Append(ctx, a)
		}
		b.batch(processor.Flush{Size: 3})
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		if s := b.stats(); s.Dead != 0 || s.Depth != 3 {
			b.Errorf("given up without a record: %+v", s)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if s := b.stats(); s.Dead != 3 || s.Depth != 0 || len(b.dead()) != 3 {
			b.Errorf("stats are %+v with %d dead letters on record, want 3", s, len(b.dead()))
		}
	})
}

func TestABatchIsTriedAsOftenAsTold(t *testing.T) {
	inBubble(t, func(b *bench) {
		failures := map[string]int{"a": 2, "b": 3}
		b.publisher.before = func(_ context.Context, pubs []es.Publication) error {
			if topic := pubs[0].Topic; failures[topic] > 0 {
				failures[topic]--
				return errDown
			}
			return nil
		}
		b.config.Retry.Attempts = 3
		p, err := processor.NewBatch(b.config, processor.Flush{Size: 3})
		b.run(p, err)
		b.enqueue(slices.Concat(numbered("a-1", 3), numbered("b-1", 3))...)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 3))
		if dead := b.dead(); len(dead) != 3 || !strings.Contains(dead[0].Error, es.ErrAttemptsExhausted.Error()) {
			b.Errorf("dead letters are %+v", dead)
		}
	})
}

func TestAParkedBatchKeepsItsStreamWaiting(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.AfterDeadLetter = processor.Park
		b.events.failStream("a-1", first(errDown))
		b.batch(processor.Flush{Size: 2})
		msgs := b.enqueue(numbered("a-1", 4)...)
		synctest.Wait()
		b.same("published while parked", b.publisher.published(), []string{})
		b.ok(b.outbox.Replay(b.Context(), msgs[0].ID, msgs[1].ID))
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("published", b.publisher.published(), numbered("a-1", 4))
	})
}

// TestABatchThatTheOutboxDoesNotLetGoOfIsNotGivenUp has dead letters on record whose entries the outbox does not take.
func TestABatchThatTheOutboxDoesNotLetGoOfIsNotGivenUp(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.fail = func(*es.Message) error { return errDown }
		var down atomic.Bool
		down.Store(true)
		b.outbox.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			if down.Load() {
				return errDown
			}
			return b.outbox.Outbox.Fail(ctx, entries, f)
		}
		p, _ := b.batch(processor.Flush{Size: 3})
		b.enqueue(numbered("a-1", 3)...)
		time.Sleep(10 * time.Second) // within the lease
		synctest.Wait()
		stats, err := p.Stats(b.Context())
		b.ok(err)
		if stats.Batches != 0 || stats.Dead != 0 {
			b.Errorf("stats are %+v, and nothing was given up", stats)
		}
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		stats, err = p.Stats(b.Context())
		b.ok(err)
		if stats.Batches != 1 || stats.Dead != 3 || stats.Outbox.Dead != 3 {
			b.Errorf("stats are %+v, want a batch of 3 that was given up", stats)
		}
	})
}

// TestWhoGivesEverythingUpIsNotHealthy has a publisher that is down for so long that all there is has become dead letters.
func TestWhoGivesEverythingUpIsNotHealthy(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(c processor.Config) (es.Component, error){
		"at least once": func(c processor.Config) (es.Component, error) { return processor.NewAtLeastOnce(c) },
		"batch": func(c processor.Config) (es.Component, error) {
			return processor.NewBatch(c, processor.Flush{Size: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				cause := errDown
				b.publisher.fail = func(*es.Message) error { return cause } // which changes while nothing is under way
				b.config.Retry.Attempts = 1
				b.config.UnhealthyAfter = 10 * time.Second
				p, err := begin(b.config)
				b.run(p, err)
				work := func() {
					for range 11 {
						b.enqueue("a-1/1")
						time.Sleep(time.Second)
					}
					synctest.Wait()
				}
				work()
				if p.Health(b.Context()) == nil {
					b.Error("everything is given up, and it is healthy")
				}
				cause = nil
				work()
				b.ok(p.Health(b.Context()))
				cause = es.Invalidf("message", "is bad") // which is the message's own fault
				work()
				b.ok(p.Health(b.Context()))
			})
		})
	}
}

// TestAFailureOfLongAgoDoesNotCountForHealth gives up one message, and another an hour later, with nothing between.
func TestAFailureOfLongAgoDoesNotCountForHealth(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.publisher.fail = func(*es.Message) error { return errDown }
		p, _ := b.batch(processor.Flush{Size: 1})
		b.enqueue("a-1/1")
		time.Sleep(time.Hour)
		b.enqueue("a-1/2")
		time.Sleep(time.Second)
		synctest.Wait()
		b.ok(p.Health(b.Context()))
	})
}
