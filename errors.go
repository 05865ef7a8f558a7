package eventsourcing

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The errors of the toolkit. Test for them with errors.Is; a backend never lets the raw error of its driver stand in for one.
var (
	// ErrConflict: somebody else was first. The expectation, condition, revision or checkpoint of a write no longer holds.
	// Read again and decide again. See [*ConflictError].
	ErrConflict = errors.New("conflict")
	// ErrNotFound: what was asked for by name is not there.
	ErrNotFound = errors.New("not found")
	// ErrDuplicate: the ID is taken by another message, in another stream or with other content. Trying again does not help.
	ErrDuplicate = errors.New("duplicate ID")
	// ErrClosed: the backend, subscription or component was closed.
	ErrClosed = errors.New("closed")
	// ErrInvalid: the input breaks a rule or a limit, and nothing was written. Trying again does not help. See [*InvalidError].
	ErrInvalid = errors.New("invalid")
	// ErrLeaseLost: the caller's lease has ended, and somebody else may hold it now. What it did under it was not taken.
	ErrLeaseLost = errors.New("lease lost")
	// ErrLeaseHeld: somebody else holds the lease. See [*LeaseHeldError].
	ErrLeaseHeld = errors.New("lease held by another owner")
	// ErrUnsupported: this backend cannot do that, and nothing was done. Where its [Capabilities] have a word for it, they say
	// so beforehand.
	ErrUnsupported = errors.New("unsupported")
	// ErrCheckpoint: a checkpoint does not belong to this store as it is now. See [*CheckpointError].
	ErrCheckpoint = errors.New("checkpoint does not fit the store")
	// ErrStreamDeleted: the stream was deleted for good, and takes no more events.
	ErrStreamDeleted = errors.New("stream deleted")
	// ErrHeldBack: an earlier message of the same stream failed, and this one was not tried, so that it does not overtake it.
	ErrHeldBack = errors.New("held back behind an earlier message that failed")
	// ErrFull: a bounded buffer is full and was told to fail rather than to wait.
	ErrFull = errors.New("full")
	// ErrUnknownType: no Go type is registered for a message's name and schema.
	ErrUnknownType = errors.New("unknown type")
	// ErrAttemptsExhausted: a message was tried as often as allowed.
	ErrAttemptsExhausted = errors.New("attempts exhausted")
)

// InvalidError says what was wrong with the input. It is an [ErrInvalid].
type InvalidError struct {
	What   string // what is wrong, such as "stream"
	Reason string // why, and what would be right
}

// Invalidf makes an [*InvalidError].
func Invalidf(what, format string, args ...any) error {
	return &InvalidError{What: what, Reason: fmt.Sprintf(format, args...)}
}

func (e *InvalidError) Error() string { return "invalid " + e.What + ": it " + e.Reason }

// Is makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// ConflictError says which expectation did not hold. It is an [ErrConflict].
type ConflictError struct {
	// Stream, Expected and Actual tell of an expectation: the stream's version was Actual, which a stream that was truncated or
	// deleted keeps (0: it never had an event).
	Stream   string
	Expected Expectation
	Actual   int64
	// Condition, when it is not nil, is what did not hold instead: Matches events were found beyond Condition.After where the
	// decision had seen Condition.Seen. They are counted as far as needed, and may be no more than Seen when events are hidden.
	Condition *Condition
	Matches   int
}

