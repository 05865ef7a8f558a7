package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Update has fn do several things in one transaction: append, enqueue, change read models with their checkpoint, and run the program's
// own SQL. When fn returns nil, all of it is on the disk; when it returns an error, or panics, or ctx ends before it is done, nothing
// of it is.
//
// fn has the file for itself while it runs, so it is to be short. It must not call the methods of db, or wait for somebody who does:
// they wait for fn to end. The transaction is over when fn returns, and tx is of no use then.
//
// Errors: that of fn, as it is; [ErrBusy], [ErrDiskFull] and the others of this package; [es.ErrClosed]; that of ctx.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	if err := db.handle.begin(ctx); err != nil {
		return err
	}
	defer db.handle.leave()
	o := &op{how: alone, foreign: true, run: func(tx *txn) error { return db.update(ctx, tx, fn) }}
	if db.writer.here(ctx, o) {
		return o.err
	}
	return db.updateInTurn(ctx, fn)
}

// updateInTurn is Update when others have the file. fn runs here and not in the writer all the same, so that a panic, or the end of this
// goroutine, is the caller's own.
func (db *DB) updateInTurn(ctx context.Context, fn func(tx *Tx) error) error {
	begun, ended := make(chan *txn), make(chan error)
	o := &op{how: alone, run: func(tx *txn) error {
		begun <- tx
		return <-ended
	}}
	if err := db.writer.submit(o); err != nil {
		return err
	}
	select {
	case tx := <-begun:
		err := errNoReturn
		func() {
			defer func() { ended <- err }()
			err = db.update(ctx, tx, fn)
		}()
		<-o.done
		return o.err
	case <-o.done: // it could not begin
		return o.err
	case <-ctx.Done():
		if db.writer.withdraw(o) {
			return ctx.Err()
		}
	}
	select {
	case <-begun:
		ended <- ctx.Err()
		<-o.done
	case <-o.done:
	}
	return o.err
}

// errNoReturn is the outcome of a function that has not returned.
var errNoReturn = errors.New("sqlite: the function of the transaction did not return")

// update runs fn in a transaction. It may not return, as fn may not.
func (db *DB) update(ctx context.Context, tx *txn, fn func(tx *Tx) error) error {
	t := &Tx{db: db, tx: tx, ctx: ctx}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.failed != nil {
		return fmt.Errorf("sqlite: an error that the function has passed over has undone the transaction: %w", t.failed)
	}
	return nil
}

// end ends the use of the transaction.
func (t *Tx) end() {
	t.over = true
	if t.interruptible {
		t.tx.SetInterrupt(nil)
	}
}

// Tx is a transaction of [DB.Update]. It is for the goroutine that runs the function.
//
// After one of the errors of this package, such as [ErrDiskFull], the transaction is lost: what follows fails with the same error, and
// so does [DB.Update], also when the function does not return it. Errors of the roles, such as [es.ErrConflict], and of a program's own
// statement, such as a constraint that does not hold, leave the transaction as it was before the call.
type Tx struct {
	db            *DB
	tx            *txn
	ctx           context.Context //nolint:containedctx // of the call that the transaction is a part of
	over          bool
	failed        error // the error after which nothing more is done
	interruptible bool  // the end of ctx interrupts statements
}

// Append is [es.EventStore].Append in the transaction.
func (t *Tx) Append(a es.Append) (done es.Appended, err error) {
	err = t.do(func() error {
		done, err = t.db.events.appendIn(t.tx, &a)
		return err
	})
	return done, err
}

// Enqueue is [es.Outbox].Enqueue in the transaction.
func (t *Tx) Enqueue(msgs ...*es.Message) error {
	return t.do(func() error { return t.db.outbox.enqueueIn(t.tx, msgs) })
}

// Project is [es.ReadModels].Commit in the transaction.
func (t *Tx) Project(c es.Commit) error {
	return t.do(func() error { return t.db.models.commitIn(t.tx, &c) })
}

// Load is [es.ReadModels].Load in the transaction: it sees what the transaction has done.
func (t *Tx) Load(model string, keys ...string) (docs []es.Document, err error) {
	err = t.do(func() error {
		docs, err = t.db.models.loadIn(t.tx.conn, model, keys)
		return err
	})
	return docs, err
}

// Progress is [es.ReadModels].Progress in the transaction.
func (t *Tx) Progress(projection string) (p es.Progress, err error) {
	err = t.do(func() error {
		p, err = t.db.models.progressIn(t.tx.conn, projection)
		return err
	})
	return p, err
}

// Exec runs a statement of the program's own. The arguments are bound to its parameters in order: int, int64, float64, bool, string,
// []byte or nil. A statement that begins or ends a transaction, or writes to a table whose name begins with es_, is
// [es.ErrInvalid].
func (t *Tx) Exec(query string, args ...any) error { return t.Query(nil, query, args...) }

