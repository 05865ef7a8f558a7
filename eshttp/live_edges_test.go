package eshttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
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

// TestAStreamIsNotForOtherMethods asks for the head of a stream, which a route for GET takes, and goes on with the same connection.
func TestAStreamIsNotForOtherMethods(t *testing.T) {
	t.Parallel()
	s := newShow(t, nil)
	connection, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, "HEAD /count/order HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(connection)
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		r, err := http.NewRequestWithContext(t.Context(), method, s.url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(in, r)
		if err != nil {
			t.Fatalf("%s has no answer: %v", method, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered with %s, %v", method, response.Status, err)
		}
		if kind := response.Header.Get("Content-Type"); method == http.MethodHead && kind != "text/event-stream" {
			t.Errorf("the head says %q", kind)
		}
		_ = response.Body.Close()
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/any", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if allow := response.Header.Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("a POST is allowed %q", allow)
	}
	problem(t, read(t, response), http.StatusMethodNotAllowed)
}

// TestAReceiverThatLosesItsConnectionBeforeTheFirstEvent comes back with the ID that it was given at the very beginning.
func TestAReceiverThatLosesItsConnectionBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	for _, before := range []int{0, 1} {
		s := newShow(t, func(l *eshttp.LiveConfig, _ *eshttp.Config) { l.Heartbeat = time.Hour })
		for range before {
			s.append("order-1", "Old")
		}
		id := s.watch("/latest").begin()
		s.append("order-1", "New")
		s.watch("/latest", "Last-Event-ID", id).want(`"New"`)
	}
}

// counted counts how many reads of a store are under way.
type counted struct {
	es.EventStore

	open atomic.Int64
}

func (c *counted) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	return func(yield func(*es.Message, error) bool) {
		c.open.Add(1)
		defer c.open.Add(-1)
		c.EventStore.Read(ctx, q)(yield)
	}
}

// TestAReceiverThatDoesNotReceiveHoldsNoCursor lets nobody take the connections of a store to its database by being slow.
func TestAReceiverThatDoesNotReceiveHoldsNoCursor(t *testing.T) {
	t.Parallel()
	var store *counted
	s := newShow(t, func(l *eshttp.LiveConfig, _ *eshttp.Config) {
		store = &counted{EventStore: l.Events}
		l.Events, l.WriteTimeout = store, time.Hour
	})
	s.stuck("/events/order")
	for patience := time.After(10 * time.Second); store.open.Load() != 0; {
		select {
		case <-patience:
			t.Fatal("a read is under way while nothing is received")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestAnEventThatCannotBeShown comes after one that can, which is shown, and then the program is told.
func TestAnEventThatCannotBeShown(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	defer backend.Close()
	live, err := eshttp.NewLive(eshttp.LiveConfig{Events: backend.Events()})
	if err != nil {
		t.Fatal(err)
	}
	events, err := eshttp.LiveEvents(eshttp.LiveEventsConfig{
		Live: live, FromBeginning: true,
		Query: func(*http.Request) (es.Query, error) { return es.Query{}, nil },
		View: func(m *es.Message) any {
			if m.Name == "B" {
				return math.NaN()
			}
			return m.Name
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	s := &show{store: &watched{EventStore: backend.Events()}}
	s.program = run(t, eshttp.Config{
		Handler: events, Components: []es.Component{live}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	r := s.watch("/")
	s.append("order-1", "A")
	s.append("order-1", "B")
	r.want(`"A"`)
	if e, ok := r.next(); ok {
		t.Errorf("behind it comes %+v", e)
	}
	s.cancel()
	if err := s.ended(); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "NaN") {
		t.Errorf("the log says %s", text)
	}
}

// replaced is a store that is another one when it is waited for a second time, until somebody asks where that is.
type replaced struct {
	es.EventStore

	waits atomic.Int64
	known atomic.Bool
}

func (r *replaced) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	if after == (es.Checkpoint{}) {
		r.known.Store(true)
	}
	if r.waits.Add(1) > 1 && !r.known.Load() {
		return es.Checkpoint{}, &es.CheckpointError{Checkpoint: after}
	}
	return r.EventStore.Wait(ctx, after)
}

// TestAStoreThatIsAnotherOne is said to be wrong until its new head is known, and what it has is shown.
func TestAStoreThatIsAnotherOne(t *testing.T) {
	t.Parallel()
	s := newShow(t, func(l *eshttp.LiveConfig, _ *eshttp.Config) { l.Events = &replaced{EventStore: l.Events} })
	r := s.watch("/count/order")
	r.want(`"0 of order"`)
	s.append("order-1", "A")
	r.want(`"1 of order"`)
	for s.get("/readyz").status != http.StatusServiceUnavailable {
		<-time.After(time.Millisecond)
	}
	s.append("order-1", "B")
	r.want(`"2 of order"`)
	if a := s.get("/readyz"); a.status != http.StatusOK {
		t.Errorf("when it goes on it is still not ready: %s", a.body)
	}
}

// silent is a store that does not say where its head is.
type silent struct {
	es.EventStore

	asked chan struct{}
}

func (s silent) Head(ctx context.Context) (es.Checkpoint, error) {
	close(s.asked)
	<-ctx.Done()
	return es.Checkpoint{}, ctx.Err()
}

func TestLiveThatIsStoppedWhileItStarts(t *testing.T) {
	t.Parallel()
	store := silent{asked: make(chan struct{})}
	l, err := eshttp.NewLive(eshttp.LiveConfig{Events: store})
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- l.Start(t.Context()) }()
	<-store.asked
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-started; !errors.Is(err, context.Canceled) {
		t.Errorf("it started: %v", err)
	}
	<-l.Done()
}

// begin returns the ID that a stream begins with.
func (r *receiver) begin() string {
	r.Helper()
	for id := ""; ; {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			r.Fatal(err)
		}
		if line == "\n" {
			return id
		}
		_, _ = fmt.Sscanf(line, "id: %s\n", &id)
	}
}
