package memory_test

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/tests/oracle"
)

func TestEventStoreIsLinearizable(t *testing.T) {
	t.Parallel()
	oracle.CheckStreams(t, 10, func(*testing.T) oracle.Open { return newStorage() })
}

func TestDecisionsAreLinearizable(t *testing.T) {
	t.Parallel()
	oracle.CheckDecisions(t, 10, func(*testing.T) oracle.Open { return newStorage() })
}
