package sqlite

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	lite "zombiezen.com/go/sqlite"
)

// AwaitSweep waits until there is nothing left to remove of models that were dropped.
func (db *DB) AwaitSweep() { db.models.sweeper.ended.Wait() }

// Sweep has the sweeper look for models that were dropped, as if one had been dropped by this handle.
func (db *DB) Sweep() { db.models.sweeper.wake() }

// SweepSlice takes a model's name away and removes one slice of its documents.
func (db *DB) SweepSlice(model string) error {
	ctx := db.models.sweeper.ctx
	err := db.write(ctx, &op{run: func(tx *txn) error { return tx.write(db.models.sql.hideModel, model) }})
	if err == nil {
		_, err = db.models.sweepSlice(ctx)
	}
	return err
}

// Backdate makes everything that dedupe has in the file older, as if so much time had passed.
func (db *DB) Backdate(by time.Duration) error {
	return db.write(db.models.sweeper.ctx, &op{run: func(tx *txn) error {
		if err := tx.write(db.sql("UPDATE es_dedupe_done_$ SET time = time - ?"), by.Microseconds()); err != nil {
			return err
		}
		return tx.write(db.sql("UPDATE es_dedupe_reserved_$ SET until = until - ?"), by.Microseconds())
	}})
}

// TestStatementsOfTheRolesFindTheirRows asks SQLite how it runs each statement: none goes through a whole table, or sorts.
func TestStatementsOfTheRolesFindTheirRows(t *testing.T) {
	t.Parallel()
	db, err := Open(Config{Path: filepath.Join(t.TempDir(), "items.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, statements := range []any{db.models.sql, db.leases.sql, db.snapshots.sql, db.dedupe.sql} {
		all := reflect.ValueOf(statements)
		for i := range all.NumField() {
			name, query := all.Type().Name()+"."+all.Type().Field(i).Name, all.Field(i).String()
			for _, step := range plan(t, db, query) {
				if strings.Contains(step, "SCAN") || strings.Contains(step, "TEMP B-TREE") {
					t.Errorf("%s: %s\n%s", name, step, query)
				}
			}
		}
	}
}

// plan returns the steps in which SQLite runs a statement.
func plan(t *testing.T, db *DB, query string) []string {
	t.Helper()
	var steps []string
	err := db.readers.read(t.Context(), func(c *conn) error {
		return c.query(func(stmt *lite.Stmt) error {
			steps = append(steps, stmt.ColumnText(3))
			return nil
		}, "EXPLAIN QUERY PLAN "+query)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return steps
}

// TestKeyRange looks at the bounds between which the keys are that a list gives.
func TestKeyRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ prefix, after, from, to string }{
		{"", "", "", "\xff"},
		{"a", "", "a", "b"},
		{"a", "a", "a\x00", "b"},
		{"a", "A", "a", "b"},
		{"a", "b", "b\x00", "b"},
		{"", "b", "b\x00", "\xff"},
		{"\U0010ffff", "", "\U0010ffff", "\xf4\x8f\xbf\xc0"},
		{"\x7f", "", "\x7f", "\x80"},
	} {
		if from, to := keyRange(c.prefix, c.after); from != c.from || to != c.to {
			t.Errorf("prefix %q after %q: from %q to %q, want from %q to %q", c.prefix, c.after, from, to, c.from, c.to)
		}
	}
}

// TestNoLeaseIsOverBeforeItBegan has leases of less than a microsecond, which is the least that a file can hold.
func TestNoLeaseIsOverBeforeItBegan(t *testing.T) {
	t.Parallel()
	const now = 1_000_000
	for ttl, want := range map[time.Duration]int64{
		1: now + 1, 999: now + 1, time.Microsecond: now + 1, 2999: now + 2, time.Second: now + 1_000_000,
		1<<63 - 1: now + (1<<63-1)/1000,
	} {
		if got := leaseEnd(now, ttl); got != want {
			t.Errorf("a lease of %v from %d on ends at %d, want %d", ttl, now, got, want)
		}
	}
}
