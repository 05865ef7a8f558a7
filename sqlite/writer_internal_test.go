package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

func openTemp(t *testing.T, c Config) *DB {
	t.Helper()
	c.Path = filepath.Join(t.TempDir(), "items.db")
	db, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func numbers(t *testing.T, c *conn) string {
	t.Helper()
	var all []string
	err := c.query(func(stmt *lite.Stmt) error {
		all = append(all, stmt.ColumnText(0))
		return nil
	}, "SELECT substr(n, 1, 20) FROM mine ORDER BY rowid")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// SQLite undoes a transaction by itself after some errors. What a batch does after that is committed one by one, and what it did before
// is lost: so it would be in a loop that goes on, or tells everybody that all is well.
func TestALoopThatGoesOnAfterAnErrorCommitsInPart(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(t *testing.T, disk *powerloss.Disk, c *conn){
		"conflict": func(t *testing.T, _ *powerloss.Disk, c *conn) {
			if err := c.query(nil, "INSERT OR ROLLBACK INTO mine VALUES ('first')"); err == nil {
				t.Error("the first was inserted twice")
			}
		},
		"full disk": func(t *testing.T, disk *powerloss.Disk, c *conn) {
			disk.Fill(100_000)
			var err error
			for n := 0; err == nil; n++ {
				err = c.query(nil, "INSERT INTO mine VALUES (?)", fmt.Sprint(n, strings.Repeat(" large", 10_000)))
			}
			if !errors.Is(err, ErrDiskFull) {
				t.Error(err)
			}
			disk.Heal()
		},
		"end of a context": func(t *testing.T, _ *powerloss.Disk, c *conn) {
			ended, cancel := context.WithCancel(t.Context())
			c.SetInterrupt(ended.Done())
			if err := c.CreateFunction("end", &lite.FunctionImpl{Scalar: func(lite.Context, []lite.Value) (lite.Value, error) {
				cancel() // in the middle of the statement
				return lite.Value{}, nil
			}}); err != nil {
				t.Fatal(err)
			}
			err := c.query(nil, "INSERT INTO mine WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r) "+
				"SELECT CASE n WHEN 2 THEN coalesce(\"end\"(), n) ELSE n END FROM r")
			if lite.ErrCode(err) != lite.ResultInterrupt {
				t.Error(err)
			}
			c.SetInterrupt(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := powerloss.NewDisk(t, powerloss.Config{})
			c, err := openConn(Config{Path: "mine.db", vfs: disk.Name()}, lite.OpenReadWrite|lite.OpenCreate)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.closeConn() }() // its error is of no interest
			for _, statement := range []string{
				"PRAGMA journal_mode=WAL", "CREATE TABLE mine (n UNIQUE)", "BEGIN IMMEDIATE", "INSERT INTO mine VALUES ('first')",
			} {
				if err := c.query(nil, statement); err != nil {
					t.Fatal(err)
				}
			}
			fail(t, disk, c)
			if err := c.query(nil, "INSERT INTO mine VALUES ('last')"); err != nil {
				t.Error(err)
			}
			if err := c.query(nil, "COMMIT"); err == nil {
				t.Error("there was something to commit")
			}
			if got := numbers(t, c); got != "last" {
				t.Errorf("there is %q", got)
			}
		})
	}
}

// In a batch each has the outcome that it is told, whatever has become of the transaction in between.
func TestABatchIsNotCommittedInPart(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	for name, fail := range map[string]func(tx *txn) error{
		"undone, and told":        func(tx *txn) error { return tx.write("INSERT OR ROLLBACK INTO mine VALUES (0)") },
		"undone, and passed over": func(tx *txn) error { _ = tx.write("INSERT OR ROLLBACK INTO mine VALUES (0)"); return nil },
		"a statement":             func(tx *txn) error { return tx.write("INSERT INTO mine VALUES (0)") },
		"a statement that went":   func(tx *txn) error { return errors.Join(tx.write("INSERT INTO mine VALUES (100)"), mine) },
		"a verdict":               func(*txn) error { return mine },
		"a panic":                 func(tx *txn) error { _ = tx.write("INSERT INTO mine VALUES (100)"); panic(mine) },
	} {
		for _, how := range []manner{shared, guarded} {
			t.Run(fmt.Sprint(name, how), func(t *testing.T) {
				t.Parallel()
				db := openTemp(t, Config{})
				if err := db.Update(t.Context(), func(tx *Tx) error {
					return errors.Join(tx.Exec("CREATE TABLE mine (n UNIQUE)"), tx.Exec("INSERT INTO mine VALUES (0)"))
				}); err != nil {
					t.Fatal(err)
				}
				var ops []*op
				for n := range 7 {
					committed := 0
					ops = append(ops, &op{run: func(tx *txn) error { return tx.write("INSERT INTO mine VALUES (?)", n+1) }, how: how,
						committed: func() {
							if committed++; committed > 1 {
								t.Errorf("op %d was committed %d times", n, committed)
							}
						}})
				}
				ops[3].run = fail
				db.writer.doAll(t.Context(), ops)
				for n, o := range ops {
					if (o.err != nil) != (n == 3) {
						t.Errorf("op %d has the outcome %v", n, o.err)
					}
				}
				if err := db.read(t.Context(), func(c *conn) error {
					if got := numbers(t, c); got != "0 1 2 3 5 6 7" {
						t.Errorf("there is %q", got)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
				if _, err := db.Events().Append(t.Context(), es.AppendTo("order-1", es.NoStream,
					es.NewMessage("order-1", "Placed", nil))); err != nil {
					t.Errorf("append: %v", err)
				}
			})
		}
	}
}

// A reader's snapshot is taken before the index is brought into the file, merged, and forgotten in memory. It has the whole history all
// the same: from the runs of its snapshot, and from the log what no run had then.
func TestAReaderOfAnOldSnapshotMissesNothing(t *testing.T) {
	t.Parallel()
	const events = 100
	db := openTemp(t, Config{runEvents: 10})
	add := func() {
		var batch []es.Append
		for range events {
			batch = append(batch, es.AppendTo("order-1", es.Any, es.NewMessage("order-1", "Placed", nil)))
		}
		for _, o := range db.Events().AppendEach(t.Context(), batch) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
		}
	}
	add()
	queries := []es.Query{{Stream: "order-1"}, {Category: "order"}, {Names: []string{"Placed"}}, {Stream: "order-1", Reverse: true}}
	err := db.read(t.Context(), func(c *conn) error {
		if last, err := c.number(db.events.log.sql.last); err != nil || last != events { // with this the snapshot begins
			t.Fatalf("the last position is %d: %v", last, err)
		}
		before, _, err := db.events.log.readState(c)
		if err != nil {
			return err
		}
		for range 10 {
			add()
			for db.events.log.tail.Base() < int64(events) { // until the indexer has cut the tail behind the snapshot's end
				select {
				case <-t.Context().Done():
					return t.Context().Err()
				default:
				}
			}
		}
		if now := db.events.log.runs.Load(); now.generation <= before || now.last <= events {
			t.Errorf("the runs are of generation %d, up to position %d", now.generation, now.last)
		}
		for _, q := range queries {
			r := &logReader{log: db.events.log, query: q}
			n := 0
			for !r.done {
				if err := r.fetch(c); err != nil {
					return fmt.Errorf("%+v: %w", q, err)
				}
				for range r.page {
					n++
					r.took()
				}
			}
			if n != events {
				t.Errorf("%+v has %d events", q, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// While the body of a loop runs, the reader holds no snapshot, so that the log begins anew however long the body takes.
func TestTheLogDoesNotGrowWhileALoopBodyRuns(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	db, err := Open(Config{Path: "items.db", vfs: disk.Name(), CheckpointPages: 50})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	add := func(n int) {
		for range n {
			m := es.NewMessage("order-1", "Placed", []byte(strings.Repeat("x", 8000)))
			if _, err := db.Events().Append(t.Context(), es.AppendTo("order-1", es.Any, m)); err != nil {
				t.Fatal(err)
			}
		}
	}
	const bound = 200 * 4096
	size := func() int { return len(disk.File("items.db-wal")) }
	add(100)
	for _, q := range []es.Query{{}, {Stream: "order-1"}, {Category: "order", Reverse: true}} {
		seen := 0
		for _, err := range db.Events().Read(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if seen++; seen == 5 {
				add(200)
			}
		}
		if size() > bound {
			t.Errorf("the log has grown to %d bytes while the body of %+v ran", size(), q)
		}
	}
	err = db.View(t.Context(), func(v *View) error { // this does hold one
		err := v.Query(nil, "SELECT count(*) FROM es_events_1")
		add(200)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if size() <= bound {
		t.Errorf("beside a snapshot the log has %d bytes; does it hold what it is to hold?", size())
	}
}
