package howto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func Example_routeMessages() {
	run(routeMessages)
	// Output:
	// ParcelPacked of parcel-7, caused by the order: true
	// stopped: <nil>
}

func routeMessages(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	parcels := make(chan *es.Message, 1)

	r, err := router.New(router.Config{
		Subscriber: broker,
		Emit:       router.ToPublisher(broker), // what handlers return; router.ToOutbox makes it durable
	})
	if err != nil {
		return err
	}
	ship := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if d.Name != "OrderPlaced" {
			return nil, es.Skip(nil)
		}
		return []*es.Message{es.NewMessage("parcel-7", "ParcelPacked", []byte(`{}`))}, nil
	})
	if err := r.Route("order", ship, router.Options{Name: "shipping", Concurrency: 8}); err != nil {
		return err
	}
	track := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		parcels <- d.Message
		return nil, nil
	})
	if err := r.Route("parcel", track, router.Options{Name: "tracking"}); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}

	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{}`))
	if err := broker.Publish(ctx, es.ToCategory(placed)...); err != nil {
		return err
	}
	parcel := <-parcels
	caused := parcel.CausationID == placed.ID.String()
	fmt.Printf("%s of %s, caused by the order: %t\n", parcel.Name, parcel.Stream, caused)

	patience, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println("stopped:", r.Stop(patience))
	return nil
}

func Example_controlErrors() {
	run(controlErrors)
	// Output:
	// OrderViewed: attempt 1
	// OrderPlaced: attempt 1
	// OrderPlaced: attempt 2
	// OrderMangled: attempt 1
	// in the dead stream: OrderMangled, of group billing
}

var errNoInvoice = errors.New("the invoice is not there yet")

// bill tells the router by its error what is to become of a message.
func bill(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	fmt.Printf("%s: attempt %d\n", d.Name, d.Attempt)
	switch {
	case d.Name == "OrderViewed":
		return nil, es.Skip(nil) // done, although there was nothing to do
	case d.Name == "OrderPlaced" && d.Attempt == 1:
		return nil, es.RetryAfter(10*time.Millisecond, errNoInvoice) // come again then
	case d.Name == "OrderMangled":
		return nil, es.DeadLetter(errors.New("it has no total")) // never come again
	}
	return nil, nil
}

func controlErrors(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	dead, err := broker.Subscribe(ctx, "dead", es.SubscribeOptions{})
	if err != nil {
		return err
	}

	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToPublisher(broker)})
	if err != nil {
		return err
	}
	if err := r.Route("order", es.HandlerFunc(bill), router.Options{Name: "billing"}); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}

	for _, name := range []string{"OrderViewed", "OrderPlaced", "OrderMangled"} { // of one stream, and so in order
		m := es.NewMessage("order-7", name, []byte(`{}`))
		if err := broker.Publish(ctx, es.ToCategory(m)...); err != nil {
			return err
		}
	}

	ds := make([]es.Delivery, 1)
	if _, err := dead.Receive(ctx, ds); err != nil {
		return err
	}
	var letter es.DeadLetterRecord
	if err := json.Unmarshal(ds[0].Data, &letter); err != nil {
		return err
	}
	fmt.Printf("in the dead stream: %s, of group %s\n", letter.Original.Name, letter.Group)
	return errors.Join(dead.Ack(ctx, ds), r.Stop(ctx))
}

func Example_typedRoutes() {
	run(typedRoutes)
	// Output:
	// 3 of A1 came
	// A1 is gone
	// in the dead stream: no handler takes messages named "ItemPainted"
}

func typedRoutes(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	dead, err := broker.Subscribe(ctx, "dead", es.SubscribeOptions{})
	if err != nil {
		return err
	}
	r, err := router.New(router.Config{Subscriber: broker, DeadLetter: router.ToPublisher(broker)})
	if err != nil {
		return err
	}
	types := newTypes()

	stock := router.Switch(
		router.On(types, func(_ context.Context, e ItemAdded, _ *es.Delivery) ([]*es.Message, error) {
			fmt.Println(e.Count, "of", e.SKU, "came")
			return nil, nil
		}),
		router.On(types, func(_ context.Context, e ItemRemoved, _ *es.Delivery) ([]*es.Message, error) {
			fmt.Println(e.SKU, "is gone")
			return nil, nil
		}),
		router.DeadLetterOthers(),
	)
	if err := r.Route("item", stock, router.Options{Name: "stock"}); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}

	added, err := types.Encode("item-A1", ItemAdded{SKU: "A1", Count: 3})
	if err != nil {
		return err
	}
	removed, err := types.Encode("item-A1", ItemRemoved{SKU: "A1"})
	if err != nil {
		return err
	}
	painted := es.NewMessage("item-A1", "ItemPainted", []byte(`{}`))
	if err := broker.Publish(ctx, es.ToCategory(added, removed, painted)...); err != nil {
		return err
	}
	ds := make([]es.Delivery, 1)
	if _, err := dead.Receive(ctx, ds); err != nil {
		return err
	}
	var letter es.DeadLetterRecord
	if err := json.Unmarshal(ds[0].Data, &letter); err != nil {
		return err
	}
	fmt.Println("in the dead stream:", letter.Error)
	return errors.Join(dead.Ack(ctx, ds), r.Stop(ctx))
}

func Example_controlRoutes() {
	run(controlRoutes)
	// Output:
	// billing of order: paused, 0 running
	// billing of order: running, 0 running
	// billing of order: stopped, 0 running
	// healthy: true
}

func controlRoutes(ctx context.Context) error {
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return err
	}
	defer broker.Close()
	r, err := router.New(router.Config{Subscriber: broker})
	if err != nil {
		return err
	}
	if err := r.Route("order", es.HandlerFunc(bill), router.Options{Name: "billing"}); err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	show := func() {
		for _, s := range r.Stats() {
			fmt.Printf("%s of %s: %s, %d running\n", s.Name, s.Topic, s.State, s.Running)
		}
	}

	if err := r.Pause("order", "billing"); err != nil {
		return err
	}
	show()
	if err := r.Resume(ctx, "order", "billing"); err != nil {
		return err
	}
	show()
	if err := r.StopRoute(ctx, "order", "billing"); err != nil {
		return err
	}
	show()
	fmt.Println("healthy:", r.Health(ctx) == nil)
	return r.Stop(ctx)
}
