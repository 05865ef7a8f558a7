package processor_test

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// printer is a publisher that prints what it is told, and says when it has.
type printer chan struct{}

func (p printer) Publish(_ context.Context, pubs ...es.Publication) error {
	for _, pub := range pubs {
		fmt.Printf("%s: %s, version %d of %s\n", pub.Topic, pub.Message.Name, pub.Message.Version, pub.Message.Stream)
	}
	p <- struct{}{}
	return nil
}

func ExampleNewAtLeastOnce() {
	ctx := context.Background()
	backend := memory.New()
	published := make(printer)
	p, err := processor.NewAtLeastOnce(processor.Config{
		Outbox:    backend.Outbox(),
		Events:    backend.Events(),
		Publisher: published,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := p.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	err = backend.Outbox().Enqueue(ctx, es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":42}`)))
	fmt.Println("enqueued:", err == nil)
	<-published
	fmt.Println("stopped:", p.Stop(ctx) == nil)
	// Unordered output:
	// enqueued: true
	// order: OrderPlaced, version 1 of order-7
	// stopped: true
}

func ExampleNewAtMostOnce() {
	ctx := context.Background()
	backend := memory.New()
	published := make(printer)
	p, err := processor.NewAtMostOnce(processor.Config{
		Outbox:    backend.Outbox(),
		Publisher: published, // and no Events: positions of vehicles are not kept
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := p.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	err = backend.Outbox().Enqueue(ctx, es.NewMessage("vehicle-3", "PositionMeasured", []byte(`{"lat":52.1,"lon":13.4}`)))
	fmt.Println("enqueued:", err == nil)
	<-published
	fmt.Println("stopped:", p.Stop(ctx) == nil)
	// Unordered output:
	// enqueued: true
	// vehicle: PositionMeasured, version 0 of vehicle-3
	// stopped: true
}

func ExampleNewBatch() {
	ctx := context.Background()
	backend := memory.New()
	published := make(printer)
	p, err := processor.NewBatch(processor.Config{
		Outbox:    backend.Outbox(),
		Events:    backend.Events(),
		Publisher: published,
	}, processor.Flush{Size: 2, Interval: 10 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = backend.Outbox().Enqueue(ctx,
		es.NewMessage("meter-5", "ReadingTaken", []byte(`{"kWh":7}`)),
		es.NewMessage("meter-5", "ReadingTaken", []byte(`{"kWh":8}`)),
		es.NewMessage("meter-5", "ReadingTaken", []byte(`{"kWh":9}`)),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := p.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	<-published // a full batch
	<-published // and what there was after the interval
	fmt.Println("stopped:", p.Stop(ctx) == nil)
	// Output:
	// meter: ReadingTaken, version 1 of meter-5
	// meter: ReadingTaken, version 2 of meter-5
	// meter: ReadingTaken, version 3 of meter-5
	// stopped: true
}
