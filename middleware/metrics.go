package middleware

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Recorder takes the measurements that [Metrics] makes. It is called for every message, by several goroutines at once.
type Recorder interface {
	// Handled records that a handler has returned: for which route, with which outcome, after how long.
	Handled(route Labels, outcome es.Verdict, took time.Duration)
}

// Labels tell the series of measurements apart. There is one of each for a route, so that they stay few.
type Labels struct {
	Topic, Group string
}

// MetricsConfig is how [Metrics] works.
type MetricsConfig struct {
	// Recorder takes the measurements, such as a [*Counters]. Without one nothing is measured, and the middleware is not there.
	Recorder Recorder
}

// Metrics measures each call of the handler: its outcome and how long it took. A panic that goes through counts as failed.
func Metrics(c MetricsConfig) es.Middleware {
	return func(next es.Handler) es.Handler {
		if c.Recorder == nil {
			return next
		}
		return &metrics{next: next, recorder: c.Recorder}
	}
}

type metrics struct {
	next     es.Handler
	recorder Recorder
}

func (h *metrics) Handle(ctx context.Context, d *es.Delivery) (outputs []*es.Message, err error) {
	start := time.Now()
	outcome := es.VerdictFailed // unless it returns
	defer func() { h.recorder.Handled(Labels{Topic: d.Topic, Group: d.Group}, outcome, time.Since(start)) }()
	outputs, err = h.next.Handle(ctx, d)
	outcome, _ = es.Judge(err)
	return outputs, err
}

// Counters is a [Recorder] that adds up in memory. Its zero value is ready to use.
type Counters struct {
	mu     sync.RWMutex
	series map[seriesKey]*series
}

type seriesKey struct {
	Labels

	outcome es.Verdict
}

type series struct {
	count, total, longest atomic.Int64
}

// Count is how often something came out in a certain way, and how long it took.
type Count struct {
	Labels

	Outcome es.Verdict
	// Messages is how many there were.
	Messages int64
	// Total is how long they took together, and Longest the longest of them.
	Total, Longest time.Duration
}

// Handled adds a measurement.
func (c *Counters) Handled(route Labels, outcome es.Verdict, took time.Duration) {
	key := seriesKey{Labels: route, outcome: outcome}
	c.mu.RLock()
	s := c.series[key]
	c.mu.RUnlock()
	if s == nil {
		s = c.add(key)
	}
	s.count.Add(1)
	s.total.Add(int64(took))
	for longest := s.longest.Load(); int64(took) > longest && !s.longest.CompareAndSwap(longest, int64(took)); {
		longest = s.longest.Load()
	}
}

func (c *Counters) add(key seriesKey) *series {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.series == nil {
		c.series = map[seriesKey]*series{}
	}
	s := c.series[key]
	if s == nil {
		s = &series{}
		c.series[key] = s
	}
	return s
}

// Counts returns what was counted, ordered by topic, group and outcome.
func (c *Counters) Counts() []Count {
	c.mu.RLock()
	counts := make([]Count, 0, len(c.series))
	for key, s := range c.series {
		counts = append(counts, Count{
			Labels: key.Labels, Outcome: key.outcome, Messages: s.count.Load(),
			Total: time.Duration(s.total.Load()), Longest: time.Duration(s.longest.Load()),
		})
	}
	c.mu.RUnlock()
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Outcome, b.Outcome))
	})
	return counts
}

// WriteTo writes what was counted as text, a line for each topic, group and outcome.
func (c *Counters) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for _, count := range c.Counts() {
		n, err := fmt.Fprintf(w, "topic=%q group=%q outcome=%s messages=%d total=%v longest=%v\n",
			count.Topic, count.Group, count.Outcome, count.Messages, count.Total, count.Longest)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
