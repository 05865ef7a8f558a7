package eshttp_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestAThousandStreams opens a thousand streams, half of them of a state and half of events, appends while they come and go, and
// stops. Those that stay see the last event, every one of the others ends, and nothing is left of any.
func TestAThousandStreams(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	live, err := eshttp.NewLive(eshttp.LiveConfig{Events: backend.Events(), Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	state, err := eshttp.LiveState(eshttp.LiveStateConfig[string]{Live: live, Load: func(ctx context.Context, _ string) (string, error) {
		last := "none"
		for m, err := range backend.Events().Read(ctx, es.Query{Reverse: true, Limit: 1}) {
			if err != nil {
				return "", err
			}
			last = m.Name
		}
		return last, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	events, err := eshttp.LiveEvents(eshttp.LiveEventsConfig{
		Live: live, View: func(m *es.Message) any { return m.Name },
		Query: func(*http.Request) (es.Query, error) { return es.Query{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /state", state)
	mux.Handle("GET /events", events)
	s := start(t, eshttp.Config{Handler: mux, Components: []es.Component{live}, Grace: time.Hour})

	const streams = 1000
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var opened, seen, ended sync.WaitGroup
	opened.Add(streams)
	for i := range streams {
		if i%4 < 2 {
			seen.Add(1)
		}
		ended.Go(func() {
			path, stays := []string{"/state", "/events"}[i%2], i%4 < 2
			body, err := s.open(t.Context(), client, path)
			opened.Done()
			if err != nil {
				t.Error(err)
				if stays {
					seen.Done()
				}
				return
			}
			defer body.Close()
			if !stays {
				return // it goes away
			}
			found := false
			for lines := bufio.NewScanner(body); lines.Scan(); {
				if !found && lines.Text() == `data: "Last"` {
					found = true
					seen.Done()
				}
			}
			if !found {
				t.Errorf("%s ended without the last event", path)
				seen.Done()
			}
		})
	}
	opened.Wait()
	for _, name := range []string{"First", "Second", "Last"} {
		if _, err := backend.Events().Append(t.Context(), es.AppendTo("a", es.Any, es.NewMessage("a", name, nil))); err != nil {
			t.Fatal(err)
		}
	}
	seen.Wait()
	begin := time.Now()
	s.stop()
	if err := <-s.result; err != nil {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(begin); took > patience {
		t.Errorf("the stop took %v", took)
	}
	ended.Wait()
	if err := backend.Close(); err != nil {
		t.Error(err)
	}
}

// open opens a stream and returns its body.
func (s *server) open(ctx context.Context, client *http.Client, path string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/event-stream") {
		_ = response.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return response.Body, nil
}
