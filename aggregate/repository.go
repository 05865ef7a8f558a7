package aggregate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Repository loads and changes the aggregates of a category. It is made by [New].
type Repository[S, E any] struct {
	config Config[S, E]
	folder folder[S, E]
	cache  *cache[S] // nil: there is none
	plain  bool      // copies of a state share nothing
}

// New makes a repository. The error is [es.ErrInvalid].
func New[S, E any](config Config[S, E]) (*Repository[S, E], error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	r := &Repository[S, E]{
		config: config,
		folder: folder[S, E]{types: config.Types, unknown: config.Unknown, evolve: config.Evolve},
		plain:  !refers(reflect.TypeFor[S]()),
	}
	if config.CacheSize > 0 {
		r.cache = newCache[S](config.CacheSize)
	}
	return r, nil
}

// Loaded is the state of an aggregate at a version.
type Loaded[S any] struct {
	ID, Stream string
	// State is what the events up to Version lead to.
	State S
	// Version is that of the last event; 0 when there is none.
	Version int64
	// Recorded is when that event was stored. After an update it is the event's own time, as the store does not tell the other.
	Recorded time.Time
}

// Stream returns the name of the stream of an aggregate.
func (r *Repository[S, E]) Stream(id string) string { return r.config.Category + "-" + id }

// ID returns the ID of the aggregate whose stream has a name, and whether there is one in the category.
func (r *Repository[S, E]) ID(stream string) (id string, ok bool) {
	category, id, _ := strings.Cut(stream, "-")
	return id, id != "" && category == r.config.Category
}

// Load returns an aggregate as it is now. Errors: [es.ErrNotFound] when it has no events; [es.ErrInvalid] for an ID that makes no name of
// a stream; that of decoding an event; those of the store.
func (r *Repository[S, E]) Load(ctx context.Context, id string) (Loaded[S], error) {
	at, err := r.load(ctx, id)
	if err != nil {
		return Loaded[S]{}, err
	}
	if at.version == 0 {
		return Loaded[S]{}, fmt.Errorf("%s: %w", r.Stream(id), es.ErrNotFound)
	}
	r.snapshot(ctx, id, &at)
	return r.loaded(id, at), nil
}

// LoadAt returns an aggregate as it was at a version, which is 1 or more. One that it has not come to yet is [es.ErrNotFound], and so is
// one whose event is hidden.
func (r *Repository[S, E]) LoadAt(ctx context.Context, id string, version int64) (Loaded[S], error) {
	if version < 1 {
		return Loaded[S]{}, es.Invalidf("version", "is %d; versions count from 1", version)
	}
	at, err := r.replay(ctx, id, until{version: version})
	if err == nil && at.version != version {
		err = fmt.Errorf("%s at version %d, it is at %d: %w", r.Stream(id), version, at.version, es.ErrNotFound)
	}
	if err != nil {
		return Loaded[S]{}, err
	}
	return r.loaded(id, at), nil
}

// LoadAsOf returns an aggregate as it was at a time: with the events that the store had recorded until then, by its clock. It is
// [es.ErrNotFound] when there were none.
func (r *Repository[S, E]) LoadAsOf(ctx context.Context, id string, t time.Time) (Loaded[S], error) {
	at, err := r.replay(ctx, id, until{time: &t})
	if err == nil && at.version == 0 {
		err = fmt.Errorf("%s at %v: %w", r.Stream(id), t, es.ErrNotFound)
	}
	if err != nil {
		return Loaded[S]{}, err
	}
	return r.loaded(id, at), nil
}

// Forget drops what is kept of an aggregate beside its events: its snapshot, and what this repository has in memory. It is for who has
// erased personal data from events, which a state that was built before still has. What other processes have in their caches they use until
// something pushes it out.
func (r *Repository[S, E]) Forget(ctx context.Context, id string) error {
	if r.cache != nil {
		r.cache.remove(id)
	}
	if r.config.Snapshots == nil {
		return nil
	}
	return r.config.Snapshots.Delete(ctx, r.snapshotKey(id))
}

// loaded gives a state away: at is not used any more.
func (r *Repository[S, E]) loaded(id string, at place[S]) Loaded[S] {
	return Loaded[S]{ID: id, Stream: r.Stream(id), State: at.state, Version: at.version, Recorded: at.recorded}
}

// own returns a state that whoever gets it may do with what he likes.
func (r *Repository[S, E]) own(state S) S {
	if r.config.Clone == nil {
		return state
	}
	return r.config.Clone(state)
}

// place is how far a state has come.
type place[S any] struct {
	state    S
	version  int64     // of the last event
	last     uuid.UUID // its ID
	recorded time.Time
	snapshot int64 // the version of the last snapshot that was seen
	hidden   int64 // without events: the version that the stream has all the same, as a conflict told before the events were read
}

// expectation is what the stream is like when nobody has appended since. A stream that was truncated beyond its last event has a version
// and exists, and has no events.
func (p *place[S]) expectation() es.Expectation {
	if p.version == 0 {
		return es.Exactly(p.hidden)
	}
	return es.Exactly(p.version)
}

// until is where a replay ends: at a version, at a time, or with the last event.
type until struct {
	version int64
	time    *time.Time
}

// load returns the state as it is now; its version is 0 when there are no events. The state is the caller's own.
func (r *Repository[S, E]) load(ctx context.Context, id string) (place[S], error) {
	if r.cache != nil {
		if at, ok := r.cache.get(id); ok {
			at.state = r.own(at.state)
			at, valid, err := r.catchUp(ctx, id, at, until{})
			if err != nil {
				return at, err
			}
			if valid {
				r.keep(id, at)
				return at, nil
			}
			r.cache.remove(id)
		}
	}
	at, err := r.replay(ctx, id, until{})
	if err == nil {
		r.keep(id, at)
	}
	return at, err
}

