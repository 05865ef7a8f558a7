package eventlog_test

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example() {
	ctx := context.Background()
	backend := memory.New()
	defer backend.Close()
	log, err := eventlog.New(backend, eventlog.Config{})
	if err != nil {
		panic(err)
	}
	defer log.Close()

	sub, err := log.Subscribe(ctx, "order", es.SubscribeOptions{Group: "billing"})
	if err != nil {
		panic(err)
	}
	// What anybody appends comes to the group: there is nothing to publish.
	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total": 12}`))
	if _, err := backend.Events().Append(ctx, es.AppendTo("order-7", es.NoStream, placed)); err != nil {
		panic(err)
	}
	batch := make([]es.Delivery, 64)
	n, err := sub.Receive(ctx, batch)
	if err != nil {
		panic(err)
	}
	for _, d := range batch[:n] {
		fmt.Println(d.Topic, d.Group, d.Name, "attempt", d.Attempt)
	}
	if err := sub.Ack(ctx, batch[:n]); err != nil {
		panic(err)
	}
	// Output: order billing OrderPlaced attempt 1
}

func ExampleLog_Only() {
	ctx := context.Background()
	log, err := eventlog.New(memory.New(), eventlog.Config{})
	if err != nil {
		panic(err)
	}
	defer log.Close()
	vip, err := log.Only(es.Criterion{Tags: []string{"vip"}})
	if err != nil {
		panic(err)
	}
	sub, err := vip.Subscribe(ctx, "order", es.SubscribeOptions{})
	if err != nil {
		panic(err)
	}
	one, two := es.NewMessage("order-1", "OrderPlaced", nil), es.NewMessage("order-2", "OrderPlaced", nil)
	two.Tags = []string{"vip"}
	if err := log.Publish(ctx, es.ToCategory(one, two)...); err != nil {
		panic(err)
	}
	batch := make([]es.Delivery, 64)
	n, err := sub.Receive(ctx, batch)
	if err != nil {
		panic(err)
	}
	fmt.Println(n, batch[0].Stream)
	// Output: 1 order-2
}
