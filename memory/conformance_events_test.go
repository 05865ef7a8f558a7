package memory_test

import (
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestEventStore(t *testing.T) { estest.RunEventStore(t, eventHarness{}) }

func TestEventStoreMessages(t *testing.T) { estest.RunMessage(t, estest.EventHop(eventHarness{})) }
func TestOutboxMessages(t *testing.T)     { estest.RunMessage(t, estest.OutboxHop(outboxHarness())) }
func TestPubSubMessages(t *testing.T)     { estest.RunMessage(t, estest.PubSubHop(pubsubHarness{})) }

// TestEventStoreSmallLimits holds the limits that a program sets, and not only those by default.
func TestEventStoreSmallLimits(t *testing.T) {
	h := eventHarness{limits: es.Limits{EventBytes: 1000, EventsPerAppend: 12, MetadataBytes: 200, TagsPerEvent: 3}}
	for _, line := range estest.EventStoreLines() {
		if line.ID == "E11" {
			t.Run(line.Name, func(t *testing.T) { line.Run(t, h) })
		}
	}
}

// eventHarness opens event stores in memory. A storage can be open several times, and is gone with the process.
type eventHarness struct {
	estest.Minimal
	limits es.Limits
}

func (eventHarness) Namespaces() bool { return true }
func (eventHarness) Handles() bool    { return true }
func (eventHarness) Edits() bool      { return true }

// Limits are those that the stores are opened with.
func (h eventHarness) Limits() es.Limits { return h.limits }

// WakeUp is what handles to one storage need to wake each other: no more than one handle needs for itself.
func (eventHarness) WakeUp() time.Duration { return 5 * time.Millisecond }

func (h eventHarness) New(testing.TB) estest.Storage[es.EventStore] {
	return &eventStorage{storage: memory.NewStorage(), limits: h.limits, open: map[es.EventStore]*memory.Backend{}}
}

type eventStorage struct {
	storage *memory.Storage
	limits  es.Limits
	mu      sync.Mutex
	open    map[es.EventStore]*memory.Backend
}

func (s *eventStorage) Open(t testing.TB, namespace string) es.EventStore {
	t.Helper()
	b, err := memory.Open(memory.Config{Storage: s.storage, Namespace: namespace, Limits: s.limits})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[b.Events()] = b
	return b.Events()
}

func (s *eventStorage) Close(_ testing.TB, store es.EventStore) error {
	s.mu.Lock()
	b := s.open[store]
	s.mu.Unlock()
	return b.Close()
}

func (*eventStorage) Crash(testing.TB, es.EventStore) {} // it is enough to walk away
func (*eventStorage) Address() string                 { return "" }
