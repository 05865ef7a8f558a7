package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// A handler fails once, is tried again, and what it returns is published to the next route.
func Example() {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker, Emit: router.ToPublisher(broker)})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	ship := func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if d.Attempt == 1 {
			return nil, errors.New("the carrier does not answer")
		}
		fmt.Printf("attempt %d: %s of %s\n", d.Attempt, d.Name, d.Stream)
		return []*es.Message{es.NewMessage("parcel-1", "Shipped", []byte(`{}`))}, nil
	}
	track := func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		fmt.Printf("%s of %s\n", d.Name, d.Stream)
		cancel() // enough for an example
		return nil, nil
	}
	err = errors.Join(
		r.Use(middleware.Retry(middleware.RetryConfig{}), middleware.Recover(middleware.RecoverConfig{})),
		r.Route("order", es.HandlerFunc(ship), router.Options{Name: "shipping"}),
		r.Route("parcel", es.HandlerFunc(track), router.Options{Name: "tracking"}),
		broker.Publish(ctx, es.ToCategory(es.NewMessage("order-7", "Ordered", []byte(`{}`)))...),
		r.Run(ctx),
	)
	fmt.Println(err)
	// Output:
	// attempt 2: Ordered of order-7
	// Shipped of parcel-1
	// <nil>
}

// What cannot be handled goes to the dead stream, where a route of its own can look at it.
func Example_deadLetters() {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToPublisher(broker)})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	refuse := func(context.Context, *es.Delivery) ([]*es.Message, error) {
		return nil, es.DeadLetter(errors.New("this order makes no sense"))
	}
	bury := func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		var letter es.DeadLetterRecord
		if err := json.Unmarshal(d.Data, &letter); err != nil {
			return nil, err
		}
		fmt.Printf("%s failed in %s: %s\n", letter.Original.Name, letter.Handler, letter.Error)
		cancel()
		return nil, nil
	}
	err = errors.Join(
		r.Route("order", es.HandlerFunc(refuse), router.Options{Name: "shipping"}),
		r.Route(router.DefaultDeadStream, es.HandlerFunc(bury), router.Options{Name: "inspection"}),
		broker.Publish(ctx, es.ToCategory(es.NewMessage("order-7", "Ordered", []byte(`{}`)))...),
		r.Run(ctx),
	)
	fmt.Println(err)
	// Output:
	// Ordered failed in shipping: this order makes no sense
	// <nil>
}
