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

type itemAdded struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
}

type itemRemoved struct {
	SKU string `json:"sku"`
}

// Handlers of Go values, several on one route. What no case takes is skipped.
func ExampleOn() {
	types := es.NewTypes()
	es.Register[itemAdded](types, "ItemAdded")
	es.Register[itemRemoved](types, "ItemRemoved")
	handler := router.Switch(
		router.On(types, func(_ context.Context, e itemAdded, _ *es.Delivery) ([]*es.Message, error) {
			fmt.Println("got", e.Count, "of", e.SKU)
			return nil, nil
		}),
		router.On(types, func(_ context.Context, e itemRemoved, d *es.Delivery) ([]*es.Message, error) {
			fmt.Println("lost", e.SKU, "at attempt", d.Attempt)
			return nil, nil
		}),
	)

	// A router calls it; here we do.
	for _, event := range []any{itemAdded{SKU: "A1", Count: 3}, itemRemoved{SKU: "A1"}} {
		m, err := types.Encode("item-A1", event)
		if err != nil {
			panic(err)
		}
		if _, err := handler.Handle(context.Background(), &es.Delivery{Message: m, Attempt: 1}); err != nil {
			panic(err)
		}
	}
	// Output:
	// got 3 of A1
	// lost A1 at attempt 1
}

// A route is paused and goes on later; its messages wait, here or in other processes of the group.
func ExampleRouter_Pause() {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		panic(err)
	}
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker})
	if err != nil {
		panic(err)
	}
	ctx, handled := context.Background(), make(chan string)
	handler := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		handled <- d.Name
		return nil, nil
	})
	err = errors.Join(
		r.Route("order", handler, router.Options{Name: "mailer"}),
		r.Start(ctx),
		r.Pause("order", "mailer"),
		broker.Publish(ctx, es.ToCategory(es.NewMessage("order-7", "Ordered", []byte(`{}`)))...),
	)
	fmt.Println(r.Stats()[0].State, err)
	fmt.Println(r.Resume(ctx, "order", "mailer"))
	fmt.Println(<-handled, r.Stats()[0].State)
	fmt.Println(r.Stop(ctx))
	// Output:
	// paused <nil>
	// <nil>
	// Ordered running
	// <nil>
}
