package sqlite_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// TestEventStore is not parallel: a line of it measures the memory of the process.
func TestEventStore(t *testing.T) {
	estest.RunEventStore(t, eventHarness())
}

// TestEventStoreInSmallRuns runs the same lines with an index that is brought into the file, and merged, all the time.
func TestEventStoreInSmallRuns(t *testing.T) {
	estest.RunEventStore(t, harness[es.EventStore]{role: (*sqlite.DB).Events, config: sqlite.InSmallRuns(sqlite.Config{}, 3)})
}

func TestEventStoreMessages(t *testing.T) {
	t.Parallel()
	estest.RunMessage(t, estest.EventHop(eventHarness()))
}

func eventHarness() estest.Harness[es.EventStore] {
	return harness[es.EventStore]{role: (*sqlite.DB).Events}
}
