package postgres_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// A program's row, an event and a message for others are committed together. What is appended is written just before the commit, so the
// function may take its time and nobody waits for it.
func ExampleDB_InTx() {
	runExample(func(ctx context.Context, pool *pgxpool.Pool, db *postgres.DB) error {
		var appended *es.Outcome
		order := func(number int, expect es.Expectation) error {
			return db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
				if _, err := tx.Exec(ctx, "INSERT INTO orders (number) VALUES ($1)", number); err != nil {
					return err
				}
				appended = tx.Append(es.AppendTo("order-1", expect, es.NewMessage("order-1", "OrderPlaced", []byte(`{}`))))
				return tx.Enqueue(es.NewMessage("mail-1", "OrderConfirmed", []byte(`{}`)))
			})
		}
		if err := order(1, es.NoStream); err != nil {
			return err
		}
		fmt.Println("appended as version", appended.Places[0].Version)

		err := order(2, es.NoStream) // somebody was first: nothing of it is done
		fmt.Println("conflict:", errors.Is(err, es.ErrConflict))
		return printOrders(ctx, pool)
	})
	// Output:
	// appended as version 1
	// conflict: true
	// orders: 1
}

// A transaction that the program has begun takes an append, and goes on when the append is refused.
func ExampleEventStore_AppendTx() {
	runExample(func(ctx context.Context, pool *pgxpool.Pool, db *postgres.DB) error {
		events, _ := db.Events().(*postgres.EventStore)
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO orders (number) VALUES (1)"); err != nil {
				return err
			}
			placed := es.NewMessage("order-1", "OrderPlaced", []byte(`{}`))
			_, err := events.AppendTx(ctx, tx, es.AppendTo("order-1", es.Exactly(7), placed))
			fmt.Println("conflict:", errors.Is(err, es.ErrConflict))

			done, err := events.AppendTx(ctx, tx, es.AppendTo("order-1", es.NoStream, placed))
			if err == nil {
				fmt.Println("appended as version", done.Places[0].Version)
			}
			return err
		})
		if err != nil {
			return err
		}
		db.Wake() // those who wait for events need not find out by themselves
		return printOrders(ctx, pool)
	})
	// Output:
	// conflict: true
	// appended as version 1
	// orders: 1
}

func printOrders(ctx context.Context, pool *pgxpool.Pool) error {
	orders := 0
	err := pool.QueryRow(ctx, "SELECT count(*) FROM orders").Scan(&orders)
	fmt.Println("orders:", orders)
	return err
}

// runExample runs an example with a store in a database that has a table of the program.
func runExample(do func(ctx context.Context, pool *pgxpool.Pool, db *postgres.DB) error) {
	run := func(ctx context.Context) (err error) {
		server, err := pgserver.Start(ctx, pgserver.Config{NoSync: true, Install: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop(ctx)) }()
		pool, err := pgxpool.New(ctx, server.URL("postgres"))
		if err != nil {
			return err
		}
		defer pool.Close()
		db, err := postgres.Open(ctx, postgres.Config{Pool: pool})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		if _, err := pool.Exec(ctx, "CREATE TABLE orders (number integer PRIMARY KEY)"); err != nil {
			return err
		}
		return do(ctx, pool, db)
	}
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
}
