package memory_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestOutbox(t *testing.T)     { estest.RunOutbox(t, outboxHarness()) }
func TestDedupe(t *testing.T)     { estest.RunDedupe(t, dedupeHarness()) }
func TestReadModels(t *testing.T) { estest.RunReadModels(t, modelsHarness()) }
func TestLeases(t *testing.T)     { estest.RunLeases(t, leasesHarness()) }
func TestSnapshots(t *testing.T)  { estest.RunSnapshots(t, snapshotsHarness()) }

// TestRolesInABubble runs the lines again on a clock that stands still until everybody waits: what depends on time is exact
// then, and a goroutine that nobody ends fails the test.
func TestRolesInABubble(t *testing.T) {
	inBubbles(t, "outbox", estest.OutboxLines(), outboxHarness())
	inBubbles(t, "dedupe", estest.DedupeLines(), dedupeHarness())
	inBubbles(t, "read models", estest.ReadModelsLines(), modelsHarness())
	inBubbles(t, "leases", estest.LeasesLines(), leasesHarness())
	inBubbles(t, "snapshots", estest.SnapshotsLines(), snapshotsHarness())
}

func inBubbles[H any](t *testing.T, role string, lines []estest.Line[H], h H) {
	t.Helper()
	for _, line := range lines {
		t.Run(role+"/"+line.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { line.Run(t, h) })
		})
	}
}

func outboxHarness() estest.Harness[es.Outbox] {
	return rolesHarness[es.Outbox]{
		role: (*memory.Backend).Outbox,
		with: func(s *rolesStorage[es.Outbox]) estest.Storage[es.Outbox] { return outboxStorage{s} },
	}
}

func dedupeHarness() estest.Harness[es.Dedupe] {
	return rolesHarness[es.Dedupe]{
		role: (*memory.Backend).Dedupe,
		with: func(s *rolesStorage[es.Dedupe]) estest.Storage[es.Dedupe] { return dedupeStorage{s} },
	}
}

func modelsHarness() estest.Harness[es.ReadModels] {
	return rolesHarness[es.ReadModels]{
		role: (*memory.Backend).ReadModels,
		with: func(s *rolesStorage[es.ReadModels]) estest.Storage[es.ReadModels] { return modelsStorage{s} },
	}
}

func leasesHarness() estest.Harness[es.Leases] {
	return rolesHarness[es.Leases]{role: (*memory.Backend).Leases}
}

func snapshotsHarness() estest.Harness[es.Snapshots] {
	return rolesHarness[es.Snapshots]{role: (*memory.Backend).Snapshots}
}

// rolesHarness is the harness of a role that memory plays. Durable is true of the storage, which outlives the backends that
// are opened on it, as a disk does; it goes with the process all the same, and so [memory.Backend] does not claim to be.
type rolesHarness[R comparable] struct {
	estest.Minimal

	role func(*memory.Backend) R
	with func(*rolesStorage[R]) estest.Storage[R] // adds what is optional
}

func (rolesHarness[R]) Namespaces() bool { return true }
func (rolesHarness[R]) Handles() bool    { return true }
func (rolesHarness[R]) Durable() bool    { return true }

func (h rolesHarness[R]) New(testing.TB) estest.Storage[R] {
	s := &rolesStorage[R]{storage: memory.NewStorage(), role: h.role, backends: map[R]*memory.Backend{}}
	if h.with != nil {
		return h.with(s)
	}
	return s
}

// rolesStorage is storage in memory, and the backends that are open on it.
type rolesStorage[R comparable] struct {
	storage *memory.Storage
	role    func(*memory.Backend) R

	mu       sync.Mutex
	backends map[R]*memory.Backend
}

func (s *rolesStorage[R]) Open(t testing.TB, namespace string) R {
	t.Helper()
	return s.role(s.open(t, memory.Config{Namespace: namespace}))
}

func (s *rolesStorage[R]) open(t testing.TB, c memory.Config) *memory.Backend {
	t.Helper()
	c.Storage = s.storage
	b, err := memory.Open(c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backends[s.role(b)] = b
	return b
}

func (s *rolesStorage[R]) Close(_ testing.TB, role R) error {
	s.mu.Lock()
	b := s.backends[role]
	s.mu.Unlock()
	return b.Close()
}

func (s *rolesStorage[R]) Crash(testing.TB, R) {}

func (s *rolesStorage[R]) Address() string { return "" }

type outboxStorage struct{ *rolesStorage[es.Outbox] }

func (s outboxStorage) OpenForwarder(t testing.TB, namespace string) (es.Outbox, es.EventStore) {
	t.Helper()
	b := s.open(t, memory.Config{Namespace: namespace})
	return b.Outbox(), b.Events()
}

type dedupeStorage struct{ *rolesStorage[es.Dedupe] }

func (s dedupeStorage) OpenBounded(t testing.TB, namespace string, entries int, ttl time.Duration) es.Dedupe {
	t.Helper()
	return s.open(t, memory.Config{Namespace: namespace, DedupeEntries: entries, DedupeTTL: ttl}).Dedupe()
}

type modelsStorage struct{ *rolesStorage[es.ReadModels] }

func (s modelsStorage) OpenFenced(t testing.TB, namespace string) (es.ReadModels, es.Leases) {
	t.Helper()
	b := s.open(t, memory.Config{Namespace: namespace})
	return b.ReadModels(), b.Leases()
}
