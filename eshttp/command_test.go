package eshttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// pay is a command.
type pay struct {
	Order  string `json:"-"`
	Amount int    `json:"amount"`
}

// till is a service that takes commands.
type till struct {
	*testing.T

	backend *memory.Backend
	handler http.Handler
}

func newTill(t *testing.T, change func(*eshttp.CommandConfig[pay])) *till {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	commands, err := es.NewCommandHandler(es.CommandConfig{Name: "till", Events: backend.Events()},
		es.DecideAs(nil, func(_ context.Context, c pay, m *es.Message) (es.Append, error) {
			switch c.Amount {
			case 0:
				return es.Append{}, es.Invalidf("amount", "is 0; it takes 1 or more")
			case 13:
				return es.Append{}, errors.New("SELECT secret FROM till")
			}
			return es.AppendTo(m.Stream, es.Any, es.NewMessage(m.Stream, "Paid", m.Data)), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	config := eshttp.CommandConfig[pay]{
		Handler: commands, Name: "Pay",
		Stream: func(r *http.Request, c *pay) (string, error) {
			c.Order = r.PathValue("id")
			return "order-" + c.Order, nil
		},
	}
	if change != nil {
		change(&config)
	}
	endpoint, err := eshttp.Command(config)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /orders/{id}/payments", endpoint)
	return &till{T: t, backend: backend, handler: eshttp.Correlation(mux)}
}

// post sends a payment of an order, with headers in pairs.
func (s *till) post(order, body string, headers ...string) *httptest.ResponseRecorder {
	s.Helper()
	r := httptest.NewRequestWithContext(s.Context(), http.MethodPost, "/orders/"+order+"/payments", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func (s *till) wantStatus(w *httptest.ResponseRecorder, status int) {
	s.Helper()
	if w.Code != status {
		s.Errorf("%d %s, want %d", w.Code, strings.TrimSpace(w.Body.String()), status)
	}
}

// events returns the number of events in the store, and the last one.
func (s *till) events() (int, *es.Message) {
	s.Helper()
	var last *es.Message
	n := 0
	for m, err := range s.backend.Events().Read(s.Context(), es.Query{Unsettled: true}) {
		if err != nil {
			s.Fatal(err)
		}
		n, last = n+1, m
	}
	return n, last
}

const key = "8e03978e-40d5-43e8-bc93-6894a57f9324"

func TestACommandThatIsSentAgainIsAnsweredAgain(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]string{
		"a UUID": key, "a UUID in quotes": `"` + key + `"`, "a text": "order 7 of Ann", "a text in quotes": `"abc"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTill(t, nil)
			first := s.post("7", `{"amount":5}`, "Idempotency-Key", given)
			s.wantStatus(first, http.StatusOK)
			s.post("7", `{"amount":6}`)
			again := s.post("7", ` { "amount" : 5 } `, "Idempotency-Key", given)
			s.wantStatus(again, http.StatusOK)
			if again.Body.String() != first.Body.String() || again.Header().Get("ETag") != first.Header().Get("ETag") ||
				again.Header().Get(eshttp.PositionName) != first.Header().Get(eshttp.PositionName) {
				t.Errorf("at first %s %v, then %s %v", first.Body, first.Header(), again.Body, again.Header())
			}
			if first.Header().Get("Idempotency-Replayed") != "" || again.Header().Get("Idempotency-Replayed") != "true" {
				t.Error("it is not told which was the repetition")
			}
			if n, _ := s.events(); n != 2 {
				t.Errorf("%d events, want 2", n)
			}
			s.wantStatus(s.post("7", `{"amount":50}`, "Idempotency-Key", given), http.StatusUnprocessableEntity)
			s.wantStatus(s.post("8", `{"amount":5}`, "Idempotency-Key", given), http.StatusUnprocessableEntity)
		})
	}
}

func TestTheIDOfACommandIsTheKeyThatIsAUUID(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	s.post("7", `{"amount":5}`, "Idempotency-Key", key)
	if _, m := s.events(); m.CausationID != key {
		t.Errorf("the command was %s, want %s", m.CausationID, key)
	}
}

func TestAKeyIsThatOfItsScope(t *testing.T) {
	t.Parallel()
	for _, given := range []string{key, "1"} {
		s := newTill(t, func(c *eshttp.CommandConfig[pay]) {
			c.Scope = func(r *http.Request) string { return r.Header.Get("User") }
		})
		for _, user := range []string{"ann", "bob", "ann"} {
			s.wantStatus(s.post("7", `{"amount":5}`, "Idempotency-Key", given, "User", user), http.StatusOK)
		}
		s.post("7", `{"amount":5}`, "Idempotency-Key", strings.ToUpper(given), "User", "ann") // a UUID is the same
		if n, _ := s.events(); n != 2 {
			t.Errorf("the key %s of two users led to %d events, want 2", given, n)
		}
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	for _, given := range []string{"", `""`, `"`, strings.Repeat("x", 256), "a\x01b", "ä", `a"b`, `"a`, `a"`} {
		s.wantStatus(s.post("7", `{"amount":5}`, "Idempotency-Key", given), http.StatusBadRequest)
	}
	s.wantStatus(s.post("7", `{"amount":5}`, "Idempotency-Key", "a", "Idempotency-Key", "b"), http.StatusBadRequest)
	s = newTill(t, func(c *eshttp.CommandConfig[pay]) { c.RequireKey = true })
	s.wantStatus(s.post("7", `{"amount":5}`), http.StatusBadRequest)
	s.wantStatus(s.post("7", `{"amount":5}`, "Idempotency-Key", "a"), http.StatusOK)
	if n, _ := s.events(); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestACommandForAVersion(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	s.wantStatus(s.post("7", `{"amount":1}`, "If-Match", "*"), http.StatusPreconditionFailed)
	first := s.post("7", `{"amount":1}`, "If-None-Match", "*", "Idempotency-Key", "a")
	s.wantStatus(first, http.StatusOK)
	tag := first.Header().Get("ETag")
	if tag != `"1"` {
		t.Errorf("the tag is %s", tag)
	}
	s.wantStatus(s.post("7", `{"amount":1}`, "If-None-Match", "*"), http.StatusPreconditionFailed)
	second := s.post("7", `{"amount":2}`, "If-Match", tag, "Idempotency-Key", "b")
	s.wantStatus(second, http.StatusOK)
	s.wantStatus(s.post("7", `{"amount":3}`, "If-Match", tag), http.StatusPreconditionFailed)
	s.wantStatus(s.post("7", `{"amount":2}`, "If-Match", tag, "Idempotency-Key", "b"), http.StatusOK) // its own doing
	for _, given := range []string{`"x"`, `7`, `W/"2"`, `"02"`, `"-1"`, `"0"`, `"`} {
		s.wantStatus(s.post("7", `{"amount":3}`, "If-Match", given), http.StatusPreconditionFailed)
	}
	s.wantStatus(s.post("7", `{"amount":3}`, "If-Match", `"1", "2"`), http.StatusBadRequest)
	s.wantStatus(s.post("7", `{"amount":3}`, "If-None-Match", `"1"`), http.StatusBadRequest)
	for _, name := range []string{"If-Match", "If-None-Match"} { // of a client that has lost the tag, and wanted a condition
		s.wantStatus(s.post("7", `{"amount":3}`, name, ""), http.StatusBadRequest)
	}
	s.wantStatus(s.post("7", `{"amount":3}`, "If-Match", "*", "If-None-Match", "*"), http.StatusBadRequest)
	if n, _ := s.events(); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

func TestCommandsThatAreTurnedDown(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	for body, status := range map[string]int{
		`{"amount":0}`:   http.StatusUnprocessableEntity,
		`{"amount":"x"}`: http.StatusUnprocessableEntity,
		`{"amount":`:     http.StatusBadRequest,
		``:               http.StatusBadRequest,
		`{"amount":13}`:  http.StatusInternalServerError,
	} {
		w := s.post("7", body)
		s.wantStatus(w, status)
		if strings.Contains(w.Body.String(), "secret") || w.Header().Get("Content-Type") != eshttp.ContentTypeProblem {
			t.Errorf("%s is answered with %s", body, w.Body)
		}
	}
	s.wantStatus(s.post(strings.Repeat("7", 300), `{"amount":1}`), http.StatusUnprocessableEntity) // no name of a stream
	if n, _ := s.events(); n != 0 {
		t.Errorf("%d events, want 0", n)
	}
}

func TestWhereACommandComesFrom(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	w := s.post("7", `{"amount":5}`, "X-Correlation-ID", "conversation 1", "Traceparent", parent, "Tracestate", "a=1", "Tracestate", "b=2")
	_, m := s.events()
	if m.CorrelationID != "conversation 1" || w.Header().Get("X-Correlation-ID") != "conversation 1" {
		t.Errorf("the event has %q, the answer %q", m.CorrelationID, w.Header().Get("X-Correlation-ID"))
	}
	if m.Metadata["traceparent"] != parent || m.Metadata["tracestate"] != "a=1,b=2" {
		t.Errorf("the metadata is %v", m.Metadata)
	}
	for _, bad := range []string{"", "ä", strings.Repeat("x", 129)} {
		w := s.post("7", `{"amount":5}`, "X-Correlation-ID", bad)
		_, m := s.events()
		if id := w.Header().Get("X-Correlation-ID"); id == "" || id == bad || m.CorrelationID != id {
			t.Errorf("for %q the answer has %q, the event %q", bad, id, m.CorrelationID)
		}
	}
	for _, bad := range []string{
		"", "x", strings.ToUpper(parent), parent + "-00", "ff" + parent[2:], strings.Replace(parent, "4bf9", "zzzz", 1),
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
	} {
		s.post("7", `{"amount":5}`, "Traceparent", bad, "Tracestate", "a=1")
		if _, m := s.events(); m.Metadata["traceparent"] != "" || m.Metadata["tracestate"] != "" {
			t.Errorf("%q is taken: %v", bad, m.Metadata)
		}
	}
}

func TestCommandsForLater(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	outbox := s.backend.Outbox()
	s = newTill(t, func(c *eshttp.CommandConfig[pay]) { c.Handler, c.Outbox = nil, outbox })
	for range 2 {
		s.wantStatus(s.post("7", `{"amount":5}`, "Idempotency-Key", key, "X-Correlation-ID", "c"), http.StatusAccepted)
	}
	s.wantStatus(s.post("7", `{"amount":6}`, "Idempotency-Key", key), http.StatusUnprocessableEntity)
	s.wantStatus(s.post("7", `{"amount":6}`, "If-Match", `"1"`), http.StatusBadRequest)
	entries := make([]es.Entry, 2)
	n, err := outbox.Claim(t.Context(), entries, es.ClaimOptions{Owner: "test"})
	if err != nil || n != 1 {
		t.Fatalf("%d entries, %v", n, err)
	}
	if m := entries[0]; m.ID.String() != key || m.Name != "Pay" || m.Stream != "order-7" || m.CorrelationID != "c" {
		t.Errorf("%+v", m.Message)
	}
}

func TestWhatACommandIsAnswered(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[pay](types, "Pay")
	s := newTill(t, func(c *eshttp.CommandConfig[pay]) {
		c.Name, c.Types, c.Status = "", types, http.StatusCreated
		c.Key = func(_ *http.Request, p *pay) (string, error) { return fmt.Sprint("payment ", p.Amount), nil }
		c.Answer = func(_ *http.Request, p pay, r es.CommandResult) any {
			return fmt.Sprint(p.Order, " ", p.Amount, " ", r.Version)
		}
	})
	for range 2 {
		w := s.post("7", `{"amount":5}`)
		s.wantStatus(w, http.StatusCreated)
		if got := strings.TrimSpace(w.Body.String()); got != `"7 5 1"` {
			t.Errorf("the answer is %s", got)
		}
	}
}

func TestAnAnswerThatIsNoJSON(t *testing.T) {
	t.Parallel()
	s := newTill(t, func(c *eshttp.CommandConfig[pay]) {
		c.Answer = func(*http.Request, pay, es.CommandResult) any { return unwritable{} }
	})
	w := s.post("7", `{"amount":5}`)
	problem(t, recorded(w), http.StatusInternalServerError)
	if tag := w.Header().Get("ETag"); tag != "" {
		t.Errorf("the problem has the tag %s", tag)
	}
	handler, err := es.NewQueryHandler(es.QueryConfig{}, func(context.Context, string) (unwritable, error) { return unwritable{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := eshttp.Query(eshttp.QueryConfig[string, unwritable]{
		Handler: handler, Read: func(*http.Request) (string, error) { return "", nil },
		Revision: func(unwritable) string { return "1" },
	})
	if err != nil {
		t.Fatal(err)
	}
	a := (&board{T: t, handler: endpoint}).get("/")
	problem(t, a, http.StatusInternalServerError)
	if tag := a.header.Get("ETag"); tag != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the problem has %v", a.header)
	}
}

// unwritable cannot be written as JSON, for a reason that is not the sender's.
type unwritable struct{}

func (unwritable) MarshalJSON() ([]byte, error) {
	return nil, es.Invalidf("inside", "is not for others")
}

func TestCommandEndpointsThatCannotBe(t *testing.T) {
	t.Parallel()
	s := newTill(t, nil)
	handler, err := es.NewCommandHandler(es.CommandConfig{Name: "a", Events: s.backend.Events()},
		func(context.Context, *es.Message) (es.Append, error) { return es.Append{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	stream := func(*http.Request, *pay) (string, error) { return "a", nil }
	for want, c := range map[string]eshttp.CommandConfig[pay]{
		"Handler or an Outbox": {Stream: stream, Name: "Pay"},
		"not both":             {Stream: stream, Name: "Pay", Handler: handler, Outbox: s.backend.Outbox()},
		"no Stream":            {Name: "Pay", Handler: handler},
		"Types or a Name":      {Stream: stream, Handler: handler},
		"register it":          {Stream: stream, Handler: handler, Types: es.NewTypes()},
		"status":               {Stream: stream, Handler: handler, Name: "Pay", Status: 404},
	} {
		if _, err := eshttp.Command(c); !errors.Is(err, es.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to speak of %q", err, want)
		}
	}
}

func FuzzPositions(f *testing.F) {
	f.Add(eshttp.FormatPosition(es.Checkpoint{Incarnation: es.NewID(), Position: 1 << 40}))
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := eshttp.ParsePosition(text)
		if err != nil {
			return
		}
		if c.Position < 0 || eshttp.FormatPosition(c) != text {
			t.Errorf("%q is read as %+v and written as %q", text, c, eshttp.FormatPosition(c))
		}
	})
}
