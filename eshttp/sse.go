package eshttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// eventStream is an answer in the form text/event-stream (WHATWG HTML, section 9.2). It has its own deadlines, one for each write.
type eventStream struct {
	w          http.ResponseWriter
	controller *http.ResponseController

	mu       sync.Mutex
	patience time.Duration // of a write
}

// beginEventStream sends the header of an answer, and how long its receiver is to wait before it comes back when it ends: somewhere
// between a time and twice that, so that those who are cut off together do not come back together. With an ID, it can say where it
// was even if it is cut off before the first event.
func beginEventStream(w http.ResponseWriter, patience, retry time.Duration, id string) (*eventStream, error) {
	s := &eventStream{w: w, controller: http.NewResponseController(w), patience: patience}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that would wait for more
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	retry += rand.N(retry)
	var text []byte
	if id != "" {
		text = fmt.Appendf(text, "id: %s\n", id)
	}
	return s, s.write(fmt.Appendf(text, "retry: %d\n\n", retry.Milliseconds()))
}

// write sends whole events, or comments. Its receiver has the stream's patience to take them.
func (s *eventStream) write(text []byte) error {
	if err := s.setDeadline(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(text); err != nil { //nolint:gosec // it is no HTML, and said to be none
		return err
	}
	return s.controller.Flush()
}

func (s *eventStream) setDeadline() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.controller.SetWriteDeadline(time.Now().Add(s.patience))
}

// hurry lets a write that is under way when one of the contexts ends have a moment longer, and no more. It returns a function that
// ends that, to be called before the handler returns.
func (s *eventStream) hurry(contexts ...context.Context) (end func()) {
	const moment = time.Second
	ends := make([]func(), len(contexts))
	for i, ctx := range contexts {
		hurried := make(chan struct{})
		unwatch := context.AfterFunc(ctx, func() {
			defer close(hurried)
			s.mu.Lock()
			s.patience = min(s.patience, moment)
			s.mu.Unlock()
			_ = s.setDeadline() // where it cannot be set, it was not set before
		})
		ends[i] = func() {
			if !unwatch() {
				<-hurried
			}
		}
	}
	return func() {
		for _, each := range ends {
			each()
		}
	}
}

// heartbeat is a sign of life: an ID, or a comment when that is empty. An event with an ID and no data is not dispatched, and its ID
// counts.
func heartbeat(id string) []byte {
	if id == "" {
		return []byte(":\n\n")
	}
	return []byte("id: " + id + "\n\n")
}

// appendEvent appends an event with an ID and a type, which may be empty and have no line breaks in them, and with data that may.
func appendEvent(dst []byte, id, kind string, data []byte) []byte {
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	if kind != "" {
		dst = append(append(append(dst, "event: "...), kind...), '\n')
	}
	for more := true; more; {
		line := data
		if at := bytes.IndexAny(data, "\r\n"); at >= 0 {
			line = data[:at]
			if data[at] == '\r' && at+1 < len(data) && data[at+1] == '\n' {
				at++
			}
			data = data[at+1:]
		} else {
			more = false
		}
		dst = append(append(append(dst, "data: "...), line...), '\n')
	}
	return append(dst, '\n')
}
