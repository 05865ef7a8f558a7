package processor_test

import (
	"context"
	"fmt"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// counted is a publisher that tells when it has seen so many messages.
type counted struct {
	left int
	all  chan struct{}
}

func (c *counted) Publish(_ context.Context, pubs ...es.Publication) error {
	if c.left -= len(pubs); c.left == 0 {
		close(c.all)
	}
	return nil
}

// BenchmarkAtLeastOnce measures the way of a message from the outbox to the publisher, without the time to enqueue it.
func BenchmarkAtLeastOnce(b *testing.B) {
	for _, streams := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			backend := memory.New()
			for i := range b.N {
				m := es.NewMessage(fmt.Sprintf("order-%d", i%streams), "OrderPlaced", make([]byte, 256))
				if err := backend.Outbox().Enqueue(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
			publisher := &counted{left: b.N, all: make(chan struct{})}
			p, err := processor.NewAtLeastOnce(processor.Config{
				Outbox: backend.Outbox(), Events: backend.Events(), Publisher: publisher,
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			if err := p.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			<-publisher.all
			b.StopTimer()
			if err := p.Stop(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
