package howto_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_publishAndSubscribe() {
	run(publishAndSubscribe)
	// Output:
	// billing: OrderPlaced of order-7, attempt 1
	// billing: OrderPaid of order-7, attempt 1
	// billing: OrderPlaced of order-8, attempt 1
	// billing again: OrderPaid of order-7, attempt 2
	// billing again: OrderPlaced of order-8, attempt 1
	// shipping has 3 of its own
}

func publishAndSubscribe(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()

	billing, err := broker.Subscribe(ctx, "order", es.SubscribeOptions{Group: "billing"})
	if err != nil {
		return err
	}
	defer billing.Close()

	shipping, err := broker.Subscribe(ctx, "order", es.SubscribeOptions{Group: "shipping"})
	if err != nil {
		return err
	}
	defer shipping.Close()

	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))
	paid := es.NewMessage("order-7", "OrderPaid", []byte(`{}`))
	other := es.NewMessage("order-8", "OrderPlaced", []byte(`{}`))
	if err := broker.Publish(ctx, es.ToCategory(placed, paid, other)...); err != nil {
		return err
	}

	ds := make([]es.Delivery, 16)
	n, err := billing.Receive(ctx, ds)
	if err != nil {
		return err
	}
	for _, d := range ds[:n] {
		fmt.Printf("billing: %s of %s, attempt %d\n", d.Name, d.Stream, d.Attempt)
	}

	if err := billing.Ack(ctx, ds[:1]); err != nil { // handled
		return err
	}
	if err := billing.Nack(ctx, ds[1:2], 10*time.Millisecond); err != nil { // failed: again in 10 ms
		return err
	}
	if err := billing.Release(ctx, ds[2:3]); err != nil { // not handled, and no failure either
		return err
	}

	var again []es.Delivery
	for len(again) < 2 {
		n, err := billing.Receive(ctx, ds)
		if err != nil {
			return err
		}
		again = append(again, ds[:n]...)
	}
	for _, d := range inOrder(again) {
		fmt.Printf("billing again: %s of %s, attempt %d\n", d.Name, d.Stream, d.Attempt)
	}
	if err := billing.Ack(ctx, again); err != nil {
		return err
	}

	n, err = shipping.Receive(ctx, ds)
	if err != nil {
		return err
	}
	fmt.Println("shipping has", n, "of its own")
	return shipping.Ack(ctx, ds[:n])
}

// inOrder puts two deliveries of two streams, which may come in any order, into that of their streams' names.
func inOrder(ds []es.Delivery) []es.Delivery {
	if ds[0].Stream > ds[1].Stream {
		ds[0], ds[1] = ds[1], ds[0]
	}
	return ds
}

func Example_orderByKey() {
	run(orderByKey)
	// Output:
	// customer Ann has an order; customer Bob has an order
	// customer Ann has another
}

func orderByKey(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()

	sub, err := broker.Subscribe(ctx, "order", es.SubscribeOptions{
		Group: "mailing",
		Key:   func(m *es.Message) string { return m.Metadata["customer"] },
	})
	if err != nil {
		return err
	}

	first, second := orderOf("Ann", "order-1"), orderOf("Bob", "order-2")
	if err := broker.Publish(ctx, es.ToCategory(first, second)...); err != nil {
		return err
	}
	ds := make([]es.Delivery, 2)
	n, err := sub.Receive(ctx, ds)
	if err != nil || n < 2 {
		return fmt.Errorf("received %d of 2: %w", n, err)
	}
	fmt.Printf("customer %s has an order; customer %s has an order\n", ds[0].Metadata["customer"], ds[1].Metadata["customer"])

	third := orderOf("Ann", "order-3") // waits until Ann's first is answered
	if err := broker.Publish(ctx, es.ToCategory(third)...); err != nil {
		return err
	}
	if err := sub.Ack(ctx, ds); err != nil {
		return err
	}
	n, err = sub.Receive(ctx, ds)
	if err != nil {
		return err
	}
	fmt.Println("customer", ds[0].Metadata["customer"], "has another")
	return sub.Ack(ctx, ds[:n])
}

func orderOf(customer, stream string) *es.Message {
	m := es.NewMessage(stream, "OrderPlaced", []byte(`{}`))
	m.Metadata = map[string]string{"customer": customer}
	return m
}

func Example_boundsAndOverflow() {
	run(boundsAndOverflow)
	// Output:
	// taken: true, taken: true, taken: false
}

func boundsAndOverflow(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{
		Buffer:       2,                   // waiting for each group
		BacklogLimit: 100,                 // kept for a topic that nobody has subscribed to
		Overflow:     memory.OverflowFail, // or OverflowBlock, the default, or OverflowEvictOldest
	})
	if err != nil {
		return err
	}
	defer broker.Close()
	if _, err := broker.Subscribe(ctx, "order", es.SubscribeOptions{Group: "slow"}); err != nil {
		return err
	}

	err = broker.Publish(ctx, es.ToCategory(
		es.NewMessage("order-1", "OrderPlaced", []byte(`{}`)),
		es.NewMessage("order-2", "OrderPlaced", []byte(`{}`)),
		es.NewMessage("order-3", "OrderPlaced", []byte(`{}`)),
	)...)
	if errors.Is(err, es.ErrFull) { // es.Of tells the outcome of each message
		fmt.Printf("taken: %t, taken: %t, taken: %t\n", es.Of(err, 0) == nil, es.Of(err, 1) == nil, es.Of(err, 2) == nil)
		return nil
	}
	return err
}
