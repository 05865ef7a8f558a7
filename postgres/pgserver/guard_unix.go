//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package pgserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// guardScript is the guard: the parent of one program, which is postgres or initdb. The arguments are the temporary folder and the
// command. Its standard input is a pipe from the program that started it, and tells it what to do; when that pipe ends, the
// program has ended or stopped the server for good, and the guard clears up. Its standard output tells the ID of the process and,
// later, how it ended; its standard error is the server's log. Descriptor 3 is for the server and its children alone: when the last
// of them has ended, the other end of it says so.
//
// SIGQUIT is an immediate shutdown, without a checkpoint; SIGCONT is for a server that was frozen. A server that was killed and not
// started again has left a segment of System V shared memory, of a few bytes but outside of the folder; the seventh line of
// postmaster.pid names it. In a folder that is kept, the next run removes it.
const guardScript = `
folder=$1
shift
"$@" </dev/null >&2 3>&3 &
server=$!
exec 3>&-
echo "$server"
while read -r word; do
	case $word in
	ended)
		wait "$server"
		echo "$?"
		server= ;;
	leave)
		exit ;;
	esac
done
if [ -n "$server" ]; then
	kill -QUIT "$server"
	kill -CONT "$server"
	wait "$server"
fi
if [ -f "$folder/data/postmaster.pid" ]; then
	set -- $(sed -n 7p "$folder/data/postmaster.pid")
	[ -z "$2" ] || ipcrm -m "$2"
fi
rm -rf -- "$folder"
`

// A guard is the guard of one run, seen from the program.
type guard struct {
	command *exec.Cmd
	orders  io.WriteCloser // the guard lives until this is closed
	reports *bufio.Reader
	alive   *os.File // ends when the server and all of its children have
	server  int      // the process ID
}

// startGuard starts a command under a guard; a log of nil is none. All of it is in a session of its own: what a terminal sends to the
// program and its children when somebody types Ctrl-C does not reach the server, so the program can stop it when it is done with it.
func startGuard(ctx context.Context, a account, log *os.File, folder string, argv []string) (_ *guard, err error) {
	alive, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	defer theirs.Close() // or we would keep it from ending
	g := &guard{alive: alive}
	// The guard outlives ctx: it ends with the server.
	arguments := append([]string{"-c", guardScript, "pgserver", folder}, argv...)
	g.command = exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", arguments...) //nolint:gosec // each is an argument of its own
	g.command.Dir, g.command.Env = "/", environment()
	g.command.ExtraFiles = []*os.File{theirs}
	if log != nil { // a nil file would be one
		g.command.Stderr = log
	}
	g.command.SysProcAttr = a.attributes()
	g.command.SysProcAttr.Setsid = true
	orders, err := g.command.StdinPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: %w", err), alive.Close())
	}
	reports, err := g.command.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: %w", err), alive.Close(), orders.Close())
	}
	g.orders, g.reports = orders, bufio.NewReader(reports)
	if err := g.command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("pgserver: start as the user %s: %w", a.name, err), alive.Close())
	}
	if g.server, err = g.report(); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// environment is ours without what PostgreSQL would read: a variable such as PGDATA or PGPORT is meant for other servers.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "LC_") && name != "LANG" {
			kept = append(kept, variable)
		}
	}
	// As pg_ctl does: a lock file of a server that was killed may have an ID that now is ours, and must not count as a live server.
	return append(kept, "LC_ALL=C", "PG_GRANDPARENT_PID="+strconv.Itoa(os.Getpid()))
}

func (g *guard) report() (int, error) {
	line, err := g.reports.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("pgserver: the guard has ended: %w", err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0, fmt.Errorf("pgserver: the guard tells no number: %w", err)
	}
	return number, nil
}

// endedWithin tells whether the server and all of its children end within a time.
func (g *guard) endedWithin(d time.Duration) (bool, error) {
	if err := g.alive.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false, fmt.Errorf("pgserver: %w", err)
	}
	return g.ended()
}

// ended tells whether the server and all of its children end before the deadline that is set.
func (g *guard) ended() (bool, error) {
	_, err := g.alive.Read(make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return true, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, nil
	case err == nil:
		return false, errors.New("pgserver: something writes to a descriptor that it should not know")
	}
	return false, fmt.Errorf("pgserver: %w", err)
}

// wait waits until the server and all of its children have ended, and returns the exit status of the server.
func (g *guard) wait(ctx context.Context) (status int, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err := g.alive.SetReadDeadline(time.Time{}); err != nil {
		return 0, fmt.Errorf("pgserver: %w", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = g.alive.SetReadDeadline(time.Unix(1, 0)) // it takes one, as was just seen
	})
	ended, err := g.ended()
	if !stop() {
		<-interrupted // before anybody sets a deadline again
	}
	switch {
	case err != nil:
		return 0, err
	case !ended:
		return 0, context.Cause(ctx)
	}
	if _, err := io.WriteString(g.orders, "ended\n"); err != nil {
		return 0, fmt.Errorf("pgserver: tell the guard: %w", err)
	}
	return g.report()
}

// signal sends a signal to the server. That it has ended is not an error.
func (g *guard) signal(s syscall.Signal) error { return signal(g.server, s) }

func signal(process int, s syscall.Signal) error {
	if err := syscall.Kill(process, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("pgserver: signal %v to process %d: %w", s, process, err)
	}
	return nil
}

// leave ends the guard and leaves the folder to the next, which has to be there already. The server has to have ended.
func (g *guard) leave() error {
	_, err := io.WriteString(g.orders, "leave\n")
	return errors.Join(err, g.close())
}

// close lets the guard clear up, and waits for it.
func (g *guard) close() error {
	err := errors.Join(g.orders.Close(), g.alive.Close())
	if ended := g.command.Wait(); ended != nil {
		err = errors.Join(err, fmt.Errorf("pgserver: guard: %w", ended))
	}
	return err
}
