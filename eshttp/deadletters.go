package eshttp

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/deadletter"
)

// deadLetterPage is how many dead letters a page has unless its request says otherwise, and how many it has at the most.
const (
	deadLetterPage     = 50
	deadLetterPageMost = 1000
)

// DeadLetters is an administration of dead letters, to be mounted under a path of the program's choice, behind its own
// authorization:
//
//	mux.Handle("/admin/dead/", http.StripPrefix("/admin/dead", eshttp.DeadLetters(queue)))
//
//	GET  /              the letters that nobody has dealt with, the oldest first, a page at a time
//	GET  /{id}          one of them, with the message that failed
//	POST /{id}/replay   give its message to the route that failed, once more
//	POST /{id}/discard  put it aside for good
//	POST /replay        replay all that match
//	POST /discard       discard all that match
//
// The list and what is done to all are narrowed by topic, group, handler, name, stream, since and before (RFC 3339) in the query; a
// page by limit, 50 by default, and after, which is next of the page before. What is done to all wants at least one of these beside a
// limit, or all=true, and a parameter that is unknown, empty or given twice is 422, so that a slip does not discard everything. Requests
// that change something are refused when a browser sends them from another origin (http.CrossOriginProtection).
func DeadLetters(queue *deadletter.Queue) http.Handler {
	h := &deadLetters{queue: queue}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.list)
	mux.HandleFunc("GET /{id}", h.get)
	mux.HandleFunc("POST /{id}/replay", h.one(queue.Replay))
	mux.HandleFunc("POST /{id}/discard", h.one(queue.Discard))
	mux.HandleFunc("POST /replay", h.all("replayed", queue.ReplayAll))
	mux.HandleFunc("POST /discard", h.all("discarded", queue.DiscardAll))
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		WriteProblem(w, Problemf(http.StatusForbidden, "the request comes from another origin"))
	}))
	return protection.Handler(Problems(mux))
}

type deadLetters struct {
	queue *deadletter.Queue
}

// deadLetterJSON is a dead letter as it is answered.
type deadLetterJSON struct {
	ID       uuid.UUID `json:"id"`
	Handler  string    `json:"handler,omitempty"`
	Topic    string    `json:"topic,omitempty"`
	Group    string    `json:"group,omitempty"`
	Error    string    `json:"error"`
	Attempts int       `json:"attempts"`
	Time     time.Time `json:"time"`
	Name     string    `json:"name,omitempty"`
	Stream   string    `json:"stream,omitempty"`

	// These are only in the answer for one letter.
	Stack    string              `json:"stack,omitempty"`
	Original *es.RecordedMessage `json:"original,omitempty"`
	Payload  json.RawMessage     `json:"payload,omitempty"` // the data of the original, where it is JSON
}

func summary(l *deadletter.Letter) deadLetterJSON {
	answer := deadLetterJSON{
		ID: l.ID, Handler: l.Handler, Topic: l.Topic, Group: l.Group, Error: l.Error, Attempts: l.Attempts, Time: l.Time,
		Name: l.Original.Name, Stream: l.Original.Stream,
	}
	if l.Err != nil {
		answer.Error = "the dead letter itself cannot be decoded; it can only be discarded"
	}
	return answer
}

func (h *deadLetters) list(w http.ResponseWriter, r *http.Request) {
	_, f, err := deadLetterFilter(r)
	if err != nil {
		Error(w, r, err)
		return
	}
	page := struct {
		Letters []deadLetterJSON `json:"letters"`
		Next    int64            `json:"next,omitempty"` // what after takes for the next page; not there on the last one
	}{Letters: []deadLetterJSON{}}
	last, limit := int64(0), f.Limit
	f.Limit++ // one more tells whether there is another page
	for l, err := range h.queue.List(r.Context(), f) {
		if err != nil {
			Error(w, r, err)
			return
		}
		if len(page.Letters) == limit {
			page.Next = last
			break
		}
		page.Letters, last = append(page.Letters, summary(&l)), l.Version
	}
	_ = WriteJSON(w, http.StatusOK, page)
}

