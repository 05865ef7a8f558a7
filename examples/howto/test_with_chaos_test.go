package howto_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func Example_testWithChaos() {
	run(testWithChaos)
	// Output: 100 orders, 100 parcels, each sent once
}

// carrier counts the parcels of each order.
type carrier struct {
	mu      sync.Mutex
	parcels map[string]int
	all     chan struct{} // closed when so many orders have one
	orders  int
}

func (c *carrier) Handle(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parcels[d.Stream]++
	if len(c.parcels) == c.orders && c.parcels[d.Stream] == 1 {
		close(c.all)
	}
	return nil, nil
}

func testWithChaos(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToOutbox(backend.Outbox())})
	if err != nil {
		return err
	}

	chance := middleware.Chance{Seed: 42}
	err = r.Use(
		middleware.Retry(middleware.RetryConfig{Attempts: -1, Backoff: middleware.Backoff{Base: time.Millisecond}}),
		middleware.RandomFailure(middleware.RandomFailureConfig{Chance: chance, After: 0.2}), // the acknowledgement gets lost
		middleware.Duplicate(middleware.DuplicateConfig{Chance: chance, Probability: 0.2}),
		middleware.Dedupe(backend.Dedupe(), middleware.DedupeConfig{}), // what is under test
		middleware.Delay(middleware.DelayConfig{Chance: chance, Longest: time.Millisecond}),
		middleware.RandomFailure(middleware.RandomFailureConfig{Chance: chance, Before: 0.2}), // the handler fails
	)
	if err != nil {
		return err
	}

	const orders = 100
	parcels := &carrier{parcels: map[string]int{}, all: make(chan struct{}), orders: orders}
	if err := r.Route("order", parcels, router.Options{Name: "shipping", Concurrency: 4}); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	for i := range orders {
		if err := broker.Publish(ctx, es.ToCategory(es.NewMessage(fmt.Sprintf("order-%d", i), "OrderPlaced", nil))...); err != nil {
			return err
		}
	}
	<-parcels.all
	if err := r.Stop(ctx); err != nil {
		return err
	}
	sent := 0
	for _, n := range parcels.parcels {
		sent += n
	}
	fmt.Printf("%d orders, %d parcels, each sent once\n", len(parcels.parcels), sent)
	return nil
}
