package estest

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// watchedStore is a store that notes what is appended to it, and can let something happen just before the first append.
type watchedStore struct {
	es.EventStore

	after  int64                  // the position beyond which an event is new
	before map[uuid.UUID]struct{} // events that are there already and not settled, or happened meanwhile

	mu         sync.Mutex
	meanwhile  func() ([]*es.Message, error) // nil when it has happened
	failed     error                         // what came of it
	appended   []*es.Message
	noted      map[uuid.UUID]struct{} // the IDs of those
	passed     bool                   // some were appended to the store itself
	conditions []es.Condition
	conflicts  int
}

// watch begins to note what is appended to a store.
func watch(ctx context.Context, store es.EventStore) (*watchedStore, error) {
	head, err := store.Head(ctx)
	if err != nil {
		return nil, err
	}
	w := &watchedStore{EventStore: store, after: head.Position, before: map[uuid.UUID]struct{}{}, noted: map[uuid.UUID]struct{}{}}
	for m, err := range w.news(ctx) {
		if err != nil {
			return nil, err
		}
		w.before[m.ID] = struct{}{}
	}
	return w, nil
}

// news reads what the store has beyond the head that it had, settled or not.
func (w *watchedStore) news(ctx context.Context) iter.Seq2[*es.Message, error] {
	return w.Read(ctx, es.Query{After: w.after, Unsettled: true})
}

// notePassed notes what was appended to the store itself, by who has kept another handle to it.
func (w *watchedStore) notePassed(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for m, err := range w.news(ctx) {
		if err != nil {
			return err
		}
		if !has(w.before, m.ID) && !has(w.noted, m.ID) {
			w.appended = append(w.appended, m.Clone())
			w.passed = true
		}
	}
	return nil
}

// Append notes what is new.
func (w *watchedStore) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	w.happen()
	done, err := w.EventStore.Append(ctx, a)
	w.note(a, done, err)
	return done, err
}

// AppendEach notes what is new.
func (w *watchedStore) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	w.happen()
	outcomes := w.EventStore.AppendEach(ctx, as)
	for i, o := range outcomes {
		w.note(as[i], o.Appended, o.Err)
	}
	return outcomes
}

// happen does what happens meanwhile, once.
func (w *watchedStore) happen() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.meanwhile == nil {
		return
	}
	var happened []*es.Message
	happened, w.failed = w.meanwhile()
	w.meanwhile = nil
	for _, m := range happened {
		w.before[m.ID] = struct{}{}
	}
}

func (w *watchedStore) note(a es.Append, done es.Appended, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if errors.Is(err, es.ErrConflict) {
			w.conflicts++
		}
		return
	}
	place := 0
	var news []*es.Message
	for _, s := range a.Streams {
		for _, m := range s.Events {
			at := done.Places[place]
			place++
			if at.Position <= w.after || has(w.before, m.ID) || has(w.noted, m.ID) {
				continue // it was there before
			}
			noted := m.Clone()
			noted.Version, noted.Position = at.Version, at.Position
			news = append(news, noted)
			w.noted[m.ID] = struct{}{}
		}
	}
	if len(news) > 0 || place == 0 {
		w.appended = append(w.appended, news...)
		w.conditions = a.Unless
	}
}

// take moves what was noted into an outcome. It tells whether what should have happened meanwhile has not.
func (w *watchedStore) take(o *StoredOutcome) (untouched bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.appended, o.passed, o.conditions, o.conflicts = slices.Clone(w.appended), w.passed, w.conditions, w.conflicts
	slices.SortFunc(o.appended, func(a, b *es.Message) int { return int(a.Position - b.Position) })
	return w.meanwhile != nil, w.failed
}

func has[K comparable](set map[K]struct{}, key K) bool {
	_, there := set[key]
	return there
}

func byStream(messages []*es.Message) map[string][]*es.Message {
	streams := map[string][]*es.Message{}
	for _, m := range messages {
		streams[m.Stream] = append(streams[m.Stream], m)
	}
	return streams
}

func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if !yield(key, m[key]) {
				return
			}
		}
	}
}

// isCommandTag tells the tag of a command; see [es.CommandTag].
func isCommandTag(tag string) bool {
	id, found := strings.CutPrefix(tag, "command:")
	if !found {
		return false
	}
	_, err := uuid.Parse(id)
	return err == nil
}
