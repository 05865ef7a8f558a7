package router

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestReplaysHoldUpNoMessages: however many dead letters come back at once, what is published meanwhile has its turn among them.
func TestReplaysHoldUpNoMessages(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Concurrency: 1}, {Concurrency: 3}, {Concurrency: 1, Batch: 1}} {
		t.Run(fmt.Sprintf("%d workers, batch of %d", o.Concurrency, o.Batch), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t)
				var replays []*es.Message
				for n := range 600 {
					replays = append(replays, failedBefore(t, fmt.Sprintf("order-%d", n), "Replayed"))
				}
				b.publish(replays...)
				var took []time.Duration
				var published time.Time
				handled := make(chan struct{}, 1)
				r := begin(t, b, Config{DeadLetter: (&outbox{}).emit}, o, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
					time.Sleep(10 * time.Millisecond)
					if d.Name == "A" {
						handled <- struct{}{}
					}
					return nil, nil
				})
				for range 3 {
					time.Sleep(50 * time.Millisecond)
					published = time.Now()
					b.publish(message("order-a", "A"), message("order-b", "A"), message("order-c", "A"), message("order-d", "A"))
					for range 4 {
						<-handled
					}
					took = append(took, time.Since(published))
				}
				for b.left() > 0 {
					time.Sleep(time.Millisecond)
				}
				for _, d := range took {
					if most := 3 * replayBatch * 10 * time.Millisecond; d > most {
						t.Errorf("messages waited %v, more than %v", took, most)
						break
					}
				}
				halt(t, r)
			})
		})
	}
}

// TestAnswersGoWhereMessagesCameFrom: what waits of messages and of replays, and what is given back of both, is told to the subscription
// that it came by, and nothing of it is kept in memory afterwards.
func TestAnswersGoWhereMessagesCameFrom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		b.publish(message("order-1", "A"), message("order-2", "Slow"), failedBefore(t, "order-3", "A"), failedBefore(t, "order-4", "Slow"))
		r := begin(t, b, Config{DeadLetter: (&outbox{}).emit}, Options{Concurrency: 2, Lease: 9 * time.Second},
			func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
				if d.Name == "Slow" {
					time.Sleep(20 * time.Second)
					return nil, nil
				}
				return nil, es.Busy(15*time.Second, errBoom)
			})
		lane := r.routes[0].lane
		time.Sleep(time.Minute)
		halt(t, r)
		if got := r.Stats()[0]; got.Lost != 0 || got.Handled != 2 || got.Busy < 6 || b.left() != 2 {
			t.Errorf("stats are %+v, %d are left", got, b.left())
		}
		for _, in := range lane.intakes {
			for _, spare := range in.spare {
				for i := range spare.room {
					if spare.room[i].Message != nil || spare.shown[i].Message != nil {
						t.Errorf("a batch without use keeps message %d", i)
					}
				}
			}
		}
	})
}