func (e *ConflictError) Error() string {
	if e.Condition != nil {
		return fmt.Sprintf("conflict: %d events match the condition after position %d, the decision had seen %d",
			e.Matches, e.Condition.After, e.Condition.Seen)
	}
	return fmt.Sprintf("conflict: stream %q is at version %d, expected %v", e.Stream, e.Actual, e.Expected)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// DuplicateError says which ID is taken. It is an [ErrDuplicate].
type DuplicateError struct {
	ID     uuid.UUID
	Stream string // where the ID stands
	Reason string // what differs
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("duplicate ID %s: it stands in stream %q, %s", e.ID, e.Stream, e.Reason)
}

// Is makes errors.Is(err, ErrDuplicate) true.
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// CheckpointError says why a checkpoint cannot be resumed, and what to do about it. It is an [ErrCheckpoint].
type CheckpointError struct {
	Checkpoint Checkpoint // the one that was given
	Last       Checkpoint // the store's incarnation and the last position it gave out
}

func (e *CheckpointError) Error() string {
	if e.Checkpoint.Incarnation != uuid.Nil && e.Checkpoint.Incarnation != e.Last.Incarnation {
		return fmt.Sprintf("checkpoint at position %d belongs to incarnation %s of the store, which is now %s: the store was "+
			"restored or replaced since; rebuild what was built from it, or start again from a position you have checked",
			e.Checkpoint.Position, e.Checkpoint.Incarnation, e.Last.Incarnation)
	}
	return fmt.Sprintf("checkpoint at position %d is beyond the store's last position %d: it comes from another store, or the "+
		"store lost events; rebuild what was built from it, or start again from a position you have checked",
		e.Checkpoint.Position, e.Last.Position)
}

// Is makes errors.Is(err, ErrCheckpoint) true.
func (e *CheckpointError) Is(target error) bool { return target == ErrCheckpoint }

// LeaseHeldError says who holds a lease, and until when. It is an [ErrLeaseHeld].
type LeaseHeldError struct {
	Name, Owner string
	Until       time.Time
}

func (e *LeaseHeldError) Error() string {
	return fmt.Sprintf("lease %q is held by %q until %s", e.Name, e.Owner, e.Until.Format(time.RFC3339Nano))
}

// Is makes errors.Is(err, ErrLeaseHeld) true.
func (e *LeaseHeldError) Is(target error) bool { return target == ErrLeaseHeld }

// BatchError says which items of a batch failed; the others were done. errors.Is and errors.As find the error of any item.
type BatchError struct {
	// Errs has an entry for each item of the batch, in its order; nil where the item was done.
	Errs []error
}

// BatchErr returns a [*BatchError] when one of errs is not nil, and nil otherwise.
func BatchErr(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return &BatchError{Errs: errs}
		}
	}
	return nil
}

func (e *BatchError) Error() string {
	var b strings.Builder
	failed := 0
	for i, err := range e.Errs {
		if err == nil {
			continue
		}
		failed++
		if failed <= 3 {
			fmt.Fprintf(&b, "; item %d: %v", i, err)
		}
	}
	return fmt.Sprintf("%d of %d items failed%s", failed, len(e.Errs), b.String())
}

// Unwrap gives the errors of the items that failed.
func (e *BatchError) Unwrap() []error {
	var failed []error
	for _, err := range e.Errs {
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// Of returns the error of item i, whatever the kind of err: a [*BatchError] knows each item's, any other error is everybody's.
func Of(err error, i int) error {
	if batch, ok := errors.AsType[*BatchError](err); ok {
		if i < len(batch.Errs) {
			return batch.Errs[i]
		}
		return nil
	}
	return err
}

// PanicError is a panic in a handler, made an error with the stack of where it happened.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap gives the panic's value when it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

func (e *RevisionError) Error() string {
	return fmt.Sprintf("conflict: document %q of model %q is at revision %d, expected %v", e.Key, e.Model, e.Actual, e.Expected)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *RevisionError) Is(target error) bool { return target == ErrConflict }

func (e *ProjectionError) Error() string {
	return fmt.Sprintf("conflict: projection %q is at generation %d, epoch %d, position %d, expected generation %d, epoch %d, position %d",
		e.Projection, e.Actual.Generation, e.Actual.Epoch, e.Actual.Position,
		e.Expected.Generation, e.Expected.Epoch, e.Expected.Position)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ProjectionError) Is(target error) bool { return target == ErrConflict }
