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

type middlewareCase struct {
	name string
	wrap es.Middleware
}

func cases() []middlewareCase {
	return []middlewareCase{
		{"none", func(next es.Handler) es.Handler { return next }},
		{"logging off", Logging(LoggingConfig{Logger: slog.New(slog.DiscardHandler)})},
		{"logging from info", Logging(LoggingConfig{Logger: slog.New(atInfo{slog.DiscardHandler})})},
		{"metrics", Metrics(MetricsConfig{Recorder: &Counters{}})},
		{"retry", Retry(RetryConfig{Elapsed: time.Hour})},
		{"dedupe", Dedupe(light{}, DedupeConfig{})},
		{"recover", Recover(RecoverConfig{})},
	}
}

// atInfo is a handler that takes what is logged from info on.
type atInfo struct{ slog.Handler }

func (atInfo) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// BenchmarkMiddleware is what each middleware adds to a message that is handled.
func BenchmarkMiddleware(b *testing.B) {
	for _, c := range cases() {
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
