package pgserver_test

import (
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func countDatabases(t *testing.T, s *pgserver.Server) int {
	t.Helper()
	return ask[int](t, s.URL("postgres"), "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgserver%'")
}

func TestDatabasesAreMadeCopiedAndDropped(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	empty, err := s.CreateDatabase(t.Context())
	must(t, err)
	filled, err := s.CreateDatabase(t.Context())
	must(t, err)
	conn := connect(t, s.URL(filled))
	mustExec(t, conn, "CREATE TABLE notes AS SELECT 7 AS n")
	must(t, conn.Close(t.Context()))
	duplicate, err := s.CopyDatabase(t.Context(), filled)
	must(t, err)
	if got := ask[int](t, s.URL(duplicate), "SELECT n FROM notes"); got != 7 {
		t.Errorf("the copy has %d, want 7", got)
	}
	if ask[bool](t, s.URL(empty), "SELECT to_regclass('notes') IS NOT NULL") {
		t.Error("the empty database has a table of another in it")
	}
	_ = connect(t, s.URL(filled)) // does not keep it
	for _, name := range []string{empty, filled, duplicate, duplicate} {
		must(t, s.DropDatabase(t.Context(), name))
	}
	if got := countDatabases(t, s); got != 0 {
		t.Errorf("%d databases are left", got)
	}
}

func TestDatabaseOfATestGoesWithIt(t *testing.T) {
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	for _, where := range []string{
		s.URL("postgres"),
		"user=postgres dbname=postgres port=5432 host=" + strings.TrimSuffix(s.LogFile(), "/server.log"),
	} {
		t.Setenv("ES_TEST_POSTGRES_URL", where)
		t.Run("test", func(t *testing.T) {
			a, b := pgserver.Database(t), pgserver.Database(t)
			mustExec(t, connect(t, a), "CREATE TABLE notes (n int)")
			mustExec(t, connect(t, b), "CREATE TABLE notes (n int)")
			if got := countDatabases(t, s); got != 2 {
				t.Errorf("%d databases on the server that ES_TEST_POSTGRES_URL names, want 2", got)
			}
		})
		if got := countDatabases(t, s); got != 0 {
			t.Errorf("%d databases are left", got)
		}
	}
}

func TestTestsShareAServer(t *testing.T) {
	t.Parallel()
	a, b := pgserver.Database(t), pgserver.Database(t)
	const started = "SELECT pg_postmaster_start_time()::text"
	if a == b || ask[string](t, a, started) != ask[string](t, b, started) {
		t.Errorf("%s and %s are not two databases of one server", a, b)
	}
}

func BenchmarkDatabase(b *testing.B) {
	s := pgserver.ForTest(b, pgserver.Config{NoSync: true})
	for b.Loop() {
		name, err := s.CreateDatabase(b.Context())
		must(b, err)
		must(b, s.DropDatabase(b.Context(), name))
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := pgserver.Start(b.Context(), pgserver.Config{NoSync: true})
		must(b, err)
		must(b, s.Stop(b.Context()))
	}
}
