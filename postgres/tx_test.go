package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// everythingIn does everything that a program's own transaction can.
func (p *program) everythingIn(tx pgx.Tx, n int) error {
	if _, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", n))); err != nil {
		return err
	}
	if err := p.outbox.EnqueueTx(p.ctx, tx, numbered("mail-1", n)); err != nil {
		return err
	}
	if err := p.models.CommitTx(p.ctx, tx, projection(n)); err != nil {
		return err
	}
	_, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES ($1)", n)
	return err
}

func TestATransactionOfTheProgramHasAllOfItOrNothing(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	tx := p.begin(pgx.TxOptions{})
	p.must(p.everythingIn(tx, 1))
	p.wantCounts("0 0 0 0 0")
	p.must(tx.Commit(p.ctx))
	p.wantCounts("1 1 1 1 1")

	tx = p.begin(pgx.TxOptions{})
	p.must(p.everythingIn(tx, 2))
	p.must(tx.Rollback(p.ctx))
	p.wantCounts("1 1 1 1 1")

	tx = p.begin(pgx.TxOptions{})
	p.must(p.everythingIn(tx, 2))
	_, err := tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES (1)")
	p.must(err)
	if err := tx.Commit(p.ctx); err == nil { // the key is checked now
		t.Error("a transaction is committed that breaks a constraint")
	}
	p.wantCounts("1 1 1 1 1")

	tx = p.begin(pgx.TxOptions{})
	nested, err := tx.Begin(p.ctx)
	p.must(err)
	p.must(p.everythingIn(nested, 2))
	p.must(nested.Rollback(p.ctx))
	p.must(p.everythingIn(tx, 2))
	p.must(tx.Commit(p.ctx))
	p.wantCounts("2 2 2 2 2")
	if got := p.history(); got != "order-1 1, order-1 2" {
		t.Errorf("the events are %s", got)
	}
}

// A verdict says no, and the transaction goes on: whatever was done before it is there, and nothing of the call.
func TestAVerdictLeavesTheTransactionOfTheProgramAsItWas(t *testing.T) {
	t.Parallel()
	seen := numbered("seen-1", 1)
	other := seen.Clone()
	other.Data = []byte("other")
	moved := seen.Clone()
	moved.Stream = "other-1"
	everything := []es.Condition{{Match: []es.Criterion{{}}}}
	for name, test := range map[string]struct {
		options pgx.TxOptions
		call    func(p *program, tx pgx.Tx) error
		want    error
	}{
		"expectation": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("seen-1", es.NoStream, numbered("seen-1", 2)))
			return err
		}, es.ErrConflict},
		"condition": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.Append{Unless: everything})
			return err
		}, es.ErrConflict},
		"condition that cannot be checked": {pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.Append{Unless: everything})
			return err
		}, es.ErrInvalid},
		"one of two streams": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.Append{Streams: []es.StreamAppend{
				{Stream: "new-1", Events: []*es.Message{numbered("new-1", 1)}}, {Stream: "seen-1", Expect: es.Exactly(9)},
			}})
			return err
		}, es.ErrConflict},
		"content": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("seen-1", es.Any, other))
			return err
		}, es.ErrDuplicate},
		"stream of an ID": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("other-1", es.Any, moved))
			return err
		}, es.ErrDuplicate},
		"stream that is closed": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("closed-1", es.Any, numbered("closed-1", 1)))
			return err
		}, es.ErrStreamDeleted},
		"nothing to append": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			_, err := p.events.AppendTx(p.ctx, tx, es.Append{})
			return err
		}, es.ErrInvalid},
		"content in the outbox": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			return p.outbox.EnqueueTx(p.ctx, tx, numbered("mail-1", 7), other)
		}, es.ErrDuplicate},
		"message": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			return p.outbox.EnqueueTx(p.ctx, tx, numbered("mail-1", 7), &es.Message{})
		}, es.ErrInvalid},
		"progress": {pgx.TxOptions{}, func(p *program, tx pgx.Tx) error {
			return p.models.CommitTx(p.ctx, tx, projection(9))
		}, es.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			_, err := p.events.Append(p.ctx, es.AppendTo("seen-1", es.Any, seen))
			p.must(err)
			p.must(p.outbox.Enqueue(p.ctx, seen))
			p.must(p.events.Delete(p.ctx, "closed-1", es.Tombstone))
			tx := p.begin(test.options)
			p.must(p.everythingIn(tx, 1))
			wantError(t, "the call", test.call(p, tx), test.want)
			_, err = tx.Exec(p.ctx, "INSERT INTO orders (n) VALUES (2)")
			p.must(err)
			_, err = p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Exactly(1), numbered("order-1", 2)))
			p.must(err)
			p.must(tx.Commit(p.ctx))
			p.wantCounts("3 2 1 1 2")
			if got := p.history(); got != "seen-1 1, order-1 1, order-1 2" {
				t.Errorf("the events are %s", got)
			}
		})
	}
}

