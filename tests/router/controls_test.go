package router_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

const (
	crowdKeys    = 8
	crowdWorkers = 3
	crowdTopic   = "order"
)

// crowd is a route at which several pull at once while messages and replays come.
type crowd struct {
	router *router.Router
	broker *memory.PubSub

	mu      sync.Mutex
	running int
	busy    map[string]bool
	last    map[string]int // by key, of the messages that were handled
	handled map[string]int
	faults  []string
}

func (c *crowd) faultf(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// handle succeeds, and notes what it should not see.
func (c *crowd) handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	number, replay := 0, d.Metadata["replay"] != ""
	if _, err := fmt.Sscan(string(d.Data), &number); err != nil {
		return nil, es.DeadLetter(err)
	}
	c.mu.Lock()
	if c.running++; c.running > crowdWorkers {
		c.faultf("%d handlers run", c.running)
	}
	if c.busy[d.Stream] {
		c.faultf("two of %s are handled at once", d.Stream)
	}
	c.busy[d.Stream] = true
	c.mu.Unlock()
	time.Sleep(time.Duration(number%5) * 20 * time.Microsecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.busy[d.Stream] = false
	if !replay {
		if number != c.last[d.Stream]+1 {
			c.faultf("%s: %d was handled after %d", d.Stream, number, c.last[d.Stream])
		}
		c.last[d.Stream] = number
	}
	c.handled[fmt.Sprintf("%s/%d/%v", d.Stream, number, replay)]++
	return nil, nil
}

// pull does to the route what comes to mind, until ctx ends.
func (c *crowd) pull(ctx context.Context, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		var err error
		switch random.IntN(8) {
		case 0:
			err = c.router.Pause(crowdTopic, "")
		case 1, 2:
			err = c.router.Resume(ctx, crowdTopic, "")
		case 3:
			err = c.router.StopRoute(context.WithoutCancel(ctx), crowdTopic, "")
		case 4, 5:
			err = c.router.StartRoute(ctx, crowdTopic, "")
		case 6:
			err = c.router.Health(ctx)
		case 7:
			c.router.Stats()
			_, err = c.router.Lags(ctx)
		}
		if err != nil && !errors.Is(err, es.ErrInvalid) && ctx.Err() == nil {
			return err
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond)
	}
	return nil
}

// replayed returns the message that brings back one that the route gave up.
func replayed(n int) (*es.Message, error) {
	m := es.NewMessage(fmt.Sprintf("order-%d", n%crowdKeys), "Replayed", fmt.Append(nil, n))
	m.Metadata = map[string]string{"replay": "yes"}
	d := &es.Delivery{Message: m, Topic: crowdTopic, Group: crowdTopic, Attempt: 1}
	letter, err := es.NewDeadLetter("dead", crowdTopic, d, errors.New("it failed"))
	if err != nil {
		return nil, err
	}
	return es.NewReplay(letter.ID, es.DeadLetterRecord{Original: es.Record(m), Topic: crowdTopic, Group: crowdTopic, Handler: crowdTopic, Attempts: 1})
}

// publish publishes messages of all keys, and replays among them.
func (c *crowd) publish(ctx context.Context, rounds int) error {
	for n := 1; n <= rounds; n++ {
		for key := range crowdKeys {
			stream := fmt.Sprintf("order-%d", key)
			pubs := []es.Publication{{Topic: crowdTopic, Message: es.NewMessage(stream, "Placed", fmt.Append(nil, n))}}
			if (n+key)%3 == 0 {
				replay, err := replayed(n*crowdKeys + key)
				if err != nil {
					return err
				}
				pubs = append(pubs, es.Publication{Topic: es.ReplayTopic(crowdTopic, crowdTopic), Message: replay})
			}
			if err := c.broker.Publish(ctx, pubs...); err != nil {
				return err
			}
		}
		time.Sleep(50 * time.Microsecond)
	}
	return nil
}

// TestManyControlARoute at once, while messages and replays come: each of both is handled, in order and once because no handler
// fails, never more at a time than the route may, and nothing is left open.
func TestManyControlARoute(t *testing.T) {
	t.Parallel()
	const rounds, pullers = 400, 4
	broker, err := memory.NewPubSub(memory.PubSubConfig{BacklogLimit: 1e6}) // a group that is paused is to lose nothing
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{broker: broker, busy: map[string]bool{}, last: map[string]int{}, handled: map[string]int{}}
	c.router, err = router.New(router.Config{
		Subscriber: broker, Backoff: middleware.Backoff{Max: time.Millisecond},
		Emit: func(context.Context, []*es.Message) error { return errors.New("nothing is to be sent") },
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(c.router.Route(crowdTopic, es.HandlerFunc(c.handle), router.Options{Concurrency: crowdWorkers, Batch: 5, MaxAttempts: -1}),
		c.router.Start(t.Context()))
	if err != nil {
		t.Fatal(err)
	}

	pulling, enough := context.WithCancel(t.Context())
	defer enough()
	var added atomic.Int64
	var all sync.WaitGroup
	for i := range pullers {
		all.Go(func() {
			if err := c.pull(pulling, uint64(i)); err != nil {
				t.Errorf("puller %d: %v", i, err)
			}
		})
	}
	all.Go(func() { // the same route is added by two, and one of them succeeds
		for i := 0; pulling.Err() == nil && i < 50; i++ {
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					handler := es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil })
					err := c.router.AddRoute(pulling, crowdTopic, handler, router.Options{Name: fmt.Sprintf("added-%d", i), Paused: i%2 == 0})
					if err == nil {
						added.Add(1)
					}
				})
			}
			both.Wait()
		}
	})
	if err := c.publish(t.Context(), rounds); err != nil {
		t.Fatal(err)
	}
	enough()
	all.Wait()
	_ = c.router.StartRoute(t.Context(), crowdTopic, "")
	_ = c.router.Resume(t.Context(), crowdTopic, "")
	want := rounds * crowdKeys
	for n := 1; n <= rounds; n++ {
		for key := range crowdKeys {
			if (n+key)%3 == 0 {
				want++
			}
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) && c.router.Stats()[0].Handled < int64(want) {
		time.Sleep(time.Millisecond)
	}
	if err := errors.Join(c.router.Stop(context.WithoutCancel(t.Context())), broker.Close()); err != nil {
		t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range c.handled {
		if n != 1 {
			c.faultf("%s was handled %d times", what, n)
		}
	}
	if len(c.handled) != want {
		c.faultf("%d of %d were handled", len(c.handled), want)
	}
	if len(c.faults) > 0 {
		t.Errorf("%d faults, the first are %v", len(c.faults), c.faults[:min(len(c.faults), 5)])
	}
	stats := c.router.Stats()
	if got := int64(len(stats) - 1); got != added.Load() {
		t.Errorf("%d routes were added, %d are there", added.Load(), got)
	}
	for _, s := range stats {
		if s.InFlight != 0 || s.State != router.Stopped {
			t.Errorf("stats are %+v", s)
		}
	}
}
