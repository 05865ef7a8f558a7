package sqlite

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// EventStore keeps events in the file, and is an [es.EventStore].
//
// Transactions that write are done one after the other, so that the settled head is simply the largest position: nothing can appear
// at or below it, and [es.Query].Unsettled changes nothing.
type EventStore struct {
	db  *DB
	log *eventLog
}

var _ es.EventStore = (*EventStore)(nil)

func newEventStore(db *DB) *EventStore {
	s := &EventStore{db: db, log: newEventLog(db)}
	db.writer.state = s.log
	return s
}

// close ends what goes on in the background. The writer still works then.
func (s *EventStore) close() error { return s.log.indexer.close() }

// Append adds events to their streams, to all or to none; see [es.EventStore]. Appends that wait at the same moment share a
// transaction and a sync. When ctx ends while the append waits for its turn, nothing was appended; once its transaction has
// begun, the outcome is waited for.
func (s *EventStore) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Appended{}, err
	}
	defer s.db.handle.leave()
	p, err := s.log.plan(a, s.db.config.Limits)
	if err != nil {
		return es.Appended{}, err
	}
	defer p.release()
	if err := s.db.write(ctx, &p.op); err != nil {
		return es.Appended{}, err
	}
	return p.done, nil
}

// AppendEach does appends that do not depend on each other, in order; see [es.EventStore]. They share a transaction as far as its
// bounds go. When ctx ends in between, its error is the outcome of those that are left.
func (s *EventStore) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	outcomes := make([]es.Outcome, len(as))
	if err := s.db.handle.begin(ctx); err != nil {
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	defer s.db.handle.leave()
	plans := make([]*appendPlan, len(as))
	ops := make([]*op, 0, len(as))
	for i, a := range as {
		plans[i], outcomes[i].Err = s.log.plan(a, s.db.config.Limits)
		if outcomes[i].Err == nil {
			ops = append(ops, &plans[i].op)
		}
	}
	s.db.writer.doAll(ctx, ops)
	for i, p := range plans {
		if p != nil {
			outcomes[i].Appended, outcomes[i].Err = p.done, p.op.err
			if p.op.err != nil {
				outcomes[i].Appended = es.Appended{}
			}
			p.release()
		}
	}
	return outcomes
}

// appendIn appends in a transaction. It checks everything before it writes: with an error of a role nothing was written.
func (s *EventStore) appendIn(tx *txn, a *es.Append) (es.Appended, error) {
	p, err := s.log.plan(*a, s.db.config.Limits)
	if err != nil {
		return es.Appended{}, err
	}
	defer p.release()
	err = s.log.append(tx, p)
	return p.done, err
}

// Read yields the events that the query selects; see [es.EventStore]. It ends where the log ended when the loop began, so that a
// loop that appends what it reads comes to an end.
func (s *EventStore) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		if err := s.readAll(ctx, q, yield); err != nil {
			yield(nil, err)
		}
	}
}

// readAll is Read but for the yielding of its error. It returns nil when the body of the loop wants no more.
func (s *EventStore) readAll(ctx context.Context, q es.Query, yield func(*es.Message, error) bool) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	if err := q.Validate(); err != nil {
		return err
	}
	r := &logReader{log: s.log, query: q}
	for {
		if err := s.fetch(ctx, r); err != nil {
			return err
		}
		for i := range r.page {
			if err := s.running(ctx); err != nil {
				return err
			}
			m := &r.page[i]
			if s.log.edits.count.Load() != r.edits { // what was truncated or erased meanwhile is not handed out any more
				r.rewind(m)
				break
			}
			r.took()
			if !yield(m, nil) {
				return nil
			}
		}
		if r.done {
			return nil
		}
	}
}

// fetch reads the next page.
func (s *EventStore) fetch(ctx context.Context, r *logReader) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	return s.db.read(ctx, r.fetch)
}