// keep puts a state into the cache.
func (r *Repository[S, E]) keep(id string, at place[S]) {
	if r.cache != nil && at.version > 0 {
		at.state = r.own(at.state)
		r.cache.put(id, at)
	}
}

// replay builds a state from a snapshot and what came after it, or from the first event.
func (r *Repository[S, E]) replay(ctx context.Context, id string, end until) (place[S], error) {
	if at, ok := r.fromSnapshot(ctx, id, end); ok {
		at, valid, err := r.catchUp(ctx, id, at, end)
		if err != nil || valid {
			return at, err
		}
		if end == (until{}) { // otherwise it may only be too new
			r.drop(ctx, id)
		}
	}
	at, _, err := r.catchUp(ctx, id, place[S]{state: r.config.Initial()}, end)
	return at, err
}

// catchUp applies what a stream has beyond the version of a state. It begins with the last event that the state has in it, and tells
// whether that is still there: otherwise the stream was deleted or truncated beyond it, or is another one, and the state is good for
// nothing.
func (r *Repository[S, E]) catchUp(ctx context.Context, id string, at place[S], end until) (_ place[S], valid bool, err error) {
	if id == "" {
		return at, false, es.Invalidf("aggregate ID", "is empty")
	}
	q := es.Query{Stream: r.Stream(id), After: max(at.version-1, 0), UpTo: end.version}
	valid = at.version == 0
	fold := r.folder.begin(at.state)
	for m, err := range r.config.Events.Read(ctx, q) {
		if err != nil {
			return at, false, err
		}
		if end.time != nil && m.Recorded.After(*end.time) {
			break
		}
		if !valid {
			if m.ID != at.last {
				return at, false, nil
			}
			valid, at.last, at.recorded = true, m.ID, m.Recorded
			continue
		}
		if err := fold.apply(m); err != nil {
			return at, false, fmt.Errorf("%s at version %d: %w", m.Stream, m.Version, err)
		}
		at.version, at.last, at.recorded = m.Version, m.ID, m.Recorded
	}
	at.state = fold.state
	return at, valid, nil
}

// Updated is what became of an update.
type Updated[S any] struct {
	// Loaded is the aggregate afterwards.
	Loaded[S]
	// Appended has the places of the new events; empty when there are none.
	Appended es.Appended
	// Checkpoint is behind the last of them: who waits for it, see [es.Waiter], reads what they have led to. Its Position is 0 when there
	// are none. Its Incarnation is not set, and so is not checked.
	Checkpoint es.Checkpoint
}

// Update loads an aggregate, decides, and appends the events that were decided at the version that was loaded. When somebody else was
// first, it loads what is new and decides again, as often as [Config].Attempts says; so decide does nothing else that can be seen from
// outside.
// It gets the initial state when there are no events. When it returns no events, or an error, nothing is appended.
//
// The events get the correlation and causation ID of ctx, and its metadata; see [es.Caused]. When the answer of the store is lost, the same
// events are appended again, which changes nothing if they are there.
//
// Errors: that of decide, as it is; an [*es.ConflictError] when the attempts were used up; that of encoding or decoding an event; those of
// [es.EventStore].Append, after which the outcome may be unknown.
func (r *Repository[S, E]) Update(ctx context.Context, id string, decide func(state S) ([]E, error)) (Updated[S], error) {
	at, err := r.load(ctx, id)
	if err != nil {
		return Updated[S]{}, err
	}
	for attempt := 1; ; attempt++ {
		before := at
		before.state = r.own(at.state)
		done, err := r.attempt(ctx, id, before, decide)
		if !errors.Is(err, es.ErrConflict) || attempt == r.config.Attempts {
			return done, r.unwrapped(err)
		}
		if decided, ok := errors.AsType[*decisionError](err); ok {
			return done, decided.err
		}
		conflict, _ := errors.AsType[*es.ConflictError](err)
		if at, err = r.reload(ctx, id, at); err != nil {
			return Updated[S]{}, err
		}
		if at.version == 0 && conflict != nil {
			at.hidden = conflict.Actual
		}
	}
}

// reload returns the state after somebody else was first.
func (r *Repository[S, E]) reload(ctx context.Context, id string, at place[S]) (place[S], error) {
	if r.config.Clone == nil && !r.plain { // the decision may have changed it
		return r.load(ctx, id)
	}
	at, valid, err := r.catchUp(ctx, id, at, until{})
	if err != nil || valid {
		return at, err
	}
	return r.load(ctx, id)
}

// UpdateIf is [Repository.Update] for a caller who has seen the aggregate, and wants nothing to be done if it is not as expected: that is
// an [*es.ConflictError], and so is being overtaken. It decides once.
func (r *Repository[S, E]) UpdateIf(
	ctx context.Context, id string, expect es.Expectation, decide func(state S) ([]E, error),
) (Updated[S], error) {
	if expect < es.StreamExists {
		return Updated[S]{}, es.Invalidf("expectation", "is for a negative version; versions count from 1, and Exactly(0) means no stream")
	}
	at, err := r.load(ctx, id)
	if err != nil {
		return Updated[S]{}, err
	}
	if !expect.Holds(at.version) {
		return Updated[S]{}, &es.ConflictError{Stream: r.Stream(id), Expected: expect, Actual: at.version}
	}
	done, err := r.attempt(ctx, id, at, decide)
	return done, r.unwrapped(err)
}
