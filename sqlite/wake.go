package sqlite

import (
	"context"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// bell tells those who wait that something has changed. Each waits on the channel of its time, which the next ring closes.
type bell struct {
	mu   sync.Mutex
	rung chan struct{} // nil while nobody waits
}

// listen returns a channel that is closed when the bell rings next. Look at what is waited for after that, not before: then
// nothing is missed.
func (b *bell) listen() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung == nil {
		b.rung = make(chan struct{})
	}
	return b.rung
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rung != nil {
		close(b.rung)
		b.rung = nil
	}
}

// tell rings for what a transaction of this handle has changed.
func (db *DB) tell(changed topic) {
	if changed&eventsChanged != 0 {
		db.eventsBell.ring()
	}
	if changed&outboxChanged != 0 {
		db.outboxBell.ring()
	}
}

// watch looks for what others have written, as long as somebody waits for it, and rings all the bells then. SQLite tells by a
// number in the memory that the processes share: no file is read for it.
type watch struct {
	db *DB

	mu      sync.Mutex
	waiting int
	conn    *conn // opened when it is needed first
	version int64
	timer   *time.Timer
	closed  bool
}

// begin says that somebody waits from now on; it must be followed by end. What others write from now on rings the bells.
func (w *watch) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return es.ErrClosed
	}
	if w.waiting++; w.waiting > 1 {
		return nil
	}
	if w.conn == nil {
		c, err := openReader(w.db.config)
		if err != nil {
			w.waiting--
			return err
		}
		w.conn = c
	}
	version, err := w.look()
	if err != nil {
		w.waiting--
		return err
	}
	w.version = version
	w.timer = time.AfterFunc(w.db.config.PollInterval, w.poll)
	return nil
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting--; w.waiting == 0 && w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// look returns a number that is another one after somebody else has written.
func (w *watch) look() (int64, error) { return w.conn.number("PRAGMA data_version") }

func (w *watch) poll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == 0 || w.closed {
		return
	}
	version, err := w.look()
	if err != nil || version != w.version { // with an error, those who wait find out for themselves what is wrong
		w.version = version
		w.db.tell(eventsChanged | outboxChanged)
	}
	w.timer.Reset(w.db.config.PollInterval)
}

func (w *watch) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.conn == nil {
		return nil
	}
	return w.conn.closeConn()
}

// wait waits until a bell has rung, a time has come (the zero time never comes), the context has ended or the store is closed.
func (db *DB) wait(ctx context.Context, rung <-chan struct{}, until time.Time) error {
	var timer <-chan time.Time
	if !until.IsZero() {
		timer = time.After(time.Until(until))
	}
	select {
	case <-rung:
		return nil
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-db.handle.done:
		return es.ErrClosed
	}
}
