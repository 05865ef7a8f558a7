package howto_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_followTheLog() {
	run(followTheLog)
	// Output:
	// OrderPlaced
	// OrderPaid
	// the checkpoint belongs to another store
}

// follow handles the events of a category, old ones first and then those to come, until ctx ends.
func follow(ctx context.Context, store es.EventStore, at es.Checkpoint, handle func(*es.Message) error,
	save func(es.Checkpoint) error,
) error {
	for {
		head, err := store.Wait(ctx, at) // until there is something beyond at
		if err != nil {
			return err
		}
		query := es.Query{Category: "order", UpTo: head.Position}
		for m, err := range store.Read(ctx, query.Resume(at)) {
			if err != nil {
				return err
			}
			if err := handle(m); err != nil {
				return err
			}
		}
		at = head // what was scanned, also when nothing of it matched
		if err := save(at); err != nil {
			return err
		}
	}
}

func followTheLog(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	store := backend.Events()
	for _, name := range []string{"OrderPlaced", "OrderPaid"} {
		m := es.NewMessage("order-7", name, []byte(`{}`))
		if _, err := store.Append(ctx, es.AppendTo(m.Stream, es.Any, m)); err != nil {
			return err
		}
	}

	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var saved es.Checkpoint // the zero value begins at the beginning
	err := follow(ctx, store, saved,
		func(m *es.Message) error { fmt.Println(m.Name); return nil },
		func(at es.Checkpoint) error {
			saved = at
			if at.Position == 2 {
				enough()
			}
			return nil
		})
	if !errors.Is(err, context.Canceled) {
		return err
	}

	restored := memory.New() // another store, or the same one after a restore
	defer restored.Close()
	_, err = restored.Events().Wait(context.WithoutCancel(ctx), saved)
	if errors.Is(err, es.ErrCheckpoint) {
		fmt.Println("the checkpoint belongs to another store")
	}
	return nil
}
