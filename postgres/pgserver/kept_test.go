package pgserver_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func TestFolderIsKeptBetweenRuns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openFolder(t), strings.Repeat("a long name ", 15)) // longer than the name of a socket may be
	for n := range 3 {
		s, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir})
		must(t, err)
		conn := connect(t, s.URL("postgres"))
		mustExec(t, conn, "CREATE TABLE IF NOT EXISTS notes (n int)")
		mustExec(t, conn, "INSERT INTO notes VALUES (1)")
		if got := ask[int](t, s.URL("postgres"), "SELECT count(*) FROM notes"); got != n+1 {
			t.Errorf("%d rows in run %d", got, n+1)
		}
		must(t, s.Stop(t.Context()))
	}
}

func TestFolderHasOneServerAtATime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openFolder(t), "items.pg")
	first, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir, NoSync: true})
	must(t, err)
	if _, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir}); !errors.Is(err, pgserver.ErrInUse) {
		t.Errorf("second server: %v, want ErrInUse", err)
	}
	other := pgserver.ForTest(t, pgserver.Config{Dir: dir + "2", NoSync: true})
	for _, s := range []*pgserver.Server{first, other} {
		mustExec(t, connect(t, s.URL("postgres")), "CREATE TABLE notes (n int)") // in each, so they are two
	}
	must(t, first.Stop(t.Context()))
	_ = pgserver.ForTest(t, pgserver.Config{Dir: dir, NoSync: true}) // is free again
}

func TestFolderOfAnotherVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openFolder(t), "items.pg")
	s, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir, NoSync: true})
	must(t, err)
	bin := s.Version().Bin
	must(t, s.Stop(t.Context()))
	version := filepath.Join(dir, "data", "PG_VERSION")
	must(t, os.WriteFile(version, []byte("9\n"), 0o600))

	if _, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir, Bin: bin}); !errors.Is(err, pgserver.ErrOtherVersion) {
		t.Errorf("programs of another version: %v, want ErrOtherVersion", err)
	}
	_, err = pgserver.Start(t.Context(), pgserver.Config{Dir: dir})
	if !errors.Is(err, pgserver.ErrNotInstalled) || !strings.Contains(err.Error(), "is of PostgreSQL 9") {
		t.Errorf("%v, want ErrNotInstalled, and which version is missing", err)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("the folder has %q in it", got)
	}
}
