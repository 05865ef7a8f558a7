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

// StartRecorder is a [Recorder] that also wants to know when a handler is called, such as one that tells how many run. It is optional.
type StartRecorder interface {
	Recorder
	// Started records that a handler is called. Handled follows when it has returned, in whatever way.
	Started(route Labels)
}

// Labels tell the series of measurements apart. There is one of each for a route, so that they stay few.
type Labels struct {
	Topic, Group string
}

// MetricsConfig is how [Metrics] works.
type MetricsConfig struct {
	// Recorder takes the measurements, such as a [*Counters], a [*Prometheus] or a [*Summary]. Without one nothing is measured,
	// and the middleware is not there.
	Recorder Recorder
}

// Metrics measures each call of the handler: its outcome and how long it took. A panic that goes through counts as failed.
func Metrics(c MetricsConfig) es.Middleware {
	return func(next es.Handler) es.Handler {
		if c.Recorder == nil {
			return next
		}
		starts, _ := c.Recorder.(StartRecorder)
		return &metrics{next: next, recorder: c.Recorder, starts: starts}
	}
}

type metrics struct {
	next     es.Handler
	recorder Recorder
	starts   StartRecorder // nil when the recorder does not want to know
}

func (h *metrics) Handle(ctx context.Context, d *es.Delivery) (outputs []*es.Message, err error) {
	route := Labels{Topic: d.Topic, Group: d.Group}
	if h.starts != nil {
		h.starts.Started(route)
	}
	start := time.Now()
	outcome := es.VerdictFailed // unless it returns
	defer func() { h.recorder.Handled(route, outcome, time.Since(start)) }()
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
	for c.series[key] == nil {
		c.mu.RUnlock()
		c.add(key)
		c.mu.RLock()
	}
	defer c.mu.RUnlock() // so that drain has all that was counted, or leaves it for the next time
	s := c.series[key]
	s.count.Add(1)
	s.total.Add(int64(took))
	for longest := s.longest.Load(); int64(took) > longest && !s.longest.CompareAndSwap(longest, int64(took)); {
		longest = s.longest.Load()
	}
}

func (c *Counters) add(key seriesKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.series == nil {
		c.series = map[seriesKey]*series{}
	}
	if c.series[key] == nil {
		c.series[key] = &series{}
	}
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

// drain returns what was counted since it was last called, ordered likewise. What comes in meanwhile is counted the next time.
func (c *Counters) drain() []Count {
	c.mu.Lock()
	taken := &Counters{series: c.series}
	c.series = nil
	c.mu.Unlock()
	return slices.DeleteFunc(taken.Counts(), func(count Count) bool { return count.Messages == 0 })
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
