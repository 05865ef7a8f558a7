package postgres_test

import (
	"math"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func orderSnapshot(version int64) es.Snapshot {
	return es.Snapshot{
		SnapshotKey: es.SnapshotKey{Stream: "order-7", Name: "Order", Schema: 1}, Version: version, Time: time.Unix(version, 0).UTC(),
		ContentType: es.ContentTypeJSON, Data: []byte("{}"),
	}
}

// TestASnapshotHasItsTimeAndSchema saves times that a database could take for none, and numbers that a small column would not hold.
func TestASnapshotHasItsTimeAndSchema(t *testing.T) {
	t.Parallel()
	snapshots := openDB(t, postgres.Config{URL: pgserver.Database(t)}).Snapshots()
	for i, at := range []time.Time{{}, time.Unix(0, 0), time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)} {
		s := orderSnapshot(math.MaxInt64)
		s.Time, s.Schema = at, math.MaxInt-i
		if err := snapshots.Save(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		got, err := snapshots.Load(t.Context(), s.SnapshotKey)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Time.Equal(at) || got.Time.Location() != time.UTC || got.Version != math.MaxInt64 || got.Schema != s.Schema {
			t.Errorf("saved %+v, loaded %+v", s, got)
		}
	}
}

func TestASnapshotThatPostgreSQLCannotHoldIsInvalid(t *testing.T) {
	t.Parallel()
	snapshots := openDB(t, postgres.Config{URL: pgserver.Database(t)}).Snapshots()
	for _, contentType := range []string{"\x00", "text/\xff"} {
		s := orderSnapshot(1)
		s.ContentType = contentType
		wantError(t, "save", snapshots.Save(t.Context(), s), es.ErrInvalid)
		_, err := snapshots.Load(t.Context(), s.SnapshotKey)
		wantError(t, "load", err, es.ErrNotFound)
	}
}

// TestASnapshotIsDeletedDurablyAndSavedWithoutWaiting looks at what the transactions of a snapshot wait for, in a server whose default is
// the opposite.
func TestASnapshotIsDeletedDurablyAndSavedWithoutWaiting(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	p.exec("CREATE TABLE waits (change text, setting text)")
	p.exec("CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS " +
		"$$BEGIN INSERT INTO public.waits VALUES (tg_op, current_setting('synchronous_commit')); RETURN NULL; END$$")
	p.exec("CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON eventsourcing.snapshots_1 EXECUTE FUNCTION note()")
	s := orderSnapshot(1)
	p.must(p.db.Snapshots().Save(p.ctx, s))
	p.exec("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
	other := openDB(t, postgres.Config{URL: p.url}).Snapshots()
	p.must(other.Delete(p.ctx, s.SnapshotKey))
	if got := p.value("SELECT string_agg(DISTINCT change || ' ' || setting, ', ') FROM waits"); got != "DELETE on, INSERT off, UPDATE off" {
		t.Errorf("the changes were made with synchronous_commit: %s", got)
	}
}
