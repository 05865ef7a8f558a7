package postgres

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

// topic is what was changed, for those who wait.
type topic uint

const (
	eventsChanged topic = 1 << iota
	outboxChanged
)

// everything is what others may have changed.
const everything = eventsChanged | outboxChanged

// ring rings for what has changed, in this process.
func (db *DB) ring(changed topic) {
	if changed&eventsChanged != 0 {
		db.eventsBell.ring()
	}
	if changed&outboxChanged != 0 {
		db.outboxBell.ring()
	}
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
