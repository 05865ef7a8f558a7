package sqlite_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// connect opens a file as another program does, until the end of the test.
func connect(t testing.TB, path string, flags ...lite.OpenFlags) *lite.Conn {
	t.Helper()
	c, err := lite.OpenConn(path, append(flags, lite.OpenReadWrite|lite.OpenCreate|lite.OpenURI)...)
	must(t, err)
	c.SetBusyTimeout(time.Second)
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	return c
}

// run runs statements of another program, and returns the last column of what the last gave.
func run(t testing.TB, c *lite.Conn, statements ...string) string {
	t.Helper()
	last := ""
	for _, statement := range statements {
		stmt, _, err := c.PrepareTransient(statement)
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		for {
			more, err := stmt.Step()
			if err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
			if !more {
				break
			}
			last = stmt.ColumnText(stmt.ColumnCount() - 1)
		}
		must(t, stmt.Finalize())
	}
	return last
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func TestAStoreIsOpenedAgain(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	for n := range 3 {
		db, err := sqlite.Open(sqlite.Config{Path: path})
		must(t, err)
		appendTo(t, db, "order-1", n)
		must(t, db.Close())
		must(t, db.Close()) // which is fine
	}
	wantHistory(t, openStore(t, sqlite.Config{Path: path}), "order-1 1 Event0", "order-1 2 Event1", "order-1 3 Event2")
}

// Names that mean something to SQLite's parser of file names mean nothing here.
func TestAPathIsTakenAsItIs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b?mode=memory.db", "file:items.db", "a%20b#c.db", "ü.db"} {
		path := filepath.Join(t.TempDir(), name)
		for range 2 {
			db, err := sqlite.Open(sqlite.Config{Path: path})
			must(t, err)
			appendTo(t, db, "order-1", 1)
			must(t, db.Close())
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAPathThatCannotBeOneIsInvalid(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for _, path := range []string{"", ":memory:", folder, filepath.Join(folder, "nowhere", "items.db"), os.DevNull} {
		_, err := sqlite.Open(sqlite.Config{Path: path})
		wantError(t, path, err, es.ErrInvalid)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("files were left: %v, %v", left, err)
	}
}

func TestAFileOfAnotherProgramIsNotTouched(t *testing.T) {
	t.Parallel()
	closed := func(t *testing.T, path string, statements ...string) {
		t.Helper()
		c := connect(t, path)
		run(t, c, statements...)
		must(t, c.Close())
	}
	for name, test := range map[string]struct {
		write func(t *testing.T, path string)
		want  error
	}{
		"no database": {func(t *testing.T, path string) {
			must(t, os.WriteFile(path, bytes.Repeat([]byte("text "), 2000), 0o600))
		}, sqlite.ErrForeign},
		"a short text":    {func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("x"), 0o600)) }, sqlite.ErrForeign},
		"another program": {func(t *testing.T, path string) { closed(t, path, "PRAGMA application_id=7", "CREATE TABLE mine (n)") }, sqlite.ErrForeign},
		"a table":         {func(t *testing.T, path string) { closed(t, path, "CREATE TABLE mine (n)") }, sqlite.ErrForeign},
		"a version":       {func(t *testing.T, path string) { closed(t, path, "PRAGMA user_version=1") }, sqlite.ErrForeign},
		"with a log":      {func(t *testing.T, path string) { closed(t, path, "PRAGMA journal_mode=WAL", "CREATE TABLE mine (n)") }, sqlite.ErrForeign},
		"a newer schema": {func(t *testing.T, path string) {
			must(t, openStore(t, sqlite.Config{Path: path}).Close())
			closed(t, path, "PRAGMA user_version=2")
		}, sqlite.ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tempFile(t)
			test.write(t, path)
			before, others := readFile(t, path), filesBeside(t, path)
			_, err := sqlite.Open(sqlite.Config{Path: path})
			wantError(t, "open", err, test.want)
			if !bytes.Equal(readFile(t, path), before) {
				t.Error("the file was changed")
			}
			if left := filesBeside(t, path); !slices.Equal(left, others) {
				t.Errorf("there are %q beside the file, and there were %q", left, others)
			}
		})
	}
}

