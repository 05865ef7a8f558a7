package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// everything does everything that a transaction can.
func everything(tx *sqlite.Tx, n int) error {
	if _, err := tx.Append(es.AppendTo("order-1", es.Any, event("order-1", n))); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	if err := tx.Enqueue(event("mail-1", n)); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	before, err := tx.Progress("orders")
	if err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	after := before
	after.Position++
	err = tx.Project(es.Commit{
		Writes:   []es.Write{{Model: "orders", Key: strconv.Itoa(n), Data: []byte("{}")}},
		Progress: es.ProgressUpdate{Projection: "orders", From: before, To: after},
	})
	if err != nil {
		return fmt.Errorf("project: %w", err)
	}
	return tx.Exec("INSERT INTO orders (n) VALUES (?)", n)
}

// counts is how much of everything there is: events, messages in the outbox, documents, the position of the projection, own rows.
func counts(t *testing.T, db *sqlite.DB) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	events := strings.Count(history(t, db), "\n")
	stats, err := db.Outbox().Stats(ctx)
	must(t, err)
	docs, err := db.ReadModels().List(ctx, es.ListQuery{Model: "orders"})
	must(t, err)
	progress, err := db.ReadModels().Progress(ctx, "orders")
	must(t, err)
	return fmt.Sprint(events, stats.Depth, len(docs), progress.Position, " ", rows(t, db, 1, "SELECT count(*) FROM orders"))
}

func wantCounts(t *testing.T, db *sqlite.DB, want string) {
	t.Helper()
	if got := counts(t, db); got != want {
		t.Errorf("events, messages, documents, progress and rows are %s, and not %s", got, want)
	}
}

// newUpdateStore is a store with a table of its program, and one of everything.
func newUpdateStore(t *testing.T) *sqlite.DB {
	t.Helper()
	db := newStore(t)
	update(t, db, "CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER UNIQUE)")
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { return everything(tx, 1) }))
	wantCounts(t, db, "1 1 1 1 1")
	return db
}

func TestAnUpdateDoesAllOrNothing(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, test := range map[string]struct {
		end  func(cancel func()) error
		want error // nil: the function does not return
	}{
		"error":              {func(func()) error { return boom }, boom},
		"verdict of a role":  {func(func()) error { return fmt.Errorf("mine: %w", es.ErrNotFound) }, es.ErrNotFound},
		"panic":              {func(func()) error { panic(boom) }, nil},
		"end of goroutine":   {func(func()) error { runtime.Goexit(); return nil }, nil},
		"end of the context": {func(cancel func()) error { cancel(); return nil }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newUpdateStore(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var err error
			var panicked any
			returned := false
			var wait sync.WaitGroup
			wait.Go(func() {
				defer func() { panicked = recover() }()
				err = db.Update(ctx, func(tx *sqlite.Tx) error {
					if err := everything(tx, 2); err != nil {
						t.Errorf("in the transaction: %v", err)
					}
					return test.end(cancel)
				})
				returned = true
			})
			wait.Wait()
			switch {
			case test.want != nil:
				wantError(t, "update", err, test.want)
			case returned:
				t.Errorf("update has returned: %v", err)
			case name == "panic" && panicked != any(boom):
				t.Errorf("the panic is %v, and not that of the function", panicked)
			}
			wantCounts(t, db, "1 1 1 1 1")
			must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { return everything(tx, 2) }))
			wantCounts(t, db, "2 2 2 2 2")
			wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2")
		})
	}
}

func TestAnUpdateWhoseContextHasEndedDoesNothing(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.Update(ctx, func(*sqlite.Tx) error { t.Error("it was called"); return nil })
	wantError(t, "update", err, context.Canceled)
}

// The context may end while the update waits for its turn, and nothing is done then.
func TestAnUpdateIsWithdrawnWhileItWaits(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	held, free := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		err := db.Update(context.Background(), func(*sqlite.Tx) error {
			close(held)
			<-free
			return nil
		})
		if err != nil {
			t.Errorf("the update that others wait for: %v", err)
		}
	})
	<-held
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		waiting <- db.Update(ctx, func(*sqlite.Tx) error { t.Error("it was called"); return nil })
	}()
	cancel()
	wantError(t, "update", <-waiting, context.Canceled)
	close(free)
	wait.Wait()
	appendTo(t, db, "order-1", 1)
	wantHistory(t, db, "order-1 1 Event1")
}

