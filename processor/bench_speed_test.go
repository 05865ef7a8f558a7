package processor_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

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

// benchmarkWay measures the way of a message from the outbox to the publisher, without the time to enqueue it.
func benchmarkWay(b *testing.B, begin func(processor.Config) (es.Component, error)) {
	b.Helper()
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
			p, err := begin(processor.Config{Outbox: backend.Outbox(), Events: backend.Events(), Publisher: publisher})
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

func BenchmarkAtLeastOnce(b *testing.B) {
	benchmarkWay(b, func(c processor.Config) (es.Component, error) { return processor.NewAtLeastOnce(c) })
}

func BenchmarkAtMostOnce(b *testing.B) {
	benchmarkWay(b, func(c processor.Config) (es.Component, error) { return processor.NewAtMostOnce(c) })
}

func BenchmarkBatch(b *testing.B) {
	benchmarkWay(b, func(c processor.Config) (es.Component, error) {
		return processor.NewBatch(c, processor.Flush{Interval: 10 * time.Millisecond})
	})
}

// arrival is a publisher that says when it was called.
type arrival chan time.Time

func (a arrival) Publish(context.Context, ...es.Publication) error {
	a <- time.Now()
	return nil
}

// BenchmarkLatency measures the time from before an enqueue to the publisher, of lone messages: the median, and what one of
// a hundred takes at least.
func BenchmarkLatency(b *testing.B) {
	backend := memory.New()
	published := make(arrival, 1)
	p, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events(), Publisher: published})
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		m := es.NewMessage("order-7", "OrderPlaced", make([]byte, 256))
		begin := time.Now()
		if err := backend.Outbox().Enqueue(b.Context(), m); err != nil {
			b.Fatal(err)
		}
		took = append(took, (<-published).Sub(begin))
	}
	if err := p.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}