// The other program may have died, or may be at work, and its log is its own.
func TestALogOfAnotherProgramIsNotTouched(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	c := connect(t, path)
	run(t, c, "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE mine (n)", "PRAGMA wal_checkpoint",
		"INSERT INTO mine VALUES (1)")
	disk := filepath.Join(t.TempDir(), "items.db") // a copy, as it is found after the program has died
	for _, end := range []string{"", "-wal"} {
		must(t, os.WriteFile(disk+end, readFile(t, path+end), 0o600))
	}
	before, log := readFile(t, disk), readFile(t, disk+"-wal")
	_, err := sqlite.Open(sqlite.Config{Path: disk})
	wantError(t, "open", err, sqlite.ErrForeign)
	if !bytes.Equal(readFile(t, disk), before) || !bytes.Equal(readFile(t, disk+"-wal"), log) {
		t.Error("the file or its log was changed")
	}
	if got := filesBeside(t, disk); !slices.Equal(got, []string{"items.db", "items.db-wal"}) {
		t.Errorf("there are %q", got)
	}
}

// filesBeside returns the names of the files in the folder of one.
func filesBeside(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestANetworkFileSystemIsRefused(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	for range 2 { // without the file, and with it
		_, err := sqlite.Open(sqlite.OnNetwork(sqlite.Config{Path: path}, "NFS"))
		wantError(t, "open", err, sqlite.ErrNetwork)
		for _, part := range []string{"NFS", "put it on a disk of this machine", path} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error %q does not say %q", err, part)
			}
		}
		must(t, openStore(t, sqlite.OnNetwork(sqlite.Config{Path: path}, "")).Close())
	}
}

func TestAnEmptyFileBecomesAStore(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	must(t, os.WriteFile(path, nil, 0o600))
	db := openStore(t, sqlite.Config{Path: path})
	appendTo(t, db, "order-1", 1)
	wantHistory(t, db, "order-1 1 Event1")
}

func TestManyOpenANewFileAtOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		path := tempFile(t)
		var wait sync.WaitGroup
		for n := range 6 {
			wait.Go(func() {
				db, err := sqlite.Open(sqlite.Config{Path: path, Namespace: []string{"a", "b"}[n%2]})
				if err != nil {
					t.Errorf("open: %v", err)
					return
				}
				_, err = db.Events().Append(t.Context(), es.AppendTo("order-1", es.Any, event("order-1", n)))
				if err := errors.Join(err, db.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		for _, namespace := range []string{"a", "b"} {
			db := openStore(t, sqlite.Config{Path: path, Namespace: namespace})
			if n := strings.Count(history(t, db), "\n"); n != 3 {
				t.Errorf("namespace %s has %d events", namespace, n)
			}
			must(t, db.Close())
		}
	}
}

func TestAFileThatOthersHoldIsBusy(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"} {
		path := tempFile(t)
		config := sqlite.Config{Path: path, BusyTimeout: 20 * time.Millisecond}
		db := openStore(t, config)
		other := connect(t, path)
		run(t, other, how)
		_, err := sqlite.Open(config)
		wantError(t, "open", err, sqlite.ErrBusy)
		_, err = db.Events().Append(t.Context(), es.AppendTo("order-1", es.Any, event("order-1", 1)))
		wantError(t, "append", err, sqlite.ErrBusy)
		wantError(t, "update", tryUpdate(t, db, "CREATE TABLE mine (n)"), sqlite.ErrBusy)
		for _, o := range db.Events().AppendEach(t.Context(), []es.Append{
			es.AppendTo("order-1", es.Any, event("order-1", 1)), es.AppendTo("order-2", es.Any, event("order-2", 1)),
		}) {
			wantError(t, "one of several appends", o.Err, sqlite.ErrBusy)
		}
		wantHistory(t, db, "") // who reads does not wait
		run(t, other, "ROLLBACK")
		appendTo(t, db, "order-1", 2)
		wantHistory(t, db, "order-1 1 Event2")
		must(t, openStore(t, config).Close())
	}
}

// The turn is taken before the file is: somebody who has it and does not go on makes others busy too.
func TestAFileWhoseTurnOthersHoldIsBusy(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	config := sqlite.Config{Path: path, BusyTimeout: 20 * time.Millisecond}
	first, second := openStore(t, config), openStore(t, config)
	must(t, first.Update(t.Context(), func(*sqlite.Tx) error {
		_, err := second.Events().Append(t.Context(), es.AppendTo("order-1", es.Any, event("order-1", 1)))
		wantError(t, "append", err, sqlite.ErrBusy)
		_, err = sqlite.Open(config)
		wantError(t, "open", err, sqlite.ErrBusy)
		return nil
	}))
	appendTo(t, second, "order-1", 1)
	wantHistory(t, first, "order-1 1 Event1")
}

func TestAFileThatMayNotBeWrittenIsReadOnly(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	appendTo(t, db, "order-1", 1)
	must(t, db.Close())
	disk.Protect(diskFile)
	before := disk.File(diskFile)
	_, err := sqlite.Open(onDisk(disk))
	wantError(t, "open", err, sqlite.ErrReadOnly)
	if !bytes.Equal(disk.File(diskFile), before) {
		t.Error("the file was changed")
	}
	disk.Heal()
	wantHistory(t, openStore(t, onDisk(disk)), "order-1 1 Event1")
}

func TestADiskThatMayNotBeWrittenIsReadOnly(t *testing.T) {
	t.Parallel()
	disk, db := newDiskStore(t)
	appendTo(t, db, "order-1", 1)
	must(t, db.Close())
	disk.Protect()
	_, err := sqlite.Open(onDisk(disk))
	wantError(t, "open", err, sqlite.ErrReadOnly)
	disk.Heal()
	wantHistory(t, openStore(t, onDisk(disk)), "order-1 1 Event1")
}

// Whatever fails while a file is opened, it is told as what it is, and the file is opened when it does not fail any more.
func TestOpeningFailsForEachFault(t *testing.T) {
	t.Parallel()
	for _, op := range []powerloss.Op{powerloss.Open, powerloss.Read, powerloss.Write, powerloss.Sync, powerloss.Truncate} {
		opened := 0
		for after := 0; opened < 3; after++ { // and then it is open before the fault is due
			disk := powerloss.NewDisk(t, powerloss.Config{})
			disk.Inject(powerloss.Fault{Op: op, After: after, Times: 1})
			db, err := sqlite.Open(onDisk(disk))
			disk.Heal()
			if err == nil { // it was not needed, or had no effect
				opened++
				must(t, db.Close())
			} else if !errors.Is(err, sqlite.ErrIO) {
				t.Errorf("open, when operation %d fails for the %d. time: %v", op, after+1, err)
			}
			again := openStore(t, onDisk(disk))
			appendTo(t, again, "order-1", 1)
			wantHistory(t, again, "order-1 1 Event1")
			must(t, again.Close())
			must(t, disk.Close())
		}
	}
}

func TestOpeningOnAFullDiskFails(t *testing.T) {
	t.Parallel()
	for room := int64(0); room < 400_000; room += 20_000 {
		disk := powerloss.NewDisk(t, powerloss.Config{})
		disk.Fill(room)
		db, err := sqlite.Open(onDisk(disk))
		disk.Heal()
		if err != nil && !errors.Is(err, sqlite.ErrDiskFull) {
			t.Errorf("open with room for %d bytes: %v", room, err)
		}
		if err == nil {
			must(t, db.Close())
		}
		again := openStore(t, onDisk(disk))
		appendTo(t, again, "order-1", 1)
		wantHistory(t, again, "order-1 1 Event1")
	}
}
