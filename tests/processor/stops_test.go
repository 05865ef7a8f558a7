package processor_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// TestAThousandStops stops a processor at any moment, a thousand times, while messages are on their way and every call takes a
// while; most of the stops have no patience. Nothing is lost, nothing is published twice, nothing is a dead letter or at another
// attempt for it, and, which the bubble of the test and goleak look for, no goroutine is left.
func TestAThousandStops(t *testing.T) {
	t.Parallel()
	const stops = 1000
	for name, k := range map[string]kind{
		"at least once": {atLeastOnce, (*simulation).checkAtLeastOnce, true},
		"batch":         {batch, (*simulation).checkBatch, false},
		"either":        {either, (*simulation).checkBatch, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &simulation{
					T: t, kind: k, seed: 1, random: rand.New(rand.NewPCG(1, 0)), gentle: true, streams: 5,
					world: newWorld(troubles{slow: 300, slowest: 500 * time.Millisecond}),
				}
				for range stops {
					s.begin()
					s.enqueue(1 + s.random.IntN(3))
					time.Sleep(time.Duration(s.random.Int64N(int64(time.Second))))
					s.stopOne()
					s.stopping.Wait()
				}
				s.end()
				s.kind.check(s)
			})
		})
	}
}

// TestStopsOfAtMostOnceLoseNothingThatHasTheTime stops an AtMostOnce at any moment with all the time it needs: then each message is
// published once, and in order. Without patience it drops what is under way, and counts that; nothing is published twice.
func TestStopsOfAtMostOnceLoseNothingThatHasTheTime(t *testing.T) {
	t.Parallel()
	for name, patient := range map[string]bool{"patient": true, "impatient": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &simulation{
					T: t, kind: kind{make: atMostOnce}, seed: 1, random: rand.New(rand.NewPCG(1, 0)), streams: 5,
					gentle: true, patient: patient, solo: true,
					world: newWorld(troubles{slow: 300, slowest: 500 * time.Millisecond}),
				}
				const stops = 300
				for range stops {
					s.begin()
					s.enqueue(1 + s.random.IntN(3))
					time.Sleep(time.Duration(s.random.Int64N(int64(time.Second))))
					s.stopOne()
				}
				s.end()
				s.checkAtMostOnce()
				if patient && len(s.published) != len(s.messages) {
					t.Errorf("%d of %d messages are published", len(s.published), len(s.messages))
				}
			})
		})
	}
}

// TestKindsBesideEachOtherShareAnOutbox has one processor of each kind on an outbox: every message goes one of the ways.
func TestKindsBesideEachOtherShareAnOutbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(troubles{})
		life := w.process(1, 1)
		config := processor.Config{Outbox: w.backend.Outbox(), Events: w.backend.Events(), Publisher: publisher{life}, InHand: 10}
		least, err := processor.NewAtLeastOnce(config)
		if err != nil {
			t.Fatal(err)
		}
		most, err := processor.NewAtMostOnce(config)
		if err != nil {
			t.Fatal(err)
		}
		batches, err := processor.NewBatch(config, processor.Flush{Size: 5, Interval: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		group := es.NewGroup("processors", least, most, batches)
		if err := group.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := &simulation{T: t, world: w, random: rand.New(rand.NewPCG(1, 0)), gentle: true, streams: 20}
		for range 100 {
			s.enqueue(10)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		if err := group.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		stored, published := s.counted(nil, false)
		for i, m := range s.messages {
			if stored[m.ID] != 1 || published[m.ID] != 1 {
				t.Errorf("message %d is stored %d times and published %d times", i, stored[m.ID], published[m.ID])
			}
		}
		if stats := s.outboxStats(); stats.Depth != 0 || stats.Failures != 0 {
			t.Errorf("the outbox has %+v", stats)
		}
	})
}