func TestAnUpdateEndsInTheMiddleOfALongStatement(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"that writes": "INSERT INTO orders (n) WITH RECURSIVE c(n) AS (SELECT 1000 UNION ALL SELECT n+1 FROM c) SELECT n FROM c",
		"that reads":  "WITH RECURSIVE c(n) AS (SELECT 1000 UNION ALL SELECT n+1 FROM c) SELECT count(*) FROM c",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := newUpdateStore(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := db.Update(ctx, func(tx *sqlite.Tx) error {
				if err := everything(tx, 2); err != nil {
					t.Errorf("in the transaction: %v", err)
				}
				go cancel()
				if err := tx.Exec(statement); err == nil {
					t.Error("the statement has come to its end")
				}
				return nil
			})
			wantError(t, "update", err, context.Canceled)
			wantCounts(t, db, "1 1 1 1 1")
			must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { return everything(tx, 2) }))
			wantCounts(t, db, "2 2 2 2 2")
		})
	}
}

// After SQLite has undone a transaction by itself, each statement that follows would be committed for itself.
func TestNothingIsCommittedAfterSQLiteHasUndoneTheTransaction(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{
		"INSERT OR ROLLBACK INTO orders (n) VALUES (1)",
		"INSERT INTO strict (n) VALUES (-1)",
	} {
		for _, ends := range []error{nil, errors.New("mine")} {
			db := newUpdateStore(t)
			update(t, db, "CREATE TABLE strict (n)", "CREATE TRIGGER positive BEFORE INSERT ON strict WHEN new.n < 0 "+
				"BEGIN SELECT RAISE(ROLLBACK, 'negative'); END")
			err := db.Update(t.Context(), func(tx *sqlite.Tx) error {
				must(t, everything(tx, 2))
				failed := tx.Exec(statement)
				if failed == nil {
					t.Errorf("%s: it was done", statement)
				}
				for what, err := range map[string]error{
					"own statement": tx.Exec("INSERT INTO orders (n) VALUES (3)"),
					"everything":    everything(tx, 4),
				} {
					if !errors.Is(err, failed) {
						t.Errorf("%s: %v, and not the error of before: %v", what, err, failed)
					}
				}
				return ends
			})
			if err == nil || ends != nil && !errors.Is(err, ends) {
				t.Errorf("the update has the outcome %v", err)
			}
			wantCounts(t, db, "1 1 1 1 1")
			must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { return everything(tx, 2) }))
			wantCounts(t, db, "2 2 2 2 2")
			wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2")
		}
	}
}

// What a role turns down leaves the transaction as it was before.
func TestATransactionGoesOnAfterAVerdict(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	taken := event("order-1", 7)
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		done, err := tx.Append(es.AppendTo("order-1", es.Exactly(1), taken))
		if err != nil || done.Places[0].Version != 2 {
			t.Errorf("append: %+v, %v", done, err)
		}
		_, err = tx.Append(es.AppendTo("order-1", es.Exactly(1), event("order-1", 8)))
		wantError(t, "an append at an old version", err, es.ErrConflict)
		_, err = tx.Append(es.AppendTo("order-2", es.NoStream, &es.Message{
			ID: taken.ID, Name: "Other", Schema: 1, Stream: "order-2", Time: taken.Time, ContentType: es.ContentTypeJSON,
		}))
		wantError(t, "an append with an ID that is taken", err, es.ErrDuplicate)
		_, err = tx.Append(es.Append{})
		wantError(t, "an append of nothing", err, es.ErrInvalid)
		wantError(t, "a message without a name", tx.Enqueue(&es.Message{}), es.ErrInvalid)
		err = tx.Project(es.Commit{Writes: []es.Write{
			{Model: "orders", Key: "2", Data: []byte("{}")}, {Model: "orders", Key: "1", Expect: es.NoStream},
		}})
		wantError(t, "a document that is there", err, es.ErrConflict)
		wantError(t, "a statement that is not allowed", tx.Exec("COMMIT"), es.ErrInvalid)
		if err := tx.Exec("INSERT INTO orders (n) VALUES (1)"); err == nil {
			t.Error("a row was inserted that is there")
		}
		_, err = tx.Load("", "1")
		wantError(t, "a model without a name", err, es.ErrInvalid)
		return everything(tx, 2)
	}))
	wantCounts(t, db, "3 2 2 2 2")
	wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event7", "order-1 3 Event2")
}

