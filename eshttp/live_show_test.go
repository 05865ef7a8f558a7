package eshttp_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// watched counts how often a store is waited for.
type watched struct {
	es.EventStore

	waits atomic.Int64
}

func (w *watched) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	w.waits.Add(1)
	return w.EventStore.Wait(ctx, after)
}

// show is a program that shows a number of events and the events themselves.
type show struct {
	*program

	store  *watched
	loads  atomic.Int64
	viewed atomic.Int64 // events that are on their way
}

// newShow runs it: /count/{category} is how many events there are, /events/{category} are the events.
func newShow(t *testing.T, change func(*eshttp.LiveConfig, *eshttp.Config)) *show {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &show{store: &watched{EventStore: backend.Events()}}
	live := eshttp.LiveConfig{Events: s.store, Interval: time.Millisecond}
	server := eshttp.Config{}
	if change != nil {
		change(&live, &server)
	}
	l, err := eshttp.NewLive(live)
	if err != nil {
		t.Fatal(err)
	}
	count, err := eshttp.LiveState(eshttp.LiveStateConfig[string]{
		Live: l,
		Key:  func(r *http.Request) (string, error) { return r.PathValue("category"), nil },
		Load: func(ctx context.Context, key string) (string, error) {
			s.loads.Add(1)
			n := 0
			for _, err := range s.store.Read(ctx, es.Query{Category: key}) {
				if err != nil {
					return "", err
				}
				n++
			}
			if key == "none" || key == "gone" && n == 1 {
				return "", es.ErrNotFound
			}
			return fmt.Sprint(n, " of ", key), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	events, err := eshttp.LiveEvents(eshttp.LiveEventsConfig{
		Live: l, FromBeginning: true,
		Query: func(r *http.Request) (es.Query, error) { return es.Query{Category: r.PathValue("category")}, nil },
		View: func(m *es.Message) any {
			s.viewed.Add(1)
			return eshttp.NewLiveEvent(m)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	latest, err := eshttp.LiveEvents(eshttp.LiveEventsConfig{
		Live: l, View: func(m *es.Message) any { return m.Name },
		Query: func(*http.Request) (es.Query, error) { return es.Query{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /count/{category}", count)
	mux.Handle("GET /events/{category}", events)
	mux.Handle("GET /latest", latest)
	mux.Handle("/any", latest)
	mux.Handle("/", eshttp.Health(l))
	server.Handler = mux
	server.Components = append(server.Components, l)
	s.program = run(t, server)
	return s
}

func (s *show) append(stream, name string) es.Checkpoint {
	s.Helper()
	done, err := s.store.Append(s.Context(), es.AppendTo(stream, es.Any, es.NewMessage(stream, name, []byte(`{"a":1}`))))
	if err != nil {
		s.Fatal(err)
	}
	head, err := s.store.Head(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return es.Checkpoint{Incarnation: head.Incarnation, Position: done.Position}
}

// receiver receives a stream of events.
type receiver struct {
	*testing.T

	response *http.Response
	lines    *bufio.Reader
}

type received struct{ id, kind, data string }

// watch opens a stream. Every one that a test opens is closed at its end.
func (s *show) watch(path string, headers ...string) *receiver {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = response.Body.Close() })
	return &receiver{s.T, response, bufio.NewReader(response.Body)}
}

// next returns the next event; of a heartbeat it returns the ID, and a kind of "heartbeat". At the end of the stream it is not ok.
func (r *receiver) next() (e received, ok bool) {
	r.Helper()
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return e, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.kind = value
		case "data":
			e.data += value
		case ":":
			return received{kind: "heartbeat"}, true
		case "retry":
			if _, err := r.lines.ReadString('\n'); err != nil {
				return e, false
			}
		case "":
			if e.data == "" {
				e.kind = "heartbeat"
			}
			return e, true
		}
	}
}

// want fails unless the next event that is no heartbeat has the data. It returns its ID.
func (r *receiver) want(data string) string {
	r.Helper()
	for {
		e, ok := r.next()
		if !ok {
			r.Fatalf("the stream ended, want %s", data)
		}
		if e.kind == "heartbeat" {
			continue
		}
		if e.data != data {
			r.Fatalf("%s came, want %s", e.data, data)
		}
		return e.id
	}
}

// until reads on to the event with the data.
func (r *receiver) until(data string) string {
	r.Helper()
	for {
		e, ok := r.next()
		if !ok {
			r.Fatalf("the stream ended, want %s", data)
		}
		if e.data == data {
			return e.id
		}
	}
}

// stuck opens a stream and does not read it, and appends events until its server cannot send more.
func (s *show) stuck(path string) {
	s.Helper()
	connection, err := (&net.Dialer{}).DialContext(s.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = connection.Close() })
	if tcp, ok := connection.(*net.TCPConn); !ok || tcp.SetReadBuffer(1<<10) != nil {
		s.Fatal("the buffer of the connection cannot be set")
	}
	if _, err := fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path); err != nil {
		s.Fatal(err)
	}
	data := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for range 16 { // more than the buffers of a connection
		if _, err := s.store.Append(s.Context(), es.AppendTo("order-1", es.Any, es.NewMessage("order-1", "Big", data))); err != nil {
			s.Fatal(err)
		}
	}
	for last := int64(0); ; { // until nothing more goes out
		<-time.After(100 * time.Millisecond)
		now := s.viewed.Load()
		if now > 0 && now == last {
			return
		}
		last = now
	}
}
