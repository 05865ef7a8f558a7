package eshttp_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestAStateIsShownAndEveryChangeOfIt(t *testing.T) {
	t.Parallel()
	s := newShow(t, nil)
	r := s.watch("/count/order")
	if kind := r.response.Header.Get("Content-Type"); kind != "text/event-stream" || r.response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("it comes as %v", r.response.Header)
	}
	r.want(`"0 of order"`)
	s.append("order-1", "Placed")
	r.want(`"1 of order"`)
	s.append("stock-1", "Taken") // no change of this state
	s.append("order-2", "Placed")
	id := r.want(`"2 of order"`)
	other := s.watch("/count/stock")
	other.want(`"1 of stock"`)

	again := s.watch("/count/order", "Last-Event-ID", id)
	s.append("order-3", "Placed")
	again.want(`"3 of order"`) // and not what it has already
	r.want(`"3 of order"`)
	s.watch("/count/order", "Last-Event-ID", "from elsewhere").want(`"3 of order"`)
}

func TestAStateThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newShow(t, nil)
	problem(t, s.get("/count/none"), http.StatusNotFound)
	r := s.watch("/count/gone")
	r.want(`"0 of gone"`)
	s.append("gone-1", "Removed")
	if e, ok := r.next(); !ok || e.kind != "gone" || e.data != "null" {
		t.Errorf("%+v %v", e, ok)
	}
	problem(t, s.get("/count/gone"), http.StatusNotFound) // for who comes now, also while others are shown that it has gone
	s.append("gone-1", "Back")
	r.want(`"2 of gone"`)
}

func TestManyReceiversWaitTogether(t *testing.T) {
	t.Parallel()
	s := newShow(t, nil)
	const many = 300
	receivers := make([]*receiver, many)
	var all sync.WaitGroup
	for i := range receivers {
		receivers[i] = s.watch("/count/order")
	}
	for _, r := range receivers {
		r.want(`"0 of order"`)
	}
	loads, waits := s.loads.Load(), s.store.waits.Load()
	s.append("order-1", "Placed")
	for _, r := range receivers {
		all.Go(func() { r.until(`"1 of order"`) })
	}
	all.Wait()
	if n := s.loads.Load() - loads; n != 1 {
		t.Errorf("for %d receivers the state was loaded %d times", many, n)
	}
	if n := s.store.waits.Load() - waits; n > 1 {
		t.Errorf("for %d receivers the store was waited for %d times", many, n)
	}
}

func TestEventsAreShownOnceEach(t *testing.T) {
	t.Parallel()
	s := newShow(t, nil)
	s.append("order-1", "A")
	r := s.watch("/events/order")
	first, ok := r.next()
	if !ok || !strings.Contains(first.data, `"name":"A","stream":"order-1","version":1`) || !strings.Contains(first.data, `"data":{"a":1}`) {
		t.Fatalf("%+v", first)
	}
	s.append("stock-1", "X")
	s.append("order-1", "B")
	second, _ := r.next()
	if !strings.Contains(second.data, `"name":"B"`) {
		t.Errorf("%+v", second)
	}
	s.append("order-1", "C")
	for name, again := range map[string]*receiver{
		"Last-Event-ID":     s.watch("/events/order", "Last-Event-ID", first.id),
		"position":          s.watch("/events/order", eshttp.PositionName, first.id),
		"the query":         s.watch("/events/order?es-position=" + first.id),
		"a later parameter": s.watch("/events/order?es-position="+second.id, "Last-Event-ID", first.id), // as a browser comes back
	} {
		for _, want := range []string{"B", "C"} {
			if e, _ := again.next(); !strings.Contains(e.data, `"name":"`+want+`"`) {
				t.Errorf("%s: %+v came, want %s", name, e, want)
			}
		}
	}
	latest := s.watch("/latest")
	s.append("order-1", "D")
	latest.want(`"D"`)
}

func TestEventsAfterAPlaceThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newShow(t, nil)
	c := s.append("order-1", "A")
	for text, status := range map[string]int{
		eshttp.FormatPosition(es.Checkpoint{Incarnation: es.NewID(), Position: 1}):                 http.StatusConflict,
		eshttp.FormatPosition(es.Checkpoint{Incarnation: c.Incarnation, Position: c.Position + 9}): http.StatusConflict,
		"x": http.StatusBadRequest,
	} {
		r := s.watch("/events/order", "Last-Event-ID", text)
		problem(t, read(t, r.response), status)
	}
}

