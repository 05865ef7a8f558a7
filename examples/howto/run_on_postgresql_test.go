package howto_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func Example_runOnPostgreSQL() {
	run(func(ctx context.Context) (err error) {
		server, err := pgserver.Start(ctx, pgserver.Config{NoSync: true, Install: true})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Stop(ctx)) }()
		return runOnPostgreSQL(ctx, server.URL("postgres"), slog.New(slog.DiscardHandler))
	})
	// Output:
	// copies left: 0
	// the second order: it is sold out
	// settled: true, held back by 0 transactions, waiting: 1
	// a checkpoint of before: it belongs to another history
}

func runOnPostgreSQL(ctx context.Context, url string, logger *slog.Logger) (err error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	config := postgres.Config{Pool: pool, Namespace: "shop", Logger: logger}
	db, err := postgres.Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	const tables = "CREATE TABLE stock (book text PRIMARY KEY, copies integer NOT NULL); INSERT INTO stock VALUES ('Sonnets', 1)"
	if _, err := pool.Exec(ctx, tables); err != nil {
		return err
	}
	if err := order(ctx, db, "order-1"); err != nil {
		return err
	}
	copies := 0
	if err := pool.QueryRow(ctx, "SELECT copies FROM stock WHERE book = 'Sonnets'").Scan(&copies); err != nil {
		return err
	}
	fmt.Println("copies left:", copies)
	fmt.Println("the second order:", order(ctx, db, "order-2"))
	if err := cancel(ctx, pool, db, "order-1"); err != nil {
		return err
	}
	head, err := db.Events().Head(ctx)
	if err != nil {
		return err
	}
	if err := watch(ctx, db); err != nil {
		return err
	}
	return restored(ctx, config, head)
}

func order(ctx context.Context, db *postgres.DB, stream string) error {
	placed := es.NewMessage(stream, "OrderPlaced", []byte(`{"book":"Sonnets"}`))
	invoice := es.NewMessage(stream, "SendInvoice", nil)
	return db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
		taken, err := tx.Exec(ctx, "UPDATE stock SET copies = copies - 1 WHERE book = $1 AND copies > 0", "Sonnets")
		if err != nil {
			return err
		}
		if taken.RowsAffected() == 0 {
			return errSoldOut // and nothing has happened
		}
		tx.Append(es.AppendTo(stream, es.NoStream, placed))
		return tx.Enqueue(placed.Caused(invoice)...)
	})
}

func cancel(ctx context.Context, pool *pgxpool.Pool, db *postgres.DB, stream string) error {
	events := db.Events().(*postgres.EventStore) //nolint:errcheck // it is one
	canceled := es.NewMessage(stream, "OrderCanceled", nil)
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE stock SET copies = copies + 1 WHERE book = $1", "Sonnets"); err != nil {
			return err
		}
		_, err := events.AppendTx(ctx, tx, es.AppendTo(stream, es.Exactly(1), canceled))
		return err
	})
	if err == nil {
		db.Wake() // who waits need not find out by itself
	}
	return err
}

func watch(ctx context.Context, db *postgres.DB) error {
	probe, err := db.Probe(ctx)
	if err != nil {
		return err
	}
	stats, err := db.Outbox().Stats(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("settled: %t, held back by %d transactions, waiting: %d\n", probe.Lag == 0, len(probe.Holders), stats.Depth)
	return nil
}

func restored(ctx context.Context, config postgres.Config, before es.Checkpoint) error {
	if err := postgres.Fork(ctx, config); err != nil {
		return err
	}
	db, err := postgres.Open(ctx, config)
	if err != nil {
		return err
	}
	if _, err := db.Events().Wait(ctx, before); errors.Is(err, es.ErrCheckpoint) {
		fmt.Println("a checkpoint of before: it belongs to another history")
	}
	return db.Close()
}
