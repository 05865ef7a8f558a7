package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// harness opens one role of a database, which several handles and processes may have open.
type harness[R comparable] struct {
	estest.Minimal

	role   func(*postgres.DB) R
	with   func(*storage[R]) estest.Storage[R] // adds what is optional
	config postgres.Config
}

func (harness[R]) Namespaces() bool { return true }
func (harness[R]) Handles() bool    { return true }
func (harness[R]) Durable() bool    { return true }
func (harness[R]) Processes() bool  { return true }
func (harness[R]) Edits() bool      { return true }

// WakeUp is what [postgres.Config].PollInterval promises by default.
func (harness[R]) WakeUp() time.Duration { return 20 * time.Millisecond }

func (h harness[R]) New(t testing.TB) estest.Storage[R] {
	t.Helper()
	s := &storage[R]{url: pgserver.Database(t), role: h.role, config: h.config, open: map[R]*postgres.DB{}}
	if h.with != nil {
		return h.with(s)
	}
	return s
}

// storage is a database, and the handles that are open on it.
type storage[R comparable] struct {
	url    string
	role   func(*postgres.DB) R
	config postgres.Config

	mu   sync.Mutex
	open map[R]*postgres.DB
}

func (s *storage[R]) Open(t testing.TB, namespace string) R {
	t.Helper()
	c := s.config
	c.Namespace, c.URL = namespace, s.url
	db := openDB(t, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[s.role(db)] = db
	return s.role(db)
}

func (s *storage[R]) Close(_ testing.TB, role R) error {
	s.mu.Lock()
	db := s.open[role]
	s.mu.Unlock()
	return db.Close()
}

// Crash walks away from a handle, which flushes nothing; that it is closed when the test ends changes nothing that was written. Other
// lines kill real processes.
func (*storage[R]) Crash(testing.TB, R) {}

func (s *storage[R]) Address() string { return s.url }

// openDB opens a store, which is closed when the test ends.
func openDB(t testing.TB, c postgres.Config) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(context.WithoutCancel(t.Context()), c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// openURL opens a store in another process.
func openURL(address, namespace string) (es.Backend, error) {
	return postgres.Open(context.Background(), postgres.Config{URL: address, Namespace: namespace})
}
