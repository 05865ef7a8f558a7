package aggregate_test

import (
	"context"
	"iter"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
)

// counted is what was asked of a store and of snapshots.
type counted struct {
	es.EventStore
	es.Snapshots

	appends, reads, events, loads, saves int
}

func (c *counted) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	c.appends++
	return c.EventStore.Append(ctx, a)
}

func (c *counted) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	c.reads++
	return func(yield func(*es.Message, error) bool) {
		for m, err := range c.EventStore.Read(ctx, q) {
			c.events++
			if !yield(m, err) {
				return
			}
		}
	}
}

func (c *counted) Load(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
	c.loads++
	return c.Snapshots.Load(ctx, key)
}

func (c *counted) Save(ctx context.Context, s es.Snapshot) error {
	c.saves++
	return c.Snapshots.Save(ctx, s)
}

// stored and kept are the two roles of counted, whose Delete methods differ.
type (
	stored struct{ *counted }
	kept   struct{ *counted }
)

func (s stored) Delete(ctx context.Context, stream string, how es.Deletion) error {
	return s.EventStore.Delete(ctx, stream, how)
}

func (k kept) Delete(ctx context.Context, key es.SnapshotKey) error {
	return k.Snapshots.Delete(ctx, key)
}

// TestAnUpdateCostsOneAppend: and one read of the tail; without the cache a snapshot as well. The tail begins with the last event that is
// known, so after a snapshot at version 100 and 30 events more it is 31.
func TestAnUpdateCostsOneAppend(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, backend es.Backend) {
		types := es.NewTypes()
		es.Register[added](types, "Added")
		plain := aggregate.Config[sheet, any]{
			Events: backend.Events(), Types: types, Category: "sheet", Evolve: evolve, Clone: clone,
			Snapshots: backend.Snapshots(), SnapshotEvery: 100,
		}
		var many [100]any
		for i := range many {
			many[i] = added{i}
		}
		for _, events := range [][]any{many[:], many[:30]} {
			if _, err := newRepository(t, plain).Update(t.Context(), "7", func(sheet) ([]any, error) { return events, nil }); err != nil {
				t.Fatal(err)
			}
		}
		version := int64(130)
		for _, want := range []struct{ cache, appends, reads, events, loads, saves int }{{0, 1, 1, 31, 1, 0}, {1, 1, 1, 1, 0, 0}} {
			counts := &counted{EventStore: backend.Events(), Snapshots: backend.Snapshots()}
			c := plain
			c.Events, c.Snapshots, c.CacheSize = stored{counts}, kept{counts}, want.cache
			r := newRepository(t, c)
			if want.cache > 0 { // fill it
				if _, err := r.Load(t.Context(), "7"); err != nil {
					t.Fatal(err)
				}
				*counts = counted{EventStore: counts.EventStore, Snapshots: counts.Snapshots}
			}
			done, err := r.Update(t.Context(), "7", func(sheet) ([]any, error) { return []any{added{1}}, nil })
			if version++; err != nil || done.Version != version {
				t.Fatalf("%+v, %v", done, err)
			}
			if counts.appends != want.appends || counts.reads != want.reads || counts.events != want.events || counts.loads != want.loads ||
				counts.saves != want.saves {
				t.Errorf("with a cache of %d: %d appends, %d reads of %d events, %d snapshots loaded and %d saved; want %+v", want.cache,
					counts.appends, counts.reads, counts.events, counts.loads, counts.saves, want)
			}
		}
	})
}
