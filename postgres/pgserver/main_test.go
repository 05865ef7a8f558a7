package pgserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// programVariable has the configuration of a server in it: then this binary is a program that runs it, and no test.
const programVariable = "PGSERVER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	config := os.Getenv(programVariable)
	if config == "" {
		os.Exit(m.Run())
	}
	if err := runProgram(context.Background(), config); err != nil {
		fmt.Fprintln(os.Stderr, "program:", err)
		os.Exit(1)
	}
}

// runProgram runs a server until its standard input ends.
func runProgram(ctx context.Context, config string) error {
	var c pgserver.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil { //nolint:musttag // it has its own names
		return err
	}
	s, err := pgserver.Start(ctx, c)
	if err != nil {
		return err
	}
	fmt.Println(s.URL("postgres"))
	fmt.Println(s.LogFile())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, s.Stop(ctx))
}

// A program is such a program, seen from the test.
type program struct {
	command      *exec.Cmd
	stdin        io.WriteCloser
	url, logFile string
}

// newProgram prepares a program that runs a server in a temporary folder of the test's, so that it can be seen what it leaves.
func newProgram(t *testing.T, temporary string, c pgserver.Config) *program {
	t.Helper()
	config, err := json.Marshal(c) //nolint:musttag // it has its own names
	must(t, err)
	binary, err := os.Executable()
	must(t, err)
	p := &program{command: exec.Command(binary)}
	p.command.Env = append(os.Environ(), programVariable+"="+string(config), "TMPDIR="+temporary)
	p.command.Stderr = os.Stderr
	p.stdin, err = p.command.StdinPipe()
	must(t, err)
	return p
}

// start starts the program, and returns when its server runs.
func (p *program) start(t *testing.T) *program {
	t.Helper()
	out, err := p.command.StdoutPipe()
	must(t, err)
	must(t, p.command.Start())
	t.Cleanup(func() { _ = p.command.Process.Kill() }) // unless it has ended
	lines := bufio.NewReader(out)
	for _, line := range []*string{&p.url, &p.logFile} {
		*line, err = lines.ReadString('\n')
		must(t, err)
		*line = strings.TrimSpace(*line)
	}
	return p
}

// kill ends the program as kill -9 does.
func (p *program) kill(t *testing.T) {
	t.Helper()
	must(t, p.command.Process.Kill())
	_ = p.command.Wait() // the error says that it was killed
}

// stop lets the program stop its server, and end.
func (p *program) stop(t *testing.T) {
	t.Helper()
	must(t, p.stdin.Close())
	must(t, p.command.Wait())
}
