package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// everythingInTx does everything that a transaction of InTx can.
func everythingInTx(ctx context.Context, tx *postgres.Tx, n int) error {
	before, err := tx.Progress("orders")
	if err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	tx.Append(es.AppendTo("order-1", es.Any, numbered("order-1", n)))
	if err := tx.Enqueue(numbered("mail-1", n)); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	c := projection(n)
	c.Progress.From = before
	if err := tx.Project(c); err != nil {
		return fmt.Errorf("project: %w", err)
	}
	if docs, err := tx.Load("orders", strconv.Itoa(n)); err != nil || docs[0].Revision == 0 {
		return fmt.Errorf("load: %v %w", docs, err)
	}
	_, err = tx.Exec(ctx, "INSERT INTO orders (n) VALUES ($1)", n)
	return err
}

func (p *program) inTx(do func(tx *postgres.Tx) error) error {
	return p.db.InTx(p.ctx, pgx.TxOptions{}, do)
}

func TestInTxDoesAllOrNothing(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var noReturn error
	type tx = *postgres.Tx
	for name, test := range map[string]struct {
		end  func(p *program, tx tx, cancel func()) error
		want error // nil: the function does not return
	}{
		"error":                {func(*program, tx, func()) error { return boom }, boom},
		"verdict of a role":    {func(*program, tx, func()) error { return fmt.Errorf("mine: %w", es.ErrNotFound) }, es.ErrNotFound},
		"panic":                {func(*program, tx, func()) error { panic(boom) }, noReturn},
		"end of the goroutine": {func(*program, tx, func()) error { runtime.Goexit(); return nil }, noReturn},
		"end of the context":   {func(_ *program, _ tx, cancel func()) error { cancel(); return nil }, context.Canceled},
		"conflict at the end": {func(_ *program, tx tx, _ func()) error {
			tx.Append(es.AppendTo("order-2", es.NoStream, numbered("order-2", 1)))
			tx.Append(es.AppendTo("order-1", es.NoStream, numbered("order-1", 3)))
			return nil
		}, es.ErrConflict},
		"duplicate at the end": {func(_ *program, tx tx, _ func()) error {
			m := numbered("mail-1", 5)
			other := m.Clone()
			other.Data = nil
			return tx.Enqueue(m, other)
		}, es.ErrDuplicate},
		"append that is invalid": {func(_ *program, tx tx, _ func()) error {
			if done := tx.Append(es.Append{}); !errors.Is(done.Err, es.ErrInvalid) {
				return boom
			}
			return nil
		}, es.ErrInvalid},
		"constraint at the end": {func(p *program, tx tx, _ func()) error {
			_, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES (1)")
			return err
		}, errUnique},
		"error that is passed over": {func(p *program, tx tx, _ func()) error {
			_, _ = tx.Exec(p.ctx, "SELECT 1 / 0")
			return nil
		}, es.ErrInvalid},
		"ROLLBACK": {func(p *program, tx tx, _ func()) error {
			_, err := tx.Exec(p.ctx, "ROLLBACK")
			return err
		}, es.ErrInvalid},
		"loss of the connection": {func(p *program, tx tx, _ func()) error {
			_, err := tx.Exec(p.ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
			return err
		}, postgres.ErrUnavailable},
		"loss that is passed over": {func(p *program, tx tx, _ func()) error {
			_, _ = tx.Exec(p.ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
			return nil
		}, postgres.ErrUnavailable},
		"time limit": {func(p *program, tx tx, _ func()) error {
			_, err := tx.Exec(p.ctx, "SET LOCAL statement_timeout = 1; SELECT pg_sleep(60)")
			return fmt.Errorf("mine: %w", err)
		}, postgres.ErrBusy},
		"rows that are left open": {func(p *program, tx tx, _ func()) error {
			_, err := tx.Query(p.ctx, "SELECT generate_series(1, 10)") //nolint:sqlclosecheck // it is what is tested
			return err
		}, errBusyConnection},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			p.must(p.inTx(func(tx *postgres.Tx) error { return everythingInTx(p.ctx, tx, 1) }))
			p.wantCounts("1 1 1 1 1")
			ctx, cancel := context.WithCancel(p.ctx)
			defer cancel()
			var err error
			var panicked any
			returned := false
			var wait sync.WaitGroup
			wait.Go(func() {
				defer func() { panicked = recover() }()
				err = p.db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
					if err := everythingInTx(ctx, tx, 2); err != nil {
						t.Errorf("in the transaction: %v", err)
					}
					return test.end(p, tx, cancel)
				})
				returned = true
			})
			wait.Wait()
			switch {
			case test.want == errUnique || test.want == errBusyConnection: //nolint:errorlint // they stand for errors that have no name
				if err == nil {
					t.Errorf("it is committed; want %v", test.want)
				}
			case test.want != nil:
				wantError(t, "InTx", err, test.want)
			case returned:
				t.Errorf("InTx has returned: %v", err)
			case name == "panic" && panicked != any(boom):
				t.Errorf("the panic is %v, and not that of the function", panicked)
			}
			p.wantCounts("1 1 1 1 1")
			p.must(p.inTx(func(tx *postgres.Tx) error { return everythingInTx(p.ctx, tx, 2) }))
			p.wantCounts("2 2 2 2 2")
			if got := p.history(); got != "order-1 1, order-1 2" {
				t.Errorf("the events are %s", got)
			}
		})
	}
}

