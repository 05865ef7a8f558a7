package pgserver_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func connect(t testing.TB, where string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), where)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) }) // the server may have gone
	return conn
}

func mustExec(t testing.TB, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statement)
	must(t, err)
}

// ask asks for one value, on a connection of its own.
func ask[T any](t testing.TB, where, query string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), where)
	must(t, err)
	var value T
	must(t, conn.QueryRow(t.Context(), query).Scan(&value))
	must(t, conn.Close(t.Context()))
	return value
}

// openFolder is a temporary folder that any account can enter, which t.TempDir is not.
func openFolder(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("/tmp", "pgtest-") //nolint:usetesting // its folders are closed to other accounts
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(folder)) })
	must(t, os.Chmod(folder, 0o777))
	return folder
}

func names(t testing.TB, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}
