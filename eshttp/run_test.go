package eshttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// journal notes what happens, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
}

func (j *journal) want(t *testing.T, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.entries, want) {
		t.Errorf("what happened is %q, want %q", j.entries, want)
	}
}

// component is a component that writes a journal.
type component struct {
	name     string
	journal  *journal
	done     chan struct{}
	startErr error
	err      error
	health   error
	stop     func(ctx context.Context) error
}

func newComponent(name string, j *journal) *component {
	return &component{name: name, journal: j, done: make(chan struct{})}
}

func (c *component) Name() string { return c.name }

func (c *component) Start(context.Context) error {
	c.journal.add("start " + c.name)
	return c.startErr
}

func (c *component) Stop(ctx context.Context) error {
	c.journal.add("stop " + c.name)
	if c.stop != nil {
		return c.stop(ctx)
	}
	return nil
}

func (c *component) Done() <-chan struct{}        { return c.done }
func (c *component) Err() error                   { return c.err }
func (c *component) Health(context.Context) error { return c.health }

// program is a Run that goes on.
type program struct {
	*testing.T

	url    string
	cancel context.CancelFunc
	result chan error
}

func run(t *testing.T, c eshttp.Config) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	p := &program{T: t, cancel: cancel, result: make(chan error, 1)}
	listening := make(chan net.Addr, 1)
	c.Addr = "127.0.0.1:0"
	c.OnListen = func(addr net.Addr) { listening <- addr }
	if c.Signals == nil {
		c.Signals = []os.Signal{}
	}
	go func() { p.result <- eshttp.Run(ctx, c) }()
	select {
	case addr := <-listening:
		p.url = "http://" + addr.String()
	case err := <-p.result:
		t.Fatalf("ended before it listened: %v", err)
	}
	return p
}

func (p *program) get(path string) answer {
	p.Helper()
	r, err := http.NewRequestWithContext(p.Context(), http.MethodGet, p.url+path, nil)
	if err != nil {
		p.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		p.Fatal(err)
	}
	defer response.Body.Close()
	return read(p.T, response)
}

func (p *program) ended() error {
	p.Helper()
	return <-p.result
}

func TestComponentsLiveLongerThanTheServer(t *testing.T) {
	t.Parallel()
	j := &journal{}
	arrived, leave := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-leave
		j.add("answer")
		fmt.Fprint(w, "done")
	})
	p := run(t, eshttp.Config{Handler: mux, Components: []es.Component{newComponent("a", j), newComponent("b", j)}})
	j.add("listening")
	answers := make(chan string)
	go func() {
		answer, err := http.Get(p.url + "/slow")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		answers <- string(body)
	}()
	<-arrived
	p.cancel()
	for { // until it does not listen any more
		connection, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			break
		}
		_ = connection.Close()
	}
	close(leave)
	if got := <-answers; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "start b", "listening", "answer", "stop b", "stop a")
}

func TestAComponentThatCannotStart(t *testing.T) {
	t.Parallel()
	j := &journal{}
	bad := newComponent("bad", j)
	bad.startErr = errors.New("no disk")
	err := eshttp.Run(t.Context(), eshttp.Config{
		Addr: "127.0.0.1:0", Handler: http.NotFoundHandler(), Components: []es.Component{newComponent("a", j), bad, newComponent("c", j)},
		OnListen: func(net.Addr) { t.Error("it listens") },
	})
	if !errors.Is(err, bad.startErr) {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "start bad", "stop a")
}

func TestAnAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	j := &journal{}
	err = eshttp.Run(t.Context(), eshttp.Config{
		Addr: listener.Addr().String(), Handler: http.NotFoundHandler(), Components: []es.Component{newComponent("a", j)},
	})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "stop a")
}

func TestTheFirstFailureStopsAll(t *testing.T) {
	t.Parallel()
	j := &journal{}
	bad := newComponent("bad", j)
	bad.err = errors.New("lost its database")
	p := run(t, eshttp.Config{Handler: http.NotFoundHandler(), Components: []es.Component{newComponent("a", j), bad, newComponent("c", j)}})
	close(bad.done)
	if err := p.ended(); !errors.Is(err, bad.err) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "start bad", "start c", "stop c", "stop bad", "stop a")
}

