package eshttp

import (
	"net/http"
	"strconv"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// QueryConfig says how requests become queries of type Q, and answers of type R are told. Handler is required.
type QueryConfig[Q, R any] struct {
	Handler *es.QueryHandler[Q, R]
	// Read makes the query of a request; [Parameters] by default, which reads the path and the query parameters. Its error is
	// answered as [Error] does.
	Read func(r *http.Request) (Q, error)
	// Revision returns what changes with every change of the answer, of printable ASCII without quotes, and is empty when it is
	// not known, as by default. It becomes the ETag.
	Revision func(answer R) string
	// Body returns what is told, as JSON; by default the answer itself.
	Body func(answer R) any
}

type queryEndpoint[Q, R any] struct{ config QueryConfig[Q, R] }

// Query returns a handler of GET that makes a query of a request and answers with JSON.
//
//   - With a position, of the answer to a command, in the header or parameter [PositionName] it waits until what it answers from has
//     come so far: who has changed something sees it. When that takes too long the answer is 503 with a Retry-After, and for a
//     position of another store it is 409.
//   - An answer with a revision has an ETag, and is 304 when the request has the same one in its If-None-Match.
//
// Errors are told as [Error] does. The error of Query itself is es.ErrInvalid, also for a Q that [Parameters] cannot read.
func Query[Q, R any](config QueryConfig[Q, R]) (http.Handler, error) {
	if config.Handler == nil {
		return nil, es.Invalidf("query endpoint", "has no Handler")
	}
	if config.Read == nil {
		read, err := Parameters[Q]()
		if err != nil {
			return nil, err
		}
		config.Read = read
	}
	if config.Revision == nil {
		config.Revision = func(R) string { return "" }
	}
	if config.Body == nil {
		config.Body = func(answer R) any { return answer }
	}
	return &queryEndpoint[Q, R]{config}, nil
}

// QueryItem is a [Query] that is answered with a document of a read model, such as [es.FromModel] gives: its value is told, and its
// revision is the ETag. That has an "r" before the number, so that it is not taken for the version of a stream, which is what the
// If-Match of a [Command] is about.
func QueryItem[Q, T any](handler *es.QueryHandler[Q, es.Item[T]]) (http.Handler, error) {
	return Query(QueryConfig[Q, es.Item[T]]{
		Handler:  handler,
		Revision: func(item es.Item[T]) string { return "r" + strconv.FormatInt(item.Revision, 10) },
		Body:     func(item es.Item[T]) any { return item.Value },
	})
}

func (e *queryEndpoint[Q, R]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !readOnly(w, r) {
		return
	}
	found, err := e.ask(r)
	if err != nil {
		Error(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if revision := e.config.Revision(found); revision != "" {
		tag := `"` + revision + `"`
		h.Set("ETag", tag)
		h.Set("Cache-Control", "private, no-cache") // it may be kept, and is asked about before it is used again
		if noneMatch(r.Header, tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	answer(w, r, http.StatusOK, e.config.Body(found))
}

func (e *queryEndpoint[Q, R]) ask(r *http.Request) (R, error) {
	var none R
	q, err := e.config.Read(r)
	if err != nil {
		return none, err
	}
	after, err := requestedPosition(r)
	if err != nil {
		return none, err
	}
	return e.config.Handler.AskAfter(r.Context(), q, after)
}

// readOnly tells whether a request only asks for something. Any other is answered.
func readOnly(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	WriteProblem(w, Problemf(http.StatusMethodNotAllowed, "the method %s is not allowed here; this path takes GET and HEAD",
		shorten(r.Method)))
	return false
}

// noneMatch tells whether the sender of a request has what a tag stands for already (RFC 9110, section 13.1.2).
func noneMatch(h http.Header, tag string) bool {
	given := strings.Join(h.Values("If-None-Match"), ",")
	if given == "*" {
		return true
	}
	for { // a tag may have commas in it, and no quotes
		quoted, ok := strings.CutPrefix(strings.TrimPrefix(strings.TrimLeft(given, " \t,"), "W/"), `"`)
		opaque, rest, closed := strings.Cut(quoted, `"`)
		if !ok || !closed {
			return false
		}
		if `"`+opaque+`"` == tag {
			return true
		}
		given = rest
	}
}
