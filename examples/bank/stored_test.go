package main

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/estest"
)

// TestWhatIsStoredCanBeRead fails when a change of the Go types of the events breaks what was stored before.
func TestWhatIsStoredCanBeRead(t *testing.T) {
	t.Parallel()
	estest.CheckStoredEvents(t, newTypes(), "testdata/events.golden.json", estest.WantAllFields())
}
