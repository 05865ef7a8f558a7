package eshttp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// LiveStateConfig says what a [LiveState] shows. Live and Load are required.
type LiveStateConfig[T any] struct {
	Live *Live
	// Key returns which state a request is about, the ID in its path for example; by default there is only one, under the empty
	// key. All who ask for a key are shown the same: what depends on the sender belongs into the key. Its error is answered as
	// [Error] does.
	Key func(r *http.Request) (string, error)
	// Load returns the state under a key as it is now, to be told as JSON. It is called once for all who are shown that key, when
	// something was appended to the store, and at most once every [LiveConfig].Interval. An error is answered as [Error] does when
	// it comes first; later es.ErrNotFound is told as an event of the type "gone", and any other ends the stream.
	Load func(ctx context.Context, key string) (T, error)
}

// liveState has a topic for each key that somebody is shown.
type liveState[T any] struct {
	config LiveStateConfig[T]

	mu     sync.Mutex
	topics map[string]*topic[T]
}

// LiveState returns a handler that shows a state, and then each change of it, as server-sent events: its receiver is an EventSource,
// in a browser, or anything that reads text/event-stream.
//
// Each event has the whole state, so that whoever is slow, or was away, is sent the last one and none of those before. The ID of an
// event is the position of the store up to which everything is in it, see [FormatPosition], a "." and a digest of the state. A receiver
// that comes back with it, in Last-Event-ID, is sent the state at once only if that is another one.
func LiveState[T any](config LiveStateConfig[T]) (http.Handler, error) {
	switch {
	case config.Live == nil:
		return nil, es.Invalidf("live state", "has no Live")
	case config.Load == nil:
		return nil, es.Invalidf("live state", "has no Load; give it the function that reads the state")
	}
	if config.Key == nil {
		config.Key = func(*http.Request) (string, error) { return "", nil }
	}
	return &liveState[T]{config: config, topics: map[string]*topic[T]{}}, nil
}

func (s *liveState[T]) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, err := s.config.Key(r)
	if err != nil {
		Error(w, r, err)
		return
	}
	t := s.enter(key)
	defer s.leave(t)
	_, seen, _ := strings.Cut(r.Header.Get("Last-Event-ID"), ".")
	s.config.Live.serve(w, r, &stateSource[T]{topic: t, seen: seen})
}

func (s *liveState[T]) enter(key string) *topic[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[key]
	if t == nil {
		t = &topic[T]{key: key, load: s.config.Load, turn: make(chan struct{}, 1)}
		s.topics[key] = t
	}
	t.users++
	return t
}

func (s *liveState[T]) leave(t *topic[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.users--; t.users == 0 {
		delete(s.topics, t.key)
	}
}

// topic is the state under a key, as it was loaded last.
type topic[T any] struct {
	key   string
	load  func(ctx context.Context, key string) (T, error)
	users int // counted by the liveState

	turn   chan struct{} // holds a token while somebody uses what follows
	loaded int           // the number of the pulse after which it was loaded
	frame  *frame
}

// frame is a state as it is sent. It is shared and read-only.
type frame struct {
	digest string // of the data
	text   []byte // the event
	gone   bool   // there is no state any more
}

// at returns the state as it is after a pulse. The first of those who ask for it loads it; the others wait for that, and one of them
// goes on where the first has gone away.
func (t *topic[T]) at(ctx context.Context, p pulse) (*frame, error) {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-t.turn }()
	if t.loaded >= p.number {
		return t.frame, nil
	}
	state, err := t.load(ctx, t.key)
	kind, data := "", []byte("null")
	switch {
	case err == nil:
		data, err = encode(state)
	case errors.Is(err, es.ErrNotFound) && t.frame != nil:
		kind, err = "gone", nil
	}
	if err != nil {
		return nil, err
	}
	t.loaded = p.number
	sum := sha256.Sum256(append(slices.Clip(data), kind...))
	if digest := hex.EncodeToString(sum[:8]); t.frame == nil || t.frame.digest != digest {
		t.frame = &frame{digest: digest, text: appendEvent(nil, FormatPosition(p.at)+"."+digest, kind, data), gone: kind != ""}
	}
	return t.frame, nil
}

// stateSource is the source of one stream of a topic.
type stateSource[T any] struct {
	topic *topic[T]
	seen  string // the digest of the last state that its receiver has
}

func (s *stateSource[T]) open(ctx context.Context, p pulse) error {
	f, err := s.topic.at(ctx, p)
	if err == nil && f.gone {
		return es.ErrNotFound
	}
	return err
}

func (s *stateSource[T]) news(ctx context.Context, p pulse, send func([]byte) error) error {
	f, err := s.topic.at(ctx, p)
	if err != nil || f.digest == s.seen {
		return err
	}
	s.seen = f.digest
	return send(f.text)
}

func (s *stateSource[T]) place() string { return "" }
