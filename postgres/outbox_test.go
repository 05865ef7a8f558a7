package postgres_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

func TestOutbox(t *testing.T) {
	t.Parallel()
	estest.RunOutbox(t, outboxHarness())
}

func TestOutboxMessages(t *testing.T) {
	t.Parallel()
	estest.RunMessage(t, estest.OutboxHop(outboxHarness()))
}

func outboxHarness() estest.Harness[es.Outbox] {
	return harness[es.Outbox]{
		role: (*postgres.DB).Outbox,
		with: func(s *storage[es.Outbox]) estest.Storage[es.Outbox] { return outboxStorage{s} },
	}
}

type outboxStorage struct{ *storage[es.Outbox] }

func (s outboxStorage) OpenForwarder(t testing.TB, namespace string) (es.Outbox, es.EventStore) {
	t.Helper()
	db := openDB(t, postgres.Config{URL: s.url, Namespace: namespace})
	return db.Outbox(), db.Events()
}