// Query runs a statement of the program's own and calls row for each row of its result; an error of row ends it and is returned. The
// function may use the transaction meanwhile. See [Tx.Exec] for what is allowed.
func (t *Tx) Query(row func(Row) error, query string, args ...any) error {
	if err := t.usable(); err != nil {
		return err
	}
	if !t.interruptible { // to have the driver watch a context takes a goroutine
		t.interruptible = true
		t.tx.SetInterrupt(t.ctx.Done())
	}
	t.tx.writes++ // it may
	err := explained(runOwn(t.tx.conn, row, query, args), t.ctx.Err)
	if t.failed == nil && isFault(err) && t.lost(err) {
		t.failed = err
	}
	return err
}

// lost tells whether nothing can follow an error of SQLite in a statement of the program's own. Most of them undo the statement, and no
// more.
func (t *Tx) lost(err error) bool {
	code := lite.ErrCode(err)
	return t.tx.AutocommitEnabled() || kindOf(code) != nil || code.ToPrimary() == lite.ResultInterrupt
}

// do has a role do something. An error of SQLite may leave half of it behind, and so is the end.
func (t *Tx) do(what func() error) error {
	if err := t.usable(); err != nil {
		return err
	}
	err := explained(what(), t.ctx.Err)
	if isFault(err) {
		t.failed = err
	}
	return err
}

// usable returns an error when nothing more can be done.
func (t *Tx) usable() error {
	if t.over {
		return es.Invalidf("transaction", "is over; use it only inside of the function given to Update")
	}
	if t.failed == nil {
		t.failed = t.ctx.Err()
	}
	return t.failed
}

// explained says why a statement was interrupted.
func explained(err error, interruption func() error) error {
	if lite.ErrCode(err).ToPrimary() != lite.ResultInterrupt {
		return err
	}
	if why := interruption(); why != nil {
		return fmt.Errorf("%w: %w", why, err)
	}
	return err
}

// View has fn run the program's own SQL on one snapshot of the file; it sees nothing that is written meanwhile. A statement that
// writes is [es.ErrInvalid]. fn is to be short: while it runs the write-ahead log grows.
func (db *DB) View(ctx context.Context, fn func(v *View) error) error {
	if err := db.handle.begin(ctx); err != nil {
		return err
	}
	defer db.handle.leave()
	return db.read(ctx, func(c *conn) error {
		c.SetInterrupt(ctx.Done())
		defer c.SetInterrupt(nil)
		v := &View{conn: c, interruption: ctx.Err}
		defer func() { v.conn = nil }()
		if err := fn(v); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// View is a snapshot of [DB.View], for the goroutine that runs the function.
type View struct {
	conn         *conn
	interruption func() error
}

// Query runs a statement and calls row for each row of its result; an error of row ends it and is returned. For the arguments see
// [Tx.Exec].
func (v *View) Query(row func(Row) error, query string, args ...any) error {
	if v.conn == nil {
		return es.Invalidf("view", "is over; use it only inside of the function given to View")
	}
	return explained(runOwn(v.conn, row, query, args), v.interruption)
}

// Row is a row of a result, good until the function it is given to returns. Columns count from 0.
type Row struct{ stmt *lite.Stmt }

// Int64 returns a column as an integer, 0 for NULL.
func (r Row) Int64(column int) int64 { return r.stmt.ColumnInt64(column) }

// Float64 returns a column as a number, 0 for NULL.
func (r Row) Float64(column int) float64 { return r.stmt.ColumnFloat(column) }

// Text returns a column as text, "" for NULL.
func (r Row) Text(column int) string { return r.stmt.ColumnText(column) }

// Bytes returns a copy of a column, nil for NULL.
func (r Row) Bytes(column int) []byte { return columnBytes(r.stmt, column) }

// IsNull tells whether a column is NULL.
func (r Row) IsNull(column int) bool { return r.stmt.ColumnIsNull(column) }

// runOwn runs a statement of the program's own.
func runOwn(c *conn, row func(Row) error, query string, args []any) error {
	if blank(query) {
		return es.Invalidf("statement", "is empty; it takes one")
	}
	if err := c.guard.install(c); err != nil {
		return err
	}
	c.guard.allow()
	stmt, trailing, err := c.PrepareTransient(query)
	refused := c.guard.forbid(query)
	if err == nil {
		defer func() { _ = stmt.Finalize() }() // it repeats the error of the last step
	}
	if refused != "" {
		return es.Invalidf("statement", "%s; leave that to the toolkit", refused)
	}
	if err != nil {
		return fault(err)
	}
	if rest := query[len(query)-trailing:]; !blank(rest) {
		return es.Invalidf("statement", "has another one behind it: %q; run them one by one", strings.TrimSpace(rest))
	}
	if n := stmt.BindParamCount(); n != len(args) {
		return es.Invalidf("statement", "has %d parameters, and %d arguments are given", n, len(args))
	}
	if err := bind(stmt, args); err != nil {
		return err
	}
	if row == nil {
		return each(stmt, nil)
	}
	return each(stmt, func(stmt *lite.Stmt) error { return row(Row{stmt}) })
}

// blank tells whether a text has no statement: nothing but space, semicolons and comments.
func blank(text string) bool {
	for {
		text = strings.TrimLeft(text, " \t\r\n\f;")
		switch {
		case strings.HasPrefix(text, "--"):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*"):
			_, text, _ = strings.Cut(text[2:], "*/")
		default:
			return text == ""
		}
	}
}
