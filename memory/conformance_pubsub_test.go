package memory_test

import (
	"errors"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestPubSub(t *testing.T) {
	t.Parallel()
	estest.RunPubSub(t, pubsubHarness{})
}

// pubsubHarness opens namespaces of one pub/sub: it outlives them, as a broker outlives those who are connected to it.
type pubsubHarness struct{ estest.Minimal }

func (pubsubHarness) Namespaces() bool { return true }
func (pubsubHarness) Handles() bool    { return true }
func (pubsubHarness) Groups() bool     { return true }
func (pubsubHarness) Bounded() bool    { return true }

func (pubsubHarness) New(t testing.TB) estest.Storage[estest.PubSub] {
	t.Helper()
	return &pubsubStorage{whole: newPubSub(t, memory.PubSubConfig{})}
}

func newPubSub(t testing.TB, c memory.PubSubConfig) *memory.PubSub {
	t.Helper()
	ps, err := memory.NewPubSub(c)
	if err != nil {
		t.Fatalf("NewPubSub: %v", err)
	}
	t.Cleanup(func() { _ = ps.Close() })
	return ps
}

type pubsubStorage struct{ whole *memory.PubSub }

var (
	_ estest.PubSubStorage      = (*pubsubStorage)(nil)
	_ estest.UndecodableStorage = (*pubsubStorage)(nil)
)

func (s *pubsubStorage) Open(t testing.TB, namespace string) estest.PubSub {
	t.Helper()
	view, err := s.whole.Namespace(namespace)
	if err != nil {
		t.Fatalf("Namespace(%q): %v", namespace, err)
	}
	return view
}

func (s *pubsubStorage) OpenBounded(t testing.TB, namespace string, b estest.Bounds) estest.PubSub {
	t.Helper()
	overflow := map[estest.Overflow]memory.Overflow{
		estest.OverflowBlock:       memory.OverflowBlock,
		estest.OverflowEvictOldest: memory.OverflowEvictOldest,
		estest.OverflowFail:        memory.OverflowFail,
	}
	return newPubSub(t, memory.PubSubConfig{
		Namespace: namespace, Buffer: b.Buffer, BacklogLimit: b.Backlog, Overflow: overflow[b.Overflow],
	})
}

// inMemory returns what a storage has opened as what it is.
func inMemory(role estest.PubSub) *memory.PubSub {
	return role.(*memory.PubSub) //nolint:errcheck // the storage opens no other
}

func (s *pubsubStorage) Evicted(t testing.TB, role estest.PubSub, topic string) int64 {
	t.Helper()
	for _, stats := range inMemory(role).Stats() {
		if stats.Topic == topic {
			return stats.Evicted
		}
	}
	return 0
}

func (s *pubsubStorage) PublishUndecodable(t testing.TB, role estest.PubSub, topic string, raw []byte) {
	t.Helper()
	m := &es.Message{Stream: topic}
	if err := inMemory(role).PublishRaw(t.Context(), topic, m, raw, errors.New("no message")); err != nil {
		t.Fatalf("PublishRaw: %v", err)
	}
}

func (s *pubsubStorage) Close(_ testing.TB, role estest.PubSub) error { return role.Close() }
func (s *pubsubStorage) Crash(testing.TB, estest.PubSub)              {}
func (s *pubsubStorage) Address() string                              { return "" }