func (h *deadLetters) get(w http.ResponseWriter, r *http.Request) {
	id, err := deadLetterID(r)
	if err != nil {
		Error(w, r, err)
		return
	}
	l, err := h.queue.Get(r.Context(), id)
	if err != nil {
		Error(w, r, err)
		return
	}
	answer := summary(&l)
	if l.Err == nil {
		answer.Stack, answer.Original = l.Stack, &l.Original
		if l.Original.ContentType == es.ContentTypeJSON && json.Valid(l.Original.Data) {
			answer.Payload = l.Original.Data
		}
	}
	_ = WriteJSON(w, http.StatusOK, answer)
}

func (h *deadLetters) one(do func(context.Context, ...uuid.UUID) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := deadLetterID(r)
		if err == nil {
			err = do(r.Context(), id)
		}
		if err != nil {
			Error(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func (h *deadLetters) all(done string, do func(context.Context, deadletter.Filter) (int, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query, f, err := deadLetterFilter(r)
		if err != nil {
			Error(w, r, err)
			return
		}
		if f == (deadletter.Filter{Limit: f.Limit}) && query.Get("all") != "true" {
			Error(w, r, es.Invalidf("query", "selects all dead letters; narrow it by topic, group, handler, name, stream, since or before, "+
				"or say all=true"))
			return
		}
		if !query.Has("limit") {
			f.Limit = 0
		}
		n, err := do(r.Context(), f)
		answer := map[string]any{done: n}
		if err != nil {
			p := problemOf(r, err)
			if n == 0 {
				Error(w, r, err)
				return
			}
			loggerOf(r).ErrorContext(r.Context(), "only some dead letters were dealt with", done, n, "error", err)
			answer["error"] = p.Detail
		}
		_ = WriteJSON(w, http.StatusOK, answer)
	}
}

func deadLetterID(r *http.Request) (uuid.UUID, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return id, es.Invalidf("dead letter ID", "is %q; it takes a UUID, as the list shows it", r.PathValue("id"))
	}
	return id, nil
}

// deadLetterQuery reads the parameters of a request, of which none may be left aside.
func deadLetterQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, es.Invalidf("query", "cannot be read; it takes name=value, with an & between them")
	}
	for name, values := range query {
		switch name {
		case "topic", "group", "handler", "name", "stream", "since", "before", "after", "limit", "all":
		default:
			return nil, es.Invalidf("query", "has %q; it takes topic, group, handler, name, stream, since, before, after, limit and all",
				shorten(name))
		}
		if len(values) > 1 || values[0] == "" {
			return nil, es.Invalidf(name, "is empty or there more than once; it takes one value, or is left out")
		}
	}
	if all := query.Get("all"); query.Has("all") && all != "true" {
		return nil, es.Invalidf("all", "is %q; it takes true, or is left out", shorten(all))
	}
	return query, nil
}

func deadLetterFilter(r *http.Request) (url.Values, deadletter.Filter, error) {
	query, err := deadLetterQuery(r)
	if err != nil {
		return nil, deadletter.Filter{}, err
	}
	f := deadletter.Filter{
		Topic: query.Get("topic"), Group: query.Get("group"), Handler: query.Get("handler"),
		Name: query.Get("name"), Stream: query.Get("stream"), Limit: deadLetterPage,
	}
	for name, field := range map[string]*time.Time{"since": &f.Since, "before": &f.Before} {
		if !query.Has(name) {
			continue
		}
		t, err := time.Parse(time.RFC3339, query.Get(name))
		if err != nil {
			return nil, f, es.Invalidf(name, "is %q; it takes a time such as 2006-01-02T15:04:05Z", query.Get(name))
		}
		*field = t
	}
	if query.Has("after") {
		after, err := strconv.ParseInt(query.Get("after"), 10, 64)
		if err != nil || after < 0 {
			return nil, f, es.Invalidf("after", "is %q; it takes next of the page before", query.Get("after"))
		}
		f.After = after
	}
	if query.Has("limit") {
		limit, err := strconv.Atoi(query.Get("limit"))
		if err != nil || limit < 1 || limit > deadLetterPageMost {
			return nil, f, es.Invalidf("limit", "is %q; it takes a number from 1 to %d", query.Get("limit"), deadLetterPageMost)
		}
		f.Limit = limit
	}
	return query, f, nil
}
