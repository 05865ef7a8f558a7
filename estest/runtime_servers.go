package estest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"

	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/processor"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeServerLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("H1/components_start_before_and_stop_after_the_server", runtimeServed),
		runtimeLine("H1/the_first_failure_stops_all", runtimeServerFails),
		runtimeLine("H2/an_error_of_the_backend_is_a_problem", runtimeProblem),
		runtimeLine("H3/ready_when_every_component_runs", runtimeReady),
		runtimeLine("H3/not_ready_when_the_outbox_lags", runtimeLagging),
	}
}

// diary notes what happens, in order.
type diary struct {
	mu    sync.Mutex
	notes []string
}

func (d *diary) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, what)
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.notes)
}

// chronicled is a component that notes when it starts and stops.
type chronicled struct {
	es.Component

	diary *diary
}

func (c chronicled) Start(ctx context.Context) error {
	c.diary.note("start " + c.Name())
	return c.Component.Start(ctx)
}

func (c chronicled) Stop(ctx context.Context) error {
	err := c.Component.Stop(ctx)
	c.diary.note("stop " + c.Name())
	return err
}

// served is a program with a web server that runs.
type served struct {
	url  string
	stop context.CancelFunc
	done <-chan error
}

// web runs a web server with components.
func (p *program) web(h http.Handler, components ...es.Component) served {
	p.Helper()
	ctx, cancel := context.WithCancel(p.ctx)
	listening, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		done <- p.parts.Serve(ctx, eshttp.Config{
			Addr: "127.0.0.1:0", Handler: h, Components: components, Signals: []os.Signal{}, Grace: patience(p.TB),
			OnListen: func(a net.Addr) { listening <- a },
		})
	}()
	p.Cleanup(cancel)
	select {
	case a := <-listening:
		return served{"http://" + a.String(), cancel, done}
	case err := <-done:
		p.Fatalf("the server has ended before it listened: %v", err)
	case <-p.ctx.Done():
		p.Fatalf("the server does not listen")
	}
	return served{}
}

// runtimeServed has a request under way when the program is told to stop: what it enqueues comes through all the same.
func runtimeServed(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	r := p.router()
	p.route(r, saw.succeeding(), router.Options{})
	proc, err := t.parts.AtLeastOnce(p.processing())
	t.ok(err, "make a processor")
	diary := &diary{}
	gate := newGate()
	site := p.web(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		diary.note("begin of a request")
		if err := gate.pass(req.Context()); err != nil {
			t.Errorf("the request was broken off: %v", err)
		}
		if err := p.handle.Outbox().Enqueue(context.WithoutCancel(req.Context()), t.messages("a1")...); err != nil {
			t.Errorf("enqueue: %v", err)
		}
		saw.await(1)
		diary.note("end of a request")
		w.WriteHeader(http.StatusAccepted)
	}), chronicled{r, diary}, chronicled{proc, diary})
	status := make(chan int, 1)
	go func() {
		code, _, err := get(t.ctx, site.url)
		if err != nil {
			t.Errorf("request: %v", err)
		}
		status <- code
	}()
	t.wait("a request is under way", gate.reached)
	site.stop()
	t.until("the server takes no more requests", func() bool {
		_, _, err := get(t.ctx, site.url)
		return err != nil
	})
	gate.open()
	if code := <-status; code != http.StatusAccepted {
		t.Errorf("the request was answered by %d", code)
	}
	t.ok(<-site.done, "the program")
	want := []string{
		"start router", "start processor", "begin of a request", "end of a request", "stop processor", "stop router",
	}
	if got := diary.read(); !slices.Equal(got, want) {
		t.Fatalf("what happened was %q, want %q", got, want)
	}
}

// ending is a component that ends by itself when it is told to.
type ending struct {
	es.Component

	done chan struct{}
}

func (e ending) Done() <-chan struct{} { return e.done }
func (e ending) Err() error            { return errBoom }

