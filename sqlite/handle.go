package sqlite

import (
	"context"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// handle counts the calls that are under way, so that closing the store can wait for them.
type handle struct {
	calls  sync.RWMutex // held for reading by a call
	once   sync.Once
	closed bool
	done   chan struct{} // closed by close: for calls that wait
}

// begin begins a call: one whose context has ended already does nothing. It must be followed by leave unless it fails. A call that
// waits for something to happen does not hold it meanwhile.
func (h *handle) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.calls.RLock()
	if h.closed {
		h.calls.RUnlock()
		return es.ErrClosed
	}
	return nil
}

func (h *handle) leave() { h.calls.RUnlock() }

// close waits for the calls that are under way. It tells whether it was the first.
func (h *handle) close() (first bool) {
	h.once.Do(func() {
		close(h.done)
		h.calls.Lock()
		h.closed = true
		h.calls.Unlock()
		first = true
	})
	return first
}
