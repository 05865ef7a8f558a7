package powerloss_test

import (
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

const insert = "INSERT INTO items VALUES (?)"

// prepare returns a disk with a table of two names, and a connection to it.
func prepare(t *testing.T, settings ...string) (*powerloss.Disk, *sqlite.Conn) {
	t.Helper()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	conn := connect(t, disk, settings...)
	exec(t, conn, "CREATE TABLE items (name)")
	exec(t, conn, insert, "a")
	exec(t, conn, insert, "b")
	return disk, conn
}

// wantHealthy fails the test unless the database takes a name after those that it has, and nothing is wrong with it.
func wantHealthy(t *testing.T, conn *sqlite.Conn, names string) {
	t.Helper()
	exec(t, conn, insert, "healthy")
	wantRows(t, conn, "SELECT group_concat(name, ' ') FROM items", strings.TrimSpace(names+" healthy"))
	wantRows(t, conn, "PRAGMA integrity_check", "ok")
}

func TestAFaultGivesTheCodeOfSQLiteAndGoesAway(t *testing.T) {
	t.Parallel()
	rollback := []string{"journal_mode=delete", "synchronous=full"}
	for _, test := range []struct {
		name     string
		settings []string
		fault    powerloss.Fault
		want     sqlite.ResultCode
	}{
		{"write", durable(), powerloss.Fault{Op: powerloss.Write}, sqlite.ResultIOErrWrite},
		{"write to the log", durable(), powerloss.Fault{Op: powerloss.Write, File: "-wal"}, sqlite.ResultIOErrWrite},
		{"write without room", durable(), powerloss.Fault{Op: powerloss.Write, Code: sqlite.ResultFull}, sqlite.ResultFull},
		{"sync", durable(), powerloss.Fault{Op: powerloss.Sync}, sqlite.ResultIOErrFsync},
		{"write to a file", rollback, powerloss.Fault{Op: powerloss.Write, File: file}, sqlite.ResultIOErrWrite},
		{"sync of a file", rollback, powerloss.Fault{Op: powerloss.Sync, File: file}, sqlite.ResultIOErrFsync},
		{"open a journal", rollback, powerloss.Fault{Op: powerloss.Open, File: "-journal"}, sqlite.ResultCantOpen},
		{"delete a journal", rollback, powerloss.Fault{Op: powerloss.Delete}, sqlite.ResultIOErrDelete},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			disk, conn := prepare(t, test.settings...)
			disk.Inject(test.fault)
			wantCode(t, "the insert", run(conn, insert, "c"), test.want)
			wantCode(t, "the next insert", run(conn, insert, "d"), test.want)
			disk.Heal()
			wantHealthy(t, conn, "a b")
		})
	}
}

func TestAFailingTruncationKeepsTheJournal(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, "journal_mode=truncate", "synchronous=full")
	disk.Inject(powerloss.Fault{Op: powerloss.Truncate, Times: 1})
	wantCode(t, "the insert", run(conn, insert, "c"), sqlite.ResultIOErrTruncate)
	wantHealthy(t, conn, "a b")
}

func TestAFailingReadGivesAnErrorAndGoesAway(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	disconnect(t, conn)
	conn = connect(t, disk)
	wantRows(t, conn, "SELECT count(*) FROM sqlite_schema", "1")
	disk.Inject(powerloss.Fault{Op: powerloss.Read, File: file})
	_, err := tryRows(conn, "SELECT name FROM items")
	wantCode(t, "the query", err, sqlite.ResultIOErrRead)
	disk.Heal()
	wantHealthy(t, conn, "a b")
}

func TestAFileThatCannotBeOpenedIsNotOpened(t *testing.T) {
	t.Parallel()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	disk.Inject(powerloss.Fault{Op: powerloss.Open, Times: 1})
	_, err := tryConnect(t, disk, "user_version")
	wantCode(t, "to open it", err, sqlite.ResultCantOpen)
	connect(t, disk, durable()...)
}

// A fault may wait for the n-th time, and last for a number of times.
func TestAFaultComesWhenItIsDueAndLastsAsLongAsItIsTo(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	disk.Inject(powerloss.Fault{Op: powerloss.Sync, File: "-wal", After: 2, Times: 2})
	for n, want := range []sqlite.ResultCode{0, 0, sqlite.ResultIOErrFsync, sqlite.ResultIOErrFsync, 0} {
		err := run(conn, insert, n)
		wantCode(t, "an insert", err, want)
	}
	wantHealthy(t, conn, "a b 0 1 4")
}

func TestAFullDiskTakesWhatFitsUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	for _, settings := range [][]string{durable(), {"journal_mode=delete", "synchronous=full"}} {
		disk, conn := prepare(t, settings...)
		total := func() (sum int) {
			for _, name := range disk.Files() {
				sum += len(disk.File(name))
			}
			return sum
		}
		before := total()
		disk.Fill(40_000)
		fitted := 0
		for run(conn, insert, strings.Repeat("x", 3000)) == nil {
			fitted++
		}
		wantCode(t, "an insert without room", run(conn, insert, strings.Repeat("x", 3000)), sqlite.ResultFull)
		if fitted == 0 || total() > before+40_000 {
			t.Errorf("%d inserts fitted, and the files grew by %d bytes", fitted, total()-before)
		}
		disk.Heal()
		exec(t, conn, "DELETE FROM items WHERE length(name) > 1")
		wantHealthy(t, conn, "a b")
	}
}

