package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

func TestABackupIsAStore(t *testing.T) {
	t.Parallel()
	path := fullFile(t)
	db := openStore(t, sqlite.Config{Path: path})
	appendTo(t, db, "order-1", 1) // in the log
	copied := filepath.Join(t.TempDir(), "copy.db")
	must(t, db.Backup(t.Context(), copied))
	appendTo(t, db, "order-1", 2) // and the store goes on
	if left := filesBeside(t, copied); len(left) != 1 {
		t.Errorf("there are %q", left)
	}
	one, other := wantSound(t, sqlite.Config{Path: path}), wantSound(t, sqlite.Config{Path: copied})
	want := one.Namespaces
	want[0].Events--
	want[0].Head.Position--
	if fmt.Sprint(other.Namespaces) != fmt.Sprint(want) {
		t.Errorf("the copy has %+v, and the original had %+v", other.Namespaces, want)
	}
	again := openStore(t, sqlite.Config{Path: copied})
	if head(t, again).Incarnation != head(t, db).Incarnation {
		t.Error("the incarnation is another")
	}
	wantRows(t, again, 1, "SELECT count(*) > 0 FROM rows", "1")
	appendTo(t, again, "order-1", 2)
	if history(t, again) != history(t, db) {
		t.Error("the history of the copy is another")
	}
}

// While it is copied others write, and each transaction is in the copy or not.
func TestABackupIsOfOneMoment(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	db := openStore(t, sqlite.Config{Path: path, CheckpointPages: 50})
	update(t, db, "CREATE TABLE rows (n INTEGER PRIMARY KEY)", "CREATE TABLE bulk (n)", // several steps of the copy
		"INSERT INTO bulk WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n < 40) SELECT zeroblob(1000000) FROM r")
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for g := range 3 {
		wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := db.Update(context.Background(), func(tx *sqlite.Tx) error {
					stream := fmt.Sprintf("order-%d", g)
					_, err := tx.Append(es.AppendTo(stream, es.Any, large(stream, 3), event(stream, 2)))
					return errors.Join(err, tx.Exec("INSERT INTO rows DEFAULT VALUES"))
				})
				if err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	for n := range 5 {
		copied := filepath.Join(t.TempDir(), fmt.Sprint(n, ".db"))
		must(t, db.Backup(t.Context(), copied))
		wantSound(t, sqlite.Config{Path: copied})
		again := openStore(t, sqlite.Config{Path: copied})
		wantRows(t, again, 1, "SELECT (SELECT count(*) FROM es_events_1) = 2 * (SELECT count(*) FROM rows)", "1")
		must(t, again.Close())
	}
	stop()
	wait.Wait()
	wantSound(t, sqlite.Config{Path: path})
}

func TestABackupOfAnUnsyncedStoreIsWhole(t *testing.T) {
	t.Parallel()
	config := sqlite.SinceBoot(sqlite.Config{Path: tempFile(t), Synchronous: sqlite.Normal}, "one")
	db := openStore(t, config)
	appendTo(t, db, "order-1", 1)
	copied := filepath.Join(t.TempDir(), "copy.db")
	must(t, db.Backup(t.Context(), copied))
	if left := filesBeside(t, copied); len(left) != 1 {
		t.Errorf("there are %q", left)
	}
	again := openStore(t, sqlite.SinceBoot(sqlite.Config{Path: copied}, "two"))
	if head(t, again) != head(t, db) {
		t.Errorf("the copy is at %+v, and the original at %+v", head(t, again), head(t, db))
	}
}

func TestABackupThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	db := openStore(t, sqlite.Config{Path: fullFile(t)})
	folder := t.TempDir()
	taken := filepath.Join(folder, "taken")
	writeFile(t, taken, []byte("mine"))
	must(t, os.Symlink("nowhere", filepath.Join(folder, "link")))
	for _, path := range []string{
		"", taken, folder, filepath.Join(folder, "link"), filepath.Join(folder, "nowhere", "copy.db"), filepath.Join(taken, "copy.db"),
	} {
		wantError(t, path, db.Backup(t.Context(), path), es.ErrInvalid)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "without time", db.Backup(ctx, filepath.Join(folder, "copy.db")), context.Canceled)
	must(t, db.Close())
	wantError(t, "closed", db.Backup(t.Context(), filepath.Join(folder, "copy.db")), es.ErrClosed)
	if left := filesBeside(t, taken); strings.Join(left, " ") != "link taken" || string(readFile(t, taken)) != "mine" {
		t.Errorf("there are %q", left)
	}
}

// Whatever happens while it is copied, there is no half copy under the name.
func TestABackupThatIsCutShortLeavesNothing(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	for n := range 60 {
		must(t, errOf(db.Events().Append(t.Context(), es.AppendTo("order-1", es.Any, large("order-1", 500+n)))))
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "copy.db")
	must(t, db.Close())
	db = openStore(t, onDisk(disk))
	for after := 100; after < 6000; after += 1500 {
		gate := disk.Hold(powerloss.Read, diskFile)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- db.Backup(ctx, path) }()
		<-gate.Arrived()
		cancel()
		gate.Open()
		wantError(t, "backup", <-done, context.Canceled)
		disk.Inject(failingRead(after))
		if err := db.Backup(t.Context(), path); err != nil {
			wantError(t, "backup", err, sqlite.ErrIO)
		} else {
			t.Errorf("the copy was made, although read %d has failed", after)
		}
		disk.Heal()
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("there are %v: %v", left, err)
		}
	}
	must(t, db.Backup(t.Context(), path))
	wantSound(t, sqlite.Config{Path: path})
}

// failingRead is that a read of the file fails.
func failingRead(after int) powerloss.Fault {
	return powerloss.Fault{Op: powerloss.Read, File: diskFile, After: after, Times: 1}
}

func errOf[T any](_ T, err error) error { return err }
