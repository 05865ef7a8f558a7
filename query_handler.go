package eventsourcing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Waiter waits until something that follows an event store has come as far as a checkpoint.
type Waiter interface {
	// WaitFor returns when what it is about has come to the checkpoint or beyond it. A checkpoint of another incarnation of the
	// store is a [*CheckpointError]; a zero incarnation is not checked, and a position of 0 is behind everything. The error is
	// otherwise that of ctx.
	WaitFor(ctx context.Context, c Checkpoint) error
}

// QueryConfig says how to make a [QueryHandler].
type QueryConfig struct {
	// Waiter waits for what the answers are made from; nil where nobody can, and then who asks for it gets [ErrUnsupported].
	Waiter Waiter
	// Patience is how long a query waits at the most; 5 seconds by default.
	Patience time.Duration
}

// QueryHandler answers queries of one kind, from a read model most often. It can wait first, so that who has just changed something
// is answered from what came of it. Q and R are types of the program's own; a program that has its queries as messages takes
// *Message, and [Document] for the answers.
type QueryHandler[Q, R any] struct {
	config QueryConfig
	answer func(ctx context.Context, q Q) (R, error)
}

// ErrLagging means that what answers a query had not come far enough when the time to wait for it was over. Trying again helps.
var ErrLagging = errors.New("the read model lags behind")

// NewQueryHandler makes a handler of the queries that a function answers. [FromModel] makes such a function. The error is
// [ErrInvalid].
func NewQueryHandler[Q, R any](config QueryConfig, answer func(ctx context.Context, q Q) (R, error)) (*QueryHandler[Q, R], error) {
	if config.Patience == 0 {
		config.Patience = 5 * time.Second
	}
	switch {
	case answer == nil:
		return nil, Invalidf("query handler", "has no function that answers")
	case config.Patience < 0:
		return nil, Invalidf("query handler", "has the Patience %v; it takes a duration above 0", config.Patience)
	}
	return &QueryHandler[Q, R]{config: config, answer: answer}, nil
}

// Ask answers a query from what is there.
func (h *QueryHandler[Q, R]) Ask(ctx context.Context, q Q) (R, error) { return h.answer(ctx, q) }

// AskAfter waits for a checkpoint, such as that of a [CommandResult], and answers then. With the zero checkpoint it does not wait.
//
// Errors: [ErrLagging] when the handler's patience ended first; a [*CheckpointError] for a checkpoint of another store;
// [ErrUnsupported] for a handler without a [Waiter]; that of ctx; that of the answering function.
func (h *QueryHandler[Q, R]) AskAfter(ctx context.Context, q Q, after Checkpoint) (R, error) {
	var none R
	if after.Position == 0 {
		return h.answer(ctx, q)
	}
	if h.config.Waiter == nil {
		return none, fmt.Errorf("wait for position %d without a Waiter: %w", after.Position, ErrUnsupported)
	}
	patient, cancel := context.WithTimeout(ctx, h.config.Patience)
	defer cancel()
	if err := h.config.Waiter.WaitFor(patient, after); err != nil {
		if ctx.Err() == nil && patient.Err() != nil {
			return none, fmt.Errorf("position %d after %v: %w", after.Position, h.config.Patience, ErrLagging)
		}
		return none, fmt.Errorf("wait for position %d: %w", after.Position, err)
	}
	return h.answer(ctx, q)
}

// FromModel makes a function that answers queries with a document of a read model: the one whose key a function makes of the query.
// One that is not there is [ErrNotFound].
func FromModel[Q, T any](model Model[T], key func(Q) string) func(ctx context.Context, q Q) (Item[T], error) {
	return func(ctx context.Context, q Q) (Item[T], error) { return model.Load(ctx, key(q)) }
}

// WaitForProgress returns a [Waiter] for the projection of a name, by the checkpoint that it commits to a store of read models. It
// looks again and again: first after 1 millisecond, then less and less often, down to every 50 milliseconds. However many wait, it
// looks at most once a millisecond for all of them together.
func WaitForProgress(models ReadModels, projection string) Waiter {
	return &progressWaiter{models: models, projection: projection, turn: make(chan struct{}, 1)}
}

type progressWaiter struct {
	models     ReadModels
	projection string
	turn       chan struct{} // holds a token while somebody looks; who put it there may use what follows

	seen   Progress
	looked time.Time // when the last look began
}

const (
	progressPause     = time.Millisecond
	progressLongPause = 50 * time.Millisecond
)

// WaitFor implements [Waiter].
func (w *progressWaiter) WaitFor(ctx context.Context, c Checkpoint) error {
	for pause := progressPause; ; pause = min(2*pause, progressLongPause) {
		seen, err := w.look(ctx)
		if err != nil {
			return err
		}
		// A projection that has not begun has no incarnation.
		if foreign := seen.Incarnation != uuid.Nil && c.Incarnation != uuid.Nil && seen.Incarnation != c.Incarnation; foreign {
			return &CheckpointError{Checkpoint: c, Last: seen.Checkpoint}
		}
		if seen.Position >= c.Position {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// look returns the progress as it was a moment ago at the most.
func (w *progressWaiter) look(ctx context.Context) (Progress, error) {
	begun := time.Now()
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return Progress{}, ctx.Err()
	}
	defer func() { <-w.turn }()
	if w.fresh(begun) {
		return w.seen, nil
	}
	started := time.Now()
	seen, err := w.models.Progress(ctx, w.projection)
	if err != nil {
		return Progress{}, err
	}
	w.seen, w.looked = seen, started
	return seen, nil
}

// fresh tells whether what was seen last is recent enough for somebody who came at a time.
func (w *progressWaiter) fresh(begun time.Time) bool {
	return !w.looked.IsZero() && begun.Sub(w.looked) < progressPause
}
