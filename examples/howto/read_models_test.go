package howto_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_readModels() {
	run(readModels)
	// Output:
	// Ann has 2 orders
	// too late
	// customer-Ann
	// customer-Bob
}

type Customer struct {
	Orders int `json:"orders"`
}

func readModels(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()

	customers := es.NewModel[Customer](backend.ReadModels(), "customers")
	if err := customers.Save(ctx, "customer-Ann", Customer{Orders: 1}, es.NoStream); err != nil {
		return err
	}

	ann, err := customers.Load(ctx, "customer-Ann") // es.ErrNotFound when there is none
	if err != nil {
		return err
	}
	ann.Value.Orders++
	if err := customers.Save(ctx, ann.Key, ann.Value, es.Exactly(ann.Revision)); err != nil {
		return err
	}
	fmt.Println("Ann has", ann.Value.Orders, "orders")

	err = customers.Save(ctx, ann.Key, Customer{}, es.Exactly(ann.Revision)) // the revision that was loaded is gone
	if errors.Is(err, es.ErrConflict) {
		fmt.Println("too late")
	}

	if err := customers.Save(ctx, "customer-Bob", Customer{}, es.Any); err != nil {
		return err
	}
	page, err := customers.List(ctx, "customer-", "", 100) // the next page: after the last key of this one
	if err != nil {
		return err
	}
	for _, customer := range page {
		fmt.Println(customer.Key)
	}
	return nil
}

func Example_projection() {
	run(projectionByHand)
	// Output:
	// customer-Ann: {1} customer-Bob: {2} at position 4
	// another owner was faster
	// the lease is over, and the commit was not taken
	// rebuilt: customer-Ann: {1} customer-Bob: {2} at position 4
}

// project brings a model up to date with the event store: what it changes and how far it has come are one commit, so that
// each event has its effect once. The model and the projection have the same name.
func project(ctx context.Context, backend es.Backend, name string, fence *es.Lease) error {
	from, err := backend.ReadModels().Progress(ctx, name)
	if err != nil {
		return err
	}
	head, err := backend.Events().Head(ctx)
	if err != nil {
		return err
	}
	orders := map[string]int{}
	query := es.Query{Names: []string{"OrderPlaced"}, UpTo: head.Position}
	for m, err := range backend.Events().Read(ctx, query.Resume(from.Checkpoint)) {
		if err != nil {
			return err
		}
		orders[m.Metadata["customer"]]++
	}

	customers := es.NewModel[Customer](backend.ReadModels(), name)
	to := from
	to.Checkpoint = head // what was scanned, also when nothing matched
	commit := es.Commit{Progress: es.ProgressUpdate{Projection: name, From: from, To: to}, Fence: fence}
	for key, count := range orders {
		customer, err := customers.Load(ctx, key)
		if err != nil && !errors.Is(err, es.ErrNotFound) {
			return err
		}
		customer.Value.Orders += count
		write, err := customers.Put(key, customer.Value, es.Exactly(customer.Revision))
		if err != nil {
			return err
		}
		commit.Writes = append(commit.Writes, write)
	}
	return backend.ReadModels().Commit(ctx, commit)
}

func projectionByHand(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	for i, customer := range []string{"customer-Ann", "customer-Bob", "customer-Bob"} {
		m := orderOf(customer, fmt.Sprintf("order-%d", i+1))
		if _, err := backend.Events().Append(ctx, es.AppendTo(m.Stream, es.Any, m)); err != nil {
			return err
		}
	}
	paid := es.NewMessage("order-1", "OrderPaid", []byte(`{}`))
	if _, err := backend.Events().Append(ctx, es.AppendTo("order-1", es.Any, paid)); err != nil {
		return err
	}
	if err := project(ctx, backend, "customers", nil); err != nil {
		return err
	}
	if err := show(ctx, backend, "customers"); err != nil {
		return err
	}

	stale := es.ProgressUpdate{Projection: "customers"} // from the beginning, where it is no more
	err := backend.ReadModels().Commit(ctx, es.Commit{Progress: stale})
	if _, ok := errors.AsType[*es.ProjectionError](err); ok {
		fmt.Println("another owner was faster")
	}

	lease, err := backend.Leases().Acquire(ctx, "projection customers", "worker-1", leaseTime)
	if err != nil {
		return err
	}
	if err := backend.Leases().Release(ctx, lease); err != nil {
		return err
	}
	err = project(ctx, backend, "customers", &lease)
	if errors.Is(err, es.ErrLeaseLost) {
		fmt.Println("the lease is over, and the commit was not taken")
	}

	live, err := backend.ReadModels().Progress(ctx, "customers")
	if err != nil {
		return err
	}
	aside := es.ProgressUpdate{Projection: "customers.2", To: es.Progress{Generation: live.Generation + 1}}
	if err := backend.ReadModels().Commit(ctx, es.Commit{Progress: aside}); err != nil {
		return err
	}
	if err := project(ctx, backend, "customers.2", nil); err != nil { // as often as it takes to catch up
		return err
	}
	err = backend.ReadModels().Switch(ctx, es.Replacement{Model: "customers", With: "customers.2"})
	if err != nil {
		return err
	}
	fmt.Print("rebuilt: ")
	return show(ctx, backend, "customers")
}

// show prints a model and how far it has come.
func show(ctx context.Context, backend es.Backend, name string) error {
	docs, err := backend.ReadModels().List(ctx, es.ListQuery{Model: name})
	if err != nil {
		return err
	}
	var texts []string
	for _, doc := range docs {
		var customer Customer
		if err := json.Unmarshal(doc.Data, &customer); err != nil {
			return err
		}
		texts = append(texts, fmt.Sprintf("%s: %v", doc.Key, customer))
	}
	progress, err := backend.ReadModels().Progress(ctx, name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(texts, " "), "at position", progress.Position)
	return nil
}
