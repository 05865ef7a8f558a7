package projection

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// waiters are told how far the projection has come, when it does the work in this process.
type waiters struct {
	mu      sync.Mutex
	at      es.Checkpoint
	working bool
	moved   chan struct{} // closed when something of this changes; nil while nobody waits
}

// works says that the work goes on in this process from a position.
func (w *waiters) works(incarnation uuid.UUID, position int64) {
	w.set(es.Checkpoint{Incarnation: incarnation, Position: position}, true)
}

// still says that the work is not under way here.
func (w *waiters) still() { w.set(es.Checkpoint{}, false) }

// move says how far the work has come.
func (w *waiters) move(incarnation uuid.UUID, position int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working {
		w.tell(es.Checkpoint{Incarnation: incarnation, Position: position}, true)
	}
}

func (w *waiters) set(at es.Checkpoint, working bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(at, working)
}

func (w *waiters) tell(at es.Checkpoint, working bool) {
	w.at, w.working = at, working
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// look returns how far the work has come, if it is under way here, and what is closed when that changes.
func (w *waiters) look() (at es.Checkpoint, working bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.moved == nil {
		w.moved = make(chan struct{})
	}
	return w.at, w.working, w.moved
}

// WaitFor returns when the effects of all the events up to a checkpoint are committed, so that who has just appended reads what came of it.
// Where this projection does the work itself it is told; otherwise it looks, again and again, how far another copy has come. Events that
// are not for the projection do not hold it up, though where it looks at another copy it may take half a second to see that. See
// [es.Waiter] for its errors.
func (p *Projection) WaitFor(ctx context.Context, c es.Checkpoint) error {
	for {
		at, working, changed := p.waiters.look()
		var err error
		switch {
		case !working:
			err = p.waitRemote(ctx, c)
			if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
		case foreign(at, c):
			return &es.CheckpointError{Checkpoint: c, Last: at}
		case at.Position >= c.Position:
			return nil
		default:
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func foreign(at, c es.Checkpoint) bool {
	return at.Incarnation != uuid.Nil && c.Incarnation != uuid.Nil && at.Incarnation != c.Incarnation
}

// waitRemote looks for a while how far another copy has come. After that this one may do the work.
func (p *Projection) waitRemote(ctx context.Context, c es.Checkpoint) error {
	const patience = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return p.remote.WaitFor(ctx, c)
}
