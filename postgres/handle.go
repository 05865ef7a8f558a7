package postgres

import (
	"context"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// handle counts the calls that are under way, so that closing the store can wait for them. A call may make another one, which finds the
// store closed when it is being closed.
type handle struct {
	done chan struct{} // closed when the store is being closed: for calls that wait

	mu    sync.Mutex
	calls int
	ended chan struct{} // closed by the last call, when the store is being closed; nil before
}

// begin begins a call: one whose context has ended already does nothing. It must be followed by leave unless it fails. A call that
// waits for something to happen does not hold it meanwhile.
func (h *handle) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return es.ErrClosed
	}
	h.calls++
	return nil
}

func (h *handle) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls--; h.calls == 0 && h.ended != nil {
		close(h.ended)
	}
}

// close waits for the calls that are under way. It tells whether it was the first; the others wait, too.
func (h *handle) close() (first bool) {
	h.mu.Lock()
	if first = h.ended == nil; first {
		h.ended = make(chan struct{})
		close(h.done)
		if h.calls == 0 {
			close(h.ended)
		}
	}
	h.mu.Unlock()
	<-h.ended
	return first
}
