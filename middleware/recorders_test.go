package middleware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// newPrometheus makes a recorder that fails the test when it cannot be made.
func newPrometheus(t *testing.T, c PrometheusConfig) *Prometheus {
	t.Helper()
	p, err := NewPrometheus(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func exposed(t *testing.T, p *Prometheus) string {
	t.Helper()
	var text bytes.Buffer
	if n, err := p.WriteTo(&text); err != nil || n != int64(text.Len()) {
		t.Fatalf("%d of %d bytes: %v", n, text.Len(), err)
	}
	return text.String()
}

// TestPrometheusText: the text is the one that Prometheus describes, to the byte.
func TestPrometheusText(t *testing.T) {
	t.Parallel()
	p := newPrometheus(t, PrometheusConfig{
		Prefix: "shop", Buckets: []time.Duration{time.Millisecond, time.Second},
		Gauges: []Gauge{
			{"outbox_depth", "Entries that wait,\nwith \\ and \"quotes\".", func(_ context.Context, set func(float64, ...Label)) error {
				set(1e6)
				return nil
			}},
			{"lag", "How far behind.", func(_ context.Context, set func(float64, ...Label)) error {
				set(0.5, Label{"route", "a\"b\\c\nd\xff"}, Label{"x", ""})
				set(math.Inf(1), Label{"route", "e"})
				return nil
			}},
			{"down", "", func(_ context.Context, set func(float64, ...Label)) error {
				set(1)
				return errDown
			}},
			{"twice", "", func(_ context.Context, set func(float64, ...Label)) error {
				set(1, Label{"a", "b"})
				set(2, Label{"a", "b"})
				return nil
			}},
			{"bad_label", "", func(_ context.Context, set func(float64, ...Label)) error {
				set(1, Label{"a-b", "b"})
				return nil
			}},
			{"bad_labels", "", func(_ context.Context, set func(float64, ...Label)) error {
				set(1, Label{"a", "b"}, Label{"a", "c"})
				return nil
			}},
		},
	})
	route := Labels{Topic: "order", Group: "ship"}
	p.Started(route)
	p.Started(route)
	p.Started(Labels{Topic: "item"})
	for _, took := range []time.Duration{time.Microsecond, time.Millisecond, time.Millisecond + 1, time.Second, 2 * time.Second} {
		p.Handled(route, es.VerdictDone, took)
		p.Started(route)
	}
	p.Handled(Labels{Topic: "item"}, es.VerdictDead, time.Second)
	want := `# HELP shop_messages_total Messages that were handled, by what became of them.
# TYPE shop_messages_total counter
shop_messages_total{topic="item",group="",outcome="dead"} 1
shop_messages_total{topic="order",group="ship",outcome="done"} 5
# HELP shop_handling_seconds How long handlers took, by what became of the message.
# TYPE shop_handling_seconds histogram
shop_handling_seconds_bucket{topic="item",group="",outcome="dead",le="0.001"} 0
shop_handling_seconds_bucket{topic="item",group="",outcome="dead",le="1"} 1
shop_handling_seconds_bucket{topic="item",group="",outcome="dead",le="+Inf"} 1
shop_handling_seconds_sum{topic="item",group="",outcome="dead"} 1
shop_handling_seconds_count{topic="item",group="",outcome="dead"} 1
shop_handling_seconds_bucket{topic="order",group="ship",outcome="done",le="0.001"} 2
shop_handling_seconds_bucket{topic="order",group="ship",outcome="done",le="1"} 4
shop_handling_seconds_bucket{topic="order",group="ship",outcome="done",le="+Inf"} 5
shop_handling_seconds_sum{topic="order",group="ship",outcome="done"} 3.002001001
shop_handling_seconds_count{topic="order",group="ship",outcome="done"} 5
# HELP shop_messages_in_flight Messages that are being handled.
# TYPE shop_messages_in_flight gauge
shop_messages_in_flight{topic="item",group=""} 0
shop_messages_in_flight{topic="order",group="ship"} 2
# HELP shop_outbox_depth Entries that wait,\nwith \\ and "quotes".
# TYPE shop_outbox_depth gauge
shop_outbox_depth 1e+06
# HELP shop_lag How far behind.
# TYPE shop_lag gauge
shop_lag{route="a\"b\\c\nd�",x=""} 0.5
shop_lag{route="e"} +Inf
# HELP shop_gauge_failures_total How often a gauge could not be read.
# TYPE shop_gauge_failures_total counter
shop_gauge_failures_total{gauge="shop_outbox_depth"} 0
shop_gauge_failures_total{gauge="shop_lag"} 0
shop_gauge_failures_total{gauge="shop_down"} 1
shop_gauge_failures_total{gauge="shop_twice"} 1
shop_gauge_failures_total{gauge="shop_bad_label"} 1
shop_gauge_failures_total{gauge="shop_bad_labels"} 1
`
	if got := exposed(t, p); got != want {
		t.Errorf("the text is\n%s", got)
	}
}

// TestPrometheusAddsUp: what is read while handlers run is consistent, and what is read afterwards is complete.
func TestPrometheusAddsUp(t *testing.T) {
	t.Parallel()
	p := newPrometheus(t, PrometheusConfig{})
	h := Metrics(MetricsConfig{Recorder: p})(returning(nil))
	panics := Metrics(MetricsConfig{Recorder: p})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { panic("boom") }))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				_, _ = h.Handle(t.Context(), delivery(1))
				func() {
					defer func() { _ = recover() }()
					_, _ = panics.Handle(t.Context(), delivery(1))
				}()
			}
		})
	}
	inf := regexp.MustCompile(`outcome="done",le="\+Inf"} (\d+)`)
	count := regexp.MustCompile(`_count{.*outcome="done"} (\d+)`)
	for range 20 {
		text := exposed(t, p)
		if a, b := inf.FindStringSubmatch(text), count.FindStringSubmatch(text); (a == nil) != (b == nil) || a != nil && a[1] != b[1] {
			t.Errorf("the last bucket has %v, and the count is %v", a, b)
		}
	}
	all.Wait()
	text := exposed(t, p)
	for _, want := range []string{`outcome="done"} 2000`, `outcome="failed"} 2000`, `es_messages_in_flight{topic="order",group="shipping"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %s:\n%s", want, text)
		}
	}
}

func TestPrometheusTellsWhatRuns(t *testing.T) {
	t.Parallel()
	p := newPrometheus(t, PrometheusConfig{})
	_, _ = Metrics(MetricsConfig{Recorder: p})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		if text := exposed(t, p); !strings.Contains(text, `es_messages_in_flight{topic="order",group="shipping"} 1`) {
			t.Errorf("the text is\n%s", text)
		}
		return nil, nil
	})).Handle(t.Context(), delivery(1))
}

func TestPrometheusChecksItsConfig(t *testing.T) {
	t.Parallel()
	read := func(context.Context, func(float64, ...Label)) error { return nil }
	for name, c := range map[string]PrometheusConfig{
		"prefix":          {Prefix: "my-shop"},
		"digit first":     {Prefix: "1shop"},
		"reserved":        {Prefix: "__shop"},
		"no room":         {Buckets: []time.Duration{time.Second, time.Second}},
		"falling":         {Buckets: []time.Duration{time.Second, time.Millisecond}},
		"zero":            {Buckets: []time.Duration{0, time.Millisecond}},
		"gauge's name":    {Gauges: []Gauge{{Name: "a b", Read: read}}},
		"no name":         {Gauges: []Gauge{{Read: read}}},
		"no Read":         {Gauges: []Gauge{{Name: "lag"}}},
		"twice":           {Gauges: []Gauge{{Name: "lag", Read: read}, {Name: "lag", Read: read}}},
		"the recorder's":  {Gauges: []Gauge{{Name: "messages_total", Read: read}}},
		"the histogram's": {Gauges: []Gauge{{Name: "handling_seconds_sum", Read: read}}},
	} {
		if _, err := NewPrometheus(c); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := PrometheusConfig{Buckets: []time.Duration{time.Second}}
	p := newPrometheus(t, c)
	c.Buckets[0] = time.Hour
	if p.bounds[0] != time.Second {
		t.Error("the caller's buckets are in use")
	}
}

type shortWriter struct{}

func (shortWriter) Write(b []byte) (int, error) { return len(b) / 2, io.ErrShortWrite }

func TestPrometheusPassesContextAndErrors(t *testing.T) {
	t.Parallel()
	type key struct{}
	p := newPrometheus(t, PrometheusConfig{Gauges: []Gauge{{"lag", "", func(ctx context.Context, set func(float64, ...Label)) error {
		set(1, Label{"value", fmt.Sprint(ctx.Value(key{}))})
		return nil
	}}}})
	ctx := context.WithValue(t.Context(), key{}, 7)
	var text bytes.Buffer
	if _, err := p.Expose(ctx, &text); err != nil || !strings.Contains(text.String(), `es_lag{value="7"} 1`) {
		t.Errorf("%v: %s", err, &text)
	}
	if n, err := p.Expose(ctx, shortWriter{}); n == 0 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%d, %v", n, err)
	}
}

// TestSummary: it logs at its interval what is new, once more when it is stopped, and nothing when there is nothing.
func TestSummary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		s := NewSummary(SummaryConfig{Logger: slog.New(slog.NewTextHandler(&text, nil)), Interval: time.Minute})
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("started twice: %v", err)
		}
		logged := func(want ...string) {
			t.Helper()
			synctest.Wait()
			lines := strings.Count(text.String(), "\n")
			for _, w := range want {
				if !strings.Contains(text.String(), w) {
					t.Errorf("the log has no %q: %s", w, &text)
				}
			}
			if lines != len(want) {
				t.Errorf("the log has %d lines, not %d: %s", lines, len(want), &text)
			}
			text.Reset()
		}
		route := Labels{Topic: "order", Group: "ship"}
		s.Handled(route, es.VerdictDone, time.Second)
		s.Handled(route, es.VerdictDone, 3*time.Second)
		s.Handled(route, es.VerdictRetry, time.Second)
		time.Sleep(time.Minute)
		logged("topic=order group=ship outcome=done messages=2 average=2s longest=3s", "outcome=retry messages=1 average=1s longest=1s")
		time.Sleep(time.Hour)
		logged()
		s.Handled(route, es.VerdictDone, time.Millisecond)
		for range 2 {
			if err := s.Stop(t.Context()); err != nil || s.Err() != nil {
				t.Errorf("stopped: %v, %v", err, s.Err())
			}
		}
		<-s.Done()
		logged("messages=1 average=1ms longest=1ms")
		time.Sleep(time.Hour)
		s.Handled(route, es.VerdictDone, time.Millisecond)
		s.Log(t.Context())
		logged("messages=1")
	})
	s := NewSummary(SummaryConfig{})
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stopped before it was started: %v", err)
	}
	<-s.Done()
	if err := s.Start(t.Context()); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("started after it was stopped: %v", err)
	}
}

// TestSummaryLosesNothing: what is recorded while a summary is logged is in this one or in the next.
func TestSummaryLosesNothing(t *testing.T) {
	t.Parallel()
	var counters Counters
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 2000 {
				counters.Handled(Labels{}, es.VerdictDone, 1)
			}
		})
	}
	var sum int64
	add := func() {
		for _, c := range counters.drain() {
			if c.Messages == 0 {
				t.Error("a line for nothing")
			}
			sum += c.Messages
		}
	}
	for range 200 {
		add()
	}
	all.Wait()
	add()
	if sum != 8000 {
		t.Errorf("%d of 8000 were logged", sum)
	}
}
