package projection

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Target is where a projection writes what are no documents; see [Tables].
type Target interface {
	validate(c *Config) error
	sink() sink
}

// sink takes the effects of a batch, and the checkpoint behind it, in one commit.
type sink interface {
	// commit calls handle, in which the handlers are called, and commits what it returns together with what they did, or nothing. The
	// error of handle is in the chain of its own.
	commit(ctx context.Context, b *Batch, handle func(ctx context.Context) (es.Commit, error)) error
	// entangled tells whether what a handler did beside its documents can only be taken back with all that was done in the batch.
	entangled() bool
	// ours tells whether the error of a handler is the store's trouble of the moment, and no fault of the event.
	ours(ctx context.Context, err error) bool
}

// documentSink commits documents. Nothing of a batch has reached the store before.
type documentSink struct {
	models es.ReadModels
}

func (s documentSink) commit(ctx context.Context, _ *Batch, handle func(ctx context.Context) (es.Commit, error)) error {
	c, err := handle(ctx)
	if err != nil {
		return err
	}
	return s.models.Commit(ctx, c)
}

func (documentSink) entangled() bool { return false }

// ours is false: a batch knows by itself when its documents could not be loaded.
func (documentSink) ours(context.Context, error) bool { return false }
