package middleware_test

import (
	"context"
	"errors"
	"fmt"
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
