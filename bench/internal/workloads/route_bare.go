package workloads

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// step hands one delivery to a handler.
type step func(ctx context.Context, h es.Handler, d *es.Delivery) error

// bareRoute is what a router does at the least: it takes deliveries from a subscription, calls a handler and acknowledges.
func bareRoute(newStep func() step) func(context.Context, int) (measure.Result, error) {
	return func(ctx context.Context, n int) (measure.Result, error) {
		source := newFeed(n)
		handler := counting{measure.NewLedger(n, streamCount)}
		batch := make([]es.Delivery, router.DefaultBatch)
		call := newStep()
		var watch measure.Stopwatch
		watch.Start()
		for source.acked < n {
			got, err := source.Receive(ctx, batch)
			if err != nil {
				return measure.Result{}, err
			}
			for i := range batch[:got] {
				if err := call(ctx, handler, &batch[i]); err != nil {
					return measure.Result{}, err
				}
			}
			if err := source.Ack(ctx, batch[:got]); err != nil {
				return measure.Result{}, err
			}
		}
		watch.Stop()
		return watch.Result(handler.ledger.Close()), nil
	}
}

func handleBare(ctx context.Context, h es.Handler, d *es.Delivery) error {
	_, err := h.Handle(ctx, d)
	return err
}

// bareChain is the least that the four pieces of middleware have to do: it remembers the last 64,000 IDs, and survives a panic.
type bareChain struct {
	mu   sync.Mutex
	seen map[uuid.UUID]struct{}
	ring []uuid.UUID
	at   int
}

func newBareChain() step {
	const remembered = 64_000
	c := &bareChain{seen: make(map[uuid.UUID]struct{}, remembered), ring: make([]uuid.UUID, remembered)}
	return c.step
}

func (c *bareChain) step(ctx context.Context, h es.Handler, d *es.Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	if !c.remember(d.ID) {
		return nil
	}
	return handleBare(ctx, h, d)
}

func (c *bareChain) remember(id uuid.UUID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.seen[id]; twice {
		return false
	}
	delete(c.seen, c.ring[c.at])
	c.seen[id] = struct{}{}
	c.ring[c.at] = id
	c.at = (c.at + 1) % len(c.ring)
	return true
}
