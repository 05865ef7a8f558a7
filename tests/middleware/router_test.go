package middleware_test

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
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// TestThrottleInARouter: with a router that puts messages back and gives them again, the rate holds within a few percent, the messages
// of a stream stay in order, and to be put back is no attempt.
func TestThrottleInARouter(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]middleware.ThrottleConfig{
		"waiting":      {Rate: 50, Burst: 1},
		"put back":     {Rate: 50, Burst: 1, Wait: -1},
		"by a key":     {Rate: 50, Burst: 5, Key: func(d *es.Delivery) string { return d.Topic }},
		"now and then": {Rate: 0.5, Burst: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { throttled(t, c) })
		})
	}
}

func throttled(t *testing.T, c middleware.ThrottleConfig) {
	t.Helper()
	const streams, each = 20, 5
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var times []time.Duration
	seen := map[string][]string{}
	done := make(chan struct{})
	start := time.Now()
	handler := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		mu.Lock()
		defer mu.Unlock()
		if d.Attempt != 1 {
			t.Errorf("%s of %s is at attempt %d", d.Name, d.Stream, d.Attempt)
		}
		times = append(times, time.Since(start))
		seen[d.Stream] = append(seen[d.Stream], d.Name)
		if len(times) == streams*each {
			close(done)
		}
		return nil, nil
	})
	err = r.Route("order", handler, router.Options{Concurrency: 3, Middleware: []es.Middleware{middleware.Throttle(c)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range streams * each {
		m := es.NewMessage(fmt.Sprintf("order-%d", i%streams), strconv.Itoa(i/streams), nil)
		if err := broker.Publish(t.Context(), es.ToCategory(m)...); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	for stream, names := range seen {
		if !slices.IsSorted(names) || len(names) != each {
			t.Errorf("%s was handled in the order %v", stream, names)
		}
	}
	for i := range times {
		for j := i; j < len(times); j++ {
			if most := float64(c.Burst) + (times[j]-times[i]).Seconds()*c.Rate + 0.001; float64(j-i+1) > most {
				t.Fatalf("%d were let through between %v and %v; there may be %v", j-i+1, times[i], times[j], most)
			}
		}
	}
	ideal := time.Duration(float64(streams*each-c.Burst) / c.Rate * float64(time.Second))
	if took := times[len(times)-1]; took > ideal+ideal/20 {
		t.Errorf("it took %v, where %v would have been enough", took, ideal)
	}
}
