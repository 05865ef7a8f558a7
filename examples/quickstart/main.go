// Command quickstart stores events, reads them back, and has a handler told of them, all in memory.
package main

import (
	"context"
	"fmt"
	"log"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// ItemAdded happened to a cart.
type ItemAdded struct {
	Product string `json:"product"`
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	types := es.NewTypes()
	es.Register[ItemAdded](types, "ItemAdded")
	backend := memory.New()
	defer backend.Close()

	// Store two events of a cart that must be new.
	tea, err := types.Encode("cart-7", ItemAdded{Product: "tea"})
	check(err)
	milk, err := types.Encode("cart-7", ItemAdded{Product: "milk"})
	check(err)
	_, err = backend.Events().Append(ctx, es.AppendTo("cart-7", es.NoStream, tea, milk))
	check(err)

	// Bring what is published about carts to a handler.
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	check(err)
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker})
	check(err)
	check(r.Route("cart", es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		item, err := es.Decode[ItemAdded](types, d.Message)
		if err != nil {
			return nil, err
		}
		fmt.Printf("handled version %d of %s: %s\n", d.Version, d.Stream, item.Product)
		if d.Version == 2 {
			stop() // a service would go on
		}
		return nil, nil
	}), router.Options{}))

	// Read the cart back, and publish what happened to it.
	for m, err := range backend.Events().Read(ctx, es.Query{Stream: "cart-7"}) {
		check(err)
		fmt.Printf("read version %d of %s: %s\n", m.Version, m.Stream, m.Data)
		check(broker.Publish(ctx, es.ToCategory(m)...))
	}
	check(r.Run(ctx))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
