package sqlite

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

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
	// committed is called by the writer when the op is on the disk, in the order of the transaction, before anybody is told; it
	// may be nil.
	committed func()

	how manner
	// relaxed ops may share a transaction that is not synced: what they do survives kill -9 and need not survive loss of power.
	relaxed bool
	size    int // bytes to write, roughly; bounds a transaction

	state atomic.Int32
	err   error
	done  chan struct{} // has one when the op has its outcome
}

// manner is how an op shares a transaction with others.
type manner int

const (
	shared  manner = iota
	guarded        // in a savepoint of its own: it may fail after it has written
	alone          // in a transaction of its own, as whatever the caller does in it is not ours
)

// The states of an op.
const (
	opWaiting int32 = iota
	opTaken
	opWithdrawn
)

const (
	maxBatchOps   = 1024
	maxBatchBytes = 4 << 20
)

// writer owns the connection that writes, and a goroutine that does what the ops want.
type writer struct {
	db    *DB
	name  uuid.UUID // tells this handle from others in what is announced
	conn  *conn
	turn  *turn
	state state

	mu     sync.Mutex
	queue  []*op
	closed bool
	work   chan struct{} // has one when the queue may have something

	ended   chan struct{} // closed when the goroutine has ended
	version int64         // of the data, as SQLite counts it, at the last transaction
	others  bool          // have written since the transaction before this one
	fresh   bool          // the state was refreshed after what others wrote last
	synced  bool          // the connection syncs at each commit
	last    int           // how many ops the last transaction had
	broken  error         // a sync has failed
	// checkpointAt is how long the log is to be when the next checkpoint is tried, in pages.
	checkpointAt int64
	// grown is by how many bytes the log may have grown since it was looked at.
	grown   int
	scratch []*op
}

func newWriter(db *DB, c *conn, t *turn) *writer {
	return &writer{db: db, name: uuid.New(), conn: c, turn: t, work: make(chan struct{}, 1), ended: make(chan struct{}), synced: true}
}

// do has an op done, and returns its outcome. When ctx ends while the op still waits, it is withdrawn; later its outcome is waited
// for, which takes as long as a commit.
func (w *writer) do(ctx context.Context, o *op) error {
	if err := w.submit(o); err != nil {
		return err
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		if o.state.CompareAndSwap(opWaiting, opWithdrawn) {
			return ctx.Err()
		}
		<-o.done
		return o.err
	}
}

// submit puts ops in the queue, in order and next to each other. Each has something in done when it has its outcome.
func (w *writer) submit(ops ...*op) error {
	for _, o := range ops {
		o.done = make(chan struct{}, 1)
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return es.ErrClosed
	}
	w.queue = append(w.queue, ops...)
	w.mu.Unlock()
	w.wake()
	return nil
}

func (w *writer) wake() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// doAll has several ops done, in order, and waits for all of them: each has its outcome in err then. When ctx ends, those that still
// wait are withdrawn.
func (w *writer) doAll(ctx context.Context, ops []*op) {
	if err := w.submit(ops...); err != nil {
		for _, o := range ops {
			o.err = err
		}
		return
	}
	for _, o := range ops {
		select {
		case <-o.done:
		case <-ctx.Done():
			if o.state.CompareAndSwap(opWaiting, opWithdrawn) {
				o.err = ctx.Err()
				continue
			}
			<-o.done
		}
	}
}

// close does what waits, and ends the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake()
	<-w.ended
}

// loop is the goroutine.
func (w *writer) loop() {
	defer close(w.ended)
	for range w.work {
		for w.waiting() {
			w.gather()
			w.transaction()
		}
		w.mu.Lock()
		over := w.closed && len(w.queue) == 0
		w.mu.Unlock()
		if over {
			return
		}
	}
}

// waiting tells whether an op waits.
func (w *writer) waiting() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) > 0
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
	ops, size, n := w.scratch[:0], 0, 0
	for _, o := range w.queue {
		full := len(ops) == maxBatchOps || len(ops) > 0 && size+o.size > maxBatchBytes
		if full || o.how == alone && len(ops) > 0 || !synced && !o.relaxed {
			break
		}
		n++
		if !o.state.CompareAndSwap(opWaiting, opTaken) {
			continue
		}
		ops = append(ops, o)
		size += o.size
		if o.how == alone {
			break
		}
	}
	w.queue = slices.Delete(w.queue, 0, n)
	w.scratch = ops
	w.grown += size + transactionBytes
	return ops
}

// refuse gives an error to the first n who wait.
func (w *writer) refuse(n int, err error) {
	w.mu.Lock()
	refused := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	w.mu.Unlock()
	for _, o := range refused {
		if o.state.CompareAndSwap(opWaiting, opTaken) {
			o.err = err
			o.done <- struct{}{}
		}
	}
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
