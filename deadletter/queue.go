package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DefaultStream is the dead stream unless [Config] says otherwise. It is that of routers and processors.
const DefaultStream = "dead"

// page is how many letters are replayed or discarded at a time, when it is all of them.
const page = 100

// Config is where the dead letters are. Events is required.
type Config struct {
	// Events is the event store that has the dead stream.
	Events es.EventStore
	// Stream is the dead stream; [DefaultStream] by default.
	Stream string
	// Outbox is the one whose entries processors give up, and by which replays are sent. It may be nil where there is none.
	Outbox es.Outbox
	// Send sends replays to their topics. By default they are enqueued in the Outbox, and without one they are appended to
	// Events, for programs whose broker is the event log itself.
	Send func(ctx context.Context, msgs []*es.Message) error
}

// Queue is the dead letters of a program. Its methods may be called by several goroutines, and by several processes.
type Queue struct {
	config Config
}

// New makes a queue. The error is [es.ErrInvalid] and says what is wrong with the configuration.
func New(c Config) (*Queue, error) {
	if c.Stream == "" {
		c.Stream = DefaultStream
	}
	if c.Events == nil {
		return nil, es.Invalidf("dead letters", "have no Events; they are read from an event store")
	}
	if err := es.ValidateName("dead stream", c.Stream); err != nil {
		return nil, err
	}
	switch {
	case c.Send != nil:
	case c.Outbox != nil:
		c.Send = func(ctx context.Context, msgs []*es.Message) error { return c.Outbox.Enqueue(ctx, msgs...) }
	default:
		c.Send = func(ctx context.Context, msgs []*es.Message) error { return appendEach(ctx, c.Events, msgs) }
	}
	return &Queue{config: c}, nil
}

// List yields the letters that nobody has dealt with, the oldest first, as far as there were any when it began. An error of the
// store ends it. It reads as the loop goes on, and memory grows only with the number of those that were dealt with; see
// [Queue.Compact].
func (q *Queue) List(ctx context.Context, f Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if err := q.list(ctx, f, yield); err != nil {
			yield(Letter{}, fmt.Errorf("list dead letters: %w", err))
		}
	}
}

func (q *Queue) list(ctx context.Context, f Filter, yield func(Letter, error) bool) error {
	if err := f.validate(); err != nil {
		return err
	}
	last, err := q.last(ctx)
	if err != nil || last <= f.After {
		return err
	}
	settled, err := q.settled(ctx)
	if err != nil {
		return err
	}
	found := 0
	for m, err := range q.config.Events.Read(ctx, q.letters(f.After, last)) {
		if err != nil {
			return err
		}
		if _, done := settled[m.ID.String()]; done {
			continue
		}
		if l := read(m); f.matches(&l) {
			found++
			if !yield(l, nil) || found == f.Limit {
				return nil
			}
		}
	}
	return nil
}

// Get returns a letter, or [es.ErrNotFound] when there is none of the ID or it was dealt with.
func (q *Queue) Get(ctx context.Context, id uuid.UUID) (Letter, error) {
	letters, err := q.find(ctx, []uuid.UUID{id})
	if err != nil {
		return Letter{}, err
	}
	return letters[0], nil
}

