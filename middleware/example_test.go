package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

func delivery(attempt int) *es.Delivery {
	return &es.Delivery{
		Message: es.NewMessage("order-7", "Ordered", []byte(`{"item":"tea"}`)), Topic: "order", Group: "shipping", Attempt: attempt,
	}
}

func ExampleRetry() {
	retry := middleware.Retry(middleware.RetryConfig{
		Attempts: 3,
		Backoff:  middleware.Backoff{Base: time.Second, Random: func() float64 { return 0.5 }},
	})
	h := retry(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		return nil, errors.New("the carrier does not answer")
	}))
	for attempt := 1; attempt <= 3; attempt++ {
		_, err := h.Handle(context.Background(), delivery(attempt))
		verdict, delay := es.Judge(err)
		fmt.Println(verdict, delay)
	}
	// Output:
	// retry 500ms
	// retry 1s
	// dead 0s
}

func ExampleDedupe() {
	backend := memory.New()
	defer backend.Close()
	dedupe := middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{})
	failures := 1
	h := dedupe(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		if failures--; failures >= 0 {
			return nil, errors.New("the carrier does not answer")
		}
		fmt.Println("shipped")
		return nil, nil
	}))
	d := delivery(1)
	for range 3 { // a message that failed is handled again, and one that was handled is not
		_, err := h.Handle(context.Background(), d)
		verdict, _ := es.Judge(err)
		fmt.Println(verdict)
	}
	// Output:
	// failed
	// shipped
	// done
	// skipped
}

func ExampleRecover() {
	h := middleware.Recover(middleware.RecoverConfig{})(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		panic("no such carrier")
	}))
	_, err := h.Handle(context.Background(), delivery(1))
	fmt.Println(err)
	// Output: panic: no such carrier
}

func ExampleMetrics() {
	counters := &middleware.Counters{}
	metrics := middleware.Metrics(middleware.MetricsConfig{Recorder: counters})
	h := metrics(es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if d.Attempt > 1 {
			return nil, es.Skip(nil)
		}
		return nil, nil
	}))
	for _, attempt := range []int{1, 1, 2} {
		_, _ = h.Handle(context.Background(), delivery(attempt))
	}
	for _, c := range counters.Counts() {
		fmt.Println(c.Topic, c.Group, c.Outcome, c.Messages)
	}
	// Output:
	// order shipping done 2
	// order shipping skipped 1
}

func ExampleLogging() {
	logger := es.NewLogger(os.Stdout, es.Config{}) // text, from info on: what is handled is not logged
	h := middleware.Logging(middleware.LoggingConfig{Logger: logger})(es.HandlerFunc(
		func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil }))
	_, err := h.Handle(context.Background(), delivery(1))
	fmt.Println(err)
	// Output: <nil>
}

func ExampleCorrelation() {
	correlation := middleware.Correlation(middleware.CorrelationConfig{Metadata: []string{"tenant"}})
	h := correlation(es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
		paid := es.NewMessage("payment-1", "Paid", nil)
		es.Caused(ctx, paid) // for what is sent by hand; a router does it to what is returned
		fmt.Println(paid.CorrelationID == d.ID.String(), paid.CausationID == d.ID.String(), paid.Metadata)
		return nil, nil
	}))
	d := delivery(1)
	d.Metadata = map[string]string{"tenant": "acme", "agent": "browser"}
	_, _ = h.Handle(context.Background(), d)
	// Output: true true map[tenant:acme]
}

func ExampleTimeout() {
	timeout := middleware.Timeout(middleware.TimeoutConfig{Limit: time.Millisecond})
	h := timeout(es.HandlerFunc(func(ctx context.Context, _ *es.Delivery) ([]*es.Message, error) {
		<-ctx.Done() // the carrier does not answer
		return nil, ctx.Err()
	}))
	_, err := h.Handle(context.Background(), delivery(1))
	fmt.Println(err)
	fmt.Println(errors.Is(err, middleware.ErrTimeout))
	// Output:
	// the handler took too long: more than 1ms: context deadline exceeded
	// true
}

func ExampleThrottle() {
	throttle := middleware.Throttle(middleware.ThrottleConfig{
		Rate: 0.1, Burst: 2, // two at once, and then one in ten seconds
		Key: func(d *es.Delivery) string { return d.Metadata["tenant"] },
	})
	h := throttle(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil }))
	for _, tenant := range []string{"acme", "acme", "acme", "umbrella"} {
		d := delivery(1)
		d.Metadata = map[string]string{"tenant": tenant}
		_, err := h.Handle(context.Background(), d)
		verdict, delay := es.Judge(err)
		fmt.Println(tenant, verdict, delay.Round(time.Second))
	}
	// Output:
	// acme done 0s
	// acme done 0s
	// acme busy 10s
	// umbrella done 0s
}

