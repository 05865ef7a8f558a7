package middleware

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The names of the metrics, without the prefix.
const (
	nameMessages = "messages_total"
	nameHandling = "handling_seconds"
	nameInFlight = "messages_in_flight"
	nameFailures = "gauge_failures_total"
)

// WriteTo is [Prometheus.Expose] in a context that does not end.
func (p *Prometheus) WriteTo(w io.Writer) (int64, error) { return p.Expose(context.Background(), w) }

// Expose reads the gauges, one after the other and in the context, and writes all metrics in the text format of Prometheus, ordered by
// their labels. It writes once. An HTTP handler sets [PrometheusContentType] before.
func (p *Prometheus) Expose(ctx context.Context, w io.Writer) (int64, error) {
	var t exposition
	p.exposeMessages(&t)
	p.exposeInFlight(&t)
	for _, g := range p.gauges {
		p.exposeGauge(ctx, &t, g)
	}
	if len(p.gauges) > 0 {
		t.head(p.prefix+nameFailures, "How often a gauge could not be read.", "counter")
		for _, g := range p.gauges {
			t.sample(p.prefix+nameFailures, float64(g.failures.Load()), Label{"gauge", p.prefix + g.Name})
		}
	}
	n, err := io.WriteString(w, t.String())
	return int64(n), err
}

// counted is what a histogram held at one time.
type counted struct {
	key     seriesKey
	buckets []int64
	count   int64
	seconds float64
}

func (p *Prometheus) counts() []counted {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]counted, 0, len(p.series))
	for key, h := range p.series {
		c := counted{key: key, buckets: make([]int64, len(h.buckets)), seconds: float64(h.total.Load()) / 1e9}
		for i := range h.buckets {
			c.buckets[i] = h.buckets[i].Load()
			c.count += c.buckets[i] // so that the sum of the buckets is the count, whatever comes in meanwhile
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b counted) int {
		return cmp.Or(compareLabels(a.key.Labels, b.key.Labels), cmp.Compare(a.key.outcome, b.key.outcome))
	})
	return all
}

func compareLabels(a, b Labels) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Group, b.Group))
}

func routeLabels(route Labels) []Label {
	return []Label{{"topic", route.Topic}, {"group", route.Group}}
}

func outcomeLabels(route Labels, outcome es.Verdict) []Label {
	return append(routeLabels(route), Label{"outcome", outcome.String()})
}

func (p *Prometheus) exposeMessages(t *exposition) {
	counts := p.counts()
	t.head(p.prefix+nameMessages, "Messages that were handled, by what became of them.", "counter")
	for _, c := range counts {
		t.sample(p.prefix+nameMessages, float64(c.count), outcomeLabels(c.key.Labels, c.key.outcome)...)
	}
	t.head(p.prefix+nameHandling, "How long handlers took, by what became of the message.", "histogram")
	for _, c := range counts {
		labels := outcomeLabels(c.key.Labels, c.key.outcome)
		var sum int64
		for i, n := range c.buckets {
			sum += n
			bound := "+Inf"
			if i < len(p.bounds) {
				bound = formatValue(p.bounds[i].Seconds())
			}
			t.sample(p.prefix+nameHandling+"_bucket", float64(sum), append(labels, Label{"le", bound})...)
		}
		t.sample(p.prefix+nameHandling+"_sum", c.seconds, labels...)
		t.sample(p.prefix+nameHandling+"_count", float64(c.count), labels...)
	}
}

func (p *Prometheus) exposeInFlight(t *exposition) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t.head(p.prefix+nameInFlight, "Messages that are being handled.", "gauge")
	for _, route := range slices.SortedFunc(maps.Keys(p.routes), compareLabels) {
		t.sample(p.prefix+nameInFlight, float64(p.routes[route].Load()), routeLabels(route)...)
	}
}

// exposeGauge reads a gauge. What it has handed over before an error is left out too: half a picture is none.
func (p *Prometheus) exposeGauge(ctx context.Context, t *exposition, g gauge) {
	var own exposition
	own.head(p.prefix+g.Name, g.Help, "gauge")
	valid := true
	seen := map[string]bool{} // by series, as they are written
	err := g.Read(ctx, func(value float64, labels ...Label) {
		series := own.series(p.prefix+g.Name, labels)
		valid = valid && validLabels(labels) && !seen[series]
		seen[series] = true
		own.sample(p.prefix+g.Name, value, labels...)
	})
	if err != nil || !valid { // one series twice, or a name that is none, would spoil the whole page
		g.failures.Add(1)
		return
	}
	t.WriteString(own.String())
}

func validLabels(labels []Label) bool {
	for i, label := range labels {
		same := func(other Label) bool { return other.Name == label.Name }
		if !validMetricName(label.Name) || slices.ContainsFunc(labels[:i], same) {
			return false
		}
	}
	return true
}

// exposition is a text in the exposition format.
type exposition struct{ strings.Builder }

func (t *exposition) head(name, help, kind string) {
	t.WriteString("# HELP " + name + " " + strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(strings.ToValidUTF8(help, "\uFFFD")) + "\n")
	t.WriteString("# TYPE " + name + " " + kind + "\n")
}

func (t *exposition) sample(name string, value float64, labels ...Label) {
	t.WriteString(t.series(name, labels) + " " + formatValue(value) + "\n")
}

// series returns how a series is written.
func (*exposition) series(name string, labels []Label) string {
	if len(labels) == 0 {
		return name
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var b strings.Builder
	b.WriteString(name)
	for i, label := range labels {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(label.Name + `="` + escape.Replace(strings.ToValidUTF8(label.Value, "\uFFFD")) + `"`)
	}
	b.WriteByte('}')
	return b.String()
}

// formatValue writes a number as Prometheus reads it: +Inf, -Inf and NaN are among them.
func formatValue(value float64) string { return strconv.FormatFloat(value, 'g', -1, 64) }