// Count returns how many letters match.
func (q *Queue) Count(ctx context.Context, f Filter) (int, error) {
	n := 0
	for _, err := range q.List(ctx, f) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// find returns the letters of some IDs, in the order of the IDs.
func (q *Queue) find(ctx context.Context, ids []uuid.UUID) ([]Letter, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	wanted := make(map[uuid.UUID]int, len(ids))
	for i, id := range ids {
		if _, twice := wanted[id]; twice {
			return nil, es.Invalidf("dead letters", "have the ID %s twice", id)
		}
		wanted[id] = i
	}
	letters, found := make([]Letter, len(ids)), 0
	for l, err := range q.List(ctx, Filter{}) {
		if err != nil {
			return nil, err
		}
		if i, is := wanted[l.ID]; is {
			letters[i] = l
			if found++; found == len(ids) {
				return letters, nil
			}
		}
	}
	for i, id := range ids {
		if letters[i].ID == uuid.Nil {
			return nil, fmt.Errorf("dead letter %s: it is not there, or was dealt with: %w", id, es.ErrNotFound)
		}
	}
	return letters, nil
}

// last returns the version of the last message in the dead stream.
func (q *Queue) last(ctx context.Context) (int64, error) {
	for m, err := range q.config.Events.Read(ctx, es.Query{Stream: q.config.Stream, Reverse: true, Limit: 1}) {
		if err != nil {
			return 0, err
		}
		return m.Version, nil
	}
	return 0, nil
}

func (q *Queue) letters(after, upTo int64) es.Query {
	return es.Query{Stream: q.config.Stream, Names: []string{es.DeadLetterName}, After: after, UpTo: upTo}
}

// settled returns the IDs of the letters that were dealt with, as the causation of what says so has them.
func (q *Queue) settled(ctx context.Context) (map[string]struct{}, error) {
	done := map[string]struct{}{}
	settlements := es.Query{Stream: q.config.Stream, Names: []string{ReplayedName, DiscardedName}}
	for m, err := range q.config.Events.Read(ctx, settlements) {
		if err != nil {
			return nil, err
		}
		done[m.CausationID] = struct{}{}
	}
	return done, nil
}

// unsettledError says about which letters it could not be put on record that they were dealt with. They were, and so were the others.
type unsettledError struct {
	letters int
	err     error
}

func (e *unsettledError) Error() string { return e.err.Error() }
func (e *unsettledError) Unwrap() error { return e.err }

// settle puts on record what became of letters. One that somebody else has dealt with in the same way meanwhile is fine; in another
// way it is [es.ErrConflict]. The error is an *unsettledError.
func (q *Queue) settle(ctx context.Context, name string, letters []Letter) error {
	appends := make([]es.Append, len(letters))
	for i := range letters {
		appends[i] = es.AppendTo(q.config.Stream, es.Any, settlement(q.config.Stream, name, letters[i].ID))
	}
	var errs []error
	for i, o := range q.config.Events.AppendEach(ctx, appends) {
		switch {
		case o.Err == nil:
		case errors.Is(o.Err, es.ErrDuplicate):
			errs = append(errs, fmt.Errorf("dead letter %s: somebody else has dealt with it in another way meanwhile: %w",
				letters[i].ID, es.ErrConflict))
		default:
			errs = append(errs, fmt.Errorf("dead letter %s: put on record what became of it: %w", letters[i].ID, o.Err))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return &unsettledError{letters: len(errs), err: errors.Join(errs...)}
}

// appendEach appends messages to their streams.
func appendEach(ctx context.Context, events es.EventStore, msgs []*es.Message) error {
	appends := make([]es.Append, len(msgs))
	for i, m := range msgs {
		appends[i] = es.AppendTo(m.Stream, es.Any, m)
	}
	var errs []error
	for _, o := range events.AppendEach(ctx, appends) {
		errs = append(errs, o.Err)
	}
	return errors.Join(errs...)
}

// Compact takes letters that were dealt with out of the dead stream, and what says so, as far as they stand before the first one
// that nobody has dealt with. It returns how many versions of the stream are gone for readers; [es.ErrUnsupported] where the event
// store cannot truncate. Nothing else removes what has become of dead letters.
func (q *Queue) Compact(ctx context.Context) (int64, error) {
	last, err := q.last(ctx)
	if err != nil {
		return 0, fmt.Errorf("compact dead letters: %w", err)
	}
	first := last + 1
	for l, err := range q.List(ctx, Filter{Limit: 1}) {
		if err != nil {
			return 0, fmt.Errorf("compact dead letters: %w", err)
		}
		first = min(first, l.Version)
	}
	gone := int64(0)
	for m, err := range q.config.Events.Read(ctx, es.Query{Stream: q.config.Stream, Limit: 1}) {
		if err != nil {
			return 0, fmt.Errorf("compact dead letters: %w", err)
		}
		gone = max(first-m.Version, 0)
	}
	if gone == 0 {
		return 0, nil
	}
	if err := q.config.Events.Truncate(ctx, q.config.Stream, first); err != nil {
		return 0, fmt.Errorf("compact dead letters: %w", err)
	}
	return gone, nil
}
