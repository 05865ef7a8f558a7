// Package remote serves the roles of one process to others, over a unix socket, for the conformance suite: what a database does,
// with as little machinery as can do it. The parts of the suite that start processes and kill them run on it where no database
// is at hand. A process that dies takes its connection with it and nothing else: its claims and leases end by their time.
//
// A connection carries frames in both directions, each way one stream of [encoding/gob]. A client sends calls, each with a number of
// its own; the server makes them at once, each in a goroutine, and sends the answers as they come.
package remote

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// frame is a call on its way to the server, or its answer on the way back.
type frame struct {
	ID   uint64
	Name string // of the call; empty takes back the call of this ID
	Body []byte // the arguments, or the result
	Err  *failure
}

// wire sends and receives frames.
type wire struct {
	mu      sync.Mutex // held while sending
	encoder *gob.Encoder
	decoder *gob.Decoder
}

func newWire(conn io.ReadWriter) *wire {
	return &wire{encoder: gob.NewEncoder(conn), decoder: gob.NewDecoder(conn)}
}

func (w *wire) send(f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.encoder.Encode(f)
}

func (w *wire) receive() (frame, error) {
	var f frame
	err := w.decoder.Decode(&f)
	return f, err
}

func pack(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Bytes(), nil
}

func unpack(data []byte, into any) error {
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(into); err != nil {
		return fmt.Errorf("decode %T: %w", into, err)
	}
	return nil
}

// The arguments of calls that have several. What a call with one argument takes is sent as it is; a struct around it keeps
// gob from refusing what is empty.
type (
	one[T any] struct{ V T }

	opening struct {
		Namespace     string
		DedupeEntries int
		DedupeTTL     time.Duration
	}
	claiming struct {
		Most    int
		Options es.ClaimOptions
	}
	failing struct {
		Entries    []es.Entry
		Err        *failure
		Delay      time.Duration
		Dead, Park bool
	}
	reserving struct {
		Group        string
		Reservations []es.Reservation
		Lease        time.Duration
	}
	acquiring struct {
		Name, Owner string
		Lease       es.Lease
		TTL         time.Duration
	}
	loading struct {
		Model string
		Keys  []string
	}
)

// failure is an error on the wire: its text, and what it is.
type failure struct {
	Text       string
	Sentinels  []int // indexes in sentinels()
	Dead       bool  // it is Permanent; so much of a verdict crosses the wire
	Invalid    *es.InvalidError
	Duplicate  *es.DuplicateError
	Held       *es.LeaseHeldError
	Revision   *es.RevisionError
	Projection *es.ProjectionError
	Conflict   *es.ConflictError
	Checkpoint *es.CheckpointError
	Batch      []failure // of a BatchError, one for each item; without a Text where the item was done
}

// sentinels are the errors that cross the wire by their place here.
func sentinels() []error {
	return []error{
		es.ErrConflict, es.ErrNotFound, es.ErrDuplicate, es.ErrClosed, es.ErrInvalid, es.ErrLeaseLost, es.ErrLeaseHeld,
		es.ErrUnsupported, es.ErrHeldBack, es.ErrFull, es.ErrAttemptsExhausted, es.ErrStreamDeleted, es.ErrUnknownType, es.ErrCheckpoint,
		context.Canceled, context.DeadlineExceeded,
	}
}

// fail puts an error on the wire; nil stays nil.
func fail(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error(), Dead: es.Permanent(err)}
	if batch, ok := errors.AsType[*es.BatchError](err); ok {
		f.Batch = make([]failure, len(batch.Errs))
		for i, err := range batch.Errs {
			if err != nil {
				f.Batch[i] = *fail(err)
			}
		}
		return f
	}
	for i, sentinel := range sentinels() {
		if errors.Is(err, sentinel) {
			f.Sentinels = append(f.Sentinels, i)
		}
	}
	f.Invalid, _ = errors.AsType[*es.InvalidError](err)
	f.Duplicate, _ = errors.AsType[*es.DuplicateError](err)
	f.Held, _ = errors.AsType[*es.LeaseHeldError](err)
	f.Revision, _ = errors.AsType[*es.RevisionError](err)
	f.Projection, _ = errors.AsType[*es.ProjectionError](err)
	f.Conflict, _ = errors.AsType[*es.ConflictError](err)
	f.Checkpoint, _ = errors.AsType[*es.CheckpointError](err)
	return f
}

// err takes an error off the wire. It has the text of the one that was put there, and errors.Is and errors.As find in it what they
// found in that one.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	e := &crossed{text: f.Text}
	if f.Batch != nil {
		errs := make([]error, len(f.Batch))
		for i := range f.Batch {
			if f.Batch[i].Text != "" {
				errs[i] = f.Batch[i].err()
			}
		}
		e.is = append(e.is, &es.BatchError{Errs: errs})
		return e
	}
	if f.Invalid != nil {
		e.is = append(e.is, f.Invalid)
	}
	if f.Duplicate != nil {
		e.is = append(e.is, f.Duplicate)
	}
	if f.Held != nil {
		e.is = append(e.is, f.Held)
	}
	if f.Revision != nil {
		e.is = append(e.is, f.Revision)
	}
	if f.Projection != nil {
		e.is = append(e.is, f.Projection)
	}
	if f.Conflict != nil {
		e.is = append(e.is, f.Conflict)
	}
	if f.Checkpoint != nil {
		e.is = append(e.is, f.Checkpoint)
	}
	for _, i := range f.Sentinels {
		e.is = append(e.is, sentinels()[i])
	}
	switch permanent := es.Permanent(e); { // it was told what to become, against what it is
	case f.Dead && !permanent:
		e.is = append(e.is, es.DeadLetter(errors.New(f.Text)))
	case !f.Dead && permanent:
		e.is = append(e.is, es.RetryAfter(0, errors.New(f.Text)))
	}
	return e
}

// crossed is an error that came over the wire.
type crossed struct {
	text string
	is   []error
}

func (e *crossed) Error() string   { return e.text }
func (e *crossed) Unwrap() []error { return e.is }
