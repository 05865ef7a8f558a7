package projection

import (
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// EventError says which event a projection could not handle, and why. With [Stop] it is why the projection has ended.
type EventError struct {
	Projection string
	// Message is the event as it is stored. It is shared and read-only.
	Message *es.Message
	// Err is what its handler has returned, or a [*es.PanicError].
	Err error
}

func (e *EventError) Error() string {
	m := e.Message
	return fmt.Sprintf("projection %q: event %q at position %d (stream %q, version %d): %v", e.Projection, m.Name, m.Position, m.Stream,
		m.Version, e.Err)
}

// Unwrap gives what the handler has returned.
func (e *EventError) Unwrap() error { return e.Err }

// pauseError ends a batch before an event that is tried again after a while.
type pauseError struct {
	delay time.Duration
	event *EventError
}

func (e *pauseError) Error() string {
	return fmt.Sprintf("to be tried again after %v: %v", e.delay, e.event)
}

func (e *pauseError) Unwrap() error { return e.event }

// unfitError is the error of a commit that can never succeed because of what is in it.
type unfitError struct{ cause error }

func (e *unfitError) Error() string { return e.cause.Error() }

func (e *unfitError) Unwrap() error { return e.cause }

var (
	// errAgain breaks off a commit that has to be handled again, without an event that has failed.
	errAgain = errors.New("the batch is handled again without what has failed")
	// errNothing breaks off a commit that has nothing in it.
	errNothing = errors.New("nothing to commit")
	// errUnfinished is for an event that has broken off a function of Update, and hides it.
	errUnfinished = errors.New("a function of Update was broken off by a panic")
	// errQuit ends the way through the log because the projection is to stop.
	errQuit = errors.New("the projection stops")
)

// lasting tells whether trying again cannot help.
func lasting(err error) bool {
	return errors.Is(err, es.ErrClosed) || errors.Is(err, es.ErrCheckpoint) || errors.Is(err, es.ErrInvalid) ||
		errors.Is(err, es.ErrUnsupported)
}