// Two transactions append the same ID to different streams, which they find out by the unique key alone.
func TestAnIDThatIsTakenMeanwhileLeavesTheTransactionAsItWas(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	first := numbered("first-1", 1)
	second := first.Clone()
	second.Stream = "second-1"
	holder, late := p.begin(pgx.TxOptions{}), p.begin(pgx.TxOptions{})
	_, err := p.events.AppendTx(p.ctx, holder, es.AppendTo("first-1", es.Any, first))
	p.must(err)
	p.must(p.everythingIn(late, 1))
	verdict := make(chan error)
	go func() {
		_, err := p.events.AppendTx(p.ctx, late, es.AppendTo("second-1", es.Any, second))
		verdict <- err
	}()
	p.until("1", waiting)
	p.must(holder.Commit(p.ctx))
	wantError(t, "the same ID in another stream", <-verdict, es.ErrDuplicate)
	_, err = p.events.AppendTx(p.ctx, late, es.AppendTo("second-1", es.NoStream, numbered("second-1", 1)))
	p.must(err)
	p.must(late.Commit(p.ctx))
	p.wantCounts("3 1 1 1 1")
}

// A transaction that keeps its first snapshot cannot see what was appended since. It must not overwrite it, nor make a hole.
func TestAnAppendInAnOldSnapshotIsLate(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	tx := p.begin(pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	_, err := tx.Exec(p.ctx, "SELECT count(*) FROM orders") // the snapshot is that of the first statement
	p.must(err)
	_, err = p.events.Append(p.ctx, es.AppendTo("order-1", es.NoStream, numbered("order-1", 1)))
	p.must(err)
	_, err = p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.NoStream, numbered("order-1", 2)))
	wantError(t, "an append that expects what is no more", err, es.ErrConflict)
	_, err = p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", 2)))
	wantError(t, "an append that expects nothing", err, postgres.ErrBusy)
	_, err = p.events.AppendTx(p.ctx, tx, es.AppendTo("order-2", es.Any, numbered("order-2", 1)))
	p.must(err)
	p.must(tx.Commit(p.ctx))
	if got := p.history(); got != "order-1 1, order-2 1" {
		t.Errorf("the events are %s", got)
	}
}

// What AppendTx has in hand nobody else gets, and everybody else goes on.
func TestAnOpenAppendHoldsItsStreamAndTheReadersOfTheGlobalOrder(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	tx := p.begin(pgx.TxOptions{})
	done, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
	p.must(err)
	other, err := p.events.Append(p.ctx, es.AppendTo("order-2", es.Any, numbered("order-2", 1)))
	p.must(err)
	head, err := p.events.Head(p.ctx)
	p.must(err)
	if head.Position >= done.Position || other.Position <= done.Position {
		t.Errorf("the head is at %d, before an open append at %d", head.Position, done.Position)
	}
	same := make(chan error)
	go func() {
		_, err := p.events.Append(p.ctx, es.AppendTo("order-1", es.Exactly(1), numbered("order-1", 2)))
		same <- err
	}()
	p.until("1", waiting)
	p.must(tx.Commit(p.ctx))
	p.must(<-same)
	if head, err = p.events.Wait(p.ctx, head); err != nil || head.Position < other.Position {
		t.Errorf("the head is at %d (%v), with everything committed up to %d", head.Position, err, other.Position)
	}
}

