package postgres_test

import (
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func TestForkTellsAllWhoKeepCheckpoints(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), postgres.Config{URL: pgserver.Database(t), Namespace: "shop"}
	wantError(t, "fork of a schema that is not there", postgres.Fork(ctx, c), es.ErrNotFound)
	db := openDB(t, c)
	if _, err := db.Events().Append(ctx, es.AppendTo("order-1", es.Any, es.NewMessage("order-1", "OrderPlaced", nil))); err != nil {
		t.Fatal(err)
	}
	head, err := db.Events().Head(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	other := c
	other.Namespace = "other"
	wantError(t, "fork of a namespace that is not there", postgres.Fork(ctx, other), es.ErrNotFound)
	if err := postgres.Fork(ctx, c); err != nil {
		t.Fatal(err)
	}
	db = openDB(t, c)
	_, err = db.Events().Wait(ctx, head)
	wantError(t, "wait", err, es.ErrCheckpoint)
	for _, err = range db.Events().Read(ctx, es.Query{}.Resume(head)) {
		break
	}
	wantError(t, "read", err, es.ErrCheckpoint)
	if now, err := db.Events().Head(ctx); err != nil || now.Position != head.Position || now.Incarnation == head.Incarnation {
		t.Errorf("the head is %+v (%v), and was %+v", now, err, head)
	}
}
