package workloads

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

const bareCall = "bare call"

func routerAlone() measure.Workload {
	return measure.Workload{
		Name:  "router",
		Title: "router without middleware",
		About: "A subscription that costs next to nothing feeds a router with one route, whose handler looks at the number of each " +
			"message. Each is handled once, in order, and acknowledged.",
		Contenders: append(
			[]measure.Contender{
				{Name: measure.Ours, Run: routing(nil), How: "router.New with one route and no middleware"},
			},
			append(
				watermillRouters(watermillChain{}),
				measure.Contender{
					Name: bareCall, Run: bareRoute(func() step { return handleBare }),
					How: "a loop over slices of deliveries that calls the handler",
				},
			)...,
		),
		MostAllocations: 0.05,
		Floors: []measure.Floor{
			{Against: watermillInOrder, Ratio: 15, Why: "the goal is 35 times Watermill's router, without allocations"},
		},
	}
}

func routerChain() measure.Workload {
	chain := func() []es.Middleware {
		return []es.Middleware{
			middleware.Correlation(middleware.CorrelationConfig{}),
			middleware.Retry(middleware.RetryConfig{}),
			middleware.Dedupe(memory.New().Dedupe(), middleware.DedupeConfig{}),
			middleware.Recover(middleware.RecoverConfig{}),
		}
	}
	return measure.Workload{
		Name:  "router-chain",
		Title: "router with recover, correlation, retry and dedupe by ID",
		About: "The same with four pieces of middleware, logging off. No message comes twice, so that each is reserved, handled and marked.",
		Contenders: append(
			[]measure.Contender{
				{Name: measure.Ours, Run: routing(chain), How: "Correlation, Retry, Dedupe with memory's store of 64,000 IDs a group, Recover"},
			},
			append(
				watermillRouters(watermillChain{fourOfThem: true}),
				measure.Contender{
					Name: bareCall, Run: bareRoute(newBareChain),
					How: "the loop, with a deferred recover, and a map of the last 64,000 IDs behind a mutex",
				},
			)...,
		),
		MostAllocations: 0.05,
		Floors: []measure.Floor{
			{Against: watermillInOrder, Ratio: 15, Why: "the goal is 35 times Watermill's router with its four, without allocations"},
		},
	}
}

// counting is a handler that enters each message in a ledger.
type counting struct{ ledger *measure.Ledger }

func (c counting) Handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	c.ledger.Take(numberOf(d.Data))
	return nil, nil
}

// routing runs a router of ours with the middleware that chain makes.
func routing(chain func() []es.Middleware) func(context.Context, int) (measure.Result, error) {
	return func(ctx context.Context, n int) (measure.Result, error) {
		source := newFeed(n)
		r, err := router.New(router.Config{Subscriber: source})
		if err != nil {
			return measure.Result{}, err
		}
		if chain != nil {
			if err := r.Use(chain()...); err != nil {
				return measure.Result{}, err
			}
		}
		handler := counting{measure.NewLedger(n, streamCount)}
		if err := r.Route(topic, handler, router.Options{}); err != nil {
			return measure.Result{}, err
		}
		var watch measure.Stopwatch
		watch.Start()
		if err := r.Start(ctx); err != nil {
			return measure.Result{}, err
		}
		select {
		case <-source.done:
		case <-ctx.Done():
			return measure.Result{}, fmt.Errorf("%w; %s", ctx.Err(), source)
		}
		watch.Stop()
		if err := r.Stop(ctx); err != nil {
			return measure.Result{}, err
		}
		if source.acked < n {
			return measure.Result{}, errUnanswered
		}
		return watch.Result(handler.ledger.Close()), nil
	}
}
