package sqlite_test

import (
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func orderSnapshot(version int64) es.Snapshot {
	return es.Snapshot{
		SnapshotKey: es.SnapshotKey{Stream: "order-7", Name: "Order", Schema: 1}, Version: version, Time: time.Unix(version, 0).UTC(),
		ContentType: es.ContentTypeJSON, Data: []byte("{}"),
	}
}

// TestADeletedSnapshotDoesNotComeBackWithThePower deletes a snapshot, perhaps because of what it tells of a person. It stays deleted when
// all is lost that was not synced.
func TestADeletedSnapshotDoesNotComeBackWithThePower(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	s := orderSnapshot(1)
	must(t, db.Snapshots().Save(t.Context(), s))
	appendTo(t, db, "order-7", 1) // which is synced, and the snapshot with it
	must(t, db.Snapshots().Delete(t.Context(), s.SnapshotKey))
	found := openStore(t, onDisk(disk.CutBy(disk.Moment(), unsyncedIsLost)))
	_, err := found.Snapshots().Load(t.Context(), s.SnapshotKey)
	wantError(t, "load", err, es.ErrNotFound)
}

// TestSavingASnapshotIsNotSynced counts the syncs: a snapshot that is lost is built again.
func TestSavingASnapshotIsNotSynced(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	before := disk.TotalCounts()
	must(t, db.Snapshots().Save(t.Context(), orderSnapshot(2)))
	must(t, db.Snapshots().Save(t.Context(), orderSnapshot(1)))
	if n := disk.TotalCounts().Since(before).Syncs; n > 0 {
		t.Errorf("%d syncs", n)
	}
	got, err := db.Snapshots().Load(t.Context(), orderSnapshot(1).SnapshotKey)
	must(t, err)
	if got.Version != 2 {
		t.Fatalf("version %d has taken the place of version 2", got.Version)
	}
}

// TestASnapshotHasItsTime saves times that a file could take for none.
func TestASnapshotHasItsTime(t *testing.T) {
	t.Parallel()
	snapshots := newStore(t).Snapshots()
	for version, at := range []time.Time{{}, time.Unix(0, 0), time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)} {
		s := orderSnapshot(int64(version) + 1)
		s.Time = at
		must(t, snapshots.Save(t.Context(), s))
		got, err := snapshots.Load(t.Context(), s.SnapshotKey)
		must(t, err)
		if !got.Time.Equal(at) || got.Time.Location() != time.UTC {
			t.Errorf("saved at %v, loaded at %v", at, got.Time)
		}
	}
}
