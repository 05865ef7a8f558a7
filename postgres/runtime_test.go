package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestRuntime runs whole programs on a database, with the event log as their broker.
func TestRuntime(t *testing.T) {
	t.Parallel()
	estest.RunRuntime(t, harness[es.Backend]{role: func(db *postgres.DB) es.Backend { return db }})
}

// TestPubSub holds the event log on a database to what a broker promises.
func TestPubSub(t *testing.T) {
	t.Parallel()
	estest.RunPubSub(t, logHarness{})
}

// logHarness opens logs, each on a handle of its own.
type logHarness struct{ estest.Minimal }

func (logHarness) Namespaces() bool { return true }
func (logHarness) Handles() bool    { return true }
func (logHarness) Durable() bool    { return true }
func (logHarness) History() bool    { return true }
func (logHarness) Groups() bool     { return true }

func (logHarness) New(t testing.TB) estest.Storage[estest.PubSub] {
	t.Helper()
	return &logStorage{url: pgserver.Database(t), open: map[estest.PubSub]*postgres.DB{}}
}

// logStorage is a database, and the logs that are open on it.
type logStorage struct {
	url string

	mu   sync.Mutex
	open map[estest.PubSub]*postgres.DB
}

func (s *logStorage) Open(t testing.TB, namespace string) estest.PubSub {
	t.Helper()
	const lease = time.Second // what a crash costs: as long as that the partitions of who has died wait
	db, err := postgres.Open(context.WithoutCancel(t.Context()), postgres.Config{URL: s.url, Namespace: namespace})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	log, err := eventlog.New(db, eventlog.Config{Lease: lease})
	if err != nil {
		t.Fatalf("open the log: %v", err)
	}
	t.Cleanup(func() {
		_ = log.Close() // one that has crashed has something to say
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[log] = db
	return log
}

// Close closes a log and its database. A line looks whether goroutines are left then.
func (s *logStorage) Close(_ testing.TB, role estest.PubSub) error {
	return errors.Join(role.Close(), s.database(role).Close())
}

// Crash takes the database away from a log: nothing that it does reaches it any more, and its leases end by themselves.
func (s *logStorage) Crash(t testing.TB, role estest.PubSub) {
	t.Helper()
	if err := s.database(role).Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func (s *logStorage) database(role estest.PubSub) *postgres.DB {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[role]
}

func (s *logStorage) Address() string { return s.url }
