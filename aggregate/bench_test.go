package aggregate_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// total is a state without anything that it refers to.
type total struct{ Balance int }

func evolveTotal(t total, e any) total {
	if e, ok := e.(deposited); ok {
		t.Balance += e.Amount
	}
	return t
}

// BenchmarkLoad loads an aggregate of 10,000 events.
func BenchmarkLoad(b *testing.B) {
	backend := memory.New()
	defer func() { _ = backend.Close() }()
	plain := aggregate.Config[total, any]{Events: backend.Events(), Types: accountTypes(), Category: "account", Evolve: evolveTotal}
	kept, cached := plain, plain
	kept.Snapshots, kept.SnapshotEvery = backend.Snapshots(), 1
	cached.CacheSize = 1
	events := make([]any, 1000)
	for i := range events {
		events[i] = deposited{1}
	}
	for range 10 {
		r, err := aggregate.New(plain)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Update(b.Context(), "7", func(total) ([]any, error) { return events, nil }); err != nil {
			b.Fatal(err)
		}
	}
	for name, config := range map[string]aggregate.Config[total, any]{"events": plain, "snapshot": kept, "cache": cached} {
		r, err := aggregate.New(config)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if loaded, err := r.Load(b.Context(), "7"); err != nil || loaded.State.Balance != 10_000 {
					b.Fatal(loaded, err)
				}
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	for name, size := range map[string]int{"load": 0, "cache": 16} {
		b.Run(name, func(b *testing.B) {
			backend := memory.New()
			defer func() { _ = backend.Close() }()
			r, err := aggregate.New(aggregate.Config[total, any]{
				Events: backend.Events(), Types: accountTypes(), Category: "account", Evolve: evolveTotal, CacheSize: size,
				Snapshots: backend.Snapshots(), SnapshotEvery: 10,
			})
			if err != nil {
				b.Fatal(err)
			}
			event := []any{deposited{1}}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Update(b.Context(), "7", func(total) ([]any, error) { return event, nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var _ es.Tagged = enrolled{}
