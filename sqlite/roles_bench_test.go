package sqlite_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// BenchmarkReadModelsCommit commits documents of 200 bytes with a checkpoint, each synced, over a model of 100,000.
func BenchmarkReadModelsCommit(b *testing.B) {
	const stored = 100_000
	for _, n := range []int{1, 500} {
		b.Run(fmt.Sprintf("documents=%d", n), func(b *testing.B) {
			models := openBench(b).ReadModels()
			fillModel(b, models, "m", stored)
			data := []byte(strings.Repeat("x", 200))
			c := es.Commit{Writes: make([]es.Write, n), Progress: es.ProgressUpdate{Projection: "m"}}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				for w := range c.Writes {
					const stride = 7919 // a prime: keys all over the model
					c.Writes[w] = es.Write{Model: "m", Key: fmt.Sprintf("key-%06d", (i*n+w)*stride%stored), Data: data}
				}
				c.Progress.From = c.Progress.To
				c.Progress.To.Position++
				must(b, models.Commit(b.Context(), c))
			}
		})
	}
}

// BenchmarkReadModelsRead reads documents of 200 bytes from a model of 100,000.
func BenchmarkReadModelsRead(b *testing.B) {
	const stored = 100_000
	models := openBench(b).ReadModels()
	for first := 0; first < stored; first += 1000 {
		writes := make([]es.Write, 1000)
		for i := range writes {
			key := fmt.Sprintf("key-%03d-%06d", (first+i)%10, first+i)
			writes[i] = es.Write{Model: "m", Key: key, Data: []byte(strings.Repeat("x", 200))}
		}
		project(b, models, writes...)
	}
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			n := i * 7919 % stored
			docs, err := models.Load(b.Context(), "m", fmt.Sprintf("key-%03d-%06d", n%10, n))
			if err != nil || docs[0].Revision == 0 {
				b.Fatal(docs, err)
			}
		}
	})
	for _, q := range []struct {
		name  string
		query es.ListQuery
	}{
		{"list-of-100", es.ListQuery{Model: "m", Limit: 100}},
		{"list-of-100-by-a-late-prefix", es.ListQuery{Model: "m", Prefix: "key-009-", Limit: 100}},
	} {
		b.Run(q.name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				docs, err := models.List(b.Context(), q.query)
				if err != nil || len(docs) != 100 {
					b.Fatal(len(docs), err)
				}
			}
		})
	}
}

// BenchmarkDedupe reserves and completes messages, in a group that has its fill of 100,000; the time is that of one message.
func BenchmarkDedupe(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			d := openStore(b, sqlite.Config{Path: tempFile(b), DedupeEntries: 100_000}).Dedupe()
			for range 100 {
				handle(b, d, "billing", newIDs(1000)...)
			}
			rs := make([]es.Reservation, n)
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += n {
				for i := range rs {
					rs[i] = es.Reservation{ID: es.NewID()}
				}
				must(b, d.Reserve(b.Context(), "billing", rs, time.Minute))
				must(b, d.Complete(b.Context(), "billing", rs))
			}
		})
	}
	b.Run("goroutines=64", func(b *testing.B) {
		d := openStore(b, sqlite.Config{Path: tempFile(b), DedupeEntries: 100_000}).Dedupe()
		b.SetParallelism(32)
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

// BenchmarkLeasesRenew renews a lease.
func BenchmarkLeasesRenew(b *testing.B) {
	leases := openBench(b).Leases()
	l, err := leases.Acquire(b.Context(), "n", "A", time.Hour)
	must(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		_, err = leases.Renew(b.Context(), l, time.Hour)
		must(b, err)
	}
}

// BenchmarkSnapshots saves and loads a state of 4 KiB.
func BenchmarkSnapshots(b *testing.B) {
	snapshots := openBench(b).Snapshots()
	s := orderSnapshot(1)
	s.Data = []byte(strings.Repeat("x", 4096))
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			s.Version++
			must(b, snapshots.Save(b.Context(), s))
		}
	})
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			_, err := snapshots.Load(b.Context(), s.SnapshotKey)
			must(b, err)
		}
	})
}
