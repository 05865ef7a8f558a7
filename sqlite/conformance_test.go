package sqlite_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// harness opens one role of a file, which several handles and processes may have open.
type harness[R comparable] struct {
	estest.Minimal

	role   func(*sqlite.DB) R
	with   func(*storage[R]) estest.Storage[R] // adds what is optional
	config sqlite.Config
}

func (harness[R]) Namespaces() bool { return true }
func (harness[R]) Handles() bool    { return true }
func (harness[R]) Durable() bool    { return true }
func (harness[R]) Processes() bool  { return true }
func (harness[R]) Edits() bool      { return true }

// WakeUp is what [sqlite.Config].PollInterval promises by default.
func (harness[R]) WakeUp() time.Duration { return 20 * time.Millisecond }

func (h harness[R]) New(t testing.TB) estest.Storage[R] {
	t.Helper()
	s := &storage[R]{path: filepath.Join(t.TempDir(), "store.db"), role: h.role, config: h.config, open: map[R]*sqlite.DB{}}
	if h.with != nil {
		return h.with(s)
	}
	return s
}

// storage is a file, and the handles that are open on it.
type storage[R comparable] struct {
	path   string
	role   func(*sqlite.DB) R
	config sqlite.Config

	mu   sync.Mutex
	open map[R]*sqlite.DB
}

func (s *storage[R]) Open(t testing.TB, namespace string) R {
	t.Helper()
	c := s.config
	c.Namespace = namespace
	return s.role(s.openDB(t, c))
}

func (s *storage[R]) openDB(t testing.TB, c sqlite.Config) *sqlite.DB {
	t.Helper()
	c.Path = s.path
	db, err := sqlite.Open(c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[s.role(db)] = db
	return db
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

func (s *storage[R]) Address() string { return s.path }
