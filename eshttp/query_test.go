package eshttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// board shows what a read model has, which a test moves forward.
type board struct {
	*testing.T

	models  es.ReadModels
	at      es.Progress
	handler http.Handler
}

type byID struct {
	ID string `path:"id"`
}

func newBoard(t *testing.T) *board {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &board{T: t, models: backend.ReadModels()}
	queries, err := es.NewQueryHandler(
		es.QueryConfig{Waiter: es.WaitForProgress(b.models, "totals"), Patience: time.Second},
		es.FromModel(es.NewModel[int64](b.models, "totals"), func(q byID) string { return q.ID }))
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := eshttp.QueryItem(queries)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/totals/{id}", endpoint)
	b.handler = mux
	return b
}

// moveTo brings the read model to a place, with a document that says which.
func (b *board) moveTo(c es.Checkpoint) {
	b.Helper()
	w, err := es.NewModel[int64](b.models, "totals").Put("7", c.Position, es.Any)
	if err != nil {
		b.Fatal(err)
	}
	next := es.Progress{Generation: 1, Epoch: 1, Checkpoint: c}
	commit := es.Commit{Writes: []es.Write{w}, Progress: es.ProgressUpdate{Projection: "totals", From: b.at, To: next}}
	if err := b.models.Commit(context.Background(), commit); err != nil {
		b.Fatal(err)
	}
	b.at = next
}

func (b *board) get(target string, headers ...string) answer {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, target, http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return recorded(w)
}

func TestAQueryShowsWhatTheCommandHasChanged(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(b *board, position string) answer{
		"in the header":    func(b *board, position string) answer { return b.get("/totals/7", eshttp.PositionName, position) },
		"as the parameter": func(b *board, position string) answer { return b.get("/totals/7?es-position=" + position) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(t)
				c := es.Checkpoint{Incarnation: es.NewID(), Position: 8}
				b.moveTo(es.Checkpoint{Incarnation: c.Incarnation, Position: 7})
				got := make(chan answer)
				go func() { got <- ask(b, eshttp.FormatPosition(c)) }()
				<-time.After(time.Second / 2)
				b.moveTo(c)
				if a := <-got; a.status != http.StatusOK || a.body != "8\n" {
					t.Errorf("it is answered with %d %s", a.status, a.body)
				}
			})
		})
	}
}

func TestAQueryForWhatDoesNotCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		store := es.NewID()
		b.moveTo(es.Checkpoint{Incarnation: store, Position: 7})
		begin := time.Now()
		a := b.get("/totals/7", eshttp.PositionName, eshttp.FormatPosition(es.Checkpoint{Incarnation: store, Position: 8}))
		problem(t, a, http.StatusServiceUnavailable)
		if took := time.Since(begin); took != time.Second || a.header.Get("Retry-After") != "1" {
			t.Errorf("after %v, with Retry-After %q", took, a.header.Get("Retry-After"))
		}
		problem(t, b.get("/totals/7", eshttp.PositionName, eshttp.FormatPosition(es.Checkpoint{Incarnation: es.NewID(), Position: 1})),
			http.StatusConflict)
		for _, bad := range []string{"x", "8", strings.Repeat("A", 31), strings.Repeat("_", 32), strings.Repeat("A", 33)} {
			problem(t, b.get("/totals/7", eshttp.PositionName, bad), http.StatusBadRequest)
		}
	})
}

func TestAnAnswerThatIsKnownAlready(t *testing.T) {
	t.Parallel()
	b := newBoard(t)
	b.moveTo(es.Checkpoint{Incarnation: es.NewID(), Position: 1})
	a := b.get("/totals/7")
	tag := a.header.Get("ETag")
	if a.status != http.StatusOK || tag == "" || a.header.Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("%d %v", a.status, a.header)
	}
	for _, given := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		if a := b.get("/totals/7", "If-None-Match", given); a.status != http.StatusNotModified || a.body != "" || a.header.Get("ETag") != tag {
			t.Errorf("If-None-Match: %s is answered with %d %q", given, a.status, a.body)
		}
	}
	b.moveTo(es.Checkpoint{Incarnation: b.at.Incarnation, Position: 2})
	if a := b.get("/totals/7", "If-None-Match", tag); a.status != http.StatusOK || a.body != "2\n" || a.header.Get("ETag") == tag {
		t.Errorf("after a change: %d %q", a.status, a.body)
	}
	problem(t, b.get("/totals/8", "If-None-Match", tag), http.StatusNotFound)
	for _, given := range []string{"r2", `"r2`, `r2"`, `""`, `W/"`, `"a"r2"`} {
		if a := b.get("/totals/7", "If-None-Match", given); a.status != http.StatusOK {
			t.Errorf("If-None-Match: %s is answered with %d", given, a.status)
		}
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/totals/7", http.NoBody))
	problem(t, recorded(w), http.StatusMethodNotAllowed)
}

// everything is a query with a parameter of each kind.
type everything struct {
	ID     uuid.UUID     `path:"id"`
	Text   string        `query:"text,required"`
	On     bool          `query:"on"`
	Whole  int8          `query:"whole"`
	Count  uint16        `query:"count"`
	Share  float64       `query:"share"`
	Since  time.Time     `query:"since"`
	States []string      `query:"state"`
	Sizes  []int         `query:"size"`
	Left   time.Duration // not a parameter
}

