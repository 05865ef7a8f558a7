package powerloss_test

import (
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/powerloss"
)

const (
	file = "items.db"
	wal  = file + "-wal"
)

// connect opens a connection to the database on a disk and makes settings. It is closed at the end of the test, if not before.
func connect(tb testing.TB, disk *powerloss.Disk, settings ...string) *sqlite.Conn {
	tb.Helper()
	conn, err := tryConnect(tb, disk, settings...)
	if err != nil {
		tb.Fatal(err)
	}
	return conn
}

func tryConnect(tb testing.TB, disk *powerloss.Disk, settings ...string) (*sqlite.Conn, error) {
	tb.Helper()
	conn, err := sqlite.OpenConn(disk.URI(file), sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenURI)
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { _ = conn.Close() }) // it fails when the test has closed it
	conn.SetBusyTimeout(0)
	for _, setting := range settings {
		if err := run(conn, "PRAGMA "+setting); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// durable are the settings of a database that keeps its promises.
func durable(more ...string) []string {
	return append([]string{"journal_mode=wal", "synchronous=full"}, more...)
}

func run(conn *sqlite.Conn, query string, args ...any) error {
	return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args})
}

func exec(tb testing.TB, conn *sqlite.Conn, query string, args ...any) {
	tb.Helper()
	if err := run(conn, query, args...); err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
}

// rows returns what a query has found, a line for each row.
func rows(tb testing.TB, conn *sqlite.Conn, query string) string {
	tb.Helper()
	out, err := tryRows(conn, query)
	if err != nil {
		tb.Fatalf("%s: %v", query, err)
	}
	return out
}

func tryRows(conn *sqlite.Conn, query string) (string, error) {
	var out []string
	err := sqlitex.Execute(conn, query, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		columns := make([]string, stmt.ColumnCount())
		for i := range columns {
			columns[i] = stmt.ColumnText(i)
		}
		out = append(out, strings.Join(columns, " "))
		return nil
	}})
	return strings.Join(out, "\n"), err
}

// wantRows fails the test unless a query finds just that.
func wantRows(tb testing.TB, conn *sqlite.Conn, query, want string) {
	tb.Helper()
	if got := rows(tb, conn, query); got != want {
		tb.Errorf("%s: got %q, want %q", query, got, want)
	}
}

// wantCode fails the test unless an error has a result code of SQLite.
func wantCode(tb testing.TB, what string, err error, want sqlite.ResultCode) {
	tb.Helper()
	if got := sqlite.ErrCode(err); got != want {
		tb.Errorf("%s: got %v (%v), want %v", what, got, err, want)
	}
}

// disconnect closes a connection.
func disconnect(tb testing.TB, conn *sqlite.Conn) {
	tb.Helper()
	if err := conn.Close(); err != nil {
		tb.Fatal(err)
	}
}
