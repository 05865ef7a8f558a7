package sqlite

import (
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// txn is a transaction of the writer, seen from an op.
type txn struct {
	*conn
	db *DB
	// now is the time of the transaction, in microseconds since 1970, by the clock that decides about leases.
	now    int64
	writes int   // how many statements have written
	tells  topic // whom to tell when it is committed
	outbox outboxNumbers
}

// write runs a statement that writes.
func (tx *txn) write(query string, args ...any) error {
	tx.writes++
	return tx.query(nil, query, args...)
}

// topic is what a transaction has changed, for those who wait.
type topic uint

const (
	eventsChanged topic = 1 << iota
	outboxChanged
)

// state is what a role keeps in memory of what is in the file. Its methods are called by whoever holds the writer's connection, and by
// nobody else.
type state interface {
	// enter is called before a transaction, and leave when all is done and told in memory. Between them the state is the writer's.
	enter()
	leave()
	// refresh is called at the beginning of a transaction when others have written to the file since the last one, and at the
	// first.
	refresh(tx *txn) error
	// mark returns where the state stands, and undo brings it back there: what was written since was rolled back.
	mark() int64
	undo(mark int64)
	// commit makes what was written visible to readers.
	commit()
}

// transaction does the ops that wait, as many as go together.
func (w *writer) transaction() {
	waited := w.newest()
	if w.broken != nil {
		w.refuse(waited, ErrBroken)
		return
	}
	synced := w.mustSync()
	if err := w.begin(synced); err != nil {
		w.refuse(waited, err) // those who came meanwhile have not waited for as long
		return
	}
	ops := w.take(synced)
	if len(ops) == 0 { // all were withdrawn
		w.rollback()
		w.end()
		return
	}
	w.last = len(ops)
	others := w.others
	tells, err := w.attempt(ops)
	if tells != 0 {
		w.turn.announce(w.name)
	}
	w.end()
	if errors.Is(err, errAlone) {
		tells, err = w.oneByOne(ops), nil
	}
	if others { // what they announced may be covered by what we have announced
		tells = everything
	}
	w.db.tell(tells)
	for _, o := range ops {
		if err != nil {
			o.err = err
		}
		o.done <- struct{}{}
	}
	clear(ops)
	w.checkpointWhenDue()
}

// errAlone says that the ops of a transaction, which was rolled back, are to be done each alone.
var errAlone = errors.New("sqlite: do the ops alone")

// attempt runs ops in the transaction that has begun and commits it. With errAlone it was rolled back, and nothing is decided;
// with another error nobody knows whether it was committed.
func (w *writer) attempt(ops []*op) (topic, error) {
	mark := w.state.mark()
	tx := w.newTx()
	for _, o := range ops {
		if o.err = w.run(tx, o); o.err == nil {
			continue
		}
		if len(ops) == 1 {
			w.state.undo(mark)
			w.rollback()
			return 0, nil
		}
		if tx.writes < 0 || isFault(o.err) || w.conn.AutocommitEnabled() {
			w.state.undo(mark)
			w.rollback()
			return 0, errAlone
		}
	}
	return w.conclude(tx, ops, mark)
}

// newTx returns what ops see of the transaction that has begun. There is one at a time.
func (w *writer) newTx() *txn {
	w.tx = txn{conn: w.conn, db: w.db, now: time.Now().UnixMicro()}
	return &w.tx
}

// conclude commits what ops have done since a mark. Its errors are those of attempt.
func (w *writer) conclude(tx *txn, ops []*op, mark int64) (topic, error) {
	if err := w.finish(tx); err != nil {
		w.state.undo(mark)
		w.rollback()
		if w.broken == nil && len(ops) > 1 {
			return 0, errAlone
		}
		return 0, err
	}
	w.state.commit()
	for _, o := range ops {
		if o.err == nil && o.committed != nil {
			o.committed()
		}
	}
	return tx.tells, nil
}

// finish writes down what ops have left to the end of a transaction, and commits it.
func (w *writer) finish(tx *txn) error {
	if err := w.db.outbox.flush(tx); err != nil {
		return err
	}
	if tx.writes == 0 {
		w.rollback() // there is nothing to commit
		return nil
	}
	return w.commit()
}

// run runs an op. When it has failed and could not be undone, tx.writes is below zero.
func (w *writer) run(tx *txn, o *op) (err error) {
	before, tells, outbox := tx.writes, tx.tells, tx.outbox
	mark := w.state.mark()
	if o.how == guarded {
		if err := tx.query(nil, "SAVEPOINT op"); err != nil {
			return err
		}
	}
	err = w.call(tx, o)
	if err == nil && w.conn.AutocommitEnabled() {
		tx.writes++
		err = errUndone
	}
	if o.how == guarded && !w.conn.AutocommitEnabled() {
		if err != nil {
			if back := tx.query(nil, "ROLLBACK TO op"); back != nil {
				return back
			}
			tx.writes = before
		}
		if end := tx.query(nil, "RELEASE op"); end != nil {
			return end
		}
	}
	if err == nil {
		return nil
	}
	w.state.undo(mark)
	tx.tells, tx.outbox = tells, outbox
	if tx.writes != before {
		tx.writes = -1
	}
	return err
}

// errUndone is the outcome of an op that has passed over an error after which SQLite has undone the transaction. What follows would be
// committed statement by statement.
var errUndone error = &engineError{err: errors.New("sqlite: the transaction was undone by an error that was passed over")}

// call calls the op's function. A panic in it is made an error: the writer outlives a mistake in one op.
func (w *writer) call(tx *txn, o *op) (err error) {
	if o.foreign {
		return o.run(tx)
	}
	defer func() {
		if p := recover(); p != nil {
			tx.writes++ // whatever it has done is undone
			err = fmt.Errorf("sqlite: %w", &es.PanicError{Value: p})
		}
	}()
	return o.run(tx)
}

// oneByOne does each op in a transaction of its own.
func (w *writer) oneByOne(ops []*op) topic {
	var tells topic
	for i := range ops {
		o := ops[i : i+1]
		if w.broken != nil {
			o[0].err = ErrBroken
			continue
		}
		if o[0].err = w.begin(w.synced); o[0].err != nil {
			continue
		}
		told, err := w.attempt(o)
		if told != 0 {
			w.turn.announce(w.name)
		}
		w.end()
		if err != nil {
			o[0].err = err
		}
		tells |= told
	}
	return tells
}

// begin begins a transaction, when the turn has come, and brings the state up to date.
func (w *writer) begin(synced bool) error {
	if err := w.turn.acquire(w.db.config.BusyTimeout); err != nil {
		return err
	}
	if !w.patient {
		w.conn.SetBusyTimeout(w.db.config.BusyTimeout)
		w.patient = true
	}
	return w.enter(synced)
}

// enter begins a transaction when it has the turn.
func (w *writer) enter(synced bool) error {
	w.state.enter()
	if err := w.beginTransaction(synced); err != nil {
		w.end()
		return err
	}
	return nil
}

func (w *writer) beginTransaction(synced bool) error {
	if synced != w.synced {
		mode := Normal
		if synced {
			mode = w.db.config.Synchronous
		}
		if err := w.conn.pragma("PRAGMA synchronous=" + mode.String()); err != nil {
			return err
		}
		w.synced = synced
	}
	if err := w.conn.query(nil, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	version, err := w.conn.number("PRAGMA data_version")
	w.others = version != w.version
	if err == nil && (w.others || !w.fresh) {
		w.fresh = false
		err = w.state.refresh(w.newTx())
	}
	if err != nil {
		w.rollback()
		return err
	}
	w.version, w.fresh = version, true
	return nil
}

// end is called after each transaction that was begun.
func (w *writer) end() {
	w.state.leave()
	w.turn.release()
}

// commit commits the transaction.
func (w *writer) commit() error {
	return w.breakAfter(w.conn.query(nil, "COMMIT"))
}

// rollback ends the transaction, if SQLite has not done so itself.
func (w *writer) rollback() {
	if w.conn.AutocommitEnabled() {
		return
	}
	if err := w.conn.query(nil, "ROLLBACK"); err != nil {
		w.broken = err // it should be impossible; nothing more is written on top of it
		w.db.config.Logger.Error("sqlite: a transaction could not be rolled back", "path", w.db.config.Path, "error", err)
	}
}