func runtimeServerFails(t *runtimeTest) {
	p := t.open()
	proc, err := t.parts.AtLeastOnce(p.processing())
	t.ok(err, "make a processor")
	r := p.router()
	p.route(r, t.journal().succeeding(), router.Options{})
	diary := &diary{}
	failing := ending{r, make(chan struct{})}
	site := p.web(http.NotFoundHandler(), chronicled{proc, diary}, chronicled{failing, diary})
	close(failing.done)
	select {
	case err := <-site.done:
		if !errors.Is(err, errBoom) {
			t.Errorf("the program has ended with %v, want the error of the component", err)
		}
	case <-t.ctx.Done():
		t.Fatal("the program goes on although a component has ended")
	}
	if got, want := diary.read(), []string{"start processor", "start router", "stop router", "stop processor"}; !slices.Equal(got, want) {
		t.Fatalf("what happened was %q, want %q", got, want)
	}
}

// get makes a request.
func get(ctx context.Context, url string) (status int, body string, _ error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// answer has a handler answer a request, without a server.
func answer(ctx context.Context, h http.Handler, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody))
	return recorder
}

func runtimeProblem(t *runtimeTest) {
	p := t.open()
	appending := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := t.message("a", "a1")
		_, err := p.backend.Events().Append(r.Context(), es.AppendTo(m.Stream, es.Exactly(7), m))
		t.parts.Problem(w, r, err)
	})
	failing := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.parts.Problem(w, r, fmt.Errorf("append: disk /var/secret: %w", errBoom))
	})
	for _, test := range []struct {
		name   string
		h      http.Handler
		status int
	}{
		{"a conflict", appending, http.StatusConflict},
		{"a failure inside", failing, http.StatusInternalServerError},
	} {
		got := answer(eshttp.WithLogger(t.ctx, slog.New(slog.DiscardHandler)), test.h, "/")
		var problem struct {
			Status int    `json:"status"`
			Title  string `json:"title"`
		}
		err := json.Unmarshal(got.Body.Bytes(), &problem)
		kind := got.Header().Get("Content-Type")
		if got.Code != test.status || err != nil || problem.Status != test.status || !strings.HasPrefix(kind, "application/problem+json") {
			t.Errorf("%s is answered by %d, %s: %q; want the problem %d", test.name, got.Code, kind, got.Body, test.status)
		}
		if strings.Contains(got.Body.String(), "secret") {
			t.Errorf("%s is answered by %q, which tells of the inside", test.name, got.Body)
		}
	}
}

// wantReady fails unless /readyz says so.
func (t *runtimeTest) wantReady(h http.Handler, status int, when string) {
	t.Helper()
	ctx := eshttp.WithLogger(t.ctx, slog.New(slog.DiscardHandler))
	if got := answer(ctx, h, "/readyz"); got.Code != status {
		t.Errorf("%s /readyz is %d, %q; want %d", when, got.Code, got.Body, status)
	}
	if got := answer(ctx, h, "/livez"); got.Code != http.StatusOK {
		t.Errorf("%s /livez is %d, want 200", when, got.Code)
	}
}

func runtimeReady(t *runtimeTest) {
	p := t.open()
	r := p.router()
	p.route(r, t.journal().succeeding(), router.Options{})
	proc, err := t.parts.AtLeastOnce(p.processing())
	t.ok(err, "make a processor")
	health := t.parts.Health(r, proc)
	t.wantReady(health, http.StatusServiceUnavailable, "before the start")
	p.run(r)
	t.wantReady(health, http.StatusServiceUnavailable, "when one of two components runs")
	p.run(proc)
	t.wantReady(health, http.StatusOK, "when all components run")
	p.stop(proc)
	t.wantReady(health, http.StatusServiceUnavailable, "after the stop")
}

// runtimeLagging lets entries wait for longer than they may.
func runtimeLagging(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", errBoom)
	proc := p.process(published.publishTo, attempts(1_000_000), func(c *processor.Config) { c.MaxLag = time.Millisecond })
	health := t.parts.Health(proc)
	t.wantReady(health, http.StatusOK, "with nothing in the outbox")
	p.enqueue(t.messages("a1")...)
	published.awaitTries("a1", 2)
	ctx := eshttp.WithLogger(t.ctx, slog.New(slog.DiscardHandler))
	t.until("the program is not ready because it lags", func() bool {
		return answer(ctx, health, "/readyz").Code == http.StatusServiceUnavailable
	})
	published.refuse("", nil)
	published.awaitCount(1)
	p.awaitEmptyOutbox()
	t.wantReady(health, http.StatusOK, "after the outbox was emptied")
}
