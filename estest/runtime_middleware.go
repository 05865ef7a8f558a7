package estest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeMiddlewareLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R9/timeout_ends_the_context_of_a_handler", runtimeTimeout),
		runtimeLine("R9/throttle_holds_its_rate", runtimeThrottle),
		runtimeLine("R9/circuit_breaker_spares_the_attempts", runtimeBreaker),
		runtimeLine("R9/metrics_tell_the_outcomes_apart", runtimeMetrics),
		runtimeLine("R9/logging_has_a_level_for_each_outcome", runtimeLogging),
		runtimeLine("R9/correlation_passes_metadata_on", runtimeCorrelation),
		runtimeLine("R9/dead_letter_has_a_stream_of_its_own", runtimeOwnDeadStream),
	}
}

func runtimeTimeout(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	var failed error
	telling := around(func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
		outputs, err := next.Handle(ctx, d)
		if err != nil {
			failed = err
		}
		return outputs, err
	})
	timeout := t.parts.Timeout(middleware.TimeoutConfig{Limit: 10 * time.Millisecond})
	p.serve(saw.withContext(func(ctx context.Context, n int) error {
		if n > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}), with(telling, t.retry(50), timeout))
	p.publish(t.messages("a1")...)
	saw.await(2)
	if !errors.Is(failed, middleware.ErrTimeout) {
		t.Fatalf("a handler that took too long has failed with %v, want ErrTimeout", failed)
	}
}

func runtimeThrottle(t *runtimeTest) {
	p := t.open()
	const rate, messages = 100, 8
	saw := t.journal()
	var mu sync.Mutex
	var times []time.Time
	p.serve(saw.withContext(func(context.Context, int) error {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Now())
		return nil
	}), router.Options{Concurrency: 4, Middleware: []es.Middleware{t.parts.Throttle(middleware.ThrottleConfig{Rate: rate, Burst: 1})}})
	p.publish(t.messages("a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1")...)
	saw.wantInAnyOrder("a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1")
	t.until("all have come through", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(times) == messages
	})
	const least = (messages - 2) * time.Second / rate // one less, for the clocks
	if took := times[messages-1].Sub(times[0]); took < least {
		t.Fatalf("%d messages came through in %v; at %d a second that takes %v", messages, took, rate, least)
	}
}

// runtimeBreaker lets what a handler relies on be down for longer than the attempts of a message last.
func runtimeBreaker(t *runtimeTest) {
	p := t.open()
	p.process()
	saw := t.journal()
	var down atomic.Bool
	down.Store(true)
	breaker := t.parts.Breaker(middleware.BreakerConfig{Failures: 2, Pause: time.Hour, Wait: -1})
	r := p.serve(saw.withContext(func(context.Context, int) error {
		if down.Load() {
			return errBoom
		}
		return nil
	}), with(t.retry(4), breaker))
	p.publish(t.messages("a1")...)
	t.until("the circuit is open", func() bool { return r.Stats()[0].Busy >= 1 })
	saw.want("a1", "a1")
	p.stop(r)
	down.Store(false)
	p.serve(saw.succeeding(), with(t.retry(4)))
	if d := saw.awaitCall("a1", 3); d.Attempt != 3 {
		t.Fatalf("after two attempts and an open circuit the message came as attempt %d, want 3", d.Attempt)
	}
	p.wantLetters()
}

func runtimeMetrics(t *runtimeTest) {
	p := t.open()
	p.process()
	var counters middleware.Counters
	saw := t.journal()
	p.serve(saw.handler(func(_ context.Context, d *es.Delivery, n int) ([]*es.Message, error) {
		switch {
		case runtimeText(d.Message) == "b1":
			return nil, es.Skip(nil)
		case runtimeText(d.Message) == "c1":
			return nil, es.DeadLetter(errBoom)
		case n == 1:
			return nil, errBoom
		}
		return nil, nil
	}), with(t.parts.Metrics(middleware.MetricsConfig{Recorder: &counters}), t.retry(5)))
	p.publish(t.messages("a1", "b1", "c1")...)
	want := map[es.Verdict]int64{es.VerdictDone: 1, es.VerdictSkip: 1, es.VerdictDead: 1, es.VerdictRetry: 1}
	var got map[es.Verdict]int64
	t.until("all outcomes are counted", func() bool {
		got = map[es.Verdict]int64{}
		total := int64(0)
		for _, c := range counters.Counts() {
			if c.Topic != runtimeTopic || c.Group != "g" {
				t.Fatalf("there is a count for topic %q, group %q", c.Topic, c.Group)
			}
			got[c.Outcome] = c.Messages
			total += c.Messages
		}
		return total >= 4
	})
	for outcome, n := range want {
		if got[outcome] != n {
			t.Errorf("%d messages are counted as %v, want %d", got[outcome], outcome, n)
		}
	}
}

// levels is a log that keeps the levels of what it is told about messages.
type levels struct {
	slog.Handler

	mu   sync.Mutex
	seen []slog.Level
}

func (l *levels) Enabled(context.Context, slog.Level) bool { return true }
func (l *levels) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *levels) WithGroup(string) slog.Handler            { return l }

func (l *levels) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, r.Level)
	return nil
}

func runtimeLogging(t *runtimeTest) {
	p := t.open()
	p.process()
	log := &levels{}
	saw := t.journal()
	p.serve(saw.failing("a1", func(n int) error {
		return []error{errBoom, es.DeadLetter(errBoom)}[n-1]
	}), with(t.parts.Logging(middleware.LoggingConfig{Logger: slog.New(log)}), t.retry(5)))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a2")
	want := []slog.Level{slog.LevelWarn, slog.LevelError, slog.LevelDebug}
	t.until("all outcomes are logged", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return len(log.seen) >= len(want)
	})
	log.mu.Lock()
	defer log.mu.Unlock()
	if !slices.Equal(log.seen, want) {
		t.Fatalf("a retry, a dead letter and a success were logged at %v, want %v", log.seen, want)
	}
}

func runtimeCorrelation(t *runtimeTest) {
	p := t.open()
	p.process()
	p.serve(t.journal().invoicing(), with(t.parts.Correlation(middleware.CorrelationConfig{Metadata: []string{"tenant"}})))
	m := t.message("a", "a1")
	m.Metadata = map[string]string{"tenant": "one", "secret": "two"}
	p.publish(m)
	out := p.awaitEvents(es.Query{Category: runtimeOutput}, 1)[0]
	if out.Metadata["tenant"] != "one" || out.Metadata["secret"] != "" || out.CorrelationID != m.ID.String() {
		t.Fatalf("the output has the metadata %v and the conversation %q, want the tenant alone and %q",
			out.Metadata, out.CorrelationID, m.ID)
	}
}

func runtimeOwnDeadStream(t *runtimeTest) {
	p := t.open()
	p.process()
	saw := t.journal()
	const own = "graveyard"
	bury := t.parts.DeadLetter(middleware.DeadLetterConfig{Send: p.emit, Stream: own})
	r := p.serve(saw.failing("a1", failTimes(1000, errBoom)), with(bury, t.retry(2)))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a2")
	p.awaitEvents(es.Query{Stream: own, Names: []string{es.DeadLetterName}}, 1)
	t.until("both are done", func() bool { s := r.Stats()[0]; return s.Skipped == 1 && s.Handled == 1 })
	p.wantLetters()
}
