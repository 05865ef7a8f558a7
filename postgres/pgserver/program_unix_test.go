//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pgserver_test

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// untilServerEnds waits until the guard and all processes of a server have ended: they hold a lock on the log.
func untilServerEnds(t *testing.T, log *os.File) {
	t.Helper()
	must(t, syscall.Flock(int(log.Fd()), syscall.LOCK_EX))
	must(t, log.Close())
}

func TestServerEndsWithAProgramThatIsKilled(t *testing.T) {
	t.Parallel()
	temporary := openFolder(t)
	p := newProgram(t, temporary, pgserver.Config{NoSync: true}).start(t)
	log, err := os.Open(p.logFile)
	must(t, err)
	// A query that goes on must not keep it.
	conn := connect(t, p.url)
	server := serverProcess(t, filepath.Join(filepath.Dir(p.logFile), "data"))
	must(t, conn.PgConn().ExecParams(t.Context(), "SELECT 1", nil, nil, nil, nil).Read().Err)
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "SELECT pg_sleep(600)")
		failed <- err
	}()
	p.kill(t)
	untilServerEnds(t, log)
	if err := <-failed; err == nil {
		t.Error("the query has come to an end")
	}
	if err := syscall.Kill(server, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the server is there: %v", err)
	}
	if left := names(t, temporary); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// serverProcess is the ID of the server's process, which is the first line of this file.
func serverProcess(t *testing.T, data string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	must(t, err)
	line, _, _ := strings.Cut(string(text), "\n")
	id, err := strconv.Atoi(line)
	must(t, err)
	return id
}

func TestNothingIsLeftOfAProgramThatIsKilledWhileItStarts(t *testing.T) {
	t.Parallel()
	// The time is only to come to another point each time; the test holds at any.
	for after := 40 * time.Millisecond; after < 800*time.Millisecond; after *= 2 {
		temporary := openFolder(t)
		p := newProgram(t, temporary, pgserver.Config{NoSync: true})
		must(t, p.command.Start())
		<-time.After(after)
		p.kill(t)
		deadline, again := time.After(time.Minute), time.NewTicker(5*time.Millisecond)
		defer again.Stop()
		for len(names(t, temporary)) > 0 {
			select {
			case <-again.C:
			case <-deadline:
				t.Fatalf("killed after %v: left %q", after, names(t, temporary))
			}
		}
	}
}

func TestKilledProgramStartsAgainAtOnceOnItsFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openFolder(t), "items.pg")
	p := newProgram(t, openFolder(t), pgserver.Config{Dir: dir}).start(t)
	conn := connect(t, p.url)
	mustExec(t, conn, "CREATE TABLE notes (n int)")
	for n := 1; n <= 3; n++ {
		conn := connect(t, p.url)
		mustExec(t, conn, "INSERT INTO notes VALUES (1)")
		p.kill(t)
		p = newProgram(t, openFolder(t), pgserver.Config{Dir: dir}).start(t)
		if got := ask[int](t, p.url, "SELECT sum(n) FROM notes"); got != n {
			t.Errorf("sum is %d after %d kills", got, n)
		}
	}
	p.stop(t)
}

// When the whole machine stops, nobody clears up: files of the run are there that name processes of another time.
func TestFolderOfAServerThatWasKilledWithItsGuardIsTakenUp(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openFolder(t), "items.pg")
	s, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir, NoSync: true})
	must(t, err)
	mustExec(t, connect(t, s.URL("postgres")), "CREATE TABLE notes AS SELECT 1 AS n")
	must(t, s.Kill())
	must(t, s.Stop(t.Context()))
	if _, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid")); err != nil {
		t.Fatalf("the run has left nothing, so nothing is tested: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(dir, "data.unfinished"), 0o700)) // of a first start that was cut off
	s = pgserver.ForTest(t, pgserver.Config{Dir: dir})
	if got := ask[int](t, s.URL("postgres"), "SELECT n FROM notes"); got != 1 {
		t.Errorf("n is %d", got)
	}
}

func TestServerStopsAlsoWithoutItsGuard(t *testing.T) {
	t.Parallel()
	s, err := pgserver.Start(t.Context(), pgserver.Config{NoSync: true})
	must(t, err)
	folder := filepath.Dir(s.LogFile())
	server := serverProcess(t, filepath.Join(folder, "data"))
	guard, err := pgserver.ParentOf(server)
	must(t, err)
	log, err := os.Open(s.LogFile())
	must(t, err)

	must(t, syscall.Kill(guard, syscall.SIGKILL))
	if got := ask[int](t, s.URL("postgres"), "SELECT 1"); got != 1 {
		t.Errorf("the server answers %d", got)
	}
	if err := s.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "guard") {
		t.Errorf("%v; want that the guard had ended", err)
	}
	untilServerEnds(t, log)
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary folder is there after the stop: %v", err)
	}
}

func TestServerRunsForUsersWithoutRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the other tests show it, because this program is not root")
	}
	nobody, err := user.Lookup("nobody")
	must(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	must(t, err)
	gid, err := strconv.Atoi(nobody.Gid)
	must(t, err)
	temporary := openFolder(t)
	p := newProgram(t, temporary, pgserver.Config{NoSync: true})
	// The binary of the test is where others cannot come.
	binary := filepath.Join(openFolder(t), "program")
	must(t, exec.Command("cp", p.command.Path, binary).Run())
	p.command.Path, p.command.Dir = binary, temporary
	p.command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	p.start(t)
	if got := ask[int](t, p.url, "SELECT 1"); got != 1 {
		t.Errorf("the server answers %d", got)
	}
	p.stop(t)
	if left := names(t, temporary); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

func TestRootIsToldWhatIsClosedToTheServer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("this program is not root, so nothing is closed to its server alone")
	}
	closed := filepath.Join(openFolder(t), "closed")
	must(t, os.Mkdir(closed, 0o700))
	_, err := pgserver.Start(t.Context(), pgserver.Config{Dir: filepath.Join(closed, "items.pg")})
	if err == nil || !strings.Contains(err.Error(), closed+" is closed to the user") {
		t.Errorf("%v; want the name of the folder", err)
	}
	p := newProgram(t, closed, pgserver.Config{NoSync: true}).start(t) // has its temporary folder elsewhere
	p.stop(t)
	for name, want := range map[string]string{"root": "does not run as root", "no-such-user": "there is none"} {
		if _, err := pgserver.Start(t.Context(), pgserver.Config{User: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("user %s: %v; want %q", name, err, want)
		}
	}
}
