package middleware_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// TestBreakerDoesAsItsModel has calls begin, go on beside each other and end in all ways, and compares each with a circuit that
// remembers every call.
func TestBreakerDoesAsItsModel(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		m := &breakerModel{config: middleware.BreakerConfig{
			Failures: rapid.IntRange(1, 4).Draw(t, "failures"),
			Pause:    time.Duration(rapid.IntRange(1, 5).Draw(t, "pause")) * time.Second,
			Probes:   rapid.IntRange(1, 3).Draw(t, "probes"),
			Wait:     -1,
		}}
		if rapid.Bool().Draw(t, "ratio") {
			m.config.Failures = rapid.SampledFrom([]int{-1, 0, 6}).Draw(t, "failures beside the ratio")
			m.config.Ratio = rapid.SampledFrom([]float64{0.25, 0.5, 1}).Draw(t, "share")
			m.config.Least = rapid.IntRange(1, 6).Draw(t, "least")
			m.config.Window = 1000 * time.Hour // that the model forgets nothing
		}
		m.breaker = middleware.NewBreaker(m.config)
		defer m.endAll(t)
		t.Repeat(map[string]func(*rapid.T){
			"begin": m.begin,
			"end":   m.end,
			"sleep": func(t *rapid.T) {
				time.Sleep(time.Duration(rapid.IntRange(1, 8).Draw(t, "halves")) * time.Second / 2)
			},
			"": func(t *rapid.T) {
				if got := m.breaker.State(); got != m.seen() {
					t.Fatalf("the circuit is %v, want %v", got, m.seen())
				}
			},
		})
	})
}

type breakerModel struct {
	config  middleware.BreakerConfig
	breaker *middleware.Breaker

	state   middleware.BreakerState
	until   time.Time
	period  int
	calls   []*breakerCall // that are under way
	results []bool         // of this period, failures are true
}

type breakerCall struct {
	period  int
	outcome chan error
	result  chan error
}

func (m *breakerModel) seen() middleware.BreakerState {
	if m.state == middleware.BreakerOpen && !time.Now().Before(m.until) {
		return middleware.BreakerHalfOpen
	}
	return m.state
}

func (m *breakerModel) change(to middleware.BreakerState) {
	m.state = to
	m.period++
	m.results = nil
	m.until = time.Now().Add(m.config.Pause)
}

// probes is how many calls of this period are under way.
func (m *breakerModel) probes() int {
	n := 0
	for _, c := range m.calls {
		if c.period == m.period {
			n++
		}
	}
	return n
}

func (m *breakerModel) begin(t *rapid.T) {
	if len(m.calls) > 6 {
		t.Skip("enough are under way")
	}
	if m.seen() != m.state {
		m.change(middleware.BreakerHalfOpen)
	}
	let := m.state == middleware.BreakerClosed ||
		m.state == middleware.BreakerHalfOpen && m.probes()+len(m.results) < m.config.Probes
	c := &breakerCall{period: m.period, outcome: make(chan error), result: make(chan error, 1)}
	entered := make(chan struct{}, 1)
	h := m.breaker.Middleware()(handlerFunc(func() error {
		entered <- struct{}{}
		return <-c.outcome
	}))
	go func() {
		_, err := h.Handle(context.Background(), delivery("order-1"))
		c.result <- err
	}()
	synctest.Wait()
	if (len(entered) == 1) != let {
		t.Fatalf("the circuit is %v, and a message was let through: %v", m.state, len(entered) == 1)
	}
	if let {
		m.calls = append(m.calls, c)
		return
	}
	if verdict, delay := es.Judge(<-c.result); verdict != es.VerdictBusy || delay <= 0 ||
		m.state == middleware.BreakerOpen && delay != time.Until(m.until) {
		t.Fatalf("a message is %v for %v, and the circuit is %v until %v", verdict, delay, m.state, m.until)
	}
}

func (m *breakerModel) end(t *rapid.T) {
	if len(m.calls) == 0 {
		t.Skip("none is under way")
	}
	i := rapid.IntRange(0, len(m.calls)-1).Draw(t, "call")
	c := m.calls[i]
	m.calls = append(m.calls[:i:i], m.calls[i+1:]...)
	outcome := rapid.SampledFrom([]error{nil, errBoom, errBoom, es.Skip(nil), es.DeadLetter(errBoom)}).Draw(t, "outcome")
	c.outcome <- outcome
	if err := <-c.result; !errors.Is(err, outcome) {
		t.Fatalf("%v became %v", outcome, err)
	}
	if verdict, _ := es.Judge(outcome); c.period != m.period || verdict != es.VerdictDone && verdict != es.VerdictFailed {
		return
	}
	m.results = append(m.results, outcome != nil)
	switch {
	case m.state == middleware.BreakerHalfOpen && outcome != nil:
		m.change(middleware.BreakerOpen)
	case m.state == middleware.BreakerHalfOpen && len(m.results) == m.config.Probes:
		m.change(middleware.BreakerClosed)
	case m.state == middleware.BreakerClosed && m.tooMany():
		m.change(middleware.BreakerOpen)
	}
}

// tooMany tells whether the failures of this period are too many, the last call being one of them.
func (m *breakerModel) tooMany() bool {
	if !m.results[len(m.results)-1] {
		return false
	}
	row, failures := 0, 0
	for _, failed := range m.results {
		row++
		if failed {
			failures++
		} else {
			row = 0
		}
	}
	return m.config.Failures > 0 && row >= m.config.Failures ||
		m.config.Ratio > 0 && len(m.results) >= m.config.Least && float64(failures) >= m.config.Ratio*float64(len(m.results))
}

// endAll lets go what is under way.
func (m *breakerModel) endAll(t *rapid.T) {
	for _, c := range m.calls {
		c.outcome <- nil
		if err := <-c.result; err != nil {
			t.Errorf("what was let through became %v", err)
		}
	}
}
