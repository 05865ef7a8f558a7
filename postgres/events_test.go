package postgres_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

// TestEventStore is not parallel: a line of it measures the memory of the process.
func TestEventStore(t *testing.T) {
	estest.RunEventStore(t, eventHarness(postgres.Config{}))
}

// TestEventStoreSerial runs the same lines where positions are given by a row.
func TestEventStoreSerial(t *testing.T) {
	estest.RunEventStore(t, eventHarness(postgres.Config{Ordering: postgres.Serial}))
}

func TestEventStoreMessages(t *testing.T) {
	t.Parallel()
	estest.RunMessage(t, estest.EventHop(eventHarness(postgres.Config{})))
}

// eventHarness opens event stores, and makes trouble for their readers while the lines of the global order run.
func eventHarness(c postgres.Config) estest.Harness[es.EventStore] {
	return harness[es.EventStore]{
		role:   (*postgres.DB).Events,
		config: c,
		with: func(s *storage[es.EventStore]) estest.Storage[es.EventStore] {
			return &troubled{s, c.Ordering == postgres.Serial}
		},
	}
}
