package howto_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func Example_configure() {
	run(configure)
	// Output:
	// shop dead 1s
	// environment: invalid ES_POLL_INTERVAL: it is "soon"; it takes a duration of 1ms or more, such as 500ms or 2s
}

func configure(context.Context) error {
	lookup := map[string]string{"ES_NAMESPACE": "shop"}
	config, err := es.ConfigFromEnv(func(key string) (string, bool) {
		value, ok := lookup[key]
		return value, ok
	})
	if err != nil {
		return err
	}
	fmt.Println(config.Namespace, config.DeadStream, config.PollInterval)

	_, err = es.ConfigFromEnv(func(key string) (string, bool) { return "soon", key == "ES_POLL_INTERVAL" })
	fmt.Println(err)
	return nil
}

func Example_configuredParts() {
	run(configuredParts)
	// Output:
}

func configuredParts(context.Context) error {
	config, err := es.ConfigFromEnv(os.LookupEnv)
	if err != nil {
		return err
	}
	logger := es.NewLogger(os.Stderr, config)

	backend, err := memory.Open(memory.Config{Namespace: config.Namespace, Logger: logger})
	if err != nil {
		return err
	}
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{Namespace: config.Namespace, Logger: logger})
	if err != nil {
		return err
	}
	defer broker.Close()

	p, err := processor.NewAtLeastOnce(processor.Config{
		Outbox: backend.Outbox(), Events: backend.Events(), Publisher: broker,
		DeadStream: config.DeadStream, PollInterval: config.PollInterval, Logger: logger,
	})
	if err != nil {
		return err
	}
	r, err := router.New(router.Config{
		Subscriber: broker, Emit: router.ToOutbox(backend.Outbox()),
		DeadStream: config.DeadStream, Logger: logger,
	})
	if err != nil {
		return err
	}

	if !config.NoMetrics {
		var counters middleware.Counters
		err = r.Use(middleware.Metrics(middleware.MetricsConfig{Recorder: &counters}))
	}
	if err != nil {
		return err
	}

	config.LogLevel = slog.LevelError
	program := es.NewGroup("shop", p, r)
	es.NewLogger(os.Stderr, config).Info("assembled", "program", program.Name())
	return nil
}
