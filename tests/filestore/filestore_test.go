package filestore_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/tests/filestore"
)

func TestMain(m *testing.M) {
	estest.Child(func(address, namespace string) (es.Backend, error) {
		return filestore.Open(address, namespace, limits())
	})
	goleak.VerifyTestMain(m)
}

func TestEventStore(t *testing.T) { estest.RunEventStore(t, harness{}) }

func TestEventStoreMessages(t *testing.T) { estest.RunMessage(t, estest.EventHop(harness{})) }

// TestTornTail cuts the log at each byte of its last entry, as a crash in the middle of a write does: what was there before is
// there, and the store goes on.
func TestTornTail(t *testing.T) {
	directory := t.TempDir()
	appendOne := func(t *testing.T, directory string, expect es.Expectation) {
		t.Helper()
		b, err := filestore.Open(directory, "torn", es.Limits{})
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		defer func() { _ = b.Close() }()
		m := es.NewMessage("torn-1", "Happened", []byte("{}"))
		if _, err := b.Events().Append(t.Context(), es.AppendTo("torn-1", expect, m)); err != nil {
			t.Fatalf("append expecting %v: %v", expect, err)
		}
	}
	appendOne(t, directory, es.NoStream)
	files, err := filepath.Glob(filepath.Join(directory, "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the log: %v, %v", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	appendOne(t, directory, es.Exactly(1))
	longer, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for size := len(whole); size < len(longer); size += 37 {
		torn := t.TempDir()
		if err := os.WriteFile(filepath.Join(torn, filepath.Base(files[0])), longer[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		appendOne(t, torn, es.Exactly(1)) // the second append was cut off, and is made again
		appendOne(t, torn, es.Exactly(2))
	}
}

// limits are smaller than those by default, so that the suite writes less to reach them.
func limits() es.Limits { return es.Limits{EventBytes: 2 << 20, EventsPerAppend: 2000} }

type harness struct{ estest.Minimal }

func (harness) Namespaces() bool      { return true }
func (harness) Handles() bool         { return true }
func (harness) Durable() bool         { return true }
func (harness) Processes() bool       { return true }
func (harness) Edits() bool           { return true }
func (harness) Limits() es.Limits     { return limits() }
func (harness) WakeUp() time.Duration { return 2 * filestore.PollInterval }

func (harness) New(t testing.TB) estest.Storage[es.EventStore] {
	return &storage{directory: t.TempDir(), open: map[es.EventStore]*filestore.Backend{}}
}

type storage struct {
	directory string
	mu        sync.Mutex
	open      map[es.EventStore]*filestore.Backend
}

func (s *storage) Open(t testing.TB, namespace string) es.EventStore {
	t.Helper()
	b, err := filestore.Open(s.directory, namespace, limits())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[b.Events()] = b
	return b.Events()
}

func (s *storage) Close(_ testing.TB, store es.EventStore) error {
	s.mu.Lock()
	b := s.open[store]
	s.mu.Unlock()
	return b.Close()
}

// Crash walks away from the handle: it flushes nothing when it is closed, and holds no lock between its calls.
func (*storage) Crash(testing.TB, es.EventStore) {}

func (s *storage) Address() string { return s.directory }
