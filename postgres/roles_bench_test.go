package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// benchModel opens a store with a model of so many documents of 200 bytes.
func benchModel(b *testing.B, stored int) *postgres.DB {
	b.Helper()
	db := openDB(b, postgres.Config{URL: pgserver.Database(b)})
	for first := 0; first < stored; first += 10_000 {
		commit(b, db.ReadModels(), documents("m", first, min(10_000, stored-first), 200)...)
	}
	return db
}

// documents makes writes of so many documents of a size.
func documents(model string, first, n, size int) []es.Write {
	writes := make([]es.Write, n)
	for i := range writes {
		writes[i] = es.Write{Model: model, Key: fmt.Sprintf("key-%06d", first+i), Data: []byte(strings.Repeat("x", size))}
	}
	return writes
}

func commit(t testing.TB, models es.ReadModels, writes ...es.Write) {
	t.Helper()
	if err := models.Commit(t.Context(), es.Commit{Writes: writes}); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkReadModelsCommit commits documents of 200 bytes, over models of 20,000, each projection its own: with a checkpoint and under a
// lease. An operation is a commit.
func BenchmarkReadModelsCommit(b *testing.B) {
	const most = 8
	db := benchModel(b, 0)
	projections := make([]*benchProjection, most)
	for i := range projections {
		projections[i] = newBenchProjection(b, db, fmt.Sprint("m-", i))
	}
	for _, goroutines := range []int{1, most} {
		for _, documents := range []int{1, 10, 500, 1000} {
			b.Run(fmt.Sprintf("projections=%d/documents=%d", goroutines, documents), func(b *testing.B) {
				b.ReportAllocs()
				var left atomic.Int64
				left.Store(int64(b.N))
				var all sync.WaitGroup
				for _, p := range projections[:goroutines] {
					all.Go(func() {
						for left.Add(-1) >= 0 {
							if err := p.commit(b.Context(), documents); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// benchProjection commits to a model, from one checkpoint to the next.
type benchProjection struct {
	models es.ReadModels
	name   string
	lease  es.Lease
	at     es.Progress
	data   []byte
	round  int
}

// benchStored is how many documents the model of a projection has.
const benchStored = 20_000

func newBenchProjection(b *testing.B, db *postgres.DB, name string) *benchProjection {
	b.Helper()
	p := &benchProjection{models: db.ReadModels(), name: name, data: []byte(strings.Repeat("x", 200))}
	commit(b, p.models, documents(name, 0, benchStored, len(p.data))...)
	var err error
	if p.lease, err = db.Leases().Acquire(b.Context(), name, "A", time.Hour); err != nil {
		b.Fatal(err)
	}
	return p
}

func (p *benchProjection) commit(ctx context.Context, documents int) error {
	const stride = 7919 // a prime: keys all over the model
	c := es.Commit{Writes: make([]es.Write, documents), Fence: &p.lease}
	for i := range c.Writes {
		p.round++
		c.Writes[i] = es.Write{Model: p.name, Key: fmt.Sprintf("key-%06d", p.round*stride%benchStored), Data: p.data}
	}
	c.Progress = es.ProgressUpdate{Projection: p.name, From: p.at, To: p.at}
	c.Progress.To.Position++
	p.at = c.Progress.To
	return p.models.Commit(ctx, c)
}

// BenchmarkReadModelsCreate commits documents that are not there yet, as a projection does that is built, and BenchmarkReadModelsExpect
// ones whose revisions it expects, as who changes what was loaded.
func BenchmarkReadModelsCreate(b *testing.B) {
	models := benchModel(b, 1).ReadModels()
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("documents=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for first := 0; b.Loop(); first += n {
				commit(b, models, documents(fmt.Sprint("created-", n), first, n, 200)...)
			}
		})
	}
}

func BenchmarkReadModelsExpect(b *testing.B) {
	models := benchModel(b, benchStored).ReadModels()
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("documents=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for first := 0; b.Loop(); first += n {
				writes := documents("m", first%benchStored, n, 200)
				keys := make([]string, n)
				for i := range writes {
					keys[i] = writes[i].Key
				}
				docs, err := models.Load(b.Context(), "m", keys...)
				if err != nil {
					b.Fatal(err)
				}
				for i := range docs {
					writes[i].Expect = es.Exactly(docs[i].Revision)
				}
				commit(b, models, writes...)
			}
		})
	}
}

// BenchmarkReadModelsRead reads documents of 200 bytes from a model of 100,000.
func BenchmarkReadModelsRead(b *testing.B) {
	models := benchModel(b, 100_000).ReadModels()
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("key-%06d", i*97)
	}
	for _, keys := range [][]string{many[:1], many} {
		b.Run(fmt.Sprintf("load-of-%d", len(keys)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				docs, err := models.Load(b.Context(), "m", keys...)
				if err != nil || docs[0].Revision == 0 {
					b.Fatal(docs, err)
				}
			}
		})
	}
	b.Run("list-of-100-by-prefix", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			docs, err := models.List(b.Context(), es.ListQuery{Model: "m", Prefix: "key-0700"})
			if err != nil || len(docs) != 100 {
				b.Fatal(len(docs), err)
			}
		}
	})
}

// BenchmarkSnapshots saves and loads a state of 4 KiB.
func BenchmarkSnapshots(b *testing.B) {
	snapshots := openDB(b, postgres.Config{URL: pgserver.Database(b)}).Snapshots()
	s := orderSnapshot(1)
	s.Data = []byte(strings.Repeat("x", 4096))
	b.Run("save", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Version++
			if err := snapshots.Save(b.Context(), s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := snapshots.Load(b.Context(), s.SnapshotKey); err != nil {
				b.Fatal(err)
			}
		}
	})
}
