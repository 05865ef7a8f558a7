package processor_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// TestABatchWhoseLeasesAreLostIsNotTouchedAnyMore loses the leases of a stream while it is appended or published, or while it waits
// for its turn behind another batch of it. The batch of another stream, whose leases are kept, goes on.
func TestABatchWhoseLeasesAreLostIsNotTouchedAnyMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		slow      string
		messages  int
		stored    int // of a-1
		published int
	}{
		"while it is appended":                    {slow: "append", messages: 2, stored: 2, published: 0},
		"while it is published":                   {slow: "publish", messages: 2, stored: 2, published: 0}, // it fails, and is not given up
		"while another batch of it is on its way": {slow: "complete", messages: 4, stored: 2, published: 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(b *bench) {
				b.config.Lease = 9 * time.Second
				slow := func(what string) {
					if what == c.slow {
						time.Sleep(4 * time.Second) // the first Extend comes after 3
					}
				}
				b.outbox.extend = func(ctx context.Context, entries []es.Entry) error {
					err := b.outbox.Outbox.Extend(ctx, entries)
					errs := make([]error, len(entries))
					for i, e := range entries {
						if errs[i] = es.Of(err, i); e.Stream == "a-1" {
							errs[i] = es.ErrLeaseLost
						}
					}
					return es.BatchErr(errs)
				}
				claims := 0
				b.outbox.claim = func(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
					if claims++; claims > 1 { // somebody else has them
						return 0, nil
					}
					return b.outbox.Outbox.Claim(ctx, dst, opts)
				}
				b.events.appendEach = func(ctx context.Context, as []es.Append) []es.Outcome {
					slow("append")
					return b.events.EventStore.AppendEach(ctx, as)
				}
				b.outbox.complete = func(ctx context.Context, entries []es.Entry) error {
					err := b.outbox.Outbox.Complete(ctx, entries)
					slow("complete")
					return err
				}
				b.publisher.before = func(_ context.Context, pubs []es.Publication) error {
					if slow("publish"); c.slow == "publish" && pubs[0].Message.Stream == "a-1" {
						return errDown
					}
					return nil
				}
				b.enqueue(slices.Concat(numbered("a-1", c.messages), numbered("b-1", 2))...)
				p, err := processor.NewBatch(processor.Config{
					Outbox: b.outbox, Events: b.events, Publisher: b.publisher, Lease: b.config.Lease,
				}, processor.Flush{Size: 2, Interval: time.Hour})
				b.run(p, err)
				time.Sleep(time.Minute)
				synctest.Wait()
				b.same("stored of a-1", of("a-1", b.stored()), numbered("a-1", c.stored))
				b.same("published of a-1", of("a-1", b.publisher.published()), numbered("a-1", c.published))
				b.same("published of b-1", of("b-1", b.publisher.published()), numbered("b-1", 2))
				if dead := b.dead(); len(dead) != 0 || b.stats().Dead != 0 {
					b.Errorf("dead letters are %+v", dead)
				}
			})
		})
	}
}

// TestWhatFollowsABatchThatIsNotLetGoOfWaits has an outbox that takes only some of the dead letters of a batch.
func TestWhatFollowsABatchThatIsNotLetGoOfWaits(t *testing.T) {
	inBubble(t, func(b *bench) {
		var down atomic.Bool
		down.Store(true)
		b.events.failStream("a-1", first(errDown))
		b.outbox.fail = func(ctx context.Context, entries []es.Entry, f es.Failure) error {
			if !down.Load() {
				return b.outbox.Outbox.Fail(ctx, entries, f)
			}
			errs := make([]error, len(entries))
			for i, e := range entries {
				if errs[i] = errDown; e.Name == "2" {
					errs[i] = b.outbox.Outbox.Fail(ctx, entries[i:i+1], f)
				}
			}
			return es.BatchErr(errs)
		}
		b.batch(processor.Flush{Size: 2})
		b.enqueue(numbered("a-1", 4)...)
		time.Sleep(10 * time.Second) // within the lease
		synctest.Wait()
		b.same("stored while the first is in hand", b.stored(), []string{})
		down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.same("stored", b.stored(), []string{"a-1/1", "a-1/3", "a-1/4"})
	})
}

// TestABatchIsJudgedByTheMessageThatFailedAndNotByThoseHeldBack has a publisher that does not try what follows a failed message, nor
// what is before it in another topic.
func TestABatchIsJudgedByTheMessageThatFailedAndNotByThoseHeldBack(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.config.Topic = func(m *es.Message) string { return "topic-" + m.Name }
		b.publisher.fail = func(m *es.Message) error {
			switch m.Name {
			case "1":
				return es.ErrHeldBack
			case "2":
				return errDown
			}
			return nil
		}
		b.batch(processor.Flush{Size: 3})
		b.enqueue(numbered("a-1", 3)...)
		synctest.Wait()
		b.deadBatch(numbered("a-1", 3), `publish to topic "topic-2": down`)
	})
}
