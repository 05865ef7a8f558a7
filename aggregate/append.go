package aggregate

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Propose loads an aggregate and decides, and returns the append without doing it: for an [es.CommandHandler], which carries out a command
// once, or to be put together with another one ([es.Append.And]). It is zero when there are no events.
func (r *Repository[S, E]) Propose(ctx context.Context, id string, decide func(state S) ([]E, error)) (es.Append, error) {
	at, err := r.load(ctx, id)
	if err != nil {
		return es.Append{}, err
	}
	r.snapshot(ctx, id, &at)
	events, err := decide(at.state)
	if err != nil || len(events) == 0 {
		return es.Append{}, err
	}
	a, _, err := r.build(ctx, id, at, events)
	return a, err
}

// build returns the append of events at the version of a state, and the state after them, whose version and time are still to be told. They
// are applied before they are appended, as whoever reads them gets them: an event that could not be loaded would be there for good.
func (r *Repository[S, E]) build(ctx context.Context, id string, at place[S], events []E) (es.Append, place[S], error) {
	stream, fold := r.Stream(id), r.folder.begin(at.state)
	messages := make([]*es.Message, len(events))
	for i, e := range events {
		m, err := r.config.Types.Encode(stream, e)
		if err == nil {
			err = fold.apply(m)
		}
		if err != nil {
			return es.Append{}, at, fmt.Errorf("%s, nothing was appended: %w", stream, err)
		}
		messages[i] = m
	}
	a := es.AppendTo(stream, at.expectation(), es.Caused(ctx, messages...)...)
	at.state, at.last = fold.state, a.Streams[0].Events[len(events)-1].ID
	return a, at, nil
}

// decisionError is the error of a decision, so that it is not taken for one of the store.
type decisionError struct{ err error }

func (e *decisionError) Error() string { return e.err.Error() }
func (e *decisionError) Unwrap() error { return e.err }

func (*Repository[S, E]) unwrapped(err error) error {
	if decided, ok := errors.AsType[*decisionError](err); ok {
		return decided.err
	}
	return err
}

// attempt decides and appends once.
func (r *Repository[S, E]) attempt(
	ctx context.Context, id string, at place[S], decide func(state S) ([]E, error),
) (Updated[S], error) {
	state := at.state
	if r.config.Clone != nil {
		state = r.config.Clone(state)
	}
	events, err := decide(state)
	if err != nil {
		return Updated[S]{}, &decisionError{err}
	}
	if len(events) == 0 {
		return Updated[S]{Loaded: r.loaded(id, at)}, nil
	}
	a, after, err := r.build(ctx, id, at, events)
	if err != nil {
		return Updated[S]{}, err
	}
	appended, err := appendOnce(ctx, r.config.Events, a)
	if err != nil {
		return Updated[S]{}, err
	}
	after.version, after.recorded = appended.Places[len(events)-1].Version, a.Streams[0].Events[len(events)-1].Time
	r.keep(id, after)
	r.snapshot(ctx, id, &after)
	return Updated[S]{Loaded: r.loaded(id, after), Appended: appended, Checkpoint: es.Checkpoint{Position: appended.Position}}, nil
}

// appendAttempts is how often an append is made whose outcome is unknown.
const appendAttempts = 3

// appendOnce appends. When the answer is lost, which any error means that is not one of the roles', the same is appended again: it is there
// once.
func appendOnce(ctx context.Context, store es.EventStore, a es.Append) (es.Appended, error) {
	for attempt := 1; ; attempt++ {
		done, err := store.Append(ctx, a)
		if err == nil || ctx.Err() != nil || attempt == appendAttempts || isVerdict(err) {
			return done, err
		}
	}
}

// isVerdict tells whether an error says that nothing was appended, and that nothing will be.
func isVerdict(err error) bool {
	for _, verdict := range []error{
		es.ErrConflict, es.ErrInvalid, es.ErrDuplicate, es.ErrStreamDeleted, es.ErrClosed, es.ErrUnsupported,
	} {
		if errors.Is(err, verdict) {
			return true
		}
	}
	return false
}
