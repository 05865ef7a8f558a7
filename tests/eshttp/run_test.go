// Package eshttp_test starts and stops servers with requests in flight.
package eshttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// server is a Run that goes on.
type server struct {
	addr   string
	stop   context.CancelFunc
	result chan error
}

func start(t *testing.T, c eshttp.Config) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s := &server{stop: cancel, result: make(chan error, 1)}
	listening := make(chan net.Addr, 1)
	c.Addr, c.Signals = "127.0.0.1:0", []os.Signal{}
	c.OnListen = func(addr net.Addr) { listening <- addr }
	go func() { s.result <- eshttp.Run(ctx, c) }()
	select {
	case addr := <-listening:
		s.addr = addr.String()
	case err := <-s.result:
		t.Fatalf("ended before it listened: %v", err)
	}
	return s
}

// TestStopWithRequestsInFlight stops a server again and again while clients put messages into an outbox through it and ask for
// its health. What was accepted is in the outbox or in the event store: nothing was told to a client that did not happen.
func TestStopWithRequestsInFlight(t *testing.T) {
	t.Parallel()
	for range 5 {
		backend := memory.New()
		p, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events()})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.Handle("/readyz", eshttp.Health(p))
		mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
			body, err := eshttp.ReadJSON(w, r, eshttp.JSONLimits{})
			if err == nil {
				err = backend.Outbox().Enqueue(r.Context(), es.NewMessage("s", "n", body))
			}
			if err != nil {
				eshttp.Error(w, r, err)
				return
			}
			_ = eshttp.WriteJSON(w, http.StatusOK, true)
		})
		s := start(t, eshttp.Config{Handler: mux, Components: []es.Component{p}})
		accepted := s.crowd(t, 200)

		stats, err := backend.Outbox().Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		kept := stats.Depth
		for _, err := range backend.Events().Read(t.Context(), es.Query{Unsettled: true}) {
			if err != nil {
				t.Fatal(err)
			}
			kept++
		}
		if kept < accepted {
			t.Errorf("%d messages were accepted and %d kept", accepted, kept)
		}
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	}
}

// crowd lets clients use the server, stops it when they have had so many answers, and returns how many messages were accepted.
func (s *server) crowd(t *testing.T, answers int64) int {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	var all, accepted atomic.Int64
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for {
				method := http.MethodPost
				if i == 0 {
					method = http.MethodGet
				}
				ok, err := s.request(t.Context(), client, method)
				if err != nil {
					if all.Load() < answers {
						t.Errorf("before the stop: %v", err)
						s.stop()
					}
					return // the server has gone
				}
				if ok && method == http.MethodPost {
					accepted.Add(1)
				}
				if all.Add(1) == answers {
					s.stop()
				}
			}
		})
	}
	if err := <-s.result; err != nil {
		t.Errorf("Run returned %v", err)
	}
	clients.Wait()
	return int(accepted.Load())
}

// request makes a request and tells whether its answer was whole and good.
func (s *server) request(ctx context.Context, client *http.Client, method string) (bool, error) {
	path := "/"
	if method == http.MethodGet {
		path = "/readyz"
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, http.NoBody)
	if err != nil {
		return false, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
		r.Body = io.NopCloser(&oneByOne{text: `{"a":[1,2,3]}`})
		r.ContentLength = -1
	}
	response, err := client.Do(r)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if _, err := io.ReadAll(response.Body); err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusOK, nil
}

// oneByOne gives its bytes one by one.
type oneByOne struct{ text string }

func (o *oneByOne) Read(p []byte) (int, error) {
	if o.text == "" {
		return 0, io.EOF
	}
	p[0], o.text = o.text[0], o.text[1:]
	return 1, nil
}

// TestConnectionsThatSayNothingDoNotHoldUpAStop opens connections whose header does not come to its end, or is without end.
func TestConnectionsThatSayNothingDoNotHoldUpAStop(t *testing.T) {
	t.Parallel()
	s := start(t, eshttp.Config{
		Handler: http.NotFoundHandler(), ReadHeaderTimeout: 200 * time.Millisecond, MaxHeaderBytes: 1 << 10, Grace: patience,
	})
	var slow sync.WaitGroup
	opened := make(chan struct{}, 64)
	for i := range cap(opened) {
		slow.Go(func() {
			connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
			if err != nil {
				t.Error(err)
				opened <- struct{}{}
				return
			}
			defer connection.Close()
			_, err = io.WriteString(connection, "GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ")
			opened <- struct{}{}
			for i%2 == 0 && err == nil { // a header without end, until the server has had enough
				_, err = connection.Write(make([]byte, 1<<10))
			}
			_, _ = io.Copy(io.Discard, connection)
		})
	}
	for range cap(opened) {
		<-opened
	}
	begin := time.Now()
	s.stop()
	if err := <-s.result; err != nil {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("the stop took %v", took)
	}
	slow.Wait()
}

// TestARunThatFailsLeavesNothing lets a component end by itself, and an address be taken, with another component running.
func TestARunThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	p, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events()})
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, eshttp.Config{Handler: http.NotFoundHandler(), Components: []es.Component{p}})
	other, err := processor.NewAtLeastOnce(processor.Config{Outbox: backend.Outbox(), Events: backend.Events()})
	if err != nil {
		t.Fatal(err)
	}
	err = eshttp.Run(t.Context(), eshttp.Config{
		Addr: s.addr, Handler: http.NotFoundHandler(), Components: []es.Component{other}, Signals: []os.Signal{},
	})
	if err == nil {
		t.Error("two servers have one address")
	}
	if err := backend.Close(); err != nil {
		t.Error(err)
	}
	if err := <-s.result; !errors.Is(err, es.ErrClosed) {
		t.Errorf("when the outbox was closed Run returned %v", fmt.Sprint(err))
	}
}
