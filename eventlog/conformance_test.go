package eventlog_test

import (
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestPubSub(t *testing.T) {
	t.Parallel()
	estest.RunPubSub(t, harness{})
}

// harness opens logs, each on a backend of its own, over one storage. It is durable as far as the suite can tell: the storage
// outlives the logs, as a database outlives the processes.
type harness struct{ estest.Minimal }

func (harness) Namespaces() bool { return true }
func (harness) Handles() bool    { return true }
func (harness) Durable() bool    { return true }
func (harness) History() bool    { return true }
func (harness) Groups() bool     { return true }

func (harness) New(testing.TB) estest.Storage[estest.PubSub] {
	return &storage{whole: memory.NewStorage(), open: map[estest.PubSub]es.Backend{}}
}

type storage struct {
	whole *memory.Storage
	mu    sync.Mutex
	open  map[estest.PubSub]es.Backend
}

// memberLease is what a crash costs: as long as that the partitions of who has died wait.
const memberLease = time.Second

func (s *storage) Open(t testing.TB, namespace string) estest.PubSub {
	t.Helper()
	backend, err := memory.Open(memory.Config{Storage: s.whole, Namespace: namespace})
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	log, err := eventlog.New(backend, eventlog.Config{Lease: memberLease})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		_ = log.Close()
		_ = backend.Close()
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[log] = backend
	return log
}

func (s *storage) backend(role estest.PubSub) es.Backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[role]
}

func (s *storage) Close(_ testing.TB, role estest.PubSub) error { return role.Close() }

// Crash takes the backend away from a log: nothing that it does reaches the storage any more, and its leases end by themselves.
func (s *storage) Crash(_ testing.TB, role estest.PubSub) { _ = s.backend(role).Close() }

func (s *storage) Address() string { return "" }
