package aggregate

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DecisionConfig says how to make a [Decision]. S is the type of the state, and E that of the events: an interface that all of them
// implement, or any.
type DecisionConfig[S, E any] struct {
	// Events is the store that the events are in. It is required.
	Events es.EventStore
	// Types has the Go types of the events. It is required.
	Types *es.Types
	// Initial makes the state before the first event; the zero value of S by default.
	Initial func() S
	// Evolve applies an event to a state, as that of [Config] does. It is required.
	Evolve func(state S, event E) S
	// Unknown says what is done with events whose types are not registered. By default they are an error; criteria with Names keep out what
	// others have given the same tags.
	Unknown es.Unknown
	// Attempts is how often it decides at the most when others are first; 5 by default.
	Attempts int
}

// Decision decides about the events that meet some criteria, whatever their streams. It is made by [NewDecision].
type Decision[S, E any] struct {
	config DecisionConfig[S, E]
	folder folder[S, E]
}

// NewDecision makes a decision. The error is [es.ErrInvalid].
func NewDecision[S, E any](config DecisionConfig[S, E]) (*Decision[S, E], error) {
	if config.Attempts == 0 {
		config.Attempts = defaultAttempts
	}
	if config.Initial == nil {
		config.Initial = func() (zero S) { return zero }
	}
	switch {
	case config.Events == nil:
		return nil, es.Invalidf("decision", "has no Events; give it the store that the events are in")
	case config.Types == nil:
		return nil, es.Invalidf("decision", "has no Types; give it those that the events are registered with")
	case config.Evolve == nil:
		return nil, es.Invalidf("decision", "has no Evolve, the function that applies an event to the state")
	case config.Attempts < 0:
		return nil, es.Invalidf("decision", "has %d Attempts; it takes 1 or more, and 0 for the default", config.Attempts)
	}
	if err := config.Unknown.Validate(); err != nil {
		return nil, err
	}
	return &Decision[S, E]{
		config: config, folder: folder[S, E]{types: config.Types, unknown: config.Unknown, evolve: config.Evolve},
	}, nil
}

// Write is events for a stream.
type Write struct {
	Stream string
	// Expect is what the stream must be like; [es.Any] by default.
	Expect es.Expectation
	// Events are values of registered types. The tags by which later decisions find them are those of [es.Tagged].
	Events []any
}

// To is events for a stream, whatever that has in it.
func To(stream string, events ...any) Write { return Write{Stream: stream, Events: events} }

// Decided is what became of a decision.
type Decided[S any] struct {
	// State is what was decided from: without the new events.
	State S
	// Appended has the places of the new events; empty when there are none.
	Appended es.Appended
	// Checkpoint is behind the last of them; see [Updated].
	Checkpoint es.Checkpoint
}

// Decide builds the state of the events that meet one of the criteria, decides, and appends the events that were decided, all or none, on
// the condition that nothing else has happened that meets one. When something has, it decides again, as often as
// [DecisionConfig].Attempts says; so decide does nothing else that can be seen from outside. When it returns no events, or an error,
// nothing is appended. A stream may be there once.
//
// The events get the correlation and causation ID of ctx, and its metadata; see [es.Caused].
//
// Errors: that of decide, as it is; an [*es.ConflictError] when the attempts were used up, or a stream was not as a [Write] expects; that
// of encoding or decoding an event; those of [es.EventStore].Append, after which the outcome may be unknown.
func (d *Decision[S, E]) Decide(
	ctx context.Context, match []es.Criterion, decide func(state S) ([]Write, error),
) (Decided[S], error) {
	return d.DecideFrom(ctx, d.config.Initial, match, decide)
}

// DecideFrom is [Decision.Decide] with an initial state for this call, that says what it is about, such as the course and the student: what
// Evolve needs to know to tell why an event matches. initial is called for each attempt.
func (d *Decision[S, E]) DecideFrom(
	ctx context.Context, initial func() S, match []es.Criterion, decide func(state S) ([]Write, error),
) (Decided[S], error) {
	for attempt := 1; ; attempt++ {
		state, a, err := d.propose(ctx, initial, match, decide)
		if err != nil || len(a.Streams) == 0 {
			return Decided[S]{State: state}, err
		}
		appended, err := appendOnce(ctx, d.config.Events, a)
		if err == nil {
			return Decided[S]{State: state, Appended: appended, Checkpoint: es.Checkpoint{Position: appended.Position}}, nil
		}
		if !errors.Is(err, es.ErrConflict) || attempt == d.config.Attempts {
			return Decided[S]{State: state}, err
		}
	}
}

// Propose builds the state and decides, and returns the append without doing it: for an [es.CommandHandler], which carries out a command
// once, or to be put together with another one. It is zero when there are no events.
func (d *Decision[S, E]) Propose(
	ctx context.Context, match []es.Criterion, decide func(state S) ([]Write, error),
) (es.Append, error) {
	return d.ProposeFrom(ctx, d.config.Initial, match, decide)
}

// ProposeFrom is [Decision.Propose] with an initial state for this call, as that of [Decision.DecideFrom].
func (d *Decision[S, E]) ProposeFrom(
	ctx context.Context, initial func() S, match []es.Criterion, decide func(state S) ([]Write, error),
) (es.Append, error) {
	_, a, err := d.propose(ctx, initial, match, decide)
	return a, err
}

func (d *Decision[S, E]) propose(
	ctx context.Context, initial func() S, match []es.Criterion, decide func(state S) ([]Write, error),
) (state S, a es.Append, err error) {
	fold := d.folder.begin(initial())
	condition, err := es.ReadForDecision(ctx, d.config.Events, match, func(m *es.Message) error {
		if err := fold.apply(m); err != nil {
			return fmt.Errorf("%s at version %d: %w", m.Stream, m.Version, err)
		}
		return nil
	})
	if err != nil {
		return fold.state, es.Append{}, err
	}
	writes, err := decide(fold.state)
	if err != nil || len(writes) == 0 {
		return fold.state, es.Append{}, err
	}
	a.Unless = []es.Condition{condition}
	for _, w := range writes {
		to, err := d.config.Types.AppendTo(w.Stream, w.Expect, w.Events...)
		if err != nil {
			return fold.state, es.Append{}, fmt.Errorf("%s: %w", w.Stream, err)
		}
		es.Caused(ctx, to.Streams[0].Events...)
		a.Streams = append(a.Streams, to.Streams...)
	}
	return fold.state, a, nil
}