// The shared memory is a file as well.
func TestAFullDiskHasNoRoomForSharedMemory(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	disconnect(t, conn)
	disk.Fill(32<<10 - 1)
	conn = connect(t, disk)
	_, err := tryRows(conn, "SELECT name FROM items")
	wantCode(t, "a query", err, sqlite.ResultIOErrSHMSize)
	disk.Fill(32 << 10)
	wantRows(t, conn, "SELECT name FROM items", "a\nb")
	wantCode(t, "an insert", run(conn, insert, "c"), sqlite.ResultFull)
	disconnect(t, conn)
	wantRows(t, connect(t, disk), "SELECT name FROM items", "a\nb") // it gave back its room
}

func TestAFlippedBitIsADamagedPage(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	disconnect(t, conn)
	disk.Flip(file, 4096) // the type of the second page
	_, err := tryRows(connect(t, disk), "SELECT name FROM items")
	wantCode(t, "a query", err, sqlite.ResultCorrupt)
	noLog := func(c powerloss.Change) powerloss.Fate { // it would have the page as it was
		if c.Kind == powerloss.Deleted {
			return powerloss.Kept()
		}
		return powerloss.Dropped()
	}
	for what, after := range map[string]*powerloss.Disk{"killed": disk.Kill(), "cut": disk.CutBy(disk.Moment(), noLog)} {
		_, err := tryRows(connect(t, after), "SELECT name FROM items")
		wantCode(t, "a query when it was "+what, err, sqlite.ResultCorrupt)
	}
}

func dropped(powerloss.Change) powerloss.Fate { return powerloss.Dropped() }

func TestAFlippedBitInTheLogEndsTheLog(t *testing.T) {
	t.Parallel()
	disk, _ := prepare(t, durable("wal_autocheckpoint=0")...)
	killed := disk.Kill()
	killed.Flip(wal, int64(len(killed.File(wal))-1))
	wantHealthy(t, connect(t, killed), "a")
}

func TestAShortenedLogEndsEarlier(t *testing.T) {
	t.Parallel()
	disk, _ := prepare(t, durable("wal_autocheckpoint=0")...)
	killed := disk.Kill()
	killed.Shorten(wal, int64(len(killed.File(wal))-1))
	wantHealthy(t, connect(t, killed), "a")
}

func TestAFileThatIsPutThereIsThere(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, durable()...)
	disconnect(t, conn)
	foreign := powerloss.NewDisk(t, powerloss.Config{})
	foreign.Put(file, []byte(strings.Repeat("this is no database ", 100)))
	_, err := tryConnect(t, foreign, durable()...)
	wantCode(t, "to open another file", err, sqlite.ResultNotADB)
	foreign.Put(file, disk.File(file))
	after := foreign.CutBy(foreign.Moment(), dropped)
	wantHealthy(t, connect(t, after), "a b")
}

func TestAProtectedFileCanBeReadOnly(t *testing.T) {
	t.Parallel()
	for _, settings := range [][]string{durable(), {"journal_mode=delete", "synchronous=full"}} {
		disk, conn := prepare(t, settings...)
		disk.Protect(file)
		exec(t, conn, insert, "c") // it has the right already
		disconnect(t, conn)
		conn = connect(t, disk)
		wantRows(t, conn, "SELECT name FROM items", "a\nb\nc")
		wantCode(t, "an insert", run(conn, insert, "d"), sqlite.ResultReadOnly)
		disconnect(t, conn)
		disk.Heal()
		wantHealthy(t, connect(t, disk), "a b c")
	}
}

func TestOnAProtectedDiskNothingIsCreated(t *testing.T) {
	t.Parallel()
	disk, conn := prepare(t, "journal_mode=delete", "synchronous=full")
	disk.Protect()
	wantCode(t, "an insert that needs a journal", run(conn, insert, "c"), sqlite.ResultReadOnlyDirectory)
	disconnect(t, conn)
	conn = connect(t, disk)
	wantRows(t, conn, "SELECT name FROM items", "a\nb")
	wantCode(t, "an insert", run(conn, insert, "c"), sqlite.ResultReadOnly)
	disconnect(t, conn)
	disk.Heal()
	conn = connect(t, disk, durable()...)
	exec(t, conn, insert, "c")
	killed := disk.Kill()
	killed.Protect()
	_, err := tryRows(connect(t, killed), "SELECT name FROM items")
	wantCode(t, "a query that needs shared memory", err, sqlite.ResultCantOpen)
	disconnect(t, conn)
	disk.Protect()
	_, err = tryRows(connect(t, disk), "SELECT name FROM items")
	wantCode(t, "a query that needs a log", err, sqlite.ResultReadOnlyDirectory)
}
