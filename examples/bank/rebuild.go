package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/eventsourcing-go/eventsourcing/projection"
)

// rebuild builds the read models of a projection once more, from the first event, and puts them into the place of those that are read. The
// programs that run go on meanwhile, and their readers see the old ones to the end. It can be broken off at any time; what is built is gone
// on with by the next rebuild.
func rebuild(name string, all ...*projection.Projection) error {
	at := slices.IndexFunc(all, func(p *projection.Projection) bool { return p.Name() == name })
	if at < 0 {
		return fmt.Errorf("there is no projection %q to rebuild", name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	_, err := all[at].Rebuild(ctx, projection.RebuildOptions{
		Report: func(r projection.RebuildReport) {
			fmt.Printf("at %d of %d, %.0f events a second, switched: %v\n", r.Position, r.Head, r.Rate, r.Switched)
		},
		Compare: func(_ context.Context, d projection.Differences) error {
			fmt.Printf("%d documents are the same, %d are new, %d are gone, %d are changed\n", d.Same, d.Added, d.Removed, d.Changed)
			return nil
		},
	})
	return err
}
