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

	after int64 // the position beyond which an event is new

	mu         sync.Mutex
	meanwhile  func() error // nil when it has happened
	failed     error        // what came of it
	appended   []*es.Message
	conditions []es.Condition
	conflicts  int
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
	w.failed = w.meanwhile()
	w.meanwhile = nil
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
			if at.Position <= w.after || slices.ContainsFunc(w.appended, func(other *es.Message) bool { return other.ID == m.ID }) {
				continue // it was there before
			}
			noted := m.Clone()
			noted.Version, noted.Position = at.Version, at.Position
			news = append(news, noted)
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
	o.appended, o.conditions, o.conflicts = slices.Clone(w.appended), w.conditions, w.conflicts
	slices.SortFunc(o.appended, func(a, b *es.Message) int { return int(a.Position - b.Position) })
	return w.meanwhile != nil, w.failed
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