func TestHeartbeatsOutliveTheTimeoutsOfTheServer(t *testing.T) {
	t.Parallel()
	s := newShow(t, func(l *eshttp.LiveConfig, c *eshttp.Config) {
		l.Heartbeat = 20 * time.Millisecond
		c.ReadTimeout, c.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	states, events := s.watch("/count/order"), s.watch("/events/order")
	states.want(`"0 of order"`)
	c := s.append("stock-1", "X")
	begin := time.Now()
	for time.Since(begin) < 300*time.Millisecond {
		if e, ok := states.next(); !ok || e.kind != "heartbeat" {
			t.Fatalf("%+v %v after %v", e, ok, time.Since(begin))
		}
	}
	for { // the heartbeat of events tells how far they were looked at
		e, ok := events.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		if e.id == eshttp.FormatPosition(c) {
			break
		}
	}
	s.append("order-1", "Placed")
	states.want(`"1 of order"`)
}

// TestAStopDoesNotWaitForStreams stops a program with streams: one that is idle, and one whose receiver does not receive.
func TestAStopDoesNotWaitForStreams(t *testing.T) {
	t.Parallel()
	s := newShow(t, func(l *eshttp.LiveConfig, c *eshttp.Config) { l.WriteTimeout, c.Grace = time.Hour, time.Hour })
	r := s.watch("/count/order")
	r.want(`"0 of order"`)
	s.stuck("/events/order")
	begin := time.Now()
	s.cancel()
	if err := s.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	for more := true; more; {
		_, more = r.next() // what was on its way, and then the end
	}
}

func TestAReceiverThatDoesNotReceiveSlowsNobody(t *testing.T) {
	t.Parallel()
	s := newShow(t, func(l *eshttp.LiveConfig, _ *eshttp.Config) { l.MaxStreams, l.WriteTimeout = 2, 100*time.Millisecond })
	r := s.watch("/count/order")
	r.want(`"0 of order"`)
	s.stuck("/events/order")
	r.until(`"16 of order"`)
	for { // until the stuck one was given up, and its place is free
		other := s.watch("/count/stock")
		if other.response.StatusCode == http.StatusOK {
			other.want(`"0 of stock"`)
			break
		}
		problem(t, read(t, other.response), http.StatusServiceUnavailable)
		if other.response.Header.Get("Retry-After") == "" {
			t.Error("it is not told when to come back")
		}
	}
	s.append("order-1", "Placed")
	r.until(`"17 of order"`)
}

func TestStreamsEndWithLive(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	defer backend.Close()
	l, err := eshttp.NewLive(eshttp.LiveConfig{Events: backend.Events()})
	if err != nil {
		t.Fatal(err)
	}
	state, err := eshttp.LiveState(eshttp.LiveStateConfig[int]{
		Live: l, Load: func(context.Context, string) (int, error) { return 1, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, eshttp.Config{Handler: state})
	problem(t, p.get("/"), http.StatusServiceUnavailable)
	if err := l.Health(t.Context()); err == nil {
		t.Error("it is healthy before it is started")
	}
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(t.Context()); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("it starts twice: %v", err)
	}
	if err := l.Health(t.Context()); err != nil {
		t.Error(err)
	}
	r := (&show{program: p}).watch("/")
	r.want("1")
	if err := backend.Close(); err != nil {
		t.Fatal(err)
	}
	if e, ok := r.next(); ok {
		t.Errorf("after the end of the store came %+v", e)
	}
	<-l.Done()
	if err := l.Err(); !errors.Is(err, es.ErrClosed) {
		t.Errorf("it ended with %v", err)
	}
	if err := l.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Health(t.Context()); err == nil {
		t.Error("it is healthy after its end")
	}
	never, err := eshttp.NewLive(eshttp.LiveConfig{Events: backend.Events()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := never.Stop(t.Context()); err != nil {
			t.Errorf("what was never started cannot be stopped: %v", err)
		}
	}
	<-never.Done()
}

// lagging is a projection that is behind.
type lagging struct {
	asked chan es.Checkpoint
	come  chan struct{}
}

func (l *lagging) WaitFor(ctx context.Context, c es.Checkpoint) error {
	select {
	case l.asked <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-l.come:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestAChangeIsShownWhenTheReadModelHasIt(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	defer backend.Close()
	w := &lagging{asked: make(chan es.Checkpoint), come: make(chan struct{})}
	l, err := eshttp.NewLive(eshttp.LiveConfig{Events: backend.Events(), Waiter: w, Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var model atomic.Int64
	loaded := make(chan struct{}, 16)
	state, err := eshttp.LiveState(eshttp.LiveStateConfig[int64]{Live: l, Load: func(context.Context, string) (int64, error) {
		defer func() { loaded <- struct{}{} }()
		return model.Load(), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := &show{program: run(t, eshttp.Config{Handler: state, Components: []es.Component{l}}), store: &watched{EventStore: backend.Events()}}
	r := s.watch("/")
	r.want("0") // at once, although it is not known how far that is
	<-loaded
	<-w.asked
	w.come <- struct{}{}
	<-loaded
	c := s.append("order-1", "Placed")
	if asked := <-w.asked; asked != c {
		t.Errorf("it waits for %+v, want %+v", asked, c)
	}
	model.Store(1)
	w.come <- struct{}{}
	if id := r.want("1"); !strings.HasPrefix(id, eshttp.FormatPosition(c)+".") {
		t.Errorf("the ID is %s, want the position %s and a digest", id, eshttp.FormatPosition(c))
	}
	s.cancel()
	if err := s.ended(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestLiveThatCannotBe(t *testing.T) {
	t.Parallel()
	backend := memory.New()
	defer backend.Close()
	for want, c := range map[string]eshttp.LiveConfig{
		"no Events":  {},
		"Interval":   {Events: backend.Events(), Interval: -1},
		"Heartbeat":  {Events: backend.Events(), Heartbeat: -1},
		"MaxStreams": {Events: backend.Events(), MaxStreams: -1},
	} {
		if _, err := eshttp.NewLive(c); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to speak of %q", err, want)
		}
	}
	if _, err := eshttp.LiveState(eshttp.LiveStateConfig[int]{}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a state without Live: %v", err)
	}
	if _, err := eshttp.LiveEvents(eshttp.LiveEventsConfig{}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("events without Live: %v", err)
	}
}
