package powerloss_test

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

func TestWritesAndSyncsAreCounted(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable("wal_autocheckpoint=0")...)
	before, all := disk.Counts(wal), disk.TotalCounts()
	exec(t, conn, insert, "c")
	got := disk.Counts(wal).Since(before)
	// A frame for the one page that changed: its header, of 24 bytes, and the page.
	want := powerloss.Counts{Writes: 2, Bytes: 24 + 4096, Syncs: 1}
	if got != want {
		t.Errorf("a commit: got %+v, want %+v", got, want)
	}
	if got := disk.TotalCounts().Since(all); got.Syncs != 1 || got.Bytes != want.Bytes {
		t.Errorf("a commit, all files: got %+v", got)
	}
	exec(t, conn, "PRAGMA synchronous=normal")
	before = disk.Counts(wal)
	exec(t, conn, insert, "d")
	want.Syncs = 0
	if got := disk.Counts(wal).Since(before); got != want {
		t.Errorf("a commit that is not synced: got %+v, want %+v", got, want)
	}
	file := disk.Counts(file)
	exec(t, conn, "PRAGMA wal_checkpoint")
	if got := disk.TotalCounts().Since(all); got.Syncs != 3 { // that of the first commit, the log's, and the file's
		t.Errorf("with a checkpoint: got %+v", got)
	}
	if got := disk.Counts("items.db").Since(file); got.Writes != 2 || got.Bytes != 2*4096 || got.Syncs != 1 {
		t.Errorf("a checkpoint of two pages: got %+v", got)
	}
}

func TestTheFolderIsSyncedWithANewLogAndWhenAJournalIsDeleted(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	if got := disk.Counts(wal); got.FolderSyncs != 1 {
		t.Errorf("the log: %+v", got)
	}
	disconnect(t, conn)
	disk, _ = prepare(t, "journal_mode=delete", "synchronous=extra")
	// For each of three transactions: when the journal was written, and when it was deleted.
	if got := disk.Counts(file + "-journal"); got.FolderSyncs != 6 {
		t.Errorf("the journal: %+v", got)
	}
}

func TestAGateHoldsASyncUntilItIsOpened(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	other := connect(t, disk)
	gate := disk.Hold(powerloss.Sync, "-wal")
	before := disk.Counts(wal)
	inserted := make(chan error, 1)
	go func() { inserted <- run(conn, insert, "c") }()
	<-gate.Arrived()
	if got := disk.Counts(wal).Since(before); got.Writes == 0 || got.Syncs != 0 {
		t.Errorf("at the gate: got %+v", got)
	}
	wantRows(t, other, "SELECT name FROM items", "a\nb")
	gate.Open()
	gate.Open()
	if err := <-inserted; err != nil {
		t.Error(err)
	}
	wantRows(t, other, "SELECT name FROM items", "a\nb\nc")
	exec(t, conn, insert, "d")
}
