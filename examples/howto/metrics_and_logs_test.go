package howto_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func Example_metricsAndLogs() {
	run(metricsAndLogs)
	// Output:
	// es_messages_total{topic="order",group="billing",outcome="done"} 1
	// es_messages_in_flight{topic="order",group="billing"} 0
	// es_outbox_depth 0
	// es_outbox_age_seconds 0
}

// gauges are the numbers of a program that do not come from its handlers.
func gauges(outbox es.Outbox, r *router.Router) []middleware.Gauge {
	return []middleware.Gauge{
		{
			Name: "outbox_depth", Help: "Entries that wait or are being worked on.",
			Read: func(ctx context.Context, set func(float64, ...middleware.Label)) error {
				stats, err := outbox.Stats(ctx)
				set(float64(stats.Depth))
				return err
			},
		},
		{
			Name: "outbox_age_seconds", Help: "How long the oldest entry has waited.",
			Read: func(ctx context.Context, set func(float64, ...middleware.Label)) error {
				stats, err := outbox.Stats(ctx)
				set(ageOf(stats.Oldest))
				return err
			},
		},
		{
			Name: "route_lag_messages", Help: "How many messages a route has still to handle.",
			Read: func(ctx context.Context, set func(float64, ...middleware.Label)) error {
				lags, err := r.Lags(ctx)
				for _, lag := range lags {
					set(float64(lag.Messages), middleware.Label{Name: "route", Value: lag.Name})
				}
				return err
			},
		},
	}
}

// ageOf is how many seconds ago something was; 0 when there is nothing.
func ageOf(oldest time.Time) float64 {
	if oldest.IsZero() {
		return 0
	}
	return time.Since(oldest).Seconds()
}

// metricsHandler answers with the metrics.
func metricsHandler(prometheus *middleware.Prometheus, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", middleware.PrometheusContentType)
		if _, err := prometheus.Expose(r.Context(), w); err != nil {
			logger.WarnContext(r.Context(), "metrics could not be written", "error", err)
		}
	})
}

func metricsAndLogs(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	logger := slog.New(slog.DiscardHandler)

	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToOutbox(backend.Outbox())})
	if err != nil {
		return err
	}

	prometheus, err := middleware.NewPrometheus(middleware.PrometheusConfig{Gauges: gauges(backend.Outbox(), r)})
	if err != nil {
		return err
	}
	err = r.Use(
		middleware.Logging(middleware.LoggingConfig{
			Logger: logger,
			Levels: middleware.LogLevels{Handled: slog.LevelInfo},
			Attrs: func(_ context.Context, d *es.Delivery) []slog.Attr {
				return []slog.Attr{slog.String("tenant", d.Metadata["tenant"])}
			},
		}),
		middleware.Metrics(middleware.MetricsConfig{Recorder: prometheus}),
	)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metricsHandler(prometheus, logger))

	handled := make(chan struct{})
	handler := es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		close(handled)
		return nil, nil
	})
	if err := r.Route("order", handler, router.Options{Name: "billing"}); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	if err := broker.Publish(ctx, es.ToCategory(es.NewMessage("order-7", "OrderPlaced", []byte(`{}`)))...); err != nil {
		return err
	}
	<-handled
	if err := r.Stop(ctx); err != nil {
		return err
	}
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody))
	for line := range strings.Lines(answer.Body.String()) {
		for _, name := range []string{"es_messages_", "es_outbox_"} {
			if strings.HasPrefix(line, name) {
				fmt.Print(line)
			}
		}
	}

	summary := middleware.NewSummary(middleware.SummaryConfig{Logger: logger, Interval: time.Minute})
	program := es.NewGroup("shop", summary) // with the router, the processor and the server
	if err := program.Start(ctx); err != nil {
		return err
	}
	return program.Stop(ctx)
}