func TestATransactionSeesWhatItHasDone(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		must(t, everything(tx, 2))
		docs, err := tx.Load("orders", "2")
		if err != nil || docs[0].Revision == 0 {
			t.Errorf("the document is %+v: %v", docs, err)
		}
		progress, err := tx.Progress("orders")
		if err != nil || progress.Position != 2 {
			t.Errorf("the progress is %+v: %v", progress, err)
		}
		joined := ""
		err = tx.Query(func(r sqlite.Row) error {
			joined += rowText(r, 2) + ";"
			return nil
		}, "SELECT o.n, e.name FROM orders o JOIN es_events_1 e ON e.name = 'Event' || o.n ORDER BY o.n")
		if err != nil || joined != "1 Event1;2 Event2;" {
			t.Errorf("the join gives %q: %v", joined, err)
		}
		if done, err := tx.Append(es.AppendTo("order-1", es.Exactly(2), event("order-1", 3))); err != nil || done.Places[0].Version != 3 {
			t.Errorf("append: %+v, %v", done, err)
		}
		return nil
	}))
}

// Rows may be worked on while they are read.
func TestATransactionAppendsWhatItReads(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	update(t, db, "INSERT INTO orders (n) VALUES (2), (3)")
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		return tx.Query(func(r sqlite.Row) error {
			_, err := tx.Append(es.AppendTo("copy-1", es.Any, event("copy-1", int(r.Int64(0)))))
			return err
		}, "SELECT n FROM orders ORDER BY n")
	}))
	wantHistory(t, db, "order-1 1 Event1", "copy-1 1 Event1", "copy-1 2 Event2", "copy-1 3 Event3")
}

func TestARowGivesItsColumns(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	update(t, db, "CREATE TABLE kinds (i, l, f, b, t, x, n)")
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		return tx.Exec("INSERT INTO kinds VALUES (?, ?, ?, ?, ?, ?, ?)", 1, int64(1)<<40, 2.5, true, "text", []byte{0, 1}, nil)
	}))
	wantRows(t, db, 7, "SELECT typeof(i), typeof(l), typeof(f), typeof(b), typeof(t), typeof(x), typeof(n) FROM kinds",
		"integer integer real integer text blob null") //nolint:dupword // the kinds of several columns
	must(t, db.View(t.Context(), func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			if r.Int64(0) != 1 || r.Int64(1) != 1<<40 || r.Float64(2) != 2.5 || r.Int64(3) != 1 || r.Text(4) != "text" ||
				string(r.Bytes(5)) != "\x00\x01" || !r.IsNull(6) || r.IsNull(0) || r.Bytes(6) != nil || r.Text(6) != "" {
				t.Errorf("the row is %q", rowText(r, 7))
			}
			return nil
		}, "SELECT * FROM kinds WHERE i = ?", 1) //nolint:unqueryvet // it is about the columns there are
	}))
}

func TestAStatementThatIsNotOneIsInvalid(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		for _, test := range []struct {
			query string
			args  []any
		}{
			{"", nil},
			{" -- nothing", nil},
			{"INSERT INTO orders (n) VALUES (5); INSERT INTO orders (n) VALUES (6)", nil},
			{"INSERT INTO orders (n) VALUES (5); COMMIT", nil},
			{"INSERT INTO orders (n) VALUES (?)", nil},
			{"INSERT INTO orders (n) VALUES (?)", []any{5, 6}},
			{"INSERT INTO orders (n) VALUES (?)", []any{struct{}{}}},
			{"INSERT INTO orders (n) VALUES (?)", []any{uint8(5)}},
		} {
			wantError(t, test.query, tx.Exec(test.query, test.args...), es.ErrInvalid)
		}
		for _, query := range []string{"INSERT INTO nowhere VALUES (1)", "INSRT"} {
			if err := tx.Exec(query); err == nil {
				t.Errorf("%s: it was done", query)
			}
		}
		return tx.Exec("INSERT INTO orders (n) VALUES (2); -- and that is all")
	}))
	wantRows(t, db, 1, "SELECT n FROM orders", "1", "2")
}

func TestAnErrorOfTheRowFunctionEndsTheStatement(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	mine := errors.New("mine")
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		seen := 0
		err := tx.Query(func(sqlite.Row) error { seen++; return mine }, "SELECT 1 UNION ALL SELECT 2")
		if !errors.Is(err, mine) || seen != 1 {
			t.Errorf("after %d rows: %v", seen, err)
		}
		return everything(tx, 2)
	}))
	wantCounts(t, db, "2 2 2 2 2")
}

