package eshttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// answer is what a server answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// read reads an answer that came from a server.
func read(t *testing.T, r *http.Response) answer {
	t.Helper()
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{r.StatusCode, r.Header, string(body)}
}

func recorded(w *httptest.ResponseRecorder) answer {
	return answer{w.Code, w.Header(), w.Body.String()}
}

// problem reads the problem in an answer, with all its members.
func problem(t *testing.T, a answer, status int) map[string]any {
	t.Helper()
	if kind := a.header.Get("Content-Type"); a.status != status || kind != "application/problem+json" {
		t.Fatalf("answer %d %s: %s, want a problem of status %d", a.status, kind, a.body, status)
	}
	var members map[string]any
	if err := json.Unmarshal([]byte(a.body), &members); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	if members["status"] != float64(status) {
		t.Fatalf("status %d is told as %v", status, members["status"])
	}
	return members
}

func TestProblem(t *testing.T) {
	t.Parallel()
	p := &eshttp.Problem{
		Type: "https://example.com/out-of-credit", Title: "You do not have enough credit.", Status: http.StatusForbidden,
		Detail: "Your balance is 30 < 50.", Instance: "/account/12345/abc",
		Errors:     []eshttp.ProblemError{{Detail: "too much", Pointer: "#/amount"}},
		Extensions: map[string]any{"balance": 30, "accounts": []string{"/account/1"}, "status": "not this one"},
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Encoding", "gzip")
	eshttp.WriteProblem(w, p)
	want := `{"type":"https://example.com/out-of-credit","title":"You do not have enough credit.","status":403,` +
		`"detail":"Your balance is 30 < 50.","instance":"/account/12345/abc","errors":[{"detail":"too much","pointer":"#/amount"}],` +
		`"accounts":["/account/1"],"balance":30}`
	if w.Code != http.StatusForbidden || w.Body.String() != want {
		t.Errorf("got %d %s\nwant %s", w.Code, w.Body, want)
	}
	if w.Header().Get("Content-Encoding") != "" || w.Header().Get("Content-Length") != strconv.Itoa(len(want)) {
		t.Errorf("headers are %v", w.Header())
	}

	w = httptest.NewRecorder()
	eshttp.WriteProblem(w, &eshttp.Problem{Extensions: map[string]any{"bad": func() {}}})
	problem(t, recorded(w), http.StatusInternalServerError)
	if text := eshttp.Problemf(http.StatusNotFound, "no %s", "order").Error(); text != "404 Not Found: no order" {
		t.Errorf("as an error it is %q", text)
	}
}

func TestErrorTellsWhatItShouldAndNothingElse(t *testing.T) {
	t.Parallel()
	const inside = "secret: SELECT id FROM /var/lib"
	wrap := func(err error) error { return fmt.Errorf("%s: %w", inside, err) }
	gone, leave := context.WithCancel(context.Background())
	leave()
	for name, c := range map[string]struct {
		err     error
		ctx     context.Context
		ifMatch bool
		status  int
		detail  string
	}{
		"invalid":          {err: wrap(es.Invalidf("stream", "is empty")), status: 422, detail: "invalid stream: it is empty"},
		"invalid, no text": {err: wrap(es.ErrInvalid), status: 422},
		"not found":        {err: wrap(es.ErrNotFound), status: 404},
		"conflict":         {err: wrap(&es.ConflictError{Stream: "secret"}), status: 409},
		"revision":         {err: wrap(&es.RevisionError{Model: "secret"}), status: 409},
		"if-match":         {err: wrap(&es.ConflictError{Stream: "secret"}), ifMatch: true, status: 412},
		"duplicate":        {err: wrap(&es.DuplicateError{Stream: "secret"}), status: 409},
		"deleted":          {err: wrap(es.ErrStreamDeleted), status: 410},
		"closed":           {err: wrap(es.ErrClosed), status: 503},
		"lease lost":       {err: wrap(es.ErrLeaseLost), status: 503},
		"lease held":       {err: wrap(&es.LeaseHeldError{Name: "secret"}), status: 503},
		"full":             {err: wrap(es.ErrFull), status: 503},
		"unsupported":      {err: wrap(es.ErrUnsupported), status: 501},
		"deadline":         {err: wrap(context.DeadlineExceeded), status: 504},
		"sender has gone":  {err: wrap(context.Canceled), ctx: gone, status: 503},
		"canceled by else": {err: wrap(context.Canceled), status: 500},
		"too large":        {err: wrap(&http.MaxBytesError{Limit: 7}), status: 413, detail: "7 bytes"},
		"problem":          {err: wrap(eshttp.Problemf(http.StatusTeapot, "short and stout")), status: 418, detail: "short and stout"},
		"anything":         {err: errors.New(inside), status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			ctx := eshttp.WithLogger(context.Background(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			if c.ctx != nil {
				ctx = eshttp.WithLogger(c.ctx, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			}
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/orders", nil)
			if c.ifMatch {
				r.Header.Set("If-Match", `"7"`)
			}
			w := httptest.NewRecorder()
			eshttp.Error(w, r, c.err)
			body := w.Body.String()
			members := problem(t, recorded(w), c.status)
			if detail, _ := members["detail"].(string); detail == "" || !strings.Contains(detail, c.detail) {
				t.Errorf("detail is %q, want %q in it", detail, c.detail)
			}
			if strings.Contains(body, "secret") || strings.Contains(body, "SELECT") {
				t.Errorf("it tells what is inside: %s", body)
			}
			if !strings.Contains(log.String(), "secret") {
				t.Errorf("the error is not logged: %s", log.String())
			}
			if isError := strings.Contains(log.String(), "level=ERROR"); isError != (c.status == 500) {
				t.Errorf("logged as an error: %v: %s", isError, log.String())
			}
		})
	}
}

func TestErrorTellsEverythingThatIsInvalid(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("secret: %w", errors.Join(es.Invalidf("name", "is empty"), errors.New("secret"), es.Invalidf("age", "is negative")))
	w := httptest.NewRecorder()
	eshttp.Error(w, httptest.NewRequestWithContext(quiet(), http.MethodGet, "/", nil), err)
	members := problem(t, recorded(w), http.StatusUnprocessableEntity)
	list, _ := members["errors"].([]any)
	if text := fmt.Sprint(list...); len(list) != 2 || !strings.Contains(text, "name") || !strings.Contains(text, "age") ||
		strings.Contains(text, "secret") {
		t.Errorf("errors are %v", list)
	}
}

func quiet() context.Context {
	return eshttp.WithLogger(context.Background(), slog.New(slog.DiscardHandler))
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	if err := eshttp.WriteJSON(w, http.StatusCreated, map[string]any{"raw": json.RawMessage(` {"a" : "<b>&\u2028" }`)}); err != nil {
		t.Fatal(err)
	}
	if got, want := w.Body.String(), "{\"raw\":{\"a\":\"<b>&\\u2028\"}}\n"; got != want || w.Code != http.StatusCreated {
		t.Errorf("got %d %q, want %q", w.Code, got, want)
	}
	w = httptest.NewRecorder()
	if err := eshttp.WriteJSON(w, http.StatusOK, func() {}); err == nil || w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("a value that is no JSON: error %v, answer %q", err, w.Body)
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("id")) })
	mux.HandleFunc("/tree/", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "its own", http.StatusNotFound) })
	h := eshttp.Problems(mux)
	serve := func(method, path string) answer {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return recorded(w)
	}
	problem(t, serve(http.MethodGet, "/nowhere"), http.StatusNotFound)
	refused := serve(http.MethodDelete, "/orders/7")
	if allow := refused.header.Get("Allow"); allow != "GET, HEAD" {
		t.Errorf("Allow is %q", allow)
	}
	if detail := problem(t, refused, http.StatusMethodNotAllowed)["detail"]; !strings.Contains(fmt.Sprint(detail), "GET") {
		t.Errorf("detail is %v", detail)
	}
	if a := serve(http.MethodGet, "/orders/7"); a.body != "7" {
		t.Errorf("a route answers %q", a.body)
	}
	if a := serve(http.MethodGet, "/tree"); a.status/100 != 3 || a.header.Get("Location") != "/tree/" {
		t.Errorf("a redirection is %d to %q", a.status, a.header.Get("Location"))
	}
	if a := serve(http.MethodGet, "/tree/x"); a.body != "its own\n" {
		t.Errorf("an answer of a handler became %q", a.body)
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	ctx := eshttp.WithLogger(context.Background(), slog.New(slog.NewTextHandler(&log, nil)))
	serve := func(h http.HandlerFunc) (w *httptest.ResponseRecorder, panicked any) {
		w = httptest.NewRecorder()
		defer func() { panicked = recover() }()
		eshttp.Recover(h).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/x", nil))
		return w, nil
	}
	w, panicked := serve(func(http.ResponseWriter, *http.Request) { panic("secret") })
	if panicked != nil || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("panic %v, answer %s", panicked, w.Body)
	}
	problem(t, recorded(w), http.StatusInternalServerError)
	if text := log.String(); !strings.Contains(text, "secret") || !strings.Contains(text, "problem_test.go") {
		t.Errorf("the log has no panic with a stack: %s", text)
	}
	if _, panicked := serve(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half of")
		panic("secret")
	}); panicked != http.ErrAbortHandler { //nolint:errorlint // a value of panic
		t.Errorf("after half an answer it panics with %v, want http.ErrAbortHandler", panicked)
	}
	if _, panicked := serve(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }); panicked != http.ErrAbortHandler { //nolint:errorlint // a value of panic
		t.Errorf("http.ErrAbortHandler became %v", panicked)
	}
	w, _ = serve(func(w http.ResponseWriter, _ *http.Request) {
		flusher, ok := w.(http.Flusher)
		if !ok {
			t.Error("the writer cannot flush")
			return
		}
		_, _ = io.Copy(w, strings.NewReader("copied"))
		flusher.Flush()
	})
	if !w.Flushed || w.Body.String() != "copied" {
		t.Errorf("flushed %v, body %q", w.Flushed, w.Body)
	}
}
