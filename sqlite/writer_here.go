package sqlite

import (
	"context"
	"errors"
)

// A write that finds nobody else there is done by the goroutine of its caller. To hand it to another goroutine and be woken by that would
// take two threads that sleep, and as long as a fifth of a transaction with its sync. The caller does his own op and nobody else's: what
// comes meanwhile waits, and so does a checkpoint that has become due, and he hands the connection to the writer's goroutine for it.

// here does an op on the goroutine of the caller, when that has to wait for nobody. Otherwise it has done nothing, and tells so. When ctx
// ends before the op begins, that is its outcome: it is looked at once what others have written is taken in, which readers do as well
// without being disturbed.
//
// The function of an op that is foreign may panic, or end the goroutine: then the op is undone.
func (w *writer) here(ctx context.Context, o *op) bool {
	if !w.hold() {
		return false
	}
	defer w.giveBack()
	switch begun, err := w.beginNow(!o.relaxed); {
	case err != nil:
		o.err = err
	case !begun:
		return false
	default:
		w.db.tell(w.only(ctx, o))
	}
	return true
}

// hold takes the connection if nobody holds it. When ops have shared the last transaction, more of them are about to come back, and
// wait for each other in the queue.
func (w *writer) hold() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held || w.closed || w.last > 1 {
		return false
	}
	w.held = true
	return true
}

// beginNow is begin for who waits for nobody, in this process or another one. It tells whether the transaction has begun.
func (w *writer) beginNow(synced bool) (bool, error) {
	if w.broken != nil {
		return false, ErrBroken
	}
	if free, err := w.turn.try(); !free {
		return false, err
	}
	if w.patient {
		w.conn.SetBusyTimeout(0)
		w.patient = false
	}
	err := w.enter(synced)
	if errors.Is(err, ErrBusy) { // somebody writes to the file without the toolkit
		return false, nil
	}
	return err == nil, err
}

// only does an op in the transaction that has begun, and ends it.
func (w *writer) only(ctx context.Context, o *op) (tells topic) {
	defer w.end()
	mark := w.state.mark()
	tx := w.newTx()
	if o.err = w.runOnly(ctx, tx, o, mark); o.err == nil {
		w.scratch = append(w.scratch[:0], o)
		tells, o.err = w.conclude(tx, w.scratch, mark)
		clear(w.scratch)
	}
	if tells != 0 {
		w.turn.announce(w.name)
	}
	w.last = 1
	w.grown += o.size + transactionBytes
	if w.others { // what they announced may be covered by what we have announced
		return everything
	}
	return tells
}

// runOnly runs an op in the transaction that has begun. Unless that comes to a good end, nothing of it is left.
func (w *writer) runOnly(ctx context.Context, tx *txn, o *op, mark int64) error {
	done := false
	defer func() {
		if !done {
			w.state.undo(mark)
			w.rollback()
		}
	}()
	if err := ctx.Err(); err != nil { // while the state was brought up to date
		return err
	}
	err := w.run(tx, o)
	done = err == nil
	return err
}
