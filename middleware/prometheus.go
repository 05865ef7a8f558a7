package middleware

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// PrometheusContentType is the media type of what [Prometheus.Expose] writes.
const PrometheusContentType = "text/plain; version=0.0.4; charset=utf-8"

// DefaultBuckets returns the upper bounds of the buckets of the histogram of a [Prometheus] that does not say, from half a millisecond
// to half a minute.
func DefaultBuckets() []time.Duration {
	return []time.Duration{
		500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
		25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	}
}

// PrometheusConfig is how a [Prometheus] works.
type PrometheusConfig struct {
	// Prefix is what the names of the metrics begin with, up to an underscore; "es" by default.
	Prefix string
	// Buckets are the upper bounds of the histogram's buckets, rising; those of [DefaultBuckets] by default.
	Buckets []time.Duration
	// Gauges are read each time that the metrics are.
	Gauges []Gauge
}

// Gauge is a number that goes up and down and is read when it is asked for, such as the depth of an outbox.
type Gauge struct {
	// Name is the name of the metric, without the prefix, and Help says what it is.
	Name, Help string
	// Read hands over what there is to read: one number, or one for each combination of labels. It should not take long. When it
	// returns an error the metric is left out, and counted among those that could not be read.
	Read func(ctx context.Context, set func(value float64, labels ...Label)) error
}

// Label is a name and a value that tell the series of a metric apart.
type Label struct {
	Name, Value string
}

// Prometheus is a [Recorder] whose measurements can be read in the text format of Prometheus (its documentation, "Exposition formats",
// version 0.0.4), without a dependency:
//
//	es_messages_total              counter, by topic, group and outcome
//	es_handling_seconds            histogram, by topic, group and outcome
//	es_messages_in_flight          gauge, by topic and group: how many handlers run
//	es_gauge_failures_total        counter, by gauge: how often it could not be read
//
// and the gauges of its configuration. It takes no allocation to record. All its methods can be called at the same time.
type Prometheus struct {
	prefix string
	bounds []time.Duration
	gauges []gauge

	mu     sync.RWMutex
	series map[seriesKey]*histogram
	routes map[Labels]*atomic.Int64 // how many handlers run
}

// gauge is a Gauge and how often it could not be read.
type gauge struct {
	Gauge

	failures *atomic.Int64
}

// histogram counts by how long things took. The last bucket is for what took longer than any bound.
type histogram struct {
	buckets []atomic.Int64
	total   atomic.Int64 // in nanoseconds
}

var (
	_ StartRecorder = (*Prometheus)(nil)
	_ io.WriterTo   = (*Prometheus)(nil)
)

// NewPrometheus makes a recorder. Names that Prometheus does not take, buckets that do not rise and gauges that are incomplete or share
// a name are [es.ErrInvalid].
func NewPrometheus(c PrometheusConfig) (*Prometheus, error) {
	if c.Prefix == "" {
		c.Prefix = "es"
	}
	if c.Buckets == nil {
		c.Buckets = DefaultBuckets()
	}
	p := &Prometheus{
		prefix: c.Prefix + "_", bounds: slices.Clone(c.Buckets), series: map[seriesKey]*histogram{}, routes: map[Labels]*atomic.Int64{},
	}
	if !validMetricName(c.Prefix) {
		return nil, es.Invalidf("metrics prefix", "is %q; it takes letters, digits and underscores, and no digit first", c.Prefix)
	}
	for i, bound := range p.bounds {
		if bound <= 0 || i > 0 && bound <= p.bounds[i-1] {
			return nil, es.Invalidf("metrics buckets", "are %v; they take durations above 0 that rise", p.bounds)
		}
	}
	names := []string{nameMessages, nameHandling, nameInFlight, nameFailures}
	for _, g := range c.Gauges {
		switch {
		case !validMetricName(g.Name):
			return nil, es.Invalidf("gauge name", "is %q; it takes letters, digits and underscores, and no digit first", g.Name)
		case slices.Contains(names, g.Name), strings.HasPrefix(g.Name, nameHandling+"_"):
			return nil, es.Invalidf("gauge name", "is %q, which another metric has; it takes one of its own", g.Name)
		case g.Read == nil:
			return nil, es.Invalidf("gauge", "%q has no Read; its number has to come from somewhere", g.Name)
		}
		names = append(names, g.Name)
		p.gauges = append(p.gauges, gauge{Gauge: g, failures: new(atomic.Int64)})
	}
	return p, nil
}

// validMetricName tells whether Prometheus takes a name for a metric or a label. Colons are for recording rules.
func validMetricName(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != "" && !strings.HasPrefix(name, "__") // reserved
}

// Started counts a handler that runs.
func (p *Prometheus) Started(route Labels) { p.route(route).Add(1) }

// Handled adds a measurement, and counts a handler that runs no more when it was counted by Started.
func (p *Prometheus) Handled(route Labels, outcome es.Verdict, took time.Duration) {
	key := seriesKey{Labels: route, outcome: outcome}
	p.mu.RLock()
	h, running := p.series[key], p.routes[route]
	p.mu.RUnlock()
	if h == nil {
		h = p.add(key)
	}
	bucket := 0
	for bucket < len(p.bounds) && took > p.bounds[bucket] {
		bucket++
	}
	h.buckets[bucket].Add(1)
	h.total.Add(int64(took))
	if running != nil {
		running.Add(-1)
	}
}

func (p *Prometheus) add(key seriesKey) *histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.series[key]
	if h == nil {
		h = &histogram{buckets: make([]atomic.Int64, len(p.bounds)+1)}
		p.series[key] = h
	}
	return h
}

func (p *Prometheus) route(route Labels) *atomic.Int64 {
	p.mu.RLock()
	running := p.routes[route]
	p.mu.RUnlock()
	if running != nil {
		return running
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.routes[route] == nil {
		p.routes[route] = new(atomic.Int64)
	}
	return p.routes[route]
}