// Errors of the driver that are none of ours.
var (
	errUnique         = errors.New("a unique key is violated")
	errBusyConnection = errors.New("the connection is busy")
)

// The function may take its time: it has no position, and no lock of a stream, until it returns.
func TestInTxHoldsNothingWhileItRuns(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	var last *es.Outcome
	m := numbered("order-1", 2)
	p.must(p.inTx(func(tx *postgres.Tx) error {
		if _, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES (1)"); err != nil {
			return err
		}
		last = tx.Append(es.AppendTo("order-1", es.Any, m))
		m.Data = []byte("changed since") // it is the caller's again
		if last.Err == nil {
			t.Error("an append is done that is not committed")
		}
		first, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, numbered("order-1", 1)))
		if err != nil {
			return err
		}
		head, err := p.events.Head(p.ctx)
		if err == nil && head.Position != first.Position {
			t.Errorf("the head is at %d, and the last event at %d", head.Position, first.Position)
		}
		return err
	}))
	if last.Err != nil || len(last.Places) != 1 || last.Places[0].Version != 2 {
		t.Errorf("the outcome of the append is %+v", last)
	}
	for e, err := range p.events.Read(p.ctx, es.Query{Stream: "order-1", After: 1}) {
		p.must(err)
		if string(e.Data) != `{"n":2}` {
			t.Errorf("the event has the data %s", e.Data)
		}
	}
}

func TestInTxTellsWhatBecameOfItsAppends(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	var first, again, conflict, late *es.Outcome
	var over *postgres.Tx
	m := numbered("order-1", 1)
	p.must(p.inTx(func(tx *postgres.Tx) error {
		over = tx
		first = tx.Append(es.AppendTo("order-1", es.NoStream, m))
		again = tx.Append(es.AppendTo("order-1", es.Any, m))
		return nil
	}))
	if first.Err != nil || again.Err != nil || first.Existing != 0 || again.Existing != 1 || first.Position != again.Position {
		t.Errorf("the outcomes are %+v and %+v", first, again)
	}
	err := p.inTx(func(tx *postgres.Tx) error {
		first = tx.Append(es.AppendTo("order-2", es.NoStream, numbered("order-2", 1)))
		conflict = tx.Append(es.AppendTo("order-1", es.NoStream, numbered("order-1", 2)))
		return nil
	})
	wantError(t, "InTx", err, es.ErrConflict)
	for _, o := range []*es.Outcome{first, conflict} {
		if wantError(t, "the outcome of an append", o.Err, es.ErrConflict); len(o.Places) > 0 {
			t.Errorf("an append that was undone has the places %v", o.Places)
		}
	}
	late = over.Append(es.AppendTo("order-3", es.Any, numbered("order-3", 1)))
	wantError(t, "an append when it is over", late.Err, es.ErrInvalid)
	wantError(t, "a message when it is over", over.Enqueue(m), es.ErrInvalid)
	wantError(t, "a commit when it is over", over.Project(projection(1)), es.ErrInvalid)
	_, err = over.Exec(p.ctx, "SELECT 1")
	wantError(t, "a statement when it is over", err, pgx.ErrTxClosed)
	if got := p.history(); got != "order-1 1" {
		t.Errorf("the events are %s", got)
	}
}

func TestInTxWakesReaders(t *testing.T) {
	t.Parallel()
	p := newProgram(t, rarelyLooking)
	another := rarelyLooking
	another.URL = p.url
	for n, db := range []*postgres.DB{p.db, openDB(t, another)} {
		woken := wake(p, db)
		p.must(p.inTx(func(tx *postgres.Tx) error { return everythingInTx(p.ctx, tx, n+1) }))
		p.must(<-woken)
	}
}

