package processor_test

import (
	"context"
	"fmt"

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
