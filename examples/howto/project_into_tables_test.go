package howto_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func Example_projectIntoTables() {
	run(projectIntoTables)
	// Output:
	// ada has paid 12
}

type InvoicePaid struct {
	Customer string
	Amount   int
}

func projectIntoTables(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "howto-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(dir, "app.db")})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Update(ctx, func(tx *sqlite.Tx) error {
		return tx.Exec("CREATE TABLE paid (customer TEXT PRIMARY KEY, amount INTEGER NOT NULL)")
	}); err != nil {
		return err
	}

	types := es.NewTypes()
	es.Register[InvoicePaid](types, "InvoicePaid")
	paid, err := projection.New(projection.Config{
		Name: "paid", Events: db.Events(), Models: db.ReadModels(), Types: types,
		Target: projection.Tables(projection.TablesConfig[*sqlite.Tx]{Run: db.Update}),
	}, projection.On(func(_ context.Context, b *projection.Batch, e InvoicePaid, _ *es.Message) error {
		return projection.TxOf[*sqlite.Tx](b).Exec(
			"INSERT INTO paid VALUES (?, ?) ON CONFLICT (customer) DO UPDATE SET amount = amount + excluded.amount", e.Customer, e.Amount)
	}))
	if err != nil {
		return err
	}

	var last es.Appended
	for _, amount := range []int{5, 7} {
		a, err := types.AppendTo("invoice-1", es.Any, InvoicePaid{"ada", amount})
		if err != nil {
			return err
		}
		if last, err = db.Events().Append(ctx, a); err != nil {
			return err
		}
	}
	if err := paid.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = paid.Stop(ctx) }()
	if err := paid.WaitFor(ctx, es.Checkpoint{Position: last.Position}); err != nil {
		return err
	}
	return db.View(ctx, func(v *sqlite.View) error {
		return v.Query(func(row sqlite.Row) error {
			fmt.Printf("%s has paid %d\n", row.Text(0), row.Int64(1))
			return nil
		}, "SELECT customer, amount FROM paid")
	})
}