func TestATransactionIsOfNoUseWhenItIsOver(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	var kept *sqlite.Tx
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { kept = tx; return nil }))
	_, appended := kept.Append(es.AppendTo("order-1", es.Any, event("order-1", 2)))
	_, loaded := kept.Load("orders", "1")
	_, asked := kept.Progress("orders")
	for what, err := range map[string]error{
		"append": appended, "load": loaded, "progress": asked, "enqueue": kept.Enqueue(event("mail-1", 2)),
		"project": kept.Project(es.Commit{}), "exec": kept.Exec("DELETE FROM orders"),
		"query": kept.Query(func(sqlite.Row) error { return nil }, "SELECT 1"),
	} {
		wantError(t, what, err, es.ErrInvalid)
	}
	wantCounts(t, db, "1 1 1 1 1")
}

func TestUpdatesAndAppendsComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	const each = 40
	var wait sync.WaitGroup
	for n := range 4 {
		wait.Go(func() {
			for i := range each {
				if n%2 == 0 {
					appendTo(t, db, "order-2", i)
					continue
				}
				err := db.Update(t.Context(), func(tx *sqlite.Tx) error {
					for range 2 {
						if _, err := tx.Append(es.AppendTo("order-2", es.Any, event("order-2", i))); err != nil {
							return err
						}
					}
					if i%2 == 1 {
						return es.ErrConflict // and all of it is gone
					}
					return nil
				})
				if i%2 == 0 && err != nil || i%2 == 1 && !errors.Is(err, es.ErrConflict) {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wait.Wait()
	version := int64(0)
	for m, err := range db.Events().Read(t.Context(), es.Query{Stream: "order-2"}) {
		must(t, err)
		if version++; m.Version != version {
			t.Fatalf("version %d comes after %d", m.Version, version-1)
		}
	}
	if version != 4*each {
		t.Errorf("there are %d events, and not %d", version, 4*each)
	}
}

func TestAClosedStoreTakesNoUpdates(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	closed := make(chan error, 1)
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { // it is waited for
		go func() { closed <- db.Close() }()
		_, err := tx.Append(es.AppendTo("order-1", es.NoStream, event("order-1", 1)))
		return err
	}))
	must(t, <-closed)
	wantError(t, "update", db.Update(t.Context(), func(*sqlite.Tx) error { return nil }), es.ErrClosed)
	wantError(t, "view", db.View(t.Context(), func(*sqlite.View) error { return nil }), es.ErrClosed)
}

func TestAViewIsOneSnapshot(t *testing.T) {
	t.Parallel()
	db := newUpdateStore(t)
	must(t, db.View(t.Context(), func(v *sqlite.View) error {
		count := func() (n int64) {
			err := v.Query(func(r sqlite.Row) error { n = r.Int64(0); return nil },
				"SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM es_events_1)")
			if err != nil {
				t.Errorf("query: %v", err)
			}
			return n
		}
		before := count()
		must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error { return everything(tx, 2) }))
		if after := count(); before != 2 || after != 2 {
			t.Errorf("there were %d rows, and then %d", before, after)
		}
		return nil
	}))
	wantCounts(t, db, "2 2 2 2 2")
}

func TestAViewEndsWithItsContext(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := db.View(ctx, func(v *sqlite.View) error {
		go cancel()
		return v.Query(nil, "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT count(*) FROM c")
	})
	wantError(t, "view", err, context.Canceled)
	wantRows(t, db, 1, "SELECT 1", "1") // and the connection is fine
	err = db.View(ctx, func(*sqlite.View) error { t.Error("it was called"); return nil })
	wantError(t, "view", err, context.Canceled)
}

func TestAViewLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	db := openStore(t, sqlite.Config{Path: tempFile(t), Readers: 1})
	mine := errors.New("mine")
	var kept *sqlite.View
	for name, end := range map[string]func() error{
		"error": func() error { return mine }, "panic": func() error { panic(mine) },
		"end of goroutine": func() error { runtime.Goexit(); return nil },
	} {
		var err error
		var wait sync.WaitGroup
		wait.Go(func() {
			defer func() { _ = recover() }() // it is what the test is about
			err = db.View(t.Context(), func(v *sqlite.View) error {
				kept = v
				return end()
			})
		})
		wait.Wait()
		if name == "error" && !errors.Is(err, mine) {
			t.Errorf("view: %v", err)
		}
		wantError(t, "a view that is over", kept.Query(nil, "SELECT 1"), es.ErrInvalid)
		appendTo(t, db, "order-1", 1)
		wantRows(t, db, 1, "SELECT max(position) = (SELECT count(*) FROM es_events_1) FROM es_events_1", "1")
	}
	wantRows(t, db, 1, "SELECT count(*) FROM es_events_1", "3")
}
