// Package filestore is an event store in a file, for the conformance suite: small, slow, durable, and shared by processes. It is
// what a backend with a disk promises, with as little machinery as can keep it, so that the parts of the suite that crash
// handles and kill processes run where no database is at hand.
//
// The file is a log of operations. The state is what a [memory.Backend] is after all of them, one after the other; it depends on
// nothing else, so that every process which has the file open comes to the same versions and positions. A call takes the lock
// of the file, does what others have logged meanwhile, logs its own operation, syncs, and only then does it. An operation that
// fails, with a conflict say, is in the log as well, and fails again for whoever reads it.
package filestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// PollInterval is how often a call of Wait looks whether another process has appended something.
const PollInterval = 5 * time.Millisecond

// Backend is an event store in a file, and no other role.
type Backend struct {
	limits  es.Limits
	replica *memory.Backend // the state as of offset
	inside  uuid.UUID       // the replica's own incarnation, which nobody outside gets to see

	mu     sync.Mutex // held by a call that uses the log
	log    *log
	closed bool

	applying sync.RWMutex // held while an operation is done on the replica
	outside  uuid.UUID    // the incarnation in the log
	recorded map[int64]time.Time
}

var _ es.Backend = (*Backend)(nil)

// Open opens the event store of a namespace in a directory, and makes it when it is new.
func Open(directory, namespace string, limits es.Limits) (*Backend, error) {
	if err := es.ValidateName("namespace", namespace); err != nil {
		return nil, err
	}
	replica, err := memory.Open(memory.Config{Limits: limits})
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	head, err := replica.Events().Head(ctx)
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256([]byte(namespace)) // any name is the name of a file
	l, err := openLog(filepath.Join(directory, hex.EncodeToString(name[:])+".log"))
	if err != nil {
		return nil, err
	}
	b := &Backend{
		limits: limits.WithDefaults(), replica: replica, inside: head.Incarnation, log: l, recorded: map[int64]time.Time{},
	}
	if err := l.lock(exclusive); err != nil {
		return nil, errors.Join(err, l.close())
	}
	defer l.unlock()
	if _, err := b.catchUp(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	if b.outside == uuid.Nil {
		if err := l.write(operation{Incarnation: es.NewID()}); err != nil {
			return nil, errors.Join(err, l.close())
		}
		if _, err := b.catchUp(ctx); err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	return b, nil
}

// Events returns the event store.
func (b *Backend) Events() es.EventStore { return (*eventStore)(b) }

// Outbox is nil: this backend does not play the role.
func (*Backend) Outbox() es.Outbox { return nil }

// ReadModels is nil: this backend does not play the role.
func (*Backend) ReadModels() es.ReadModels { return nil }

// Dedupe is nil: this backend does not play the role.
func (*Backend) Dedupe() es.Dedupe { return nil }

// Leases is nil: this backend does not play the role.
func (*Backend) Leases() es.Leases { return nil }

// Snapshots is nil: this backend does not play the role.
func (*Backend) Snapshots() es.Snapshots { return nil }

// Capabilities says what a file can do.
func (b *Backend) Capabilities() es.Capabilities {
	return es.Capabilities{
		Name: "file", Durable: true, Shared: true, WakeUp: 2 * PollInterval, Edits: true, Limits: b.limits,
	}
}

// Close waits for the calls that use the log.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return errors.Join(b.replica.Close(), b.log.close())
}

// catchUp does the operations that the log has and the replica does not, and returns what became of the last of them. The
// caller holds mu and the lock of the file.
func (b *Backend) catchUp(ctx context.Context) (result, error) {
	var last result
	for {
		op, ok, err := b.log.next()
		if err != nil || !ok {
			return last, err
		}
		last = b.apply(context.WithoutCancel(ctx), op)
	}
}

// refresh does what other processes have logged.
func (b *Backend) refresh(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return es.ErrClosed
	}
	if more, err := b.log.more(); err != nil || !more {
		return err
	}
	if err := b.log.lock(shared); err != nil {
		return err
	}
	defer b.log.unlock()
	_, err := b.catchUp(ctx)
	return err
}

// commit logs an operation and does it, after all that were logged before.
func (b *Backend) commit(ctx context.Context, op operation) (result, error) {
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return result{}, es.ErrClosed
	}
	if err := b.log.lock(exclusive); err != nil {
		return result{}, err
	}
	defer b.log.unlock()
	if _, err := b.catchUp(ctx); err != nil {
		return result{}, err
	}
	op.Time = es.Timestamp(time.Now())
	if err := b.log.write(op); err != nil {
		return result{}, err
	}
	return b.catchUp(ctx) // read back, so that this process sees exactly what the others do
}

// result is what became of an operation.
type result struct {
	outcomes []es.Outcome
	err      error
}

