package postgres_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// A program has appended in a transaction of its own, and does something slow before it commits. Readers of the global order wait for it,
// and Probe says so.
func ExampleDB_Probe() {
	run := func(ctx context.Context) (err error) {
		server, err := pgserver.Start(ctx, pgserver.Config{NoSync: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop(ctx)) }()
		db, err := postgres.Open(ctx, postgres.Config{URL: server.URL("postgres")})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()

		conn, err := pgx.Connect(ctx, server.URL("postgres")+"&application_name=billing")
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		store, ok := db.Events().(*postgres.EventStore)
		if !ok {
			return errors.New("another event store")
		}
		if _, err := store.AppendTx(ctx, tx, es.AppendTo("bill-1", es.Any, es.NewMessage("bill-1", "BillSent", nil))); err != nil {
			return err
		}
		if _, err := db.Events().Append(ctx, es.AppendTo("item-1", es.Any, es.NewMessage("item-1", "ItemAdded", nil))); err != nil {
			return err
		}

		p, err := db.Probe(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("%d of %d positions are settled\n", p.Settled, p.Last)
		for _, h := range p.Holders {
			fmt.Printf("%s is %s\n", h.Application, h.State)
		}
		return tx.Rollback(ctx)
	}
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// 0 of 2 positions are settled
	// billing is idle in transaction
}
