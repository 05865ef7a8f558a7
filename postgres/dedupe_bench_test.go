package postgres_test

import (
	"fmt"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// BenchmarkDedupe reserves and completes messages, in a group that has its fill of 100,000; the time is that of one message.
func BenchmarkDedupe(b *testing.B) {
	const bound = 100_000
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			test := newDedupeTest(b)
			d := test.open(postgres.Config{DedupeEntries: bound})
			for range bound / 1000 {
				test.handle(d, "billing", newIDs(1000)...)
			}
			rs := make([]es.Reservation, n)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += n {
				for i := range rs {
					rs[i] = es.Reservation{ID: es.NewID()}
				}
				test.ok(d.Reserve(b.Context(), "billing", rs, time.Minute))
				test.ok(d.Complete(b.Context(), "billing", rs))
			}
		})
	}
	b.Run("goroutines=16", func(b *testing.B) {
		d := newDedupeTest(b).open(postgres.Config{DedupeEntries: bound})
		b.SetParallelism(8)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			rs := make([]es.Reservation, 1)
			for pb.Next() {
				rs[0] = es.Reservation{ID: es.NewID()}
				if err := d.Reserve(b.Context(), "billing", rs, time.Minute); err != nil {
					b.Error(err)
					return
				}
				if err := d.Complete(b.Context(), "billing", rs); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
