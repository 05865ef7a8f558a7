package howto_test

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

func Example_rebuildReadModels() {
	run(rebuildReadModels)
	// Output:
	// before: 3 pieces
	// 1 changed, 0 added, 0 removed
	// rebuilt from 2 events
	// now: 30 pieces
}

type ShelfFilled struct{ Pieces int }

type Shelf struct{ Pieces int }

// shelves counts pieces. A new version of it counts what is in the boxes.
func shelves(backend es.Backend, inABox int) (*projection.Projection, error) {
	types := es.NewTypes()
	es.Register[ShelfFilled](types, "ShelfFilled")
	documents := projection.NewDocuments[Shelf]("shelves")
	return projection.New(projection.Config{
		Name: "shelves", Events: backend.Events(), Models: backend.ReadModels(), Leases: backend.Leases(), Types: types,
	}, projection.On(func(ctx context.Context, b *projection.Batch, e ShelfFilled, m *es.Message) error {
		return documents.In(b).Update(ctx, m.Stream, func(s *Shelf) error {
			s.Pieces += e.Pieces * inABox
			return nil
		})
	}))
}

func rebuildReadModels(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	for _, pieces := range []string{`{"Pieces":1}`, `{"Pieces":2}`} {
		e := es.NewMessage("shelf-1", "ShelfFilled", []byte(pieces))
		if _, err := backend.Events().Append(ctx, es.AppendTo(e.Stream, es.Any, e)); err != nil {
			return err
		}
	}
	old, err := shelves(backend, 1)
	if err != nil {
		return err
	}
	if err := old.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = old.Stop(ctx) }()
	head, err := backend.Events().Head(ctx)
	if err != nil {
		return err
	}
	if err := old.WaitFor(ctx, head); err != nil {
		return err
	}
	if err := showShelf(ctx, backend, "before"); err != nil {
		return err
	}

	better, err := shelves(backend, 10) // the same projection, with the new handlers
	if err != nil {
		return err
	}
	report, err := better.Rebuild(ctx, projection.RebuildOptions{
		Definition: "count what is in the boxes",
		Report: func(r projection.RebuildReport) { // a bar, on a command line
			_ = fmt.Sprintf("%d of %d, %v left", r.Position, r.Head, r.Left)
		},
		Compare: func(_ context.Context, d projection.Differences) error { // an error here, and nothing is switched
			fmt.Printf("%d changed, %d added, %d removed\n", d.Changed, d.Added, d.Removed)
			return nil
		},
	})
	if err != nil {
		return err
	}
	fmt.Printf("rebuilt from %d events\n", report.Events)
	return showShelf(ctx, backend, "now")
}

func showShelf(ctx context.Context, backend es.Backend, when string) error {
	shelf, err := es.NewModel[Shelf](backend.ReadModels(), "shelves").Load(ctx, "shelf-1")
	if err == nil {
		fmt.Printf("%s: %d pieces\n", when, shelf.Value.Pieces)
	}
	return err
}
