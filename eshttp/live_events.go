package eshttp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// LiveEventsConfig says which events a [LiveEvents] shows. Live and Query are required.
type LiveEventsConfig struct {
	Live *Live
	// Query returns which events a request is shown: by category, names and tags. Its error is answered as [Error] does. Bounds, a
	// limit, a stream and an order are not for it to say, and are es.ErrInvalid.
	Query func(r *http.Request) (es.Query, error)
	// View returns what is told of an event, as JSON; by default a [LiveEvent].
	View func(m *es.Message) any
	// FromBeginning has receivers without a position be shown all that there is; by default they are shown what comes from now on.
	FromBeginning bool
}

// LiveEvent is what receivers are told of an event. Its metadata, tags and causes are left out: they may speak of the inside.
type LiveEvent struct {
	ID      uuid.UUID       `json:"id"`
	Name    string          `json:"name"`
	Stream  string          `json:"stream"`
	Version int64           `json:"version"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data,omitempty"`  // when it is JSON
	Bytes   []byte          `json:"bytes,omitempty"` // and otherwise, in base64
}

// NewLiveEvent returns what is told of a message.
func NewLiveEvent(m *es.Message) LiveEvent {
	e := LiveEvent{ID: m.ID, Name: m.Name, Stream: m.Stream, Version: m.Version, Time: m.Time}
	if json.Valid(m.Data) {
		e.Data = m.Data
	} else {
		e.Bytes = m.Data
	}
	return e
}

// LiveEvents returns a handler that shows the events of the store as they come, in the global order, as server-sent events. The ID of
// each is its position: a receiver that comes back with it, in Last-Event-ID, or that names another in the header or parameter
// [PositionName], is shown every event behind it exactly once. A position of another store is answered with 409.
//
// Each stream reads for itself, from where its receiver is, when Live says that there is more.
func LiveEvents(config LiveEventsConfig) (http.Handler, error) {
	switch {
	case config.Live == nil:
		return nil, es.Invalidf("live events", "have no Live")
	case config.Query == nil:
		return nil, es.Invalidf("live events", "have no Query; give it the function that says which events may be shown")
	}
	if config.View == nil {
		config.View = func(m *es.Message) any { return NewLiveEvent(m) }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, err := config.source(r)
		if err != nil {
			Error(w, r, err)
			return
		}
		config.Live.serve(w, r, from)
	}), nil
}

// source makes the source of what a request is shown.
func (c LiveEventsConfig) source(r *http.Request) (*eventSource, error) {
	q, err := c.Query(r)
	if err != nil {
		return nil, err
	}
	if q.Stream != "" || q.After != 0 || q.UpTo != 0 || q.Limit != 0 || q.Reverse || q.Unsettled {
		return nil, es.Invalidf("query of live events", "has more than a category, names, tags and criteria")
	}
	s := &eventSource{events: c.Live.config.Events, query: q, view: c.View, fromNow: !c.FromBeginning}
	last := r.Header.Get("Last-Event-ID")
	if last != "" {
		s.at, err = ParsePosition(last)
	} else {
		s.at, err = requestedPosition(r)
	}
	s.fromNow = s.fromNow && s.at == es.Checkpoint{}
	return s, err
}

// eventSource is the source of one stream of events.
type eventSource struct {
	events  es.EventStore
	query   es.Query
	view    func(*es.Message) any
	fromNow bool
	at      es.Checkpoint // what its receiver has
}

func (s *eventSource) open(ctx context.Context, p pulse) error {
	if s.fromNow {
		var err error
		s.at, err = s.events.Head(ctx)
		return err
	}
	if s.at.Position > 0 {
		q := s.query.Resume(s.at)
		q.Limit = 1
		for _, err := range s.events.Read(ctx, q) { // whether it can be resumed there
			if err != nil {
				return err
			}
		}
	}
	s.at.Incarnation = p.at.Incarnation
	return nil
}

func (s *eventSource) news(ctx context.Context, p pulse, send func([]byte) error) error {
	for p.at.Position > s.at.Position || p.at.Incarnation != s.at.Incarnation {
		text, err := s.page(ctx, p)
		if len(text) > 0 {
			err = cmp.Or(send(text), err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// page reads on, until there is enough to be sent or nothing more, and moves to behind that. It does not send: its receiver may take
// long, and a read takes up the store. What it has read before an error can be sent.
func (s *eventSource) page(ctx context.Context, p pulse) (text []byte, _ error) {
	const enough = 32 << 10 // bytes that are worth a write of their own
	q := s.query.Resume(s.at)
	q.UpTo = p.at.Position
	for m, err := range s.events.Read(ctx, q) {
		if err != nil {
			return text, err
		}
		data, err := encode(s.view(m))
		if err != nil {
			return text, fmt.Errorf("show event %s: %w", m.ID, err)
		}
		s.at = es.Checkpoint{Incarnation: p.at.Incarnation, Position: m.Position}
		if text = appendEvent(text, s.place(), "", data); len(text) >= enough {
			return text, nil
		}
	}
	s.at = p.at
	return text, nil
}

// place tells how far the events were looked at, also when none was shown.
func (s *eventSource) place() string { return FormatPosition(s.at) }
