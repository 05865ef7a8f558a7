package postgres_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

func TestReadModels(t *testing.T) {
	t.Parallel()
	estest.RunReadModels(t, harness[es.ReadModels]{
		role: (*postgres.DB).ReadModels,
		with: func(s *storage[es.ReadModels]) estest.Storage[es.ReadModels] { return modelsStorage{s} },
	})
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	estest.RunSnapshots(t, harness[es.Snapshots]{role: (*postgres.DB).Snapshots})
}

type modelsStorage struct{ *storage[es.ReadModels] }

func (s modelsStorage) OpenFenced(t testing.TB, namespace string) (es.ReadModels, es.Leases) {
	t.Helper()
	db := openDB(t, postgres.Config{URL: s.url, Namespace: namespace})
	return db.ReadModels(), db.Leases()
}
