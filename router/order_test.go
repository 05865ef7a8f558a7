package router

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestFailureHoldsUpItsKeyOnly: the followers of what comes again are given back and come after it; other keys go on; P2, R4.
func TestFailureHoldsUpItsKeyOnly(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]error{
		"failed": errBoom,
		"retry":  es.RetryAfter(time.Minute, errBoom),
		"busy":   es.Busy(time.Minute, errBoom),
	} {
		for _, workers := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s with %d workers", name, workers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := newBroker(t)
					b.publish(message("order-1", "A"), message("order-2", "X"), message("order-1", "B"), message("order-2", "Y"),
						message("order-1", "C"))
					var mu sync.Mutex
					seen := map[string][]string{}
					failed := false
					start := time.Now()
					var otherDone time.Duration
					r := begin(t, b, Config{}, Options{Concurrency: workers}, func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
						mu.Lock()
						defer mu.Unlock()
						seen[d.Stream] = append(seen[d.Stream], d.Name)
						if d.Name == "Y" {
							otherDone = time.Since(start)
						}
						if d.Name == "A" && !failed {
							failed = true
							return nil, again
						}
						return nil, nil
					})
					time.Sleep(time.Hour)
					halt(t, r)
					if !slices.Equal(seen["order-1"], []string{"A", "A", "B", "C"}) || !slices.Equal(seen["order-2"], []string{"X", "Y"}) {
						t.Errorf("seen %v", seen)
					}
					if otherDone != 0 {
						t.Errorf("the other key waited for %v", otherDone)
					}
					said := b.said()
					if !slices.Contains(said, "release B/1") || !slices.Contains(said, "release C/1") || !slices.Contains(said, "ack B/1") {
						t.Errorf("the broker was told %v", said)
					}
				})
			})
		}
	}
}

// TestSlowKeyHoldsUpNothing: with two workers one of them is enough for all other keys, however many batches that takes.
func TestSlowKeyHoldsUpNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		const others = 1000
		b.publish(message("order-slow", "S1"), message("order-slow", "S2"))
		for i := range others {
			b.publish(message(fmt.Sprintf("order-%d", i%50), strconv.Itoa(i)))
		}
		release := make(chan struct{})
		var mu sync.Mutex
		seen := map[string]int{}
		last := map[string]int{}
		r := begin(t, b, Config{}, Options{Concurrency: 2, Batch: 10, Key: func(m *es.Message) string { return m.Stream }},
			func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
				if d.Stream == "order-slow" {
					<-release
				}
				mu.Lock()
				defer mu.Unlock()
				seen[d.Stream]++
				var i int
				if _, err := fmt.Sscan(d.Name, &i); err == nil {
					if i < last[d.Stream] {
						t.Errorf("%s: %d came after %d", d.Stream, i, last[d.Stream])
					}
					last[d.Stream] = i
				}
				return nil, nil
			})
		time.Sleep(time.Minute) // leases are prolonged
		mu.Lock()
		handled := 0
		for _, n := range seen {
			handled += n
		}
		mu.Unlock()
		if handled != others {
			t.Errorf("%d of %d messages were handled beside a slow one", handled, others)
		}
		close(release)
		synctest.Wait()
		time.Sleep(time.Minute)
		halt(t, r)
		if b.left() != 0 {
			t.Errorf("%d messages are left", b.left())
		}
	})
}

// TestWorkersHandleAtOnce: as many messages as there are workers are handled at the same time, and no more.
func TestWorkersHandleAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t)
		for i := range 40 {
			b.publish(message(fmt.Sprintf("order-%d", i), "A"))
		}
		var mu sync.Mutex
		now, most := 0, 0
		start := time.Now()
		r := begin(t, b, Config{}, Options{Concurrency: 8}, func(context.Context, *es.Delivery) ([]*es.Message, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return nil, nil
		})
		for b.left() > 0 {
			time.Sleep(100 * time.Millisecond)
		}
		halt(t, r)
		if most != 8 {
			t.Errorf("%d messages were handled at once", most)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