func TestRequestsThatDoNotEndAreBrokenOff(t *testing.T) {
	t.Parallel()
	j := &journal{}
	arrived := make(chan struct{})
	last := newComponent("a", j)
	last.stop = func(ctx context.Context) error { return ctx.Err() } // there is time left for it
	var log lockedBuffer
	p := run(t, eshttp.Config{Grace: 4 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil)), Components: []es.Component{last}, Handler: http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			j.add("broken off")
		})})
	go func() {
		if answer, err := http.Get(p.url); err == nil {
			_ = answer.Body.Close()
		}
	}()
	<-arrived
	p.cancel()
	if err := p.ended(); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "requests") {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "broken off", "stop a")
	if strings.Contains(log.String(), "goes on") {
		t.Errorf("the request was not waited for: %s", log.String())
	}
}

func TestSignals(t *testing.T) { // not parallel: signals are for the whole process
	j := &journal{}
	p := run(t, eshttp.Config{
		Handler: http.NotFoundHandler(), Components: []es.Component{newComponent("a", j)}, Signals: []os.Signal{syscall.SIGUSR1},
	})
	kill(t)
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	j.want(t, "start a", "stop a")

	stopping := make(chan struct{})
	slow := newComponent("slow", &journal{})
	slow.stop = func(ctx context.Context) error {
		close(stopping)
		<-ctx.Done()
		return ctx.Err()
	}
	p = run(t, eshttp.Config{
		Handler: http.NotFoundHandler(), Components: []es.Component{slow}, Signals: []os.Signal{syscall.SIGUSR1}, Grace: time.Hour,
	})
	kill(t)
	<-stopping
	kill(t) // the second one breaks off
	if err := p.ended(); !errors.Is(err, context.Canceled) {
		t.Errorf("after a second signal Run returned %v", err)
	}
}

func kill(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
}

func TestLimitsOfTheServer(t *testing.T) {
	t.Parallel()
	p := run(t, eshttp.Config{MaxHeaderBytes: 1000, MaxBodyBytes: 10, ReadHeaderTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				eshttp.Error(w, r, err)
			}
		})})
	response, err := http.Post(p.url, "text/plain", strings.NewReader("eleven byte"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	problem(t, read(t, response), http.StatusRequestEntityTooLarge)

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 10_000)) // net/http allows 4 KiB more than it is told
	response, err = http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a large header is answered with %d", response.StatusCode)
	}

	connection, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, "GET / HTTP/1.1\r\nHost: slow"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, connection); err != nil { // it returns when the server has had enough
		t.Errorf("a header that does not come: %v", err)
	}
	p.cancel()
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestAMuxAndItsPanicsAreWrapped(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	mux := http.NewServeMux()
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("on the road") })
	p := run(t, eshttp.Config{Handler: mux, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	problem(t, p.get("/nowhere"), http.StatusNotFound)
	problem(t, p.get("/panic"), http.StatusInternalServerError)
	p.cancel()
	if err := p.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	for _, want := range []string{"on the road", "run_test.go", "listening", "stopped"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log: %s", want, log.String())
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestHealth(t *testing.T) {
	t.Parallel()
	j := &journal{}
	good, bad := newComponent("good", j), newComponent("bad", j)
	mux := http.NewServeMux()
	mux.Handle("/", eshttp.Health(good, bad))
	p := run(t, eshttp.Config{Handler: mux})
	for _, path := range []string{"/livez", "/readyz"} {
		if a := p.get(path); a.status != http.StatusOK {
			t.Errorf("%s is %d", path, a.status)
		}
	}
	bad.health = errors.New("secret address 10.0.0.7")
	members := problem(t, p.get("/readyz"), http.StatusServiceUnavailable)
	if names := fmt.Sprint(members["components"]); names != "[bad]" {
		t.Errorf("components that are not ready: %s", names)
	}
	if text := fmt.Sprint(members); strings.Contains(text, "secret") {
		t.Errorf("it tells what is inside: %s", text)
	}
	if a := p.get("/livez"); a.status != http.StatusOK {
		t.Errorf("/livez is %d while a component is not ready", a.status)
	}
	problem(t, p.get("/health"), http.StatusNotFound)
}

func TestRunConfigIsChecked(t *testing.T) {
	t.Parallel()
	err := eshttp.Run(t.Context(), eshttp.Config{
		Grace: -1, ReadTimeout: -1, MaxBodyBytes: -1, MaxHeaderBytes: -1, MaxConnections: -1, Components: []es.Component{nil},
	})
	for _, want := range []string{"Handler", "grace", "read timeout", "body limit", "header limit", "connection limit", "nil at index 0"} {
		if !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v says nothing about %s", err, want)
		}
	}
}
