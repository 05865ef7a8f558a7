package middleware

import (
	"context"
	"log/slog"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// light is a store that gives every message anew.
type light struct{}

func (light) Reserve(_ context.Context, _ string, rs []es.Reservation, _ time.Duration) error {
	for i := range rs {
		rs[i].State = es.ReserveNew
	}
	return nil
}
func (light) Complete(context.Context, string, []es.Reservation) error { return nil }
func (light) Release(context.Context, string, []es.Reservation) error  { return nil }
func (light) Extend(context.Context, string, []es.Reservation, time.Duration) error {
	return nil
}

type middlewareCase struct {
	name string
	wrap es.Middleware
}

func cases(tb testing.TB) []middlewareCase {
	tb.Helper()
	prometheus, err := NewPrometheus(PrometheusConfig{})
	if err != nil {
		tb.Fatal(err)
	}
	key := func(d *es.Delivery) string { return d.Stream }
	return []middlewareCase{
		{"none", func(next es.Handler) es.Handler { return next }},
		{"correlation", Correlation(CorrelationConfig{})},
		{"dead letter", DeadLetter(DeadLetterConfig{Send: (&graveyard{}).send})},
		{"logging off", Logging(LoggingConfig{Logger: slog.New(slog.DiscardHandler)})},
		{"logging from info", Logging(LoggingConfig{Logger: slog.New(atInfo{slog.DiscardHandler})})},
		{"metrics", Metrics(MetricsConfig{Recorder: &Counters{}})},
		{"prometheus", Metrics(MetricsConfig{Recorder: prometheus})},
		{"summary", Metrics(MetricsConfig{Recorder: NewSummary(SummaryConfig{})})},
		{"retry", Retry(RetryConfig{Elapsed: time.Hour})},
		{"throttle", Throttle(ThrottleConfig{Rate: 1e9, Burst: 1e9})},
		{"throttle by key", Throttle(ThrottleConfig{Rate: 1e9, Burst: 1e9, Key: key})},
		{"circuit breaker", CircuitBreaker(BreakerConfig{Ratio: 0.5})},
		{"dedupe", Dedupe(light{}, DedupeConfig{})},
		{"timeout", Timeout(TimeoutConfig{})},
		{"recover", Recover(RecoverConfig{})},
		{"duplicate", Duplicate(DuplicateConfig{Chance: drawing(1)})},
		{"random failure", RandomFailure(RandomFailureConfig{Chance: drawing(1)})},
		{"usual chain", chain(
			Correlation(CorrelationConfig{}), Logging(LoggingConfig{Logger: slog.New(slog.DiscardHandler)}),
			Metrics(MetricsConfig{Recorder: prometheus}), Retry(RetryConfig{}), Dedupe(light{}, DedupeConfig{}),
			Timeout(TimeoutConfig{}), Recover(RecoverConfig{}),
		)},
		{"whole chain", chain(
			Correlation(CorrelationConfig{}), DeadLetter(DeadLetterConfig{Send: (&graveyard{}).send}),
			Logging(LoggingConfig{Logger: slog.New(slog.DiscardHandler)}), Metrics(MetricsConfig{Recorder: prometheus}),
			Retry(RetryConfig{}), Throttle(ThrottleConfig{Rate: 1e9, Burst: 1e9}), CircuitBreaker(BreakerConfig{}),
			Dedupe(light{}, DedupeConfig{}), Timeout(TimeoutConfig{}), Recover(RecoverConfig{}),
		)},
	}
}

// chain is middleware in one.
func chain(middleware ...es.Middleware) es.Middleware {
	return func(next es.Handler) es.Handler { return es.Chain(next, middleware...) }
}

// atInfo is a handler that takes what is logged from info on.
type atInfo struct{ slog.Handler }

func (atInfo) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// BenchmarkMiddleware is what each middleware adds to a message that is handled.
func BenchmarkMiddleware(b *testing.B) {
	for _, c := range cases(b) {
		b.Run(c.name, func(b *testing.B) {
			h, d, ctx := c.wrap(returning(nil)), delivery(1), context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Handle(ctx, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
