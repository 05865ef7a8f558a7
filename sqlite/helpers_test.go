package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

// tempFile returns the path of a file that is not there yet.
func tempFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "items.db")
}

// openStore opens a file until the end of the test. It may be closed before.
func openStore(t testing.TB, c sqlite.Config) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(c)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// newStore opens a new file.
func newStore(t testing.TB) *sqlite.DB {
	t.Helper()
	return openStore(t, sqlite.Config{Path: tempFile(t)})
}

// diskFile is the name of the file on disks that are simulated.
const diskFile = "items.db"

// onDisk is how to open the file of a disk.
func onDisk(disk *powerloss.Disk) sqlite.Config {
	return sqlite.OnDisk(sqlite.Config{Path: diskFile, BusyTimeout: time.Second}, disk.Name())
}

// newDiskStore opens a new file on a new disk.
func newDiskStore(t testing.TB) (*powerloss.Disk, *sqlite.DB) {
	t.Helper()
	disk := powerloss.NewDisk(t, powerloss.Config{})
	return disk, openStore(t, onDisk(disk))
}

// event makes an event with its place in its name.
func event(stream string, n int) *es.Message {
	return es.NewMessage(stream, fmt.Sprintf("Event%d", n), fmt.Appendf(nil, `{"n":%d}`, n))
}

// appendTo appends an event to a stream, whatever it is like.
func appendTo(t testing.TB, db *sqlite.DB, stream string, n int) es.Appended {
	t.Helper()
	done, err := db.Events().Append(t.Context(), es.AppendTo(stream, es.Any, event(stream, n)))
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return done
}

// history is all the events of a store, as "stream version name", one after the other.
func history(t testing.TB, db *sqlite.DB) string {
	t.Helper()
	var b strings.Builder
	position := int64(0)
	for m, err := range db.Events().Read(context.WithoutCancel(t.Context()), es.Query{}) {
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if m.Position <= position {
			t.Fatalf("position %d comes after %d", m.Position, position)
		}
		position = m.Position
		fmt.Fprintf(&b, "%s %d %s\n", m.Stream, m.Version, m.Name)
	}
	return b.String()
}

// wantHistory fails the test unless the store has these events, as [history] tells them, and nothing else.
func wantHistory(t testing.TB, db *sqlite.DB, lines ...string) {
	t.Helper()
	want := strings.Join(lines, "\n")
	if got := strings.TrimSpace(history(t, db)); got != want {
		t.Fatalf("the store has\n%s\nand not\n%s", got, want)
	}
}

// wantError fails the test unless an error is another.
func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, and not: %v", what, err, want)
	}
}

// must fails the test when there is an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// update runs statements of a program's own, in a transaction.
func update(t testing.TB, db *sqlite.DB, statements ...string) {
	t.Helper()
	must(t, tryUpdate(t, db, statements...))
}

func tryUpdate(t testing.TB, db *sqlite.DB, statements ...string) error {
	t.Helper()
	return db.Update(t.Context(), func(tx *sqlite.Tx) error {
		for _, statement := range statements {
			if err := tx.Exec(statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// rows is what a statement gives: the columns of a row with spaces between them, and a line for each.
func rows(t testing.TB, db *sqlite.DB, columns int, query string, args ...any) string {
	t.Helper()
	var lines []string
	err := db.View(context.WithoutCancel(t.Context()), func(v *sqlite.View) error {
		return v.Query(func(r sqlite.Row) error {
			lines = append(lines, rowText(r, columns))
			return nil
		}, query, args...)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(lines, "\n")
}

func rowText(r sqlite.Row, columns int) string {
	values := make([]string, columns)
	for i := range values {
		values[i] = r.Text(i)
	}
	return strings.Join(values, " ")
}

// wantRows fails the test unless a statement gives these rows, as [rows] tells them.
func wantRows(t testing.TB, db *sqlite.DB, columns int, query string, lines ...string) {
	t.Helper()
	if got, want := rows(t, db, columns, query), strings.Join(lines, "\n"); got != want {
		t.Fatalf("%s: %q, and not %q", query, got, want)
	}
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	must(t, os.WriteFile(path, content, 0o600))
}
