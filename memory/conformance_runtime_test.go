package memory_test

import (
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestRuntime runs whole programs, with the event log as their broker.
func TestRuntime(t *testing.T) {
	t.Parallel()
	estest.RunRuntime(t, backendHarness{})
}

// TestRuntimeOnPubSub runs them with the pub/sub in memory as their broker.
func TestRuntimeOnPubSub(t *testing.T) {
	t.Parallel()
	estest.RunRuntime(t, brokerHarness{})
}

// backendHarness opens whole backends in memory. A storage can be open several times, and is gone with the process.
type backendHarness struct{ estest.Minimal }

func (backendHarness) Namespaces() bool { return true }
func (backendHarness) Handles() bool    { return true }

func (backendHarness) New(testing.TB) estest.Storage[es.Backend] {
	return backendStorage{memory.NewStorage()}
}

type backendStorage struct{ storage *memory.Storage }

func (s backendStorage) Open(t testing.TB, namespace string) es.Backend {
	t.Helper()
	b, err := memory.Open(memory.Config{Storage: s.storage, Namespace: namespace})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func (backendStorage) Close(_ testing.TB, b es.Backend) error { return b.Close() }
func (backendStorage) Crash(testing.TB, es.Backend)           {} // it is enough to walk away
func (backendStorage) Address() string                        { return "" }

// brokerHarness has a pub/sub that the programs of a line share, as a broker outlives those who are connected to it.
type brokerHarness struct{ backendHarness }

func (brokerHarness) Parts(t testing.TB) estest.Parts {
	t.Helper()
	broker := newPubSub(t, memory.PubSubConfig{})
	return estest.Parts{Broker: func(t testing.TB, _ es.Backend, _ time.Duration) estest.Broker {
		t.Helper()
		return estest.Broker{PubSub: connection{broker}}
	}}
}

// connection is a connection to a pub/sub, which stays when it is closed.
type connection struct{ *memory.PubSub }

func (connection) Close() error { return nil }