func TestWhatATransactionHasAppendedIsDurableWhateverTheDefaultIs(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	for before, want := range map[string]string{"off": "on", "local": "on", "on": "on", "remote_apply": "remote_apply"} {
		for what, call := range map[string]func(tx pgx.Tx) error{
			"AppendTx": func(tx pgx.Tx) error {
				_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
				return err
			},
			"EnqueueTx": func(tx pgx.Tx) error { return p.outbox.EnqueueTx(p.ctx, tx, numbered("mail-1", 1)) },
			"CommitTx":  func(tx pgx.Tx) error { return p.models.CommitTx(p.ctx, tx, projection(1)) },
		} {
			tx := p.begin(pgx.TxOptions{})
			_, err := tx.Exec(p.ctx, "SELECT set_config('synchronous_commit', $1, false)", before)
			p.must(err)
			p.must(call(tx))
			var got string
			p.must(tx.QueryRow(p.ctx, "SHOW synchronous_commit").Scan(&got))
			if got != want {
				t.Errorf("with synchronous_commit = %s, it is %s after %s", before, got, what)
			}
			p.must(tx.Rollback(p.ctx))
		}
	}
}

// Those who look but once an hour learn of the commit of a program's own transaction by Wake, in this process and in others.
func TestWakeTellsOfACommit(t *testing.T) {
	t.Parallel()
	p := newProgram(t, rarelyLooking)
	another := rarelyLooking
	another.URL = p.url
	for name, db := range map[string]*postgres.DB{"the same": p.db, "another": openDB(t, another)} {
		woken := wake(p, db)
		tx := p.begin(pgx.TxOptions{})
		_, err := p.events.AppendTx(p.ctx, tx, es.AppendTo("order-1", es.Any, numbered("order-1", 1)))
		p.must(err)
		p.must(tx.Commit(p.ctx))
		p.db.Wake()
		if err := <-woken; err != nil {
			t.Errorf("waiting in %s process: %v", name, err)
		}
	}
}

// rarelyLooking is a configuration with which nothing is found out by looking time and again.
var rarelyLooking = postgres.Config{PollInterval: time.Hour}

// wake gives the outcome of waiting for the next event.
func wake(p *program, db *postgres.DB) <-chan error {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	p.Cleanup(cancel)
	head, err := db.Events().Head(ctx)
	p.must(err)
	woken := make(chan error, 1)
	go func() {
		_, err := db.Events().Wait(ctx, head)
		woken <- err
	}()
	return woken
}

func TestATransactionOfTheProgramFindsTheStoreClosed(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	tx := p.begin(pgx.TxOptions{})
	p.must(p.db.Close())
	_, err := p.events.AppendTx(p.ctx, tx, es.Append{})
	wantError(t, "AppendTx", err, es.ErrClosed)
	wantError(t, "EnqueueTx", p.outbox.EnqueueTx(p.ctx, tx), es.ErrClosed)
	wantError(t, "CommitTx", p.models.CommitTx(p.ctx, tx, es.Commit{}), es.ErrClosed)
	wantError(t, "InTx", p.db.InTx(p.ctx, pgx.TxOptions{}, func(*postgres.Tx) error { return errors.New("it was called") }), es.ErrClosed)
	ended, cancel := context.WithCancel(p.ctx)
	cancel()
	_, err = p.events.AppendTx(ended, tx, es.Append{})
	wantError(t, "AppendTx in an ended context", err, context.Canceled)
}
