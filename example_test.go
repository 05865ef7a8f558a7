package eventsourcing_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// Append says which version it expects: of two who have read the same, one comes too late and is told.
func ExampleAppendTo() {
	ctx, backend := context.Background(), memory.New()
	defer backend.Close()
	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":42}`))
	_, err := backend.Events().Append(ctx, es.AppendTo("order-7", es.NoStream, placed))
	fmt.Println(err)

	again := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":43}`))
	_, err = backend.Events().Append(ctx, es.AppendTo("order-7", es.NoStream, again))
	fmt.Println(errors.Is(err, es.ErrConflict), err)
	// Output:
	// <nil>
	// true conflict: stream "order-7" is at version 1, expected no stream
}

// A decision over tags is appended unless somebody has appended what it should have seen.
func ExampleReadForDecision() {
	ctx, backend := context.Background(), memory.New()
	defer backend.Close()
	register := func(stream string) error {
		taken := []es.Criterion{{Names: []string{"UserRegistered"}, Tags: []string{"email:ann@example.com"}}}
		users := 0
		unless, err := es.ReadForDecision(ctx, backend.Events(), taken, func(*es.Message) error { users++; return nil })
		if err != nil {
			return err
		}
		if users > 0 {
			return errors.New("the address is taken")
		}
		m := es.NewMessage(stream, "UserRegistered", []byte(`{}`))
		m.Tags = []string{"email:ann@example.com"}
		a := es.AppendTo(stream, es.NoStream, m)
		a.Unless = []es.Condition{unless}
		_, err = backend.Events().Append(ctx, a)
		return err
	}
	fmt.Println(register("user-1"))
	fmt.Println(register("user-2"))
	// Output:
	// <nil>
	// the address is taken
}

// A dead stream is read like any other. The record has the original message in it, and who gave it up, and why.
func ExampleReadDeadLetters() {
	ctx, backend := context.Background(), memory.New()
	defer backend.Close()
	d := &es.Delivery{
		Message: es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":42}`)),
		Topic:   "order", Group: "billing", Attempt: 3,
	}
	dead, err := es.NewDeadLetter("dead", "billing", d, errors.New("there is no such customer")) // as a router does
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := backend.Events().Append(ctx, es.AppendTo("dead", es.Any, dead)); err != nil {
		fmt.Println(err)
		return
	}
	for letter, err := range es.ReadDeadLetters(ctx, backend.Events(), "dead") {
		if err != nil {
			fmt.Println(err)
			return
		}
		original := letter.Original.Message()
		fmt.Printf("%s of %s failed %d times in %s: %s\n", original.Name, original.Stream, letter.Attempts, letter.Handler, letter.Error)
	}
	// Output:
	// OrderPlaced of order-7 failed 3 times in billing: there is no such customer
}

// A model is a read model seen as values of a Go type. Whoever saves says which revision he has seen.
func ExampleModel() {
	type basket struct {
		Items []string `json:"items"`
	}
	ctx, backend := context.Background(), memory.New()
	defer backend.Close()
	baskets := es.NewModel[basket](backend.ReadModels(), "baskets")
	fmt.Println(baskets.Save(ctx, "ann", basket{Items: []string{"tea"}}, es.NoStream))

	b, err := baskets.Load(ctx, "ann")
	if err != nil {
		fmt.Println(err)
		return
	}
	b.Value.Items = append(b.Value.Items, "milk")
	fmt.Println(baskets.Save(ctx, b.Key, b.Value, es.Exactly(b.Revision)))
	fmt.Println(errors.Is(baskets.Save(ctx, b.Key, b.Value, es.Exactly(b.Revision)), es.ErrConflict)) // it was read before
	// Output:
	// <nil>
	// <nil>
	// true
}

// A group starts its parts in order, so that each can rely on those before it, and stops them in reverse.
func ExampleGroup() {
	var log journal
	store, server := newPart("store", &log), newPart("server", &log)
	program := es.NewGroup("shop", store, server)
	if err := program.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("health:", program.Health(context.Background()))
	fmt.Println("stop:", program.Stop(context.Background()))
	for _, line := range log.lines {
		fmt.Println(line)
	}
	// Output:
	// health: <nil>
	// stop: <nil>
	// start store
	// start server
	// stop server
	// stop store
}

// A chain of middleware can be used without a router. The first is outermost.
func ExampleChain() {
	named := func(name string) es.Middleware {
		return func(next es.Handler) es.Handler {
			return es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
				fmt.Println(name)
				return next.Handle(ctx, d)
			})
		}
	}
	ship := es.HandlerFunc(func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		fmt.Println("ship", d.Stream)
		return nil, nil
	})
	h := es.Chain(ship, named("outer"), named("inner"))
	_, err := h.Handle(context.Background(), &es.Delivery{Message: es.NewMessage("order-7", "OrderPlaced", nil), Attempt: 1})
	fmt.Println(err)
	// Output:
	// outer
	// inner
	// ship order-7
	// <nil>
}
