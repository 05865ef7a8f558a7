package eventsourcing_test

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func ExampleCommandHandler() {
	backend := memory.New()
	defer backend.Close()
	ctx := context.Background()
	orders, err := es.NewCommandHandler(es.CommandConfig{Name: "orders", Events: backend.Events()},
		func(_ context.Context, c *es.Message) (es.Append, error) {
			return es.AppendTo(c.Stream, es.NoStream, es.NewMessage(c.Stream, "OrderPlaced", c.Data)), nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	command := es.NewMessage("order-7", "PlaceOrder", []byte(`{"total":42}`))
	for range 2 {
		result, err := orders.Do(ctx, command)
		fmt.Println(result.Version, result.Repeated, err)
	}
	// Output:
	// 1 false <nil>
	// 1 true <nil>
}

func ExampleQueryHandler() {
	backend := memory.New()
	defer backend.Close()
	ctx := context.Background()
	totals := es.NewModel[int](backend.ReadModels(), "totals")
	if err := totals.Save(ctx, "order-7", 42, es.NoStream); err != nil {
		fmt.Println(err)
		return
	}
	queries, err := es.NewQueryHandler(
		es.QueryConfig{Waiter: es.WaitForProgress(backend.ReadModels(), "totals")}, // of the projection that keeps the model
		es.FromModel(totals, func(id string) string { return "order-" + id }))
	if err != nil {
		fmt.Println(err)
		return
	}
	item, err := queries.Ask(ctx, "7")
	fmt.Println(item.Value, err)
	// Output: 42 <nil>
}
