package middleware

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// line is what a subscription and a router do with busy messages: they come again after their delay, at the end of the line.
type line struct {
	mu      sync.Mutex
	waiting []*es.Delivery
	left    int
	came    chan struct{} // one for each that waits, and one for each worker at the end
	workers int
	passes  int // how often a message went through the chain
}

func newLine(workers int, ds []*es.Delivery) *line {
	l := &line{left: len(ds), workers: workers, came: make(chan struct{}, 2*len(ds)+workers)}
	for _, d := range ds {
		l.add(d)
	}
	return l
}

func (l *line) add(d *es.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, d)
	l.came <- struct{}{}
}

func (l *line) take() *es.Delivery {
	<-l.came
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 || len(l.waiting) == 0 {
		return nil
	}
	d := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.passes++
	return d
}

func (l *line) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left > 0 {
		return
	}
	for range l.workers {
		l.came <- struct{}{}
	}
}

// run has all be handled, and fails t at any outcome but done and busy.
func (l *line) run(t *testing.T, h es.Handler) {
	t.Helper()
	var all sync.WaitGroup
	for range l.workers {
		all.Go(func() {
			for d := l.take(); d != nil; d = l.take() {
				_, err := h.Handle(t.Context(), d)
				switch verdict, delay := es.Judge(err); verdict {
				case es.VerdictDone:
					l.done()
				case es.VerdictBusy:
					time.AfterFunc(delay, func() { l.add(d) })
				default:
					t.Errorf("message %s: %v", d.ID, err)
					l.done()
				}
			}
		})
	}
	all.Wait()
}

// clocked is a handler that notes when it was called for which key.
type clocked struct {
	mu    sync.Mutex
	times map[string][]time.Duration
	start time.Time
}

func (c *clocked) Handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[d.Stream] = append(c.times[d.Stream], time.Since(c.start))
	return nil, nil
}

// checkPace fails t when in any span of time there were more than the rate gives in it and a burst, or when all together took longer
// than a few percent over what they have to.
func checkPace(t *testing.T, times []time.Duration, rate float64, burst int) {
	t.Helper()
	interval := float64(time.Second) / rate
	for i := range times {
		for j := i; j < len(times); j++ {
			if most := float64(burst) + float64(times[j]-times[i])/interval + 0.01; float64(j-i+1) > most {
				t.Fatalf("%d were let through between %v and %v; there may be %v", j-i+1, times[i], times[j], most)
			}
		}
	}
	ideal := time.Duration(max(float64(len(times)-burst), 0) * interval)
	if last := times[len(times)-1]; last > ideal+ideal/20+time.Second {
		t.Errorf("%d took %v; %v would have been enough", len(times), last, ideal)
	}
}

func deliveries(n int, stream string) []*es.Delivery {
	ds := make([]*es.Delivery, n)
	for i := range ds {
		ds[i] = &es.Delivery{Message: es.NewMessage(stream, "Ordered", nil), Topic: "order", Group: "shipping", Attempt: 1}
	}
	return ds
}

// TestThrottleHoldsTheRate: within a few percent, never above it, and nobody is left out.
func TestThrottleHoldsTheRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		config   ThrottleConfig
		burst    int // what it comes to
		messages int
		workers  int
		passes   int // at the most
	}{
		{ThrottleConfig{Rate: 100}, 10, 1000, 1, 1000},
		{ThrottleConfig{Rate: 100}, 10, 1000, 8, 1000},
		{ThrottleConfig{Rate: 10_000, Burst: 1}, 1, 1000, 4, 1000},
		{ThrottleConfig{Rate: 3, Burst: 5}, 5, 100, 2, 100},
		{ThrottleConfig{Rate: 1}, 1, 100, 8, 1000},
		{ThrottleConfig{Rate: 0.1}, 1, 20, 2, 1000},
		{ThrottleConfig{Rate: 50, Burst: 1, Wait: -1}, 1, 200, 1, 2000},
		{ThrottleConfig{Rate: 1e12}, 1e9, 1000, 1, 1000},
	} {
		t.Run(fmt.Sprintf("%+v", test.config), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &clocked{times: map[string][]time.Duration{}, start: time.Now()}
				l := newLine(test.workers, deliveries(test.messages, "order-1"))
				l.run(t, Throttle(test.config)(c))
				if len(c.times["order-1"]) != test.messages {
					t.Fatalf("%d of %d were handled", len(c.times["order-1"]), test.messages)
				}
				checkPace(t, c.times["order-1"], test.config.Rate, test.burst)
				if l.passes > test.passes {
					t.Errorf("it took %d passes, which may be %d", l.passes, test.passes)
				}
			})
		})
	}
}

