package memory_test

import (
	"testing"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/tests/oracle"
)

// newStorage is a storage in memory, and opens handles on it.
func newStorage() oracle.Open {
	storage := memory.NewStorage()
	return func() (es.Backend, error) { return memory.Open(memory.Config{Storage: storage}) }
}

func TestEventStoreAgreesWithModel(t *testing.T) {
	t.Parallel()
	oracle.CheckEventStore(t, oracle.Property{New: func(*rapid.T) oracle.Open { return newStorage() }})
}
