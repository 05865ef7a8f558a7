// Package servicetest starts the example services as their users do, as processes of their own, and talks to them over HTTP.
package servicetest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen.
const Patience = 30 * time.Second

// Program is a program under test.
type Program struct {
	// Binary is the path of the executable.
	Binary string
}

// Run builds the program of the directory that the test is in, and runs the tests. It returns the exit code for os.Exit.
func Run(m *testing.M, p *Program) int {
	dir, err := os.MkdirTemp("", "service")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	p.Binary = filepath.Join(dir, "service")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", p.Binary, ".") //nolint:gosec // into a directory of its own
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// Service is a program that runs.
type Service struct {
	*testing.T

	URL     string
	Command *exec.Cmd
	Log     *Log

	stdout *bufio.Reader
	killed bool
}

// Dir is the folder that the program runs in, where it keeps what it keeps in a file by default.
func (s *Service) Dir() string { return s.Command.Dir }

// Log is what a service has written to its standard error.
type Log struct {
	told func(line string)

	mu   sync.Mutex
	b    bytes.Buffer
	rest []byte // of a line that is not whole yet
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	if l.told != nil {
		l.rest = append(l.rest, p...)
		for line, rest, ok := bytes.Cut(l.rest, []byte("\n")); ok; line, rest, ok = bytes.Cut(l.rest, []byte("\n")) {
			l.told(string(line))
			l.rest = rest
		}
	}
	return len(p), nil
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Setup is how to run a program.
type Setup struct {
	Dir  string            // the folder to run it in; a new one by default
	Args []string          // its arguments, beside those for its port
	Env  []string          // its environment, beside that of the test
	Told func(line string) // is told of each line of its log; it must not wait for anything
}

// Start starts the program in a folder and on a port of its own, beside those of other tests, and waits until it says that it listens.
func (p *Program) Start(t *testing.T, args ...string) *Service {
	t.Helper()
	t.Parallel()
	s := p.Launch(t, Setup{Args: args})
	s.AwaitListening()
	return s
}

// Launch starts the program on a free port, and does not wait for anything.
func (p *Program) Launch(t *testing.T, setup Setup) *Service {
	t.Helper()
	s := &Service{T: t, Log: &Log{told: setup.Told}}
	args := append([]string{"-addr", "127.0.0.1:0"}, setup.Args...)
	s.Command = exec.CommandContext(context.WithoutCancel(t.Context()), p.Binary, args...) //nolint:gosec // what was built here
	s.Command.Env = append(os.Environ(), setup.Env...)
	s.Command.Stderr = s.Log
	if s.Command.Dir = setup.Dir; setup.Dir == "" {
		s.Command.Dir = t.TempDir()
	}
	stdout, err := s.Command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stdout = bufio.NewReader(stdout)
	if err := s.Command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.Command.ProcessState == nil {
			s.Stop()
		}
		if t.Failed() && !s.killed {
			t.Logf("log of the service:\n%s", s.Log)
		}
	})
	return s
}

// AwaitListening waits until the program says that it listens, and notes where.
func (s *Service) AwaitListening() {
	s.Helper()
	line, err := s.stdout.ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		s.Fatalf("it says %q (%v) instead of its address", line, err)
	}
	s.URL = address
}

// Kill ends the program as kill -9 does.
func (s *Service) Kill() {
	s.Helper()
	s.killed = true
	if err := s.Command.Process.Kill(); err != nil {
		s.Fatal(err)
	}
	_ = s.Command.Wait() // that it was killed is its error
}

// Stop ends the program by SIGTERM, which it must take as a wish to end in order.
func (s *Service) Stop() {
	s.Helper()
	if err := s.Command.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	kill := time.AfterFunc(Patience, func() { _ = s.Command.Process.Kill() })
	defer kill.Stop()
	if err := s.Command.Wait(); err != nil {
		s.Errorf("after SIGTERM it ends with %v\n%s", err, s.Log)
	}
}

// Do makes a request and returns status, content type and body of the answer.
func (s *Service) Do(method, path, contentType string, body io.Reader) (status int, kind, answer string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), Patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, body)
	if err != nil {
		s.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return s.Send(r)
}

// Send sends a request and returns status, content type and body of the answer.
func (s *Service) Send(r *http.Request) (status int, kind, answer string) {
	s.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), string(data)
}

// Get returns what a path is answered with, in JSON.
func (s *Service) Get(path string) string {
	s.Helper()
	status, kind, answer := s.Do(http.MethodGet, path, "", http.NoBody)
	if status != http.StatusOK || kind != "application/json" {
		s.Fatalf("GET %s: %d %s %q", path, status, kind, answer)
	}
	return strings.TrimSpace(answer)
}

// Await asks until the answer is as it should be, and returns it.
func (s *Service) Await(path string, is func(answer string) bool) string {
	s.Helper()
	got := ""
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); {
		if got = s.Get(path); is(got) {
			return got
		}
	}
	s.Fatalf("GET %s is answered with %s still", path, got)
	return ""
}
