package workloads

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

const (
	barePipeline = "bare pipeline"
	wayBatch     = 256
	wayWindow    = 4096 // how many messages are on the way at most
)

func wholeWay() measure.Workload {
	return measure.Workload{
		Name:  "whole-way",
		Title: "the whole way: outbox → processor → event store → pub/sub → router",
		About: "Messages are enqueued in batches of 256, appended and published by an at-least-once processor, and routed through " +
			"correlation, retry, dedupe and recover to a handler. At most 4,096 are on the way. Each is handled once, in the order of " +
			"its stream, and the outbox is empty and the log complete at the end.",
		MostMessages: 500_000,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Run: wayOurs, How: "memory's backend and pub/sub with their defaults"},
			{
				Name: barePipeline, Run: wayBare,
				How: "a channel, a goroutine that appends copies to a slice, a second channel, and a call of the handler",
			},
		},
		Floors: []measure.Floor{
			{Against: barePipeline, Ratio: 0.1, Why: "half of what was measured when the line was drawn"},
		},
	}
}

// arrivals is the end of the way.
type arrivals struct {
	ledger *measure.Ledger
	window chan struct{} // has an element for each message on the way
}

func newArrivals(n int) *arrivals {
	return &arrivals{ledger: measure.NewLedger(n, streamCount), window: make(chan struct{}, wayWindow)}
}

func (a *arrivals) Handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	a.ledger.Take(numberOf(d.Data))
	<-a.window
	return nil, nil
}

// empty returns when nothing is on the way.
func (a *arrivals) empty() {
	for range cap(a.window) {
		a.window <- struct{}{}
	}
}

func wayOurs(ctx context.Context, n int) (measure.Result, error) {
	backend := memory.New()
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return measure.Result{}, err
	}
	defer broker.Close()
	forward, err := processor.NewAtLeastOnce(processor.Config{
		Outbox: backend.Outbox(), Events: backend.Events(), Publisher: broker,
	})
	if err != nil {
		return measure.Result{}, err
	}
	end := newArrivals(n)
	handle, err := wayRouter(backend, broker, end)
	if err != nil {
		return measure.Result{}, err
	}
	group := es.NewGroup("way", handle, forward)
	if err := group.Start(ctx); err != nil {
		return measure.Result{}, err
	}
	messages := newMessages(wayBatch)
	var watch measure.Stopwatch
	watch.Start()
	for at := 0; at < n; at += wayBatch {
		some := messages[:min(wayBatch, n-at)]
		for i, m := range some {
			end.window <- struct{}{}
			number(m, uint64(at+i))
		}
		if err := backend.Outbox().Enqueue(ctx, some...); err != nil {
			return measure.Result{}, err
		}
	}
	end.empty()
	watch.Stop()
	if err := group.Stop(ctx); err != nil {
		return measure.Result{}, err
	}
	return watch.Result(end.ledger.Close()), checkWay(ctx, backend, n)
}

func wayRouter(backend *memory.Backend, broker *memory.PubSub, end es.Handler) (*router.Router, error) {
	handle, err := router.New(router.Config{Subscriber: broker, Emit: router.ToOutbox(backend.Outbox())})
	if err != nil {
		return nil, err
	}
	err = handle.Use(
		middleware.Correlation(middleware.CorrelationConfig{}),
		middleware.Retry(middleware.RetryConfig{}),
		middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{}),
		middleware.Recover(middleware.RecoverConfig{}),
	)
	if err != nil {
		return nil, err
	}
	return handle, handle.Route(topic, end, router.Options{})
}

// checkWay looks at what is left when everything has arrived.
func checkWay(ctx context.Context, backend *memory.Backend, n int) error {
	stats, err := backend.Outbox().Stats(ctx)
	if err != nil {
		return err
	}
	if stats.Depth+stats.Dead > 0 {
		return fmt.Errorf("the outbox is left with %d messages and %d dead letters", stats.Depth, stats.Dead)
	}
	head, err := backend.Events().Head(ctx)
	if err != nil {
		return err
	}
	if head.Position != int64(n) {
		return fmt.Errorf("the log ends at %d and not at %d", head.Position, n)
	}
	return nil
}

func wayBare(ctx context.Context, n int) (measure.Result, error) {
	end := newArrivals(n)
	enqueued, published := make(chan []*es.Message, wayWindow/wayBatch), make(chan *es.Message, 1024)
	var log []*es.Message
	go func() {
		defer close(published)
		for batch := range enqueued {
			for _, m := range batch {
				kept := m.Clone()
				kept.Recorded = es.Timestamp(time.Now())
				log = append(log, kept)
				published <- kept
			}
		}
	}()
	done := make(chan error, 1)
	go func() {
		for m := range published {
			if _, err := end.Handle(ctx, &es.Delivery{Message: m}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	messages := newMessages(2 * wayWindow)
	var watch measure.Stopwatch
	watch.Start()
	for at := 0; at < n; at += wayBatch {
		some := messages[at%len(messages):][:min(wayBatch, n-at)]
		for i, m := range some {
			end.window <- struct{}{}
			number(m, uint64(at+i))
		}
		enqueued <- some
	}
	close(enqueued)
	err := <-done
	watch.Stop()
	return watch.Result(end.ledger.Close()), err
}
