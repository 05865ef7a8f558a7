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
}

// Log is what a service has written to its standard error.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Start starts the program on a free port, beside those of other tests, and waits until it says that it listens.
func (p *Program) Start(t *testing.T, args ...string) *Service {
	t.Helper()
	t.Parallel()
	s := &Service{T: t, Log: &Log{}}
	args = append([]string{"-addr", "127.0.0.1:0"}, args...)
	s.Command = exec.CommandContext(context.WithoutCancel(t.Context()), p.Binary, args...) //nolint:gosec // what was built here
	s.Command.Stderr = s.Log
	stdout, err := s.Command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.Command.ProcessState == nil {
			s.Stop()
		}
		if t.Failed() {
			t.Logf("log of the service:\n%s", s.Log)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("it says %q (%v) instead of its address", line, err)
	}
	s.URL = address
	return s
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
