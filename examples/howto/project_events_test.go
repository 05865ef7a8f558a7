package howto_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

func Example_projectEvents() {
	run(projectEvents)
	// Output:
	// Ann has bought 2 items for 30
	// live at position 3 of 3, 0 behind
	// Ann, then Bob
}

func Example_parkEvents() {
	run(parkEvents)
	// Output:
	// buyer-Bob is parked at version 1: the price is missing; 2 events wait
	// still parked: the price is missing
	// Bob has bought 1 items for 7
}

func Example_projectUnderALease() {
	run(projectUnderALease)
	// Output:
	// first is live, second is standby
	// second is live
}

// ItemBought is an event of the stream of its buyer.
type ItemBought struct {
	Buyer string `json:"buyer"`
	Price int    `json:"price"`
}

// Buyer is what is looked up.
type Buyer struct {
	Items int `json:"items"`
	Spent int `json:"spent"`
}

var errNoPrice = errors.New("the price is missing")

// newBuyers makes the projection that keeps the buyers.
func newBuyers(backend es.Backend, types *es.Types, policy projection.Policy) (*projection.Projection, error) {
	buyers := projection.NewDocuments[Buyer]("buyers")
	return projection.New(projection.Config{
		Name:     "buyers",
		Events:   backend.Events(),
		Models:   backend.ReadModels(),
		Types:    types,
		Category: "buyer",
		OnError:  policy,
	}, projection.On(func(ctx context.Context, b *projection.Batch, e ItemBought, _ *es.Message) error {
		if e.Price == 0 {
			return errNoPrice
		}
		return buyers.In(b).Update(ctx, e.Buyer, func(buyer *Buyer) error {
			buyer.Items++
			buyer.Spent += e.Price
			return nil
		})
	}))
}

// newBuyerTypes returns the types that the buyers need.
func newBuyerTypes() *es.Types {
	types := es.NewTypes()
	es.Register[ItemBought](types, "ItemBought")
	return types
}

// buy appends an event, and returns a checkpoint to wait for.
func buy(ctx context.Context, backend es.Backend, types *es.Types, buyer string, price int) (es.Checkpoint, error) {
	a, err := types.AppendTo("buyer-"+buyer, es.Any, ItemBought{Buyer: buyer, Price: price})
	if err != nil {
		return es.Checkpoint{}, err
	}
	appended, err := backend.Events().Append(ctx, a)
	return es.Checkpoint{Position: appended.Position}, err
}

func projectEvents(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	types := newBuyerTypes()
	p, err := newBuyers(backend, types, projection.Stop)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil { // or give it to eshttp.Run or an es.Group, with the other parts of the program
		return err
	}
	defer func() { _ = p.Stop(ctx) }() // the program ends
	var last es.Checkpoint
	for _, item := range []struct {
		buyer string
		price int
	}{{"Ann", 10}, {"Bob", 5}, {"Ann", 20}} {
		if last, err = buy(ctx, backend, types, item.buyer, item.price); err != nil {
			return err
		}
	}

	if err := p.WaitFor(ctx, last); err != nil {
		return err
	}
	buyers := es.NewModel[Buyer](backend.ReadModels(), "buyers")
	ann, err := buyers.Load(ctx, "Ann")
	if err != nil {
		return err
	}
	fmt.Println("Ann has bought", ann.Value.Items, "items for", ann.Value.Spent)

	status, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if status.State == projection.StateCatchingUp { // it has come to the head this very moment
		status.State = projection.StateLive
	}
	fmt.Printf("%v at position %d of %d, %d behind\n", status.State, status.Position, status.Head, status.Lag)

	page, err := buyers.List(ctx, "", "", 100) // the next page: after the last key of this one
	if err != nil {
		return err
	}
	fmt.Printf("%s, then %s\n", page[0].Key, page[1].Key)
	return nil
}

func parkEvents(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	types := newBuyerTypes()
	p, err := newBuyers(backend, types, projection.Park)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = p.Stop(ctx) }() // the program ends
	if _, err := buy(ctx, backend, types, "Bob", 0); err != nil {
		return err
	}
	last, err := buy(ctx, backend, types, "Bob", 7)
	if err != nil {
		return err
	}
	if err := p.WaitFor(ctx, last); err != nil {
		return err
	}

	parked, err := p.Parked(ctx)
	if err != nil {
		return err
	}
	for _, stream := range parked {
		fmt.Printf("%s is parked at version %d: %s; %d events wait\n", stream.Stream, stream.Version, stream.Reason, stream.Events)
	}
	err = p.Retry(ctx, "buyer-Bob") // all of them, in order
	if failed, ok := errors.AsType[*projection.EventError](err); ok {
		fmt.Println("still parked:", failed.Err)
	}
	if err := p.RetryNext(ctx, "buyer-Bob"); err != nil { // without the one that failed
		return err
	}

	bob, err := es.NewModel[Buyer](backend.ReadModels(), "buyers").Load(ctx, "Bob")
	if err != nil {
		return err
	}
	fmt.Println("Bob has bought", bob.Value.Items, "items for", bob.Value.Spent)
	return nil
}

// newCopy makes a copy of a projection of which one works at a time.
func newCopy(backend es.Backend, owner string) (*projection.Projection, error) {
	return projection.New(projection.Config{
		Name:     "seen",
		Events:   backend.Events(),
		Models:   backend.ReadModels(),
		Leases:   backend.Leases(), // of the same backend as Models
		LeaseTTL: 10 * time.Second,
		Owner:    owner,
	}, projection.OnMessage("", func(context.Context, *projection.Batch, *es.Message) error { return nil }))
}

// awaitState waits until a projection is in a state.
func awaitState(ctx context.Context, p *projection.Projection, state projection.State) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		status, err := p.Status(ctx)
		if err != nil || status.State == state {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it is %v: %w", status.State, ctx.Err())
		}
	}
}

func projectUnderALease(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	if _, err := backend.Events().Append(ctx, es.AppendTo("a-1", es.Any, es.NewMessage("a-1", "Happened", nil))); err != nil {
		return err
	}
	first, err := newCopy(backend, "first")
	if err != nil {
		return err
	}
	second, err := newCopy(backend, "second")
	if err != nil {
		return err
	}
	if err := first.Start(ctx); err != nil {
		return err
	}
	if err := awaitState(ctx, first, projection.StateLive); err != nil {
		return err
	}
	if err := second.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = second.Stop(ctx) }() // the program ends
	if err := awaitState(ctx, second, projection.StateStandby); err != nil {
		return err
	}
	fmt.Println("first is live, second is standby")
	if err := first.Stop(ctx); err != nil {
		return err
	}
	if _, err := backend.Events().Append(ctx, es.AppendTo("a-1", es.Any, es.NewMessage("a-1", "Happened", nil))); err != nil {
		return err
	}
	if err := awaitState(ctx, second, projection.StateLive); err != nil {
		return err
	}
	fmt.Println("second is live")
	return nil
}
