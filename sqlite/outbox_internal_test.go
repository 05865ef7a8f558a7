package sqlite

import (
	"context"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outboxStatements are the statements of an outbox, by their names.
func outboxStatements(db *DB) map[string]string {
	statements, fields := map[string]string{}, reflect.ValueOf(db.outbox.sql)
	for i := range fields.NumField() {
		statements[fields.Type().Field(i).Name] = fields.Field(i).String()
	}
	return statements
}

func openInternal(t *testing.T, c Config) *DB {
	t.Helper()
	c.Path = filepath.Join(t.TempDir(), "items.db")
	db, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// inspect has a test use a connection that can write, in a transaction that is rolled back.
func inspect(t *testing.T, db *DB, do func(c *conn) error) {
	t.Helper()
	err := db.write(t.Context(), &op{how: alone, run: func(tx *txn) error { return do(tx.conn) }})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOutboxStatementsScanNothing asks SQLite how it does each statement: by search, however much there is in the outbox.
func TestOutboxStatementsScanNothing(t *testing.T) {
	t.Parallel()
	db := openInternal(t, Config{})
	slow := regexp.MustCompile(`SCAN (e|s|t|d|es_)|TEMP B-TREE|AUTOMATIC`)
	inspect(t, db, func(c *conn) error {
		for name, statement := range outboxStatements(db) {
			var plan []string
			stmt, err := c.prepare("EXPLAIN QUERY PLAN " + statement)
			if err != nil {
				return err
			}
			err = each(stmt, func(stmt *lite.Stmt) error {
				plan = append(plan, stmt.ColumnText(3))
				return nil
			})
			if err != nil {
				return err
			}
			if text := strings.Join(plan, "\n"); slow.MatchString(text) {
				t.Errorf("%s:\n%s\nis done so:\n%s", name, statement, text)
			}
		}
		return nil
	})
}

// TestOutboxStatementsArePlannedOnce runs each statement again, with other values: SQLite is not to make its plan anew, which it does
// where it has looked at the values. It asks an authorizer whenever it makes one.
func TestOutboxStatementsArePlannedOnce(t *testing.T) {
	t.Parallel()
	db := openInternal(t, Config{})
	asked := 0
	inspect(t, db, func(c *conn) error {
		err := c.SetAuthorizer(lite.AuthorizeFunc(func(lite.Action) lite.AuthResult {
			asked++
			return lite.AuthResultOK
		}))
		if err != nil {
			return err
		}
		for name, statement := range outboxStatements(db) {
			for run := range 4 {
				if err := c.query(nil, "SAVEPOINT run"); err != nil {
					return err
				}
				before := asked
				stmt, err := c.prepare(statement)
				if err != nil {
					return err
				}
				for parameter := range stmt.BindParamCount() {
					stmt.BindInt64(parameter+1, int64(run*100+parameter))
				}
				// The values are no messages, and a table may refuse them, which is after the plan.
				if err := each(stmt, nil); err != nil && lite.ErrCode(err).ToPrimary() != lite.ResultConstraint {
					return err
				}
				if planned := asked > before; planned != (run == 0) {
					t.Errorf("%s:\n%s\nhas a new plan in run %d: %v", name, statement, run, planned)
				}
				if err := c.query(nil, "ROLLBACK TO run"); err != nil {
					return err
				}
			}
		}
		return c.SetAuthorizer(c.guard)
	})
}

// TestOutboxRingsItsBell waits on a handle that does not look for what others write, so that only the bell can wake.
func TestOutboxRingsItsBell(t *testing.T) {
	t.Parallel()
	db := openInternal(t, Config{PollInterval: time.Hour})
	o := db.Outbox()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	first, second := es.NewMessage("a", "First", nil), es.NewMessage("a", "Second", nil)
	var entries []es.Entry
	fail := func(f es.Failure) func() error {
		return func() error { return o.Fail(ctx, entries[:1], f) }
	}
	release := func() error { return o.Release(ctx, entries) }
	park := func() error {
		if err := o.Fail(ctx, entries[:1], es.Failure{Err: es.ErrInvalid, Park: true}); err != nil {
			return err
		}
		return o.Release(ctx, entries[1:])
	}
	nothing := func() error { return nil }
	for _, step := range []struct {
		what         string
		before, wake func() error
	}{
		{"an enqueue", nothing, func() error { return o.Enqueue(ctx, first, second) }},
		{"a release", nothing, release},
		{"a failure", func() error { return o.Release(ctx, entries[1:]) }, fail(es.Failure{Err: es.ErrConflict})},
		{"a replay", park, func() error { return o.Replay(ctx, first.ID) }},
		{"a discard", park, func() error { return o.Discard(ctx, first.ID) }},
		{"an enqueue to another stream", nothing, func() error { return o.Enqueue(ctx, es.NewMessage("b", "Third", nil)) }},
	} {
		must(step.what, step.before())
		woken := make(chan error, 1)
		go func() { woken <- o.Wait(ctx) }()
		for waiting := 0; waiting == 0; runtime.Gosched() {
			db.watch.mu.Lock()
			waiting = db.watch.waiting
			db.watch.mu.Unlock()
		}
		must(step.what, step.wake())
		must("wait for "+step.what, <-woken)
		entries = make([]es.Entry, 10)
		n, err := o.Claim(ctx, entries, es.ClaimOptions{Owner: "A", Lease: time.Hour})
		must("claim after "+step.what, err)
		if entries = entries[:n]; n == 0 {
			t.Fatalf("nothing to claim after %s", step.what)
		}
	}
}
