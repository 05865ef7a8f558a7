package sqlite

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// op is a write that waits for its turn. Those that wait at the same moment share a transaction, and each has an outcome of its
// own.
type op struct {
	// run checks what is to be checked and then writes, through [txn.write]. An error that is not of SQLite is the op's outcome;
	// the others of the transaction go on. When it had written already, the op is undone: by its savepoint when it is guarded,
	// and otherwise by beginning again with each op alone, which is slow. So an op that is not guarded checks everything first.
	// It may be run several times, and only the last one counts.
	run func(tx *txn) error
	// committed is called when the op is on the disk, in the order of the transaction, before anybody is told; it may be nil.
	committed func()

	how manner
	// foreign says that run calls a function of the program on the goroutine of its caller: a panic there goes on.
	foreign bool
	// relaxed ops may share a transaction that is not synced: what they do survives kill -9 and need not survive loss of power.
	relaxed bool
	size    int // bytes to write, roughly; bounds a transaction

	number uint64 // ops that were submitted later have a higher one
	err    error
	done   chan struct{} // has one when the op has its outcome; made by submit
}

// manner is how an op shares a transaction with others.
type manner int

const (
	shared  manner = iota
	guarded        // in a savepoint of its own: it may fail after it has written
	alone          // in a transaction of its own, as whatever the caller does in it is not ours
)

const (
	maxBatchOps   = 1024
	maxBatchBytes = 4 << 20
)

// writer owns the connection that writes. One goroutine at a time holds it: the writer's own, which does what the ops want that wait, or
// that of a caller who has found nobody there, and does his op himself; see [writer.here].
type writer struct {
	db    *DB
	name  uuid.UUID // tells this handle from others in what is announced
	turn  *turn
	work  chan struct{} // has one when the goroutine has been handed the connection
	ended chan struct{} // closed when the goroutine has ended

	mu        sync.Mutex
	queue     []*op // empty while nobody holds the connection
	submitted uint64
	held      bool // somebody holds the connection
	closed    bool

	// What follows is of whoever holds the connection.

	conn    *conn
	state   state
	tx      txn   // the transaction that is open
	version int64 // of the data, as SQLite counts it, at the last transaction
	others  bool  // have written since the transaction before this one
	fresh   bool  // the state was refreshed after what others wrote last
	synced  bool  // the connection syncs at each commit
	patient bool  // the connection waits for others who write, up to the busy timeout
	last    int   // how many ops the last transaction had
	broken  error // a sync has failed
	// checkpointAt is how long the log is to be when the next checkpoint is tried, in pages.
	checkpointAt int64
	// grown is by how many bytes the log may have grown since it was looked at.
	grown   int
	scratch []*op
}

func newWriter(db *DB, c *conn, t *turn) *writer {
	return &writer{
		db: db, name: uuid.New(), conn: c, turn: t, work: make(chan struct{}, 1), ended: make(chan struct{}), synced: true, patient: true,
	}
}

// do has an op done, and returns its outcome. When ctx ends while the op still waits, it is withdrawn; later its outcome is waited
// for, which takes as long as a commit.
func (w *writer) do(ctx context.Context, o *op) error {
	if w.here(ctx, o) {
		return o.err
	}
	if err := w.submit(o); err != nil {
		return err
	}
	w.await(ctx, o)
	return o.err
}

// submit puts ops in the queue, in order and next to each other. Each has something in done when it has its outcome.
func (w *writer) submit(ops ...*op) error {
	for _, o := range ops {
		if o.done == nil {
			o.done = make(chan struct{}, 1)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return es.ErrClosed
	}
	for _, o := range ops {
		w.submitted++
		o.number = w.submitted
	}
	w.queue = append(w.queue, ops...)
	if !w.held {
		w.hand()
	}
	return nil
}

// hand hands the connection to the goroutine. The caller has the lock, and the connection unless nobody holds it.
func (w *writer) hand() {
	w.held = true
	w.work <- struct{}{} // it has room: who has the connection has not been handed it again
}

// await waits until an op has its outcome. When ctx ends before it is taken, it is withdrawn, and that is its outcome.
func (w *writer) await(ctx context.Context, o *op) {
	select {
	case <-o.done:
		return
	case <-ctx.Done():
	}
	if w.withdraw(o) {
		o.err = ctx.Err()
		return
	}
	<-o.done
}

// withdraw takes an op out of the queue, and tells whether it was there: then nobody will touch it any more.
func (w *writer) withdraw(o *op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, o)
	if i < 0 {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	return true
}

// doAll has several ops done, in order, and waits for all of them: each has its outcome in err then. When ctx ends, those that still
// wait are withdrawn.
func (w *writer) doAll(ctx context.Context, ops []*op) {
	if len(ops) == 1 {
		ops[0].err = w.do(ctx, ops[0])
		return
	}
	if err := w.submit(ops...); err != nil {
		for _, o := range ops {
			o.err = err
		}
		return
	}
	for _, o := range ops {
		w.await(ctx, o)
	}
}

// close does what waits, and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	if !w.held {
		w.hand()
	}
	w.mu.Unlock()
	<-w.ended
}

// loop is the goroutine.
func (w *writer) loop() {
	defer close(w.ended)
	for range w.work {
		w.checkpointWhenDue() // a caller leaves it to this goroutine
		for w.length() > 0 {
			w.gather()
			w.transaction()
		}
		if w.over() {
			return
		}
		w.giveBack()
	}
}

// over tells whether the writer was closed and has done everything.
func (w *writer) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && len(w.queue) == 0
}

// giveBack gives the connection back. When there is something left to do, the goroutine has it next, and nobody else.
func (w *writer) giveBack() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) > 0 || w.closed || w.checkpointDue() {
		w.hand()
		return
	}
	w.held = false
}

// gather lets those who were woken by the last transaction come back with their next op, as long as more of them come: otherwise
// the first of them would have a sync for himself while the others wait for it. A lone op waits for nobody.
func (w *writer) gather() {
	const patience = 16 // how often in a row nobody may come
	here := w.length()
	for idle := 0; here < w.last && idle < patience; idle++ {
		runtime.Gosched()
		if now := w.length(); now != here {
			here, idle = now, 0
		}
	}
}

func (w *writer) length() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// take takes the ops for a transaction out of the queue.
func (w *writer) take(synced bool) []*op {
	w.mu.Lock()
	defer w.mu.Unlock()
	ops, size := w.scratch[:0], 0
	for _, o := range w.queue {
		full := len(ops) == maxBatchOps || len(ops) > 0 && size+o.size > maxBatchBytes
		if full || o.how == alone && len(ops) > 0 || !synced && !o.relaxed {
			break
		}
		ops = append(ops, o)
		size += o.size
		if o.how == alone {
			break
		}
	}
	w.queue = slices.Delete(w.queue, 0, len(ops))
	w.scratch = ops
	w.grown += size + transactionBytes
	return ops
}

// refuse gives an error to those who wait, up to the op of a number.
func (w *writer) refuse(number uint64, err error) {
	w.mu.Lock()
	n := 0
	for n < len(w.queue) && w.queue[n].number <= number {
		n++
	}
	refused := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	w.mu.Unlock()
	for _, o := range refused {
		o.err = err
		o.done <- struct{}{}
	}
}

// newest returns the number of the op that was submitted last.
func (w *writer) newest() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.submitted
}

// mustSync tells whether the next transaction is to be synced: it is unless only relaxed ops wait.
func (w *writer) mustSync() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.queue {
		if !o.relaxed {
			return true
		}
	}
	return false
}
