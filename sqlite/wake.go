package sqlite

import (
	"context"
	"errors"
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

// everything is what others may have changed.
const everything = eventsChanged | outboxChanged

// watch learns of what others have written, as long as somebody waits for it, and rings all the bells then. Where there is a doorbell
// it is told at once, and looks once a second all the same, for those who write to the file without the toolkit; elsewhere it looks
// every [Config].PollInterval. To look means to ask SQLite for a number in the memory that the processes share.
type watch struct {
	db *DB

	mu       sync.Mutex
	waiting  int
	conn     *conn // opened when it is needed first
	doorbell *doorbell
	deaf     bool // there is no doorbell to be had
	version  int64
	interval time.Duration
	timer    *time.Timer
	closed   bool
}

// slowPoll is how often to look where there is a doorbell.
const slowPoll = time.Second

// begin says that somebody waits from now on; it must be followed by end. What others write from now on rings the bells.
func (w *watch) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return es.ErrClosed
	}
	if w.waiting > 0 {
		w.waiting++
		return nil
	}
	if err := w.open(); err != nil {
		return err
	}
	version, err := w.look()
	if err != nil {
		return err
	}
	w.waiting, w.version = 1, version
	w.timer = time.AfterFunc(w.interval, w.poll)
	return nil
}

// open opens what is needed to learn of others.
func (w *watch) open() error {
	if w.conn == nil {
		c, err := openReader(w.db.config)
		if err != nil {
			return err
		}
		w.conn = c
	}
	if w.doorbell == nil && !w.deaf {
		bell, err := openDoorbell(w.db.writer.turn.path(), w.heard)
		if err != nil {
			w.deaf = true
			w.db.config.Logger.Debug("sqlite: who waits looks time and again, as the system does not tell of others", "error", err)
		}
		w.doorbell = bell
	}
	w.interval = w.db.config.PollInterval
	if w.doorbell != nil && w.doorbell.on() == nil {
		w.interval = max(slowPoll, w.interval)
	}
	return nil
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting--; w.waiting > 0 {
		return
	}
	w.timer.Stop()
	if w.doorbell != nil {
		w.doorbell.off()
	}
}

// look returns a number that is another one after somebody else has written.
func (w *watch) look() (int64, error) { return w.conn.number("PRAGMA data_version") }

// heard is called when somebody has committed.
func (w *watch) heard() {
	if !w.db.writer.turn.announcedBy(w.db.writer.name) {
		w.db.tell(everything)
	}
}

func (w *watch) poll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == 0 || w.closed {
		return
	}
	version, err := w.look()
	if err != nil || version != w.version { // with an error, those who wait find out for themselves what is wrong
		w.version = version
		w.db.tell(everything)
	}
	w.timer.Reset(w.interval)
}

func (w *watch) close() error {
	w.mu.Lock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	var errs []error
	if w.doorbell != nil {
		errs = append(errs, w.doorbell.close())
	}
	if w.conn != nil {
		errs = append(errs, w.conn.closeConn())
	}
	return errors.Join(errs...)
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
