package howto_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func Example_useMiddleware() {
	run(useMiddleware)
	// Output:
	// handled at attempt 2
	// counted: 1 done, 1 to be tried again
	// the circuit is closed
}

// onlyFor is middleware of our own: it hands a handler the messages of one tenant, and skips the others.
func onlyFor(tenant string) es.Middleware {
	return func(next es.Handler) es.Handler {
		return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
			if d.Metadata["tenant"] != tenant {
				return nil, es.Skip(fmt.Errorf("it is not for tenant %q", tenant))
			}
			return next.Handle(ctx, d)
		})
	}
}

func useMiddleware(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	logger := slog.New(slog.DiscardHandler)
	handled := make(chan int, 1)
	handler := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if d.Attempt == 1 {
			panic("the first time always fails")
		}
		handled <- d.Attempt
		return nil, nil
	})

	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToOutbox(backend.Outbox())})
	if err != nil {
		return err
	}

	var counters middleware.Counters
	err = r.Use(
		middleware.Correlation(middleware.CorrelationConfig{Metadata: append(middleware.TraceContext(), "tenant")}),
		middleware.Logging(middleware.LoggingConfig{Logger: logger}),
		middleware.Metrics(middleware.MetricsConfig{Recorder: &counters}),
		middleware.Retry(middleware.RetryConfig{Attempts: 5, Backoff: middleware.Backoff{Base: 10 * time.Millisecond}}),
		middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{Lease: time.Minute}),
		middleware.Timeout(middleware.TimeoutConfig{Limit: 10 * time.Second}),
		middleware.Recover(middleware.RecoverConfig{}),
	)
	if err != nil {
		return err
	}

	carrier := middleware.NewBreaker(middleware.BreakerConfig{
		Failures: 5, Pause: 10 * time.Second,
		OnChange: func(c middleware.BreakerChange) {
			logger.Warn("the circuit of the carrier has changed", "from", c.From, "to", c.To, "error", c.Err)
		},
	})
	shipping := []es.Middleware{
		middleware.Throttle(middleware.ThrottleConfig{Rate: 50}), // what the carrier takes of us in a second
		carrier.Middleware(),
	}
	err = r.Route("order", handler, router.Options{
		Name:       "billing",
		Middleware: append(shipping, onlyFor("acme")),
	})
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}

	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))
	placed.Metadata = map[string]string{"tenant": "acme"}
	if err := broker.Publish(ctx, es.ToCategory(placed)...); err != nil {
		return err
	}
	fmt.Println("handled at attempt", <-handled)
	if err := r.Stop(ctx); err != nil {
		return err
	}

	outcomes := map[es.Verdict]int64{}
	for _, count := range counters.Counts() {
		outcomes[count.Outcome] += count.Messages
	}
	fmt.Printf("counted: %d done, %d to be tried again\n", outcomes[es.VerdictDone], outcomes[es.VerdictRetry])
	fmt.Println("the circuit is", carrier.State())
	return nil
}
