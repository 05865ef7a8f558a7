package projection_test

import (
	"context"
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// BenchmarkProject handles events in memory: what the engine itself takes, with a handler that does nothing; and counting them in a thousand
// documents, decoded from JSON and not. One operation is one event.
func BenchmarkProject(b *testing.B) {
	types := es.NewTypes()
	es.Register[Added](types, "Added")
	totals := projection.NewDocuments[Total]("totals")
	add := func(ctx context.Context, b *projection.Batch, key string) error {
		return totals.In(b).Update(ctx, key, func(total *Total) error {
			total.Events++
			return nil
		})
	}
	for _, c := range []struct {
		name    string
		handler projection.Handler
	}{
		{"nothing", projection.OnMessage("", nothing)},
		{"raw", projection.OnMessage("Added", func(ctx context.Context, b *projection.Batch, m *es.Message) error {
			return add(ctx, b, m.Stream)
		})},
		{"typed", projection.On(func(ctx context.Context, b *projection.Batch, e Added, _ *es.Message) error {
			return add(ctx, b, e.To)
		})},
	} {
		for _, size := range []int{1, 1000} {
			b.Run(fmt.Sprintf("handler=%s/batch=%d", c.name, size), func(b *testing.B) {
				backend := memory.New()
				defer backend.Close()
				last := fill(b, backend, types, b.N)
				p, err := projection.New(projection.Config{
					Name: "totals", Events: backend.Events(), Models: backend.ReadModels(), Types: types, BatchSize: size,
				}, c.handler)
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
}

// fill appends events of a thousand streams.
func fill(b *testing.B, backend *memory.Backend, types *es.Types, n int) es.Checkpoint {
	b.Helper()
	var last es.Checkpoint
	for from := 0; from < n; from += 1000 {
		streams := make([]es.StreamAppend, 0, 1000)
		for i := range min(1000, n-from) {
			stream := fmt.Sprintf("a-%d", i)
			m, err := types.Encode(stream, Added{To: stream, N: i})
			if err != nil {
				b.Fatal(err)
			}
			streams = append(streams, es.StreamAppend{Stream: stream, Events: []*es.Message{m}})
		}
		done, err := backend.Events().Append(b.Context(), es.Append{Streams: streams})
		if err != nil {
			b.Fatal(err)
		}
		last.Position = done.Position
	}
	return last
}
