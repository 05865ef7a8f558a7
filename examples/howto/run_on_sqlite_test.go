package howto_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func Example_runOnSQLite() {
	folder, err := os.MkdirTemp("", "shop")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder)
	run(func(ctx context.Context) error { return runOnSQLite(ctx, folder, slog.New(slog.DiscardHandler)) })
	// Output:
	// copies left: 0
	// the second order: it is sold out
	// events: 2, waiting: 1, write-ahead log there: true
	// the backup: 2 events, 1 waiting, 0 problems
	// a checkpoint of after the backup: it belongs to another history
	// its index was made anew
}

// errSoldOut is an error of the program's own.
var errSoldOut = errors.New("it is sold out")

func runOnSQLite(ctx context.Context, folder string, logger *slog.Logger) (err error) {
	path := filepath.Join(folder, "shop.db")
	db, err := sqlite.Open(sqlite.Config{Path: path, Namespace: "shop", Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	log, err := eventlog.New(db, eventlog.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()

	if err := prepareStock(ctx, db); err != nil {
		return err
	}
	if err := sell(ctx, db, "order-1"); err != nil {
		return err
	}
	left, err := copiesLeft(ctx, db)
	if err != nil {
		return err
	}
	fmt.Println("copies left:", left)
	fmt.Println("the second order:", sell(ctx, db, "order-2"))
	if _, err := db.Events().Append(ctx, es.AppendTo("order-1", es.Any, es.NewMessage("order-1", "OrderPaid", nil))); err != nil {
		return err
	}
	if err := lookAfter(ctx, db, path); err != nil {
		return err
	}
	return backUpAndRestore(ctx, db, filepath.Join(folder, "shop-monday.db"))
}

func prepareStock(ctx context.Context, db *sqlite.DB) error {
	return db.Update(ctx, func(tx *sqlite.Tx) error {
		if err := tx.Exec("CREATE TABLE IF NOT EXISTS stock (book TEXT PRIMARY KEY, copies INTEGER NOT NULL)"); err != nil {
			return err
		}
		return tx.Exec("INSERT INTO stock (book, copies) VALUES (?, ?) ON CONFLICT DO NOTHING", "Sonnets", 1)
	})
}

func sell(ctx context.Context, db *sqlite.DB, order string) error {
	placed := es.NewMessage(order, "OrderPlaced", []byte(`{"book":"Sonnets"}`))
	invoice := es.NewMessage(order, "SendInvoice", nil)
	return db.Update(ctx, func(tx *sqlite.Tx) error {
		copies := int64(0)
		err := tx.Query(func(r sqlite.Row) error {
			copies = r.Int64(0)
			return nil
		}, "UPDATE stock SET copies = copies - 1 WHERE book = ? AND copies > 0 RETURNING copies + 1", "Sonnets")
		if err != nil {
			return err
		}
		if copies == 0 {
			return errSoldOut // and nothing has happened
		}
		if _, err := tx.Append(es.AppendTo(order, es.NoStream, placed)); err != nil {
			return err
		}
		return tx.Enqueue(placed.Caused(invoice)...)
	})
}

func copiesLeft(ctx context.Context, db *sqlite.DB) (copies int64, err error) {
	err = db.View(ctx, func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			copies = r.Int64(0)
			return nil
		}, "SELECT copies FROM stock WHERE book = ?", "Sonnets")
	})
	return copies, err
}

func lookAfter(ctx context.Context, db *sqlite.DB, path string) error {
	head, err := db.Events().Head(ctx)
	if err != nil {
		return err
	}
	stats, err := db.Outbox().Stats(ctx)
	if err != nil {
		return err
	}
	wal, err := os.Stat(path + "-wal") // asks for its size, and opens nothing
	if err != nil {
		return err
	}
	fmt.Printf("events: %d, waiting: %d, write-ahead log there: %v\n", head.Position, stats.Depth, wal.Size() > 0)
	return nil
}

func backUpAndRestore(ctx context.Context, db *sqlite.DB, path string) error {
	if err := db.Backup(ctx, path); err != nil {
		return err
	}
	report, err := sqlite.Check(ctx, sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	for _, problem := range report.Problems {
		fmt.Println(problem) // where, what, and what can be done
	}
	shop := report.Namespaces[0]
	fmt.Printf("the backup: %d events, %d waiting, %d problems\n", shop.Events, shop.Outbox, len(report.Problems))

	shipped, err := db.Events().Append(ctx, es.AppendTo("order-1", es.Any, es.NewMessage("order-1", "OrderShipped", nil)))
	if err != nil {
		return err
	}
	head, err := db.Events().Head(ctx)
	if err != nil {
		return err
	}

	config := sqlite.Config{Path: path, Namespace: "shop"}
	if err := sqlite.Fork(ctx, config); err != nil {
		return err
	}
	restored, err := sqlite.Open(config)
	if err != nil {
		return err
	}
	_, err = restored.Events().Wait(ctx, es.Checkpoint{Position: shipped.Position, Incarnation: head.Incarnation})
	if errors.Is(err, es.ErrCheckpoint) {
		fmt.Println("a checkpoint of after the backup: it belongs to another history")
	}
	if err := restored.Close(); err != nil {
		return err
	}

	if err := sqlite.Reindex(ctx, config); err != nil {
		return err
	}
	fmt.Println("its index was made anew")
	return nil
}
