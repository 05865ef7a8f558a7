package sqlite_test

import (
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func TestReadModels(t *testing.T) {
	t.Parallel()
	estest.RunReadModels(t, harness[es.ReadModels]{
		role: (*sqlite.DB).ReadModels,
		with: func(s *storage[es.ReadModels]) estest.Storage[es.ReadModels] { return modelsStorage{s} },
	})
}

func TestDedupe(t *testing.T) {
	t.Parallel()
	estest.RunDedupe(t, harness[es.Dedupe]{
		role: (*sqlite.DB).Dedupe,
		with: func(s *storage[es.Dedupe]) estest.Storage[es.Dedupe] { return dedupeStorage{s} },
	})
}

func TestLeases(t *testing.T) {
	t.Parallel()
	estest.RunLeases(t, harness[es.Leases]{role: (*sqlite.DB).Leases})
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	estest.RunSnapshots(t, harness[es.Snapshots]{role: (*sqlite.DB).Snapshots})
}

type dedupeStorage struct{ *storage[es.Dedupe] }

func (s dedupeStorage) OpenBounded(t testing.TB, namespace string, entries int, ttl time.Duration) es.Dedupe {
	t.Helper()
	return s.openDB(t, sqlite.Config{Namespace: namespace, DedupeEntries: entries, DedupeTTL: ttl}).Dedupe()
}

type modelsStorage struct{ *storage[es.ReadModels] }

func (s modelsStorage) OpenFenced(t testing.TB, namespace string) (es.ReadModels, es.Leases) {
	t.Helper()
	db := s.openDB(t, sqlite.Config{Namespace: namespace})
	return db.ReadModels(), db.Leases()
}
