package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// try ends an example that has failed.
func try(err error) {
	if err != nil {
		panic(err)
	}
}

// openExample opens a new file for an example. done closes and removes it.
func openExample() (db *sqlite.DB, done func()) {
	folder, err := os.MkdirTemp("", "example")
	try(err)
	db, err = sqlite.Open(sqlite.Config{Path: filepath.Join(folder, "shop.db")})
	try(err)
	return db, func() {
		try(db.Close())
		try(os.RemoveAll(folder))
	}
}

// A file keeps events, and everything else that a program needs around them.
func ExampleOpen() {
	folder, err := os.MkdirTemp("", "example")
	try(err)
	defer os.RemoveAll(folder)
	db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(folder, "shop.db")})
	try(err)
	defer db.Close()
	ctx := context.Background()

	placed := es.NewMessage("order-7", "OrderPlaced", []byte(`{"book":"Sonnets"}`))
	_, err = db.Events().Append(ctx, es.AppendTo("order-7", es.NoStream, placed))
	try(err)
	for m, err := range db.Events().Read(ctx, es.Query{Stream: "order-7"}) {
		try(err)
		fmt.Printf("%s %d: %s %s\n", m.Stream, m.Version, m.Name, m.Data)
	}
	// Output: order-7 1: OrderPlaced {"book":"Sonnets"}
}

// A row of the program's own, an event and a message that is to be sent are committed together, or not at all.
func ExampleDB_Update() {
	db, done := openExample()
	defer done()
	ctx := context.Background()

	err := db.Update(ctx, func(tx *sqlite.Tx) error {
		return tx.Exec("CREATE TABLE stock (book TEXT PRIMARY KEY, copies INTEGER NOT NULL CHECK (copies >= 0))")
	})
	try(err)

	sell := func(order string) error {
		return db.Update(ctx, func(tx *sqlite.Tx) error {
			placed := es.NewMessage(order, "OrderPlaced", []byte(`{"book":"Sonnets"}`))
			if _, err := tx.Append(es.AppendTo(order, es.NoStream, placed)); err != nil {
				return err
			}
			if err := tx.Enqueue(placed.Caused(es.NewMessage(order, "SendInvoice", nil))...); err != nil {
				return err
			}
			return tx.Exec("UPDATE stock SET copies = copies - 1 WHERE book = ?", "Sonnets")
		})
	}
	err = db.Update(ctx, func(tx *sqlite.Tx) error {
		return tx.Exec("INSERT INTO stock VALUES (?, ?)", "Sonnets", 1)
	})
	try(err)
	fmt.Println("the first order fails:", sell("order-1") != nil)
	fmt.Println("the second order fails:", sell("order-2") != nil) // there is no copy left

	head, err := db.Events().Head(ctx)
	try(err)
	stats, err := db.Outbox().Stats(ctx)
	try(err)
	fmt.Println("events:", head.Position, "messages:", stats.Depth)
	// Output:
	// the first order fails: false
	// the second order fails: true
	// events: 1 messages: 1
}

// A program's own statements may join the toolkit's tables. The 1 is the number of the first namespace of the file.
func ExampleDB_View() {
	db, done := openExample()
	defer done()
	ctx := context.Background()

	for _, stream := range []string{"order-1", "order-2", "invoice-1"} {
		m := es.NewMessage(stream, "Opened", nil)
		_, err := db.Events().Append(ctx, es.AppendTo(stream, es.Any, m))
		try(err)
	}
	err := db.View(ctx, func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			fmt.Println(r.Text(0), r.Int64(1))
			return nil
		}, "SELECT name, count(*) FROM es_events_1 WHERE stream GLOB ? GROUP BY name", "order-*")
	})
	try(err)
	// Output: Opened 2
}

// A copy is made while others write, and is checked before it is trusted.
func ExampleDB_Backup() {
	db, done := openExample()
	defer done()
	ctx := context.Background()

	m := es.NewMessage("order-1", "OrderPlaced", nil)
	_, err := db.Events().Append(ctx, es.AppendTo("order-1", es.NoStream, m))
	try(err)
	folder, err := os.MkdirTemp("", "backup")
	try(err)
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "shop-monday.db")
	try(db.Backup(ctx, path))
	report, err := sqlite.Check(ctx, sqlite.Config{Path: path})
	try(err)
	fmt.Println("sound:", report.OK(), "events:", report.Namespaces[0].Events)
	// Output: sound: true events: 1
}

// A check tells of everything that is wrong, and what to do about it.
func ExampleCheck() {
	folder, err := os.MkdirTemp("", "example")
	try(err)
	defer os.RemoveAll(folder)
	config := sqlite.Config{Path: filepath.Join(folder, "shop.db")}
	db, err := sqlite.Open(config)
	try(err)
	try(db.Close())
	report, err := sqlite.Check(context.Background(), config)
	try(err)
	for _, problem := range report.Problems {
		fmt.Println(problem)
	}
	fmt.Println(len(report.Problems), "problems in", len(report.Namespaces), "namespace")
	// Output: 0 problems in 1 namespace
}

// A backup of Monday takes the place of a file that has gone on until Wednesday: those who have seen Tuesday must be told.
func ExampleFork() {
	db, done := openExample()
	defer done()
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "backup")
	try(err)
	defer os.RemoveAll(folder)
	monday := filepath.Join(folder, "shop-monday.db")
	try(db.Backup(ctx, monday))
	tuesday := es.NewMessage("order-2", "OrderPlaced", nil)
	_, err = db.Events().Append(ctx, es.AppendTo("order-2", es.NoStream, tuesday))
	try(err)
	seen, err := db.Events().Head(ctx)
	try(err)

	try(sqlite.Fork(ctx, sqlite.Config{Path: monday}))
	restored, err := sqlite.Open(sqlite.Config{Path: monday})
	try(err)
	defer restored.Close()
	_, err = restored.Events().Wait(ctx, seen)
	fmt.Println("a checkpoint of Tuesday is turned down:", err != nil)
	// Output: a checkpoint of Tuesday is turned down: true
}