// The level of isolation is the program's. Where PostgreSQL undoes a transaction because of others, it is said so, and the function has run
// once.
func TestInTxSaysThatOthersWereInTheWay(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.exec("INSERT INTO orders (n) VALUES (1), (2)")
	for name, test := range map[string]struct {
		level      pgx.TxIsoLevel
		read, then string
	}{
		"serialization": {pgx.Serializable, "SELECT sum(n) FROM orders WHERE n <> $1", "INSERT INTO orders (n) VALUES ($1 + 10)"},
		"deadlock": {pgx.ReadCommitted, "SELECT n FROM orders WHERE n = $1 FOR UPDATE",
			"SELECT n FROM orders WHERE n = 3 - $1 FOR UPDATE"},
	} {
		var both, wait sync.WaitGroup // both have read before one goes on
		both.Add(2)
		var calls [2]int
		var errs [2]error
		for i := range 2 {
			wait.Go(func() {
				errs[i] = p.db.InTx(p.ctx, pgx.TxOptions{IsoLevel: test.level}, func(tx *postgres.Tx) error {
					calls[i]++
					tx.Append(es.AppendTo(name+strconv.Itoa(i), es.Any, numbered(name+strconv.Itoa(i), 1)))
					_, err := tx.Exec(p.ctx, test.read, i+1)
					both.Done()
					both.Wait()
					if err != nil {
						return err
					}
					_, err = tx.Exec(p.ctx, test.then, i+1)
					return err
				})
			})
		}
		wait.Wait()
		failed := errors.Join(errs[:]...)
		if wantError(t, name, failed, postgres.ErrBusy); errs[0] != nil && errs[1] != nil {
			t.Errorf("%s: both were undone: %v", name, failed)
		}
		if calls != [2]int{1, 1} {
			t.Errorf("%s: the functions were called %v times", name, calls)
		}
		if got := p.value("SELECT count(*) FROM eventsourcing.events_1 WHERE category LIKE $1", name+"%"); got != "1" {
			t.Errorf("%s: %s events are there", name, got)
		}
	}
}

// Transactions that append to the same streams, each in its own order, do not wait for each other in a circle.
func TestInTxTakesTheStreamsOfAllAppendsInOneOrder(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	const rounds = 20
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for n := range rounds {
				err := p.inTx(func(tx *postgres.Tx) error {
					for j := range 4 {
						stream := "order-" + strconv.Itoa((i+j*(1+2*(i%2)))%4) // forward or backward
						tx.Append(es.Append{
							Streams: []es.StreamAppend{{Stream: stream, Events: []*es.Message{numbered(stream, n)}}},
							Unless:  []es.Condition{{Match: []es.Criterion{{Tags: []string{"none-" + strconv.Itoa((i+j)%4)}}}}},
						})
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if got := p.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); got != "0" {
		t.Errorf("there were %s deadlocks", got)
	}
	if got, want := p.value("SELECT min(n) || ' ' || max(n) FROM (SELECT max(version) n FROM eventsourcing.events_1 GROUP BY stream) s"),
		fmt.Sprintf("%d %[1]d", 4*rounds); got != want {
		t.Errorf("the streams have %s events, and not %s", got, want)
	}
}

func TestInTxIsDurableWhateverTheDefaultIs(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.exec(`CREATE TABLE seen (setting text);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;
		CREATE CONSTRAINT TRIGGER see AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()`)
	for n, setting := range []string{"off", "local", "remote_apply"} {
		p.must(p.inTx(func(tx *postgres.Tx) error {
			_, err := tx.Exec(p.ctx, "SELECT set_config('synchronous_commit', $1, true)", setting)
			if err == nil {
				_, err = tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES ($1)", n)
			}
			return err
		}))
	}
	if got := p.value("SELECT string_agg(setting, ' ') FROM seen"); got != strings.Join([]string{"on", "on", "remote_apply"}, " ") {
		t.Errorf("the commits were made with synchronous_commit = %s", got)
	}
}

func TestCloseWaitsForInTx(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	closed := make(chan error, 1)
	p.must(p.inTx(func(tx *postgres.Tx) error {
		go func() { closed <- p.db.Close() }()
		for { // until it is being closed
			if _, err := p.events.Head(p.ctx); errors.Is(err, es.ErrClosed) {
				break
			}
		}
		tx.Append(es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
		return nil
	}))
	p.must(<-closed)
	if got := p.value("SELECT count(*) FROM eventsourcing.events_1"); got != "1" {
		t.Errorf("there are %s events", got)
	}
}