func TestARevisionMayHaveCommas(t *testing.T) {
	t.Parallel()
	handler, err := es.NewQueryHandler(es.QueryConfig{}, func(context.Context, byID) (int, error) { return 1, nil })
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := eshttp.Query(eshttp.QueryConfig[byID, int]{Handler: handler, Revision: func(int) string { return "a, b" }})
	if err != nil {
		t.Fatal(err)
	}
	b := &board{T: t, handler: endpoint}
	for given, status := range map[string]int{
		`"a, b"`: 304, `"x","a, b"`: 304, `"x", W/"a, b"`: 304, `"x" , , "a, b"`: 304, `"a"`: 200, `b"`: 200, `"x,"a, b"`: 200,
	} {
		if a := b.get("/", "If-None-Match", given); a.status != status {
			t.Errorf("If-None-Match: %s is answered with %d, want %d", given, a.status, status)
		}
	}
}

// TestTheTagOfADocumentIsNoVersion hands the tag of a document to a command on the same path: the revision of the one is not the version
// of the other, and they must not be taken for each other by chance.
func TestTheTagOfADocumentIsNoVersion(t *testing.T) {
	t.Parallel()
	b, s := newBoard(t), newTill(t, nil)
	s.wantStatus(s.post("7", `{"amount":5}`), http.StatusOK) // at version 1
	b.moveTo(es.Checkpoint{Incarnation: es.NewID(), Position: 1})
	tag := b.get("/totals/7").header.Get("ETag") // of revision 1
	s.wantStatus(s.post("7", `{"amount":6}`, "If-Match", tag), http.StatusPreconditionFailed)
}

func TestAPositionThatCannotBeReadIsNotLeftAside(t *testing.T) {
	t.Parallel()
	handler, err := es.NewQueryHandler(es.QueryConfig{}, func(context.Context, string) (int, error) { return 1, nil })
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := eshttp.Query(eshttp.QueryConfig[string, int]{
		Handler: handler, Read: func(*http.Request) (string, error) { return "", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &board{T: t, handler: endpoint}
	broken := eshttp.FormatPosition(es.Checkpoint{})
	for _, query := range []string{"es-position=" + broken[:8] + "%0A" + broken[8:], "es-position=%zz", "es-position=A;x=1", "es-position=x"} {
		problem(t, b.get("/?"+query), http.StatusBadRequest)
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	read, err := eshttp.Parameters[everything]()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(target string) (everything, error) {
		var q everything
		var err error
		mux := http.NewServeMux()
		mux.HandleFunc("/{id}", func(_ http.ResponseWriter, r *http.Request) { q, err = read(r) })
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody))
		return q, err
	}
	got, err := ask("/" + key + "?text=a+b&on=true&whole=-8&count=9&share=0.5&since=2026-01-02T03:04:05Z&state=x&state=y&size=1&other=1")
	want := everything{
		ID: uuid.MustParse(key), Text: "a b", On: true, Whole: -8, Count: 9, Share: 0.5,
		Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), States: []string{"x", "y"}, Sizes: []int{1},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	for query, named := range map[string]string{
		"":                       "text is missing",
		"text=a&text=b":          "text is there more than once",
		"text=a&on=x":            "on takes true or false",
		"text=a&whole=200":       "whole takes a whole number of at most 8 bits",
		"text=a&count=-1":        "count takes a whole number of at most 16 bits that is not negative",
		"text=a&share=x":         "share takes a number",
		"text=a&since=yesterday": "since does not have the form",
		"text=a&size=1&size=x":   "size takes a whole number",
		"on=x&whole=x":           "3 parameters",
	} {
		_, err := ask("/" + key + "?" + query)
		p, ok := errors.AsType[*eshttp.Problem](err)
		if !ok || p.Status != http.StatusUnprocessableEntity || !strings.Contains(p.Detail, named) {
			t.Errorf("%q: %v, want it to say %q", query, err, named)
		}
	}
	if _, err := ask("/x?text=a"); err == nil || strings.Contains(err.Error(), "invalid UUID") {
		t.Errorf("a path that does not fit: %v", err)
	}
	if _, err := ask("/" + key + "?text=%zz"); err == nil {
		t.Error("a query that is not encoded is taken")
	}
}

type inner struct {
	ID string `path:"id"`
}

func TestQueryTypesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"no struct": second(eshttp.Parameters[string]()),
		"a map": second(eshttp.Parameters[struct {
			M map[string]string `query:"m"`
		}]()),
		"not exported": second(eshttp.Parameters[struct {
			m string `query:"m"`
		}]()),
		"without a name": second(eshttp.Parameters[struct {
			M string `query:",required"`
		}]()),
		"a slice of paths": second(eshttp.Parameters[struct {
			M []string `path:"m"`
		}]()),
		"behind a pointer": second(eshttp.Parameters[struct{ *inner }]()),
	} {
		if !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := eshttp.Query(eshttp.QueryConfig[byID, int]{}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a query without a handler: %v", err)
	}
	handler, err := es.NewQueryHandler(es.QueryConfig{}, func(context.Context, string) (int, error) { return 1, nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eshttp.Query(eshttp.QueryConfig[string, int]{Handler: handler}); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("a query of a text: %v", err)
	}
	endpoint, err := eshttp.Query(eshttp.QueryConfig[string, int]{
		Handler: handler, Read: func(*http.Request) (string, error) { return "", nil },
		Body: func(n int) any { return fmt.Sprint("n is ", n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &board{T: t, handler: endpoint}
	if a := b.get("/"); a.body != "\"n is 1\"\n" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("ETag") != "" {
		t.Errorf("%s %v", a.body, a.header)
	}
	problem(t, b.get("/", eshttp.PositionName, eshttp.FormatPosition(es.Checkpoint{Position: 1})), http.StatusNotImplemented)
}

func second[T any](_ T, err error) error { return err }
