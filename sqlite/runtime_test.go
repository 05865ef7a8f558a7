package sqlite_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// TestRuntime runs whole programs on a file, with the event log as their broker.
func TestRuntime(t *testing.T) {
	t.Parallel()
	estest.RunRuntime(t, harness[es.Backend]{role: func(db *sqlite.DB) es.Backend { return db }})
}
