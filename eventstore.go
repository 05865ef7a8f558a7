package eventsourcing

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
)

// EventStore keeps events for good: appended to streams under optimistic concurrency, read by stream or in one global order.
//
// The settled head is the position at or below which nothing can appear any more. Reads of the global order end there, so that
// a reader that goes forward from its checkpoint never skips an event, whatever order the writers commit in. Reads of one
// stream, and reads with [Query].Unsettled, see all that is committed.
type EventStore interface {
	// Append adds events to its streams, to all or to none, if every expectation and condition holds. It does not touch the
	// messages it is given; what the store made of them is in the result.
	//
	// It is idempotent by message ID: when all the IDs stand in the streams they are appended to, nothing changes and the
	// result tells the places they have, whatever the expectations and conditions say. So an append whose outcome is unknown
	// is simply repeated. When only some of the IDs are there, each stream is judged by its own: one that has none of its IDs
	// there by its expectation, as ever; one that has some or all of them gets the rest when it expects [Any], and is a
	// conflict otherwise. The conditions are checked then, and the append's own events that are there do not count.
	//
	// Errors: [*ConflictError] when an expectation or condition does not hold; [*DuplicateError] when an ID stands in another
	// stream or with other content ([Message.SameContent]); [ErrStreamDeleted]; [ErrInvalid], also for a stream or an ID that
	// is there twice; [ErrClosed]. Where several apply, one that lasts ([ErrInvalid], [*DuplicateError], [ErrStreamDeleted])
	// comes before a conflict, so that nobody tries again in vain. With an error nothing was appended, unless the error is
	// that of the context or of a lost connection, when the outcome is unknown.
	Append(ctx context.Context, a Append) (Appended, error)

	// AppendEach does several appends that do not depend on each other, in order, and may let them share one commit. The
	// failure of one leaves the others. The result has an outcome for each.
	AppendEach(ctx context.Context, as []Append) []Outcome

	// Read yields the events that the query selects, in order. An error ends it and is yielded with a nil message, never
	// hidden as a shorter history. Breaking out of the loop releases everything. No snapshot and no connection is held while
	// the body of the loop runs, so that a slow reader is nobody's trouble; memory does not grow with what is read.
	//
	// Errors: [*CheckpointError] when the query's Incarnation is not the store's, or, in the global order, After is beyond the
	// last position that the store gave out; [ErrInvalid]; [ErrClosed]; that of ctx, promptly.
	Read(ctx context.Context, q Query) iter.Seq2[*Message, error]

	// Head returns the settled head, with the store's incarnation: a checkpoint that says "I have seen everything so far".
	Head(ctx context.Context) (Checkpoint, error)

	// Wait returns the settled head as soon as it is beyond after, at once if it already is. An incarnation that is not the
	// store's, or a position beyond the last one that the store gave out, is a [*CheckpointError]; a zero incarnation is not
	// checked.
	Wait(ctx context.Context, after Checkpoint) (Checkpoint, error)

	StreamEditor
}

// StreamEditor takes events out of an event store again. A backend that cannot do that returns [ErrUnsupported].
//
// Versions and positions of what is gone are never given again, and appending its IDs again still succeeds with their places.
type StreamEditor interface {
	// Truncate hides from every reader the events that a stream has now with a version below before. A version beyond the last
	// hides them all, and nothing of what is appended later; 0 and 1 hide nothing, and less is [ErrInvalid]. The stream goes
	// on as it was: it has its version, and exists, also when none of its events can be read. What was never there is fine.
	Truncate(ctx context.Context, stream string, before int64) error
	// Delete hides all the events of a stream. After a [SoftDelete] the stream counts as empty for [NoStream] and
	// [StreamExists], and may be appended to again: its versions go on where they were, and [Exactly] takes that version.
	// After a [Tombstone] every append of new events is [ErrStreamDeleted], whatever it expects; one that has none for the
	// stream is judged as after a soft deletion. Deleting twice, or what was never there, is fine, and opens nothing again.
	Delete(ctx context.Context, stream string, how Deletion) error
	// Erase removes Data and Metadata from events in place, for personal data, and appends the audit event that says so, all
	// in one step. The erased events keep everything else, and carry [MetadataErased]; one that was erased before stays as it
	// is. When the audit event is in the store already, nothing is erased: so erasing again with the same one changes nothing,
	// and an audit event is good for one erasure. What is hidden is out of reach: erase first, then truncate or delete.
	Erase(ctx context.Context, e Erasure) (Appended, error)
}

// Deletion is a way to delete a stream.
type Deletion int

// The ways to delete a stream.
const (
	// SoftDelete leaves the name to be used again.
	SoftDelete Deletion = iota
	// Tombstone closes the stream for good.
	Tombstone
)

// Erasure says what to erase.
type Erasure struct {
	Stream string
	// Versions are those of the events to erase; empty means all that can be read, of which there may be none. One that cannot
	// be read, because the stream never had it or because it is hidden, is [ErrNotFound], and nothing is erased.
	Versions []int64
	// Audit is the event that records the erasure. It is appended to its own stream, which may be another, expecting [Any].
	Audit *Message
}

// Append is what to append, and on which terms.
type Append struct {
	// Streams may be empty of events, to check expectations and conditions only. A stream may be there once.
	Streams []StreamAppend
	// Unless are the conditions: each fails the append when events match that its maker has not seen.
	Unless []Condition
}

