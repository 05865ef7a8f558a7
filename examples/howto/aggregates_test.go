package howto_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_aggregates() {
	run(aggregates)
	// Output:
	// balance 70 at version 2
	// too little money: 70
	// conflict: true
	// at version 1 it was 100
}

// Purse is what the events of a purse lead to.
type Purse struct{ Balance int }

type (
	Deposited struct{ Amount int }
	Withdrawn struct{ Amount int }
)

// evolve applies what has happened. It does not judge it.
func evolve(a Purse, event any) Purse {
	switch e := event.(type) {
	case Deposited:
		a.Balance += e.Amount
	case Withdrawn:
		a.Balance -= e.Amount
	}
	return a
}

// withdraw decides: it returns what happens, or why not.
func withdraw(amount int) func(a Purse) ([]any, error) {
	return func(a Purse) ([]any, error) {
		if a.Balance < amount {
			return nil, fmt.Errorf("too little money: %d", a.Balance)
		}
		return []any{Withdrawn{amount}}, nil
	}
}

func putIn(amount int) func(a Purse) ([]any, error) {
	return func(Purse) ([]any, error) { return []any{Deposited{amount}}, nil }
}

func openPurses(backend es.Backend) (*aggregate.Repository[Purse, any], error) {
	types := es.NewTypes()
	es.Register[Deposited](types, "Deposited")
	es.Register[Withdrawn](types, "Withdrawn")
	return aggregate.New(aggregate.Config[Purse, any]{
		Events: backend.Events(), Types: types, Category: "purse", Evolve: evolve,
		Snapshots: backend.Snapshots(), SnapshotEvery: 100, // a state is kept after every hundred events
		CacheSize: 1000, // and as many states in memory
	})
}

func aggregates(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	purses, err := openPurses(backend)
	if err != nil {
		return err
	}

	if _, err := purses.Update(ctx, "7", putIn(100)); err != nil {
		return err
	}
	done, err := purses.Update(ctx, "7", withdraw(30))
	if err != nil {
		return err
	}
	fmt.Printf("balance %d at version %d\n", done.State.Balance, done.Version)

	_, err = purses.Update(ctx, "7", withdraw(80))
	fmt.Println(err)

	seen := es.Exactly(1) // what the caller has seen, of an If-Match for example
	_, err = purses.UpdateIf(ctx, "7", seen, putIn(5))
	fmt.Println("conflict:", errors.Is(err, es.ErrConflict))

	before, err := purses.LoadAt(ctx, "7", 1)
	if err != nil {
		return err
	}
	fmt.Println("at version 1 it was", before.State.Balance)
	return nil
}
