package middleware_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// TestThrottleNeverExceedsItsRate: whatever the rate, the burst, the workers and when messages come, in no span of time more are let
// through than the rate gives in it and a burst, and all are in the end.
func TestThrottleNeverExceedsItsRate(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		c := middleware.ThrottleConfig{
			Rate:  rapid.SampledFrom([]float64{0.3, 1, 7, 50, 1000}).Draw(t, "rate"),
			Burst: rapid.IntRange(1, 10).Draw(t, "burst"),
			Wait:  rapid.SampledFrom([]time.Duration{-1, 0, time.Millisecond, 5 * time.Second}).Draw(t, "wait"),
		}
		keys := rapid.IntRange(1, 3).Draw(t, "keys")
		if keys > 1 {
			c.Key = func(d *es.Delivery) string { return d.Stream }
		}
		let := &letThrough{times: map[string][]time.Duration{}, start: time.Now()}
		h := middleware.Throttle(c)(let)
		messages := rapid.IntRange(1, 60).Draw(t, "messages")
		room := make(chan *es.Delivery, messages)
		var left, workers sync.WaitGroup
		for range rapid.IntRange(1, 4).Draw(t, "workers") {
			workers.Go(func() {
				for d := range room {
					_, err := h.Handle(context.Background(), d)
					switch verdict, delay := es.Judge(err); verdict {
					case es.VerdictDone:
						left.Done()
					case es.VerdictBusy:
						time.AfterFunc(delay, func() { room <- d })
					default:
						panic(err)
					}
				}
			})
		}
		for i := range messages {
			left.Add(1)
			room <- delivery(fmt.Sprintf("order-%d", i%keys))
			time.Sleep(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 10, 1000}).Draw(t, "pause")) * time.Millisecond)
		}
		left.Wait()
		close(room)
		workers.Wait()
		n := 0
		for key, times := range let.times {
			n += len(times)
			check(t, key, times, c)
		}
		if n != messages {
			t.Fatalf("%d of %d were handled", n, messages)
		}
	})
}

// check compares each span of time with what there may be in it.
func check(t *rapid.T, key string, times []time.Duration, c middleware.ThrottleConfig) {
	for i := range times {
		for j := i; j < len(times); j++ {
			if most := float64(c.Burst) + (times[j]-times[i]).Seconds()*c.Rate + 0.001; float64(j-i+1) > most {
				t.Fatalf("%s: %d were let through between %v and %v; there may be %v", key, j-i+1, times[i], times[j], most)
			}
		}
	}
}

// letThrough is a handler that notes when it was called for which stream.
type letThrough struct {
	mu    sync.Mutex
	times map[string][]time.Duration
	start time.Time
}

func (l *letThrough) Handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times[d.Stream] = append(l.times[d.Stream], time.Since(l.start))
	return nil, nil
}
