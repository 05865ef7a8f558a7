package memory

import (
	"context"
	"fmt"
	"iter"

	es "github.com/eventsourcing-go/eventsourcing"
)

// EventStore keeps events in memory, and is an [es.EventStore]. A [Backend] has one; backends on one storage share the events.
//
// Appends are done one after the other, so that the settled head is simply the last position that was given out: nothing can
// appear at or below it, and [es.Query].Unsettled changes nothing.
//
// What it keeps of an event is little more than its payload, and of one that was truncated or deleted some 40 bytes, to know its
// ID by. A namespace can have 4,294,967,295 events in its life; after that an append is [es.ErrFull].
type EventStore struct {
	handle *handle
	log    *eventLog
	limits es.Limits
}

var _ es.EventStore = (*EventStore)(nil)

// Append adds events to their streams, to all or to none; see [es.EventStore]. It does not wait for anything.
func (s *EventStore) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if err := s.handle.begin(ctx); err != nil {
		return es.Appended{}, err
	}
	defer s.handle.leave()
	return s.log.append(a, s.limits)
}

// AppendEach does appends that do not depend on each other, in order; see [es.EventStore]. When ctx ends in between, its
// error is the outcome of those that are left.
func (s *EventStore) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	outcomes := make([]es.Outcome, len(as))
	for i, a := range as {
		outcomes[i].Appended, outcomes[i].Err = s.Append(ctx, a)
	}
	return outcomes
}

// Read yields the events that the query selects; see [es.EventStore]. It ends where the log ended when the loop began, so that
// a loop that appends what it reads comes to an end. No lock is held while the body of the loop runs: it may use the store.
func (s *EventStore) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		if err := s.read(ctx, q, yield); err != nil {
			yield(nil, err)
		}
	}
}

// read is Read but for the yielding of its error. It returns nil when the body of the loop wants no more.
func (s *EventStore) read(ctx context.Context, q es.Query, yield func(*es.Message, error) bool) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	if err := q.Validate(); err != nil {
		return err
	}
	r, err := s.log.reader(q)
	if err != nil {
		return err
	}
	for !r.done() {
		if err := s.running(ctx); err != nil {
			return err
		}
		page := r.fetch()
		for i := range page.messages {
			if err := s.running(ctx); err != nil {
				return err
			}
			m := &page.messages[i]
			if s.log.edits.Load() != page.edits { // what was truncated or erased meanwhile is not handed out any more
				r.rewind(m)
				break
			}
			r.took()
			if !yield(m, nil) {
				return nil
			}
		}
	}
	return nil
}

// Head returns the last position that was given out, which is the settled head; see [es.EventStore].
func (s *EventStore) Head(ctx context.Context) (es.Checkpoint, error) {
	if err := s.running(ctx); err != nil {
		return es.Checkpoint{}, err
	}
	return s.log.head(), nil
}

// Wait returns the settled head as soon as it is beyond after; see [es.EventStore].
func (s *EventStore) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	if after.Position < 0 {
		return es.Checkpoint{}, es.Invalidf("checkpoint", "is at position %d; positions are 0 or more", after.Position)
	}
	for {
		if err := s.running(ctx); err != nil {
			return es.Checkpoint{}, err
		}
		head, advanced, err := s.log.beyond(after)
		if err != nil || advanced == nil {
			return head, err
		}
		select {
		case <-advanced:
		case <-ctx.Done():
		case <-s.handle.done:
		}
	}
}

// Truncate hides the events of a stream with a version below before; see [es.StreamEditor]. One beyond the end of the stream
// hides all that it has, and nothing of what is appended later.
func (s *EventStore) Truncate(ctx context.Context, stream string, before int64) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	if before < 0 {
		return es.Invalidf("truncation", "is before version %d; versions count from 1", before)
	}
	if err := s.handle.begin(ctx); err != nil {
		return err
	}
	defer s.handle.leave()
	s.log.truncate(stream, before)
	return nil
}

// Delete hides all the events of a stream; see [es.StreamEditor].
func (s *EventStore) Delete(ctx context.Context, stream string, how es.Deletion) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	if how != es.SoftDelete && how != es.Tombstone {
		return es.Invalidf("deletion", "is of kind %d; there are SoftDelete and Tombstone", how)
	}
	if err := s.handle.begin(ctx); err != nil {
		return err
	}
	defer s.handle.leave()
	s.log.delete(stream, how)
	return nil
}

// Erase removes Data and Metadata from events in place, and appends the audit event that says so; see [es.StreamEditor]. The
// log lets go of the bytes at once; messages that were handed out before keep theirs. An event that was erased before keeps
// the ID of the audit event that came first. When the audit event is in the store already, nothing is erased.
func (s *EventStore) Erase(ctx context.Context, e es.Erasure) (es.Appended, error) {
	if err := es.ValidateName("stream", e.Stream); err != nil {
		return es.Appended{}, err
	}
	if e.Audit == nil {
		return es.Appended{}, es.Invalidf("erasure", "has no audit event; it takes one that records the erasure")
	}
	if err := s.handle.begin(ctx); err != nil {
		return es.Appended{}, err
	}
	defer s.handle.leave()
	appended, err := s.log.erase(e, s.limits)
	if err != nil {
		return es.Appended{}, fmt.Errorf("erase from stream %q: %w", e.Stream, err)
	}
	return appended, nil
}

// running returns an error when the store was closed or the context has ended. Two attempts to receive cost next to nothing
// where one select over both would not, and a reader does this for every message.
func (s *EventStore) running(ctx context.Context) error {
	select {
	case <-s.handle.done:
		return es.ErrClosed
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	default:
		return nil
	}
}
