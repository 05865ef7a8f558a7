package estest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// PartsHarness is a harness of [RunRuntime] that says what programs are made of. A harness that is none gets the parts of the toolkit.
type PartsHarness interface {
	Harness[es.Backend]
	// Parts is called once for each line. What is nil is the toolkit's own.
	Parts(t testing.TB) Parts
}

// Parts is what the lines of [RunRuntime] make programs of. A field that is nil is the toolkit's own part. Who has written another
// broker, router, processor or middleware puts it here and runs the same lines on it.
type Parts struct {
	// Broker opens the broker of a program, on its backend; [EventLog] by default. Programs of one line whose backends are
	// handles to one storage share what is published. lease is how long what somebody has who died stays lost to the others; 0 is
	// for a broker that is not to lose anything because a machine stands still.
	Broker func(t testing.TB, backend es.Backend, lease time.Duration) Broker
	// Router makes a router; router.New by default.
	Router func(c router.Config) (Router, error)
	// Emit sends what handlers return, and the dead letters, by the outbox; router.ToOutbox by default.
	Emit func(outbox es.Outbox) router.Emitter

	// AtLeastOnce, AtMostOnce and Batch make processors; those of package processor by default.
	AtLeastOnce func(c processor.Config) (Processor, error)
	AtMostOnce  func(c processor.Config) (Processor, error)
	Batch       func(c processor.Config, f processor.Flush) (Processor, error)

	// The middleware; that of package middleware by default.
	Retry       func(c middleware.RetryConfig) es.Middleware
	Dedupe      func(store es.Dedupe, c middleware.DedupeConfig) es.Middleware
	Recover     func(c middleware.RecoverConfig) es.Middleware
	Timeout     func(c middleware.TimeoutConfig) es.Middleware
	Throttle    func(c middleware.ThrottleConfig) es.Middleware
	Breaker     func(c middleware.BreakerConfig) es.Middleware
	Metrics     func(c middleware.MetricsConfig) es.Middleware
	Logging     func(c middleware.LoggingConfig) es.Middleware
	Correlation func(c middleware.CorrelationConfig) es.Middleware
	DeadLetter  func(c middleware.DeadLetterConfig) es.Middleware

	// DeadLetters opens the dead letters of a program; deadletter.New by default.
	DeadLetters func(c deadletter.Config) (DeadLetters, error)
	// Commands makes a handler of commands; es.NewCommandHandler by default.
	Commands func(c es.CommandConfig, decide es.Decide) (Commands, error)
	// Waiter waits for a projection; es.WaitForProgress by default.
	Waiter func(models es.ReadModels, projection string) es.Waiter

	// Serve runs a program that has a web server, Health tells how its components are, and Problem tells a client of an error;
	// eshttp.Run, eshttp.Health and eshttp.Error by default.
	Serve   func(ctx context.Context, c eshttp.Config) error
	Health  func(components ...es.Component) http.Handler
	Problem func(w http.ResponseWriter, r *http.Request, err error)
}

// Broker is a broker as a program has it open.
type Broker struct {
	PubSub
	// Log: the broker's messages are the events of the store, so that what is appended is published, and processors publish nothing.
	Log bool
}

// Router is what [RunRuntime] asks of a router; [router.Router] has it.
type Router interface {
	es.Component
	Use(middleware ...es.Middleware) error
	Route(topic string, handler es.Handler, o router.Options) error
	Stats() []router.Stats
}

// Processor is what [RunRuntime] asks of a processor; those of package processor have it.
type Processor interface {
	es.Component
	Stats(ctx context.Context) (processor.Stats, error)
}

// DeadLetters is what [RunRuntime] asks of those who look after dead letters; [deadletter.Queue] has it.
type DeadLetters interface {
	Get(ctx context.Context, id uuid.UUID) (deadletter.Letter, error)
	Count(ctx context.Context, f deadletter.Filter) (int, error)
	Discard(ctx context.Context, ids ...uuid.UUID) error
	Replay(ctx context.Context, ids ...uuid.UUID) error
	ReplayAll(ctx context.Context, f deadletter.Filter) (int, error)
}

// Commands is what [RunRuntime] asks of a handler of commands; [es.CommandHandler] has it.
type Commands interface {
	es.Handler
	Do(ctx context.Context, command *es.Message) (es.CommandResult, error)
}

// EventLog is the broker that [RunRuntime] takes by default: package eventlog on the event store of the backend.
func EventLog(t testing.TB, backend es.Backend, lease time.Duration) Broker {
	t.Helper()
	const quick = 50 * time.Millisecond // until a program that comes later has its share of the partitions
	c := eventlog.Config{Lease: lease, Rebalance: quick}
	if lease > 0 {
		c.Rebalance = min(quick, lease/4)
	}
	log, err := eventlog.New(backend, c)
	if err != nil {
		t.Fatalf("open the event log as a broker: %v", err)
	}
	return Broker{PubSub: log, Log: true}
}

// fill sets a part that is not there.
func fill[F any](part *F, missing bool, own F) {
	if missing {
		*part = own
	}
}

func (p Parts) withDefaults() Parts {
	fill(&p.Broker, p.Broker == nil, EventLog)
	fill(&p.Router, p.Router == nil, func(c router.Config) (Router, error) { return router.New(c) })
	fill(&p.Emit, p.Emit == nil, router.ToOutbox)
	fill(&p.AtLeastOnce, p.AtLeastOnce == nil, func(c processor.Config) (Processor, error) { return processor.NewAtLeastOnce(c) })
	fill(&p.AtMostOnce, p.AtMostOnce == nil, func(c processor.Config) (Processor, error) { return processor.NewAtMostOnce(c) })
	fill(&p.Batch, p.Batch == nil, func(c processor.Config, f processor.Flush) (Processor, error) { return processor.NewBatch(c, f) })
	fill(&p.Retry, p.Retry == nil, middleware.Retry)
	fill(&p.Dedupe, p.Dedupe == nil, middleware.Dedupe)
	fill(&p.Recover, p.Recover == nil, middleware.Recover)
	fill(&p.Timeout, p.Timeout == nil, middleware.Timeout)
	fill(&p.Throttle, p.Throttle == nil, middleware.Throttle)
	fill(&p.Breaker, p.Breaker == nil, middleware.CircuitBreaker)
	fill(&p.Metrics, p.Metrics == nil, middleware.Metrics)
	fill(&p.Logging, p.Logging == nil, middleware.Logging)
	fill(&p.Correlation, p.Correlation == nil, middleware.Correlation)
	fill(&p.DeadLetter, p.DeadLetter == nil, middleware.DeadLetter)
	fill(&p.DeadLetters, p.DeadLetters == nil, func(c deadletter.Config) (DeadLetters, error) { return deadletter.New(c) })
	fill(&p.Commands, p.Commands == nil, func(c es.CommandConfig, decide es.Decide) (Commands, error) {
		return es.NewCommandHandler(c, decide)
	})
	fill(&p.Waiter, p.Waiter == nil, es.WaitForProgress)
	fill(&p.Serve, p.Serve == nil, eshttp.Run)
	fill(&p.Health, p.Health == nil, eshttp.Health)
	fill(&p.Problem, p.Problem == nil, eshttp.Error)
	return p
}
