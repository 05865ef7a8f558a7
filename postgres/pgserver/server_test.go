package pgserver_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func TestServerOfEachVersionStartsAndStops(t *testing.T) {
	t.Parallel()
	installed, err := pgserver.Installed(t.Context())
	must(t, err)
	for _, i := range installed {
		t.Run(i.Version, func(t *testing.T) {
			t.Parallel()
			s, err := pgserver.Start(t.Context(), pgserver.Config{Major: i.Major, NoSync: true})
			must(t, err)
			if got := s.Version(); got != i {
				t.Errorf("runs %+v, want %+v", got, i)
			}
			if got := ask[string](t, s.URL("postgres"), "SHOW server_version"); !strings.HasPrefix(got, i.Version) {
				t.Errorf("server tells version %q, want %q", got, i.Version)
			}
			folder := filepath.Dir(s.LogFile())
			must(t, s.Stop(t.Context()))
			if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the temporary folder is there after the stop: %v", err)
			}
			if _, err := pgx.Connect(t.Context(), s.URL("postgres")); err == nil {
				t.Error("the server takes connections after the stop")
			}
			must(t, s.Stop(t.Context())) // once more
			for what, do := range map[string]func() error{
				"Kill": s.Kill, "Pause": s.Pause, "Resume": s.Resume,
				"Restart": func() error { return s.Restart(t.Context()) },
			} {
				if err := do(); !errors.Is(err, pgserver.ErrStopped) {
					t.Errorf("%s of a stopped server: %v, want ErrStopped", what, err)
				}
			}
		})
	}
}

func TestServerIsDurableUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		config pgserver.Config
		want   string
	}{
		{pgserver.Config{}, "on on on"}, //nolint:dupword // three settings
		{pgserver.Config{NoSync: true}, "off on off"},
		{pgserver.Config{NoSync: true, Settings: map[string]string{"fsync": "on", "synchronous_commit": "local"}}, "on local off"},
	} {
		s := pgserver.ForTest(t, c.config)
		got := ask[string](t, s.URL("postgres"), `SELECT concat_ws(' ', current_setting('fsync'),
			current_setting('synchronous_commit'), current_setting('full_page_writes'))`)
		if got != c.want {
			t.Errorf("%+v: fsync, synchronous_commit and full_page_writes are %s; want %s", c.config, got, c.want)
		}
	}
}

func TestServerIsPrivate(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	if got := ask[string](t, s.URL("postgres"), "SHOW listen_addresses"); got != "" {
		t.Errorf("listens on %q", got)
	}
	info, err := os.Stat(filepath.Dir(s.LogFile()))
	must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the socket has mode %v", info.Mode())
	}
}

func TestServerHasNoGoroutine(t *testing.T) { //nolint:paralleltest // it looks at all goroutines
	_ = pgserver.ForTest(t, pgserver.Config{NoSync: true})
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if _, origin, found := strings.Cut(stack, "created by "); found && strings.Contains(origin, "/pgserver.") {
			t.Errorf("a goroutine is left:\n%s", stack)
		}
	}
}

func TestWhatIsCommittedSurvivesKill(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	conn := connect(t, s.URL("postgres"))
	mustExec(t, conn, "CREATE TABLE notes (n int)")
	mustExec(t, conn, "INSERT INTO notes VALUES (1)")
	mustExec(t, conn, "BEGIN")
	mustExec(t, conn, "INSERT INTO notes VALUES (2)")
	for range 3 {
		must(t, s.Kill())
		if err := conn.Ping(t.Context()); err == nil {
			t.Error("the connection outlives the server")
		}
		must(t, s.Kill()) // nothing is left to kill
		must(t, s.Restart(t.Context()))
		if got := ask[int](t, s.URL("postgres"), "SELECT sum(n) FROM notes"); got != 1 {
			t.Errorf("sum is %d, want that of what was committed, 1", got)
		}
	}
}

func TestRestartStopsAServerThatRuns(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	const started = "SELECT pg_postmaster_start_time()"
	before := ask[time.Time](t, s.URL("postgres"), started)
	must(t, s.Restart(t.Context()))
	if after := ask[time.Time](t, s.URL("postgres"), started); !after.After(before) {
		t.Errorf("the server has run since %v", after)
	}
}

func TestPausedServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	conn := connect(t, s.URL("postgres"))
	must(t, s.Pause())
	must(t, s.Pause()) // it is already
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT 1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("paused server: %v, want that time is up", err)
	}
	must(t, s.Resume())
	if got := ask[int](t, s.URL("postgres"), "SELECT 1"); got != 1 {
		t.Errorf("resumed server answers %d", got)
	}
	must(t, s.Pause())
	must(t, s.Restart(t.Context()))
	must(t, s.Pause()) // and is stopped by the end of the test
}

func TestStopKillsAServerThatDoesNotStopInTime(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start(t.Context(), pgserver.Config{NoSync: true})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("stop without time: %v, want that of the context", err)
	}
	if _, err := os.Stat(s.LogFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary folder is there after the stop: %v", err)
	}
}

func TestStartCanBeGivenUp(t *testing.T) {
	temporary := openFolder(t)
	t.Setenv("TMPDIR", temporary)
	for _, after := range []time.Duration{0, 30 * time.Millisecond, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := pgserver.Start(ctx, pgserver.Config{NoSync: true})
		cancel()
		if err == nil && after > 0 { // on a fast machine
			must(t, s.Stop(t.Context()))
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("given up after %v: %v", after, err)
		}
		if left := names(t, temporary); len(left) > 0 {
			t.Errorf("given up after %v: left %q", after, left)
		}
	}
}

func TestWhatCannotBeStarted(t *testing.T) {
	t.Parallel()
	foreign := openFolder(t)
	must(t, os.WriteFile(filepath.Join(foreign, "letter.txt"), nil, 0o600))
	for want, c := range map[string]pgserver.Config{
		"no-such-folder":          {Bin: "/no-such-folder"},
		"is not installed in":     {Bin: t.TempDir()},
		"in version 1":            {Major: 1},
		"is -1":                   {Major: -1},
		"keeps the server priv":   {Settings: map[string]string{"listen_addresses": "*"}},
		"is not the name":         {Settings: map[string]string{"a=b": "c"}},
		"has letter.txt in it":    {Dir: foreign},
		"no such file":            {Dir: filepath.Join(foreign, "none", "items.pg")},
		`unrecognized configurat`: {Settings: map[string]string{"no_such_setting": "1"}}, // from the log of the server
	} {
		s, err := pgserver.Start(t.Context(), c)
		if err == nil {
			must(t, s.Stop(t.Context()))
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", c, err, want)
		}
	}
	_, err := pgserver.Start(t.Context(), pgserver.Config{Bin: t.TempDir()})
	if !errors.Is(err, pgserver.ErrNotInstalled) {
		t.Errorf("%v; want ErrNotInstalled", err)
	}
}