func ExampleCircuitBreaker() {
	carrier := middleware.NewBreaker(middleware.BreakerConfig{ // shared by the routes that rely on the carrier
		Failures: 2, Wait: -1,
		OnChange: func(c middleware.BreakerChange) { fmt.Println("the circuit is", c.To) },
	})
	h := carrier.Middleware()(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		return nil, errors.New("the carrier does not answer")
	}))
	for range 3 {
		_, err := h.Handle(context.Background(), delivery(1))
		verdict, _ := es.Judge(err)
		fmt.Println(verdict)
	}
	fmt.Println(carrier.State())
	// Output:
	// failed
	// the circuit is open
	// failed
	// busy
	// open
}

func ExampleDeadLetter() {
	send := func(_ context.Context, letters []*es.Message) error { // as router.ToOutbox does
		fmt.Println(letters[0].Name, "in stream", letters[0].Stream)
		return nil
	}
	h := es.Chain(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		return nil, es.Invalidf("order", "has no address; a parcel has to go somewhere")
	}), middleware.DeadLetter(middleware.DeadLetterConfig{Send: send, Stream: "orders.dead"}), middleware.Retry(middleware.RetryConfig{}))
	_, err := h.Handle(context.Background(), delivery(1))
	verdict, _ := es.Judge(err)
	fmt.Println(verdict)
	// Output:
	// DeadLetter in stream orders.dead
	// skipped
}

func ExampleNewPrometheus() {
	backend := memory.New()
	defer backend.Close()
	prometheus, err := middleware.NewPrometheus(middleware.PrometheusConfig{
		Buckets: []time.Duration{time.Second},
		Gauges: []middleware.Gauge{{
			Name: "outbox_depth", Help: "Entries that wait to be handled.",
			Read: func(ctx context.Context, set func(float64, ...middleware.Label)) error {
				stats, err := backend.Outbox().Stats(ctx)
				set(float64(stats.Depth))
				return err
			},
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := prometheus.WriteTo(os.Stdout); err != nil {
		fmt.Println(err)
	}
	// Output:
	// # HELP es_messages_total Messages that were handled, by what became of them.
	// # TYPE es_messages_total counter
	// # HELP es_handling_seconds How long handlers took, by what became of the message.
	// # TYPE es_handling_seconds histogram
	// # HELP es_messages_in_flight Messages that are being handled.
	// # TYPE es_messages_in_flight gauge
	// # HELP es_outbox_depth Entries that wait to be handled.
	// # TYPE es_outbox_depth gauge
	// es_outbox_depth 0
	// # HELP es_gauge_failures_total How often a gauge could not be read.
	// # TYPE es_gauge_failures_total counter
	// es_gauge_failures_total{gauge="es_outbox_depth"} 0
}

func ExampleSummary() {
	text := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	summary := middleware.NewSummary(middleware.SummaryConfig{Logger: slog.New(text)})
	summary.Handled(middleware.Labels{Topic: "order", Group: "shipping"}, es.VerdictDone, time.Second) // as middleware.Metrics does
	summary.Log(context.Background())                                                                  // or at an interval, by Start
	// Output: level=INFO msg="messages handled" topic=order group=shipping outcome=done messages=1 average=1s longest=1s
}

func ExampleDuplicate() {
	duplicate := middleware.Duplicate(middleware.DuplicateConfig{Probability: 1})
	shipped := 0
	h := duplicate(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) {
		shipped++ // this handler is not idempotent
		return nil, nil
	}))
	_, _ = h.Handle(context.Background(), delivery(1))
	fmt.Println("shipped", shipped, "parcels for one order")
	// Output: shipped 2 parcels for one order
}

func ExampleRandomFailure() {
	chaos := middleware.RandomFailure(middleware.RandomFailureConfig{
		Chance: middleware.Chance{Random: func() float64 { return 0.4 }}, // a test that is to be repeated sets the Seed instead
		Before: 0.5,
	})
	h := chaos(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil }))
	_, err := h.Handle(context.Background(), delivery(1))
	fmt.Println(err)
	// Output: chaos: a failure made for a test
}

func ExampleDelay() {
	delay := middleware.Delay(middleware.DelayConfig{Chance: middleware.Chance{Seed: 7}, Longest: time.Hour})
	timeout := middleware.Timeout(middleware.TimeoutConfig{Limit: time.Millisecond})
	h := es.Chain(es.HandlerFunc(func(context.Context, *es.Delivery) ([]*es.Message, error) { return nil, nil }), timeout, delay)
	_, err := h.Handle(context.Background(), delivery(1))
	fmt.Println(errors.Is(err, middleware.ErrTimeout))
	// Output: true
}
