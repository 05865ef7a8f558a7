package powerloss_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

func TestADiskIsKnownUntilItIsClosed(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	if other := powerloss.NewDisk(t, powerloss.Config{}); other.Name() == disk.Name() {
		t.Errorf("two disks are called %q", disk.Name())
	}
	if err := disk.Close(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a disk with an open file was closed: %v", err)
	}
	exec(t, conn, insert, "c")
	disconnect(t, conn)
	uri := disk.URI(file)
	for range 2 {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := sqlite.OpenConn(uri, sqlite.OpenReadWrite|sqlite.OpenURI); sqlite.ErrCode(err) != sqlite.ResultError {
		t.Errorf("a closed disk was found: %v", err)
	}
}

func TestAnyNameCanBeThatOfAFile(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	names := []string{"/tmp/a b/items.db", "50% & more?x=1#y.db", "ünïcode.db", "a/../b.db"}
	for _, name := range names {
		conn, err := sqlite.OpenConn(disk.URI(name), sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenURI)
		if err != nil {
			t.Fatal(name, err)
		}
		exec(t, conn, "CREATE TABLE items (name)")
		disconnect(t, conn)
	}
	slices.Sort(names)
	if got := disk.Files(); !slices.Equal(got, names) {
		t.Errorf("got %q, want %q", got, names)
	}
}

func TestReadersSeeWholeTransactionsWhileOthersWrite(t *testing.T) {
	t.Parallel()
	const writers, readers, each = 2, 3, 60
	disk := powerloss.NewDisk(t, powerloss.Config{})
	settings := durable("wal_autocheckpoint=4")
	first := connect(t, disk, settings...)
	exec(t, first, "CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER)")
	exec(t, first, "INSERT INTO pair VALUES (1, 0), (2, 0)")
	var writing, reading sync.WaitGroup
	written := make(chan struct{})
	for range writers {
		conn := connect(t, disk, settings...)
		conn.SetBusyTimeout(time.Minute)
		writing.Go(func() {
			for range each {
				for _, query := range []string{
					"BEGIN IMMEDIATE", "UPDATE pair SET n=n+1 WHERE id=1", "UPDATE pair SET n=n+1 WHERE id=2", "COMMIT",
				} {
					if err := run(conn, query); err != nil {
						t.Errorf("%s: %v", query, err)
						return
					}
				}
			}
		})
	}
	for range readers {
		conn := connect(t, disk)
		conn.SetBusyTimeout(time.Minute)
		reading.Go(func() {
			for over := false; !over; {
				select {
				case <-written:
					over = true
				default:
				}
				got, err := tryRows(conn, "SELECT (SELECT n FROM pair WHERE id=1)-(SELECT n FROM pair WHERE id=2)")
				if err != nil || got != "0" {
					t.Errorf("a reader sees a difference of %q: %v", got, err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(written)
	reading.Wait()
	wantRows(t, first, "SELECT n FROM pair", "120\n120")
	wantRows(t, first, "PRAGMA integrity_check", "ok")
	after := disk.CutBy(disk.Moment(), dropped)
	wantRows(t, connect(t, after), "SELECT n FROM pair", "120\n120")
}

func TestDisksAreMadeAndClosedConcurrently(t *testing.T) {
	t.Parallel()
	disk, _ := prepare(t, durable()...)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 20 {
				after := disk.CutBy(disk.Moment(), dropped)
				conn, err := sqlite.OpenConn(after.URI(file), sqlite.OpenReadWrite|sqlite.OpenURI)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := tryRows(conn, "SELECT name FROM items")
				if err := errors.Join(err, conn.Close(), after.Close()); err != nil || got != "a\nb" {
					t.Errorf("got %q: %v", got, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestTwoDoNotWriteAtOnce(t *testing.T) {
	t.Parallel()
	for _, settings := range [][]string{durable(), {"journal_mode=delete", "synchronous=full"}} {
		disk, conn := prepare(t, settings...)
		other := connect(t, disk)
		exec(t, conn, "BEGIN IMMEDIATE")
		exec(t, conn, insert, "c")
		wantCode(t, "a second writer", run(other, "BEGIN IMMEDIATE"), sqlite.ResultBusy)
		wantRows(t, other, "SELECT name FROM items", "a\nb")
		exec(t, conn, "COMMIT")
		wantHealthy(t, other, "a b c")
	}
}

// Without a write-ahead log a writer waits for readers, and readers do not begin while it waits.
func TestAWriterWithAJournalWaitsForReaders(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, "journal_mode=delete", "synchronous=full")
	reader, late := connect(t, disk), connect(t, disk)
	exec(t, reader, "BEGIN")
	wantRows(t, reader, "SELECT name FROM items", "a\nb")
	exec(t, conn, "BEGIN IMMEDIATE")
	exec(t, conn, insert, "c")
	wantRows(t, late, "SELECT name FROM items", "a\nb")
	wantCode(t, "a commit while somebody reads", run(conn, "COMMIT"), sqlite.ResultBusy)
	_, err := tryRows(late, "SELECT name FROM items")
	wantCode(t, "a reader while a writer waits", err, sqlite.ResultBusy)
	exec(t, reader, "COMMIT")
	exec(t, conn, "COMMIT")
	wantHealthy(t, late, "a b c")
}

// A reader keeps its snapshot, and the part of the log that it needs, while a checkpoint does what it can.
func TestAReaderKeepsItsSnapshot(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable("wal_autocheckpoint=0")...)
	reader := connect(t, disk)
	exec(t, reader, "BEGIN")
	wantRows(t, reader, "SELECT name FROM items", "a\nb")
	exec(t, conn, insert, "c")
	wantCode(t, "a checkpoint that needs the whole log", run(conn, "PRAGMA wal_checkpoint(truncate)"), sqlite.ResultOK)
	if len(disk.File(wal)) == 0 {
		t.Error("the log was cut while somebody needs it")
	}
	wantRows(t, reader, "SELECT name FROM items", "a\nb")
	exec(t, reader, "COMMIT")
	wantRows(t, reader, "SELECT name FROM items", "a\nb\nc")
	wantRows(t, conn, "PRAGMA wal_checkpoint(truncate)", "0 0 0")
	if n := len(disk.File(wal)); n != 0 {
		t.Errorf("the log has %d bytes after it was cut", n)
	}
}

// A database that was deleted under a connection is not written to.
func TestAFileThatIsGoneIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, "journal_mode=delete")
	disk.Remove(file)
	if err := run(conn, insert, "c"); sqlite.ErrCode(err) != sqlite.ResultReadOnlyDBMoved {
		t.Errorf("an insert: %v", err)
	}
}

// What SQLite does not keep in memory goes to temporary files, which are no matter of the disk.
func TestTemporaryFilesAreNotOfTheDisk(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	exec(t, conn, "PRAGMA temp_store=file")
	exec(t, conn, "PRAGMA temp.cache_size=10")
	disk.Inject(powerloss.Fault{Op: powerloss.Write})
	before, moment := disk.TotalCounts(), disk.Moment()
	exec(t, conn, "CREATE TEMP TABLE big AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n<1000) "+
		"SELECT n, hex(randomblob(100)) AS r FROM c")
	exec(t, conn, "UPDATE big SET r = r || n")
	wantRows(t, conn, "SELECT count(*) FROM big", "1000")
	if got := disk.TotalCounts().Since(before); got.Writes != 0 || disk.Moment() != moment {
		t.Errorf("%+v were counted", got)
	}
}
