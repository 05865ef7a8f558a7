package component_test

import (
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/examples/component"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestPrograms(t *testing.T) {
	t.Parallel()
	estest.RunRuntime(t, programs{})
}

// programs have everything in memory but for their broker, which is the one under test.
type programs struct{ estest.Minimal }

func (programs) Handles() bool { return true }

func (programs) New(testing.TB) estest.Storage[es.Backend] {
	return backends{memory.NewStorage()}
}

// Parts has one pub/sub for all programs of a line, as a broker outlives those who are connected to it.
func (programs) Parts(t testing.TB) estest.Parts {
	t.Helper()
	broker := component.NewPubSub()
	t.Cleanup(func() { _ = broker.Close() })
	return estest.Parts{Broker: func(testing.TB, es.Backend, time.Duration) estest.Broker {
		return estest.Broker{PubSub: connection{broker}}
	}}
}

// connection is a connection to a pub/sub, which stays when it is closed.
type connection struct{ *component.PubSub }

func (connection) Close() error { return nil }

// backends opens backends on one storage, as processes open one database.
type backends struct{ storage *memory.Storage }

func (b backends) Open(t testing.TB, namespace string) es.Backend {
	t.Helper()
	backend, err := memory.Open(memory.Config{Storage: b.storage, Namespace: namespace})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	return backend
}

func (backends) Close(_ testing.TB, backend es.Backend) error { return backend.Close() }
func (backends) Crash(testing.TB, es.Backend)                 {} // it is enough to walk away
func (backends) Address() string                              { return "" }