// StreamAppend is what to append to one stream.
type StreamAppend struct {
	Stream string
	// Expect is what the stream must be like; [Any] by default.
	Expect Expectation
	// Events have this stream's name in Stream, and no version: the store gives them.
	Events []*Message
}

// AppendTo is an append of events to one stream.
func AppendTo(stream string, expect Expectation, events ...*Message) Append {
	return Append{Streams: []StreamAppend{{Stream: stream, Expect: expect, Events: events}}}
}

// And puts two appends together, to be done both or neither, on the terms of both. A stream may be in one of them only. What they were
// made of stays as it is.
func (a Append) And(b Append) Append {
	return Append{Streams: slices.Concat(a.Streams, b.Streams), Unless: slices.Concat(a.Unless, b.Unless)}
}

// Validate checks an append against the rules that hold on every backend and against the limits of one.
func (a Append) Validate(l Limits) error {
	l = l.WithDefaults()
	if len(a.Streams) == 0 && len(a.Unless) == 0 {
		return Invalidf("append", "has neither a stream nor a condition")
	}
	total := 0
	for _, s := range a.Streams {
		if err := ValidateName("stream", s.Stream); err != nil {
			return err
		}
		if err := s.Expect.validate(); err != nil {
			return err
		}
		for _, m := range s.Events {
			if err := m.Validate(l); err != nil {
				return err
			}
			if m.Stream != s.Stream {
				return Invalidf("append", "has a message of stream %q under stream %q", m.Stream, s.Stream)
			}
		}
		total += len(s.Events)
	}
	if total > l.EventsPerAppend {
		return Invalidf("append", "has %d events; this store takes at most %d at a time", total, l.EventsPerAppend)
	}
	if err := a.validateStreams(); err != nil {
		return err
	}
	if err := a.validateIDs(total); err != nil {
		return err
	}
	for _, c := range a.Unless {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	return nil
}

func (a Append) validateStreams() error {
	if len(a.Streams) < 2 {
		return nil
	}
	seen := make(map[string]struct{}, len(a.Streams))
	for _, s := range a.Streams {
		if _, twice := seen[s.Stream]; twice {
			return Invalidf("append", "has stream %q twice", s.Stream)
		}
		seen[s.Stream] = struct{}{}
	}
	return nil
}

func (a Append) validateIDs(total int) error {
	if total < 2 {
		return nil
	}
	seen := make(map[uuid.UUID]struct{}, total)
	for _, s := range a.Streams {
		for _, m := range s.Events {
			if _, twice := seen[m.ID]; twice {
				return Invalidf("append", "has the message ID %s twice", m.ID)
			}
			seen[m.ID] = struct{}{}
		}
	}
	return nil
}

// Place is where an event stands.
type Place struct {
	Version  int64 // in its stream
	Position int64 // in the store's global order
}

// Appended is what became of an append.
type Appended struct {
	// Places has a place for each event of the append, in the order they were given, one stream after the other. It is shared
	// and read-only.
	Places []Place
	// Position is the largest position among Places; 0 for an append without events. Who waits for it reads its own writes.
	Position int64
	// Existing is how many of the events were there before, by their ID.
	Existing int
}

// Outcome is what became of one append of [EventStore.AppendEach].
type Outcome struct {
	Appended
	Err error
}

// Expectation is what a stream must be like for an append: [Any], [NoStream], [StreamExists] or [Exactly].
type Expectation int64

const (
	// Any accepts every version.
	Any Expectation = 0
	// NoStream accepts a stream that has no events. [Exactly](0) is the same.
	NoStream Expectation = -1
	// StreamExists accepts a stream that has events.
	StreamExists Expectation = -2
)

// Exactly accepts a stream at version v and no other, neither lower nor higher. A negative v is [ErrInvalid] when it is used.
func Exactly(v int64) Expectation {
	switch {
	case v == 0:
		return NoStream
	case v < 0:
		return -3
	}
	return Expectation(v)
}

// Version returns the version that e expects, and whether it is an [Exactly] of 1 or more.
func (e Expectation) Version() (int64, bool) { return int64(e), e > 0 }

// Holds tells whether e accepts something at the given version, where 0 means that it does not exist. A stream that was
// deleted softly has a version and no events; its store judges by both, see [StreamEditor.Delete].
func (e Expectation) Holds(version int64) bool {
	switch e {
	case Any:
		return true
	case NoStream:
		return version == 0
	case StreamExists:
		return version > 0
	}
	return version == int64(e)
}

func (e Expectation) validate() error {
	if e < StreamExists {
		return Invalidf("expectation", "is for a negative version; versions count from 1, and Exactly(0) means no stream")
	}
	return nil
}

func (e Expectation) String() string {
	switch e {
	case Any:
		return "any version"
	case NoStream:
		return "no stream"
	case StreamExists:
		return "an existing stream"
	}
	return fmt.Sprintf("version %d", int64(e))
}

// Checkpoint is how far a reader of the global order has come: the position it has scanned, matching or not, in one
// incarnation of one store.
type Checkpoint struct {
	// Incarnation is the store's identity, and changes when the store may have lost events that were read before: after a
	// restore or a failover. The zero value is not checked.
	Incarnation uuid.UUID
	Position    int64
}
