package sqlite_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func TestEventStore(t *testing.T) {
	t.Parallel()
	estest.RunEventStore(t, eventHarness())
}

func TestEventStoreMessages(t *testing.T) {
	t.Parallel()
	estest.RunMessage(t, estest.EventHop(eventHarness()))
}

func eventHarness() estest.Harness[es.EventStore] {
	return harness[es.EventStore]{role: (*sqlite.DB).Events}
}