// Head returns the largest position, which is the settled head; see [es.EventStore].
func (s *EventStore) Head(ctx context.Context) (es.Checkpoint, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Checkpoint{}, err
	}
	defer s.db.handle.leave()
	head := es.Checkpoint{Incarnation: s.db.incarnation}
	err := s.db.read(ctx, func(c *conn) (err error) {
		head.Position, err = c.number(s.log.sql.last)
		return err
	})
	return head, err
}

// Wait returns the settled head as soon as it is beyond after; see [es.EventStore].
func (s *EventStore) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	if after.Position < 0 {
		return es.Checkpoint{}, es.Invalidf("checkpoint", "is at position %d; positions are 0 or more", after.Position)
	}
	watching := false
	defer func() {
		if watching {
			s.db.watch.end()
		}
	}()
	for {
		rung := s.db.eventsBell.listen()
		head, err := s.Head(ctx)
		if err != nil {
			return es.Checkpoint{}, err
		}
		if foreign(after, head) || after.Position > head.Position {
			return es.Checkpoint{}, &es.CheckpointError{Checkpoint: after, Last: head}
		}
		if head.Position > after.Position {
			return head, nil
		}
		if !watching { // and look once more: somebody may have written in between
			if err := s.db.watch.begin(); err != nil {
				return es.Checkpoint{}, err
			}
			watching = true
			continue
		}
		if err := s.db.wait(ctx, rung, time.Time{}); err != nil {
			return es.Checkpoint{}, err
		}
	}
}

// foreign tells whether a checkpoint is of another store, or another life of it, than the one whose head this is. One without an
// incarnation is taken for the store's own.
func foreign(c, head es.Checkpoint) bool {
	return c.Incarnation != uuid.Nil && c.Incarnation != head.Incarnation
}

// Truncate hides the events of a stream with a version below before; see [es.StreamEditor].
func (s *EventStore) Truncate(ctx context.Context, stream string, before int64) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	if before < 0 {
		return es.Invalidf("truncation", "is before version %d; versions count from 1", before)
	}
	return s.edit(ctx, stream, func(e *edit, version int64) {
		e.hidden = max(e.hidden, min(before-1, version))
	})
}

// Delete hides all the events of a stream; see [es.StreamEditor].
func (s *EventStore) Delete(ctx context.Context, stream string, how es.Deletion) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	if how != es.SoftDelete && how != es.Tombstone {
		return es.Invalidf("deletion", "is of kind %d; there are SoftDelete and Tombstone", how)
	}
	return s.edit(ctx, stream, func(e *edit, version int64) {
		e.hidden = version
		switch {
		case how == es.Tombstone:
			e.deleted = deletedForGood
		case e.deleted == notDeleted && version > 0:
			e.deleted = deletedSoftly
		}
	})
}

func (s *EventStore) edit(ctx context.Context, stream string, change func(e *edit, version int64)) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	return s.log.edit(ctx, stream, change)
}

// Erase removes Data and Metadata from events in place, and appends the audit event that says so; see [es.StreamEditor]. The bytes
// are overwritten in the pages of the file; copies of these pages in the write-ahead log go with the next checkpoints, and those in
// backups stay. An event that was erased before keeps the ID of the audit event that came first. When the audit event is in the
// store already, nothing is erased.
func (s *EventStore) Erase(ctx context.Context, e es.Erasure) (es.Appended, error) {
	if err := es.ValidateName("stream", e.Stream); err != nil {
		return es.Appended{}, err
	}
	if e.Audit == nil {
		return es.Appended{}, es.Invalidf("erasure", "has no audit event; it takes one that records the erasure")
	}
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Appended{}, err
	}
	defer s.db.handle.leave()
	done, err := s.log.erase(ctx, e)
	if err != nil {
		return es.Appended{}, fmt.Errorf("erase from stream %q: %w", e.Stream, err)
	}
	return done, nil
}

// running returns an error when the store was closed or the context has ended.
func (s *EventStore) running(ctx context.Context) error {
	select {
	case <-s.db.handle.done:
		return es.ErrClosed
	default:
	}
	return ctx.Err()
}