// apply does an operation on the replica. It is done whole, whatever becomes of the caller whose call it is part of.
func (b *Backend) apply(ctx context.Context, op operation) result {
	b.applying.Lock()
	defer b.applying.Unlock()
	events := b.replica.Events()
	var r result
	switch {
	case op.Incarnation != uuid.Nil:
		b.outside = op.Incarnation
	case op.Truncate != "":
		r.err = events.Truncate(ctx, op.Truncate, op.Before)
	case op.Delete != "":
		r.err = events.Delete(ctx, op.Delete, op.How)
	case op.Erase != nil:
		done, err := events.Erase(ctx, *op.Erase)
		r.outcomes = []es.Outcome{{Appended: done, Err: err}}
	default:
		r.outcomes = events.AppendEach(ctx, op.Appends)
	}
	for _, o := range r.outcomes {
		for _, p := range o.Places {
			if _, before := b.recorded[p.Position]; !before {
				b.recorded[p.Position] = op.Time
			}
		}
	}
	return r
}

// eventStore is the backend as an event store.
type eventStore Backend

func (s *eventStore) backend() *Backend { return (*Backend)(s) }

func (s *eventStore) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	o := s.AppendEach(ctx, []es.Append{a})[0]
	return o.Appended, o.Err
}

func (s *eventStore) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	outcomes := make([]es.Outcome, len(as))
	var valid []es.Append
	var at []int
	for i, a := range as {
		if outcomes[i].Err = a.Validate(s.limits); outcomes[i].Err == nil {
			valid, at = append(valid, a), append(at, i)
		}
	}
	if len(valid) == 0 {
		return outcomes
	}
	r, err := s.backend().commit(ctx, operation{Appends: valid})
	for i, place := range at {
		if err != nil {
			outcomes[place].Err = err
			continue
		}
		outcomes[place] = r.outcomes[i]
	}
	return outcomes
}

func (s *eventStore) Truncate(ctx context.Context, stream string, before int64) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	r, err := s.backend().commit(ctx, operation{Truncate: stream, Before: before})
	return errors.Join(r.err, err)
}

func (s *eventStore) Delete(ctx context.Context, stream string, how es.Deletion) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	r, err := s.backend().commit(ctx, operation{Delete: stream, How: how})
	return errors.Join(r.err, err)
}

func (s *eventStore) Erase(ctx context.Context, e es.Erasure) (es.Appended, error) {
	if err := es.ValidateName("stream", e.Stream); err != nil {
		return es.Appended{}, err
	}
	if err := e.Audit.Validate(s.limits); err != nil {
		return es.Appended{}, err
	}
	r, err := s.backend().commit(ctx, operation{Erase: &e})
	if err != nil {
		return es.Appended{}, err
	}
	return r.outcomes[0].Appended, r.outcomes[0].Err
}

func (s *eventStore) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		if err := s.backend().refresh(ctx); err != nil {
			yield(nil, err)
			return
		}
		q.Incarnation = s.inward(q.Incarnation)
		for m, err := range s.replica.Events().Read(ctx, q) {
			if err != nil {
				yield(nil, s.outwardErr(err))
				return
			}
			if !yield(s.asRecorded(m), nil) {
				return
			}
		}
	}
}

func (s *eventStore) Head(ctx context.Context) (es.Checkpoint, error) {
	if err := s.backend().refresh(ctx); err != nil {
		return es.Checkpoint{}, err
	}
	head, err := s.replica.Events().Head(ctx)
	return s.outward(head), err
}

func (s *eventStore) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	after.Incarnation = s.inward(after.Incarnation)
	for {
		if err := s.backend().refresh(ctx); err != nil {
			return es.Checkpoint{}, err
		}
		// The replica wakes this call at once for what this handle appends; for what others do, it looks again.
		while, done := context.WithTimeout(ctx, PollInterval)
		head, err := s.replica.Events().Wait(while, after)
		done()
		if err == nil {
			return s.outward(head), nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return es.Checkpoint{}, s.outwardErr(err)
		}
	}
}

// asRecorded returns a message with the time of the log in it, and not that of the replay.
func (s *eventStore) asRecorded(m *es.Message) *es.Message {
	s.applying.RLock()
	defer s.applying.RUnlock()
	c := *m
	c.Recorded = s.recorded[m.Position]
	return &c
}

// inward translates an incarnation from outside into one of the replica.
func (s *eventStore) inward(incarnation uuid.UUID) uuid.UUID {
	if incarnation == s.outside {
		return s.inside
	}
	return incarnation
}

// outward translates a checkpoint of the replica.
func (s *eventStore) outward(c es.Checkpoint) es.Checkpoint {
	if c.Incarnation == s.inside {
		c.Incarnation = s.outside
	}
	return c
}

func (s *eventStore) outwardErr(err error) error {
	if misfit, ok := errors.AsType[*es.CheckpointError](err); ok {
		return fmt.Errorf("file store: %w", &es.CheckpointError{Checkpoint: s.outward(misfit.Checkpoint), Last: s.outward(misfit.Last)})
	}
	return err
}
