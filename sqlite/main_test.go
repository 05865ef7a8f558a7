package sqlite_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

func TestMain(m *testing.M) {
	outboxProcess() // ends it, when it is one
	storeProcess()  // and so does this
	estest.Main(m, func(address, namespace string) (es.Backend, error) {
		return sqlite.Open(sqlite.Config{Path: address, Namespace: namespace})
	})
}
