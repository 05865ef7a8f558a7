package projection_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// BenchmarkSQLite counts events in a thousand documents of a file, in batches of a thousand events and with a transaction for each event. One
// operation is one event.
func BenchmarkSQLite(b *testing.B) {
	for _, size := range []int{1, projection.DefaultBatchSize} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(b.TempDir(), "events.db")})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			last := fill(b, db, b.N)
			tallies := projection.NewDocuments[Tally](name)
			p, err := projection.New(projection.Config{
				Name: name, Events: db.Events(), Models: db.ReadModels(), Types: newTypes(), BatchSize: size,
			}, projection.On(func(ctx context.Context, b *projection.Batch, _ Ticked, m *es.Message) error {
				return tallies.In(b).Update(ctx, m.Stream, func(t *Tally) error {
					t.Events++
					return nil
				})
			}))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			if err := p.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := p.WaitFor(b.Context(), last); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := p.Stop(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// fill appends events of a thousand streams.
func fill(b *testing.B, backend es.Backend, n int) es.Checkpoint {
	b.Helper()
	types := newTypes()
	var last es.Checkpoint
	for from := 0; from < n; from += 1000 {
		streams := make([]es.StreamAppend, 0, 1000)
		for i := range min(1000, n-from) {
			m, err := types.Encode(streamName(i), Ticked{Stream: i, N: from})
			if err != nil {
				b.Fatal(err)
			}
			streams = append(streams, es.StreamAppend{Stream: m.Stream, Events: []*es.Message{m}})
		}
		done, err := backend.Events().Append(b.Context(), es.Append{Streams: streams})
		if err != nil {
			b.Fatal(err)
		}
		last.Position = done.Position
	}
	return last
}
