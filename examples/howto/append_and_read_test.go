package howto_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_appendAndRead() {
	run(appendAndRead)
	// Output:
	// placed at version 1
	// 1 OrderPlaced {"total":42}
	// 2 OrderPaid {"amount":42}
	// too late: the stream is at version 2
	// again: version 1, 1 of 1 was there before
	// shipped at versions 3 and 1
	// last: OrderShipped
}

func appendAndRead(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	store := backend.Events()

	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{"total":42}`))
	appended, err := store.Append(ctx, es.AppendTo("order-7", es.NoStream, placed))
	if err != nil {
		return err
	}
	fmt.Println("placed at version", appended.Places[0].Version)

	paid := es.NewMessage("order-7", "OrderPaid", []byte(`{"amount":42}`))
	if _, err := store.Append(ctx, es.AppendTo("order-7", es.Exactly(1), paid)); err != nil {
		return err
	}
	for m, err := range store.Read(ctx, es.Query{Stream: "order-7"}) {
		if err != nil {
			return err
		}
		fmt.Printf("%d %s %s\n", m.Version, m.Name, m.Data)
	}

	canceled := es.NewMessage("order-7", "OrderCanceled", []byte(`{}`))
	_, err = store.Append(ctx, es.AppendTo("order-7", es.Exactly(1), canceled))
	if conflict, ok := errors.AsType[*es.ConflictError](err); ok {
		fmt.Println("too late: the stream is at version", conflict.Actual)
	}

	again, err := store.Append(ctx, es.AppendTo("order-7", es.NoStream, placed))
	if err != nil {
		return err
	}
	fmt.Printf("again: version %d, %d of 1 was there before\n", again.Places[0].Version, again.Existing)

	shipped := es.NewMessage("order-7", "OrderShipped", []byte(`{}`))
	taken := es.NewMessage("stock-A1", "StockTaken", []byte(`{"order":"7"}`))
	both, err := store.Append(ctx, es.Append{Streams: []es.StreamAppend{
		{Stream: "order-7", Expect: es.Exactly(2), Events: []*es.Message{shipped}},
		{Stream: "stock-A1", Events: []*es.Message{taken}},
	}})
	if err != nil {
		return err
	}
	fmt.Println("shipped at versions", both.Places[0].Version, "and", both.Places[1].Version)

	for m, err := range store.Read(ctx, es.Query{Category: "order", Reverse: true, Limit: 1}) {
		if err != nil {
			return err
		}
		fmt.Println("last:", m.Name)
	}
	return nil
}