// TestThrottleByKey: what is over the rate of its key holds up no other key.
func TestThrottleByKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &clocked{times: map[string][]time.Duration{}, start: time.Now()}
		ds := slices.Concat(deliveries(300, "busy-1"), deliveries(10, "quiet-1"), deliveries(10, "quiet-2"))
		config := ThrottleConfig{Rate: 10, Burst: 10, Key: func(d *es.Delivery) string { return d.Stream }}
		newLine(2, ds).run(t, Throttle(config)(c))
		for stream, times := range c.times {
			checkPace(t, times, config.Rate, config.Burst)
			if last := times[len(times)-1]; stream != "busy-1" && last > time.Second {
				t.Errorf("%s was handled after %v", stream, last)
			}
		}
		if len(c.times["busy-1"]) != 300 {
			t.Errorf("%d of 300 were handled", len(c.times["busy-1"]))
		}
	})
}

// TestThrottleDoesNotSpin: a backlog that has nothing else to do but to be put back does so at a bounded rate.
func TestThrottleDoesNotSpin(t *testing.T) {
	t.Parallel()
	for _, config := range []ThrottleConfig{
		{Rate: 0.001, Key: func(d *es.Delivery) string { return d.Stream }},
		{Rate: 0.001, Wait: -1},
		{Rate: 0.001},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, d := Throttle(config)(returning(nil)), delivery(1)
			start, puts := time.Now(), 0
			for time.Since(start) < 10*time.Second { // as a router would that has an endless backlog
				if _, err := h.Handle(t.Context(), d); err != nil {
					puts++
				}
			}
			if most := puttingBackBurst + 10*500 + 1; puts > most || puts < 9 {
				t.Errorf("%d were put back in 10 seconds, which may be %d", puts, most)
			}
		})
	}
}

func TestThrottleForgetsKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := newTurns(ThrottleConfig{Rate: 10, Key: func(d *es.Delivery) string { return d.Stream }})
		for i := range 20_000 {
			turns.take(&es.Delivery{Message: &es.Message{Stream: strconv.Itoa(i)}})
			time.Sleep(time.Millisecond)
		}
		if n := len(turns.keys); n > fewKeys+1 {
			t.Errorf("%d keys are remembered, of which 100 are of any use", n)
		}
	})
}

// TestThrottleLetsGoWhenStopped: with the cause of the stop, and nothing that would count as an attempt of the message's own.
func TestThrottleLetsGoWhenStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, config := range []ThrottleConfig{{Rate: 1.5, Burst: 1}, {Rate: 0.1}} { // it waits for its turn, or before it is put back
			h := Throttle(config)(returning(nil))
			if _, err := h.Handle(t.Context(), delivery(1)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Millisecond, func() { cancel(errStopped) })
			start := time.Now()
			_, err := h.Handle(ctx, delivery(1))
			if verdict, _ := es.Judge(err); !errors.Is(err, errStopped) || verdict != es.VerdictFailed || time.Since(start) != time.Millisecond {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		}
	})
}

func TestThrottleWithoutARateIsNotThere(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, -1, math.NaN()} {
		h := Throttle(ThrottleConfig{Rate: rate})(output(nil))
		if _, ok := h.(es.HandlerFunc); !ok {
			t.Errorf("a rate of %v holds back", rate)
		}
	}
}
