package component

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ReadModels is a read-model store in maps under one lock. It keeps every promise of [es.ReadModels] but the fence: it has no
// leases beside it.
type ReadModels struct {
	mu       sync.Mutex
	closed   bool
	revision int64 // the last one given out, over all documents, so that none comes twice
	models   map[string]map[string]es.Document
	progress map[string]es.Progress // of projections that have any
}

var _ es.ReadModels = (*ReadModels)(nil)

// NewReadModels returns an empty store.
func NewReadModels() *ReadModels {
	return &ReadModels{models: map[string]map[string]es.Document{}, progress: map[string]es.Progress{}}
}

// call does what a method does, under the lock, unless the store is closed, the context has ended, or the input is wrong.
func (r *ReadModels) call(ctx context.Context, invalid error, do func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return es.ErrClosed
	}
	if err := cmp.Or(ctx.Err(), invalid); err != nil {
		return err
	}
	return do()
}

// Load implements [es.ReadModels].
func (r *ReadModels) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	docs := make([]es.Document, len(keys))
	err := r.call(ctx, validateKeys(model, keys), func() error {
		for i, key := range keys {
			docs[i] = r.models[model][key]
			docs[i].Key = key // also of a document that is not there
		}
		return nil
	})
	return docs, err
}

// List implements [es.ReadModels].
func (r *ReadModels) List(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
	limit := cmp.Or(q.Limit, es.DefaultListLimit)
	var docs []es.Document
	err := r.call(ctx, q.Validate(), func() error {
		for _, key := range slices.Sorted(maps.Keys(r.models[q.Model])) { // strings compare bytewise
			if key > q.After && strings.HasPrefix(key, q.Prefix) && len(docs) < limit {
				docs = append(docs, r.models[q.Model][key])
			}
		}
		return nil
	})
	return docs, err
}

// Commit implements [es.ReadModels]. Everything is checked before anything is written.
func (r *ReadModels) Commit(ctx context.Context, c es.Commit) error {
	return r.call(ctx, c.Validate(), func() error {
		if c.Fence != nil {
			return es.ErrUnsupported
		}
		for _, w := range c.Writes {
			if actual := r.models[w.Model][w.Key].Revision; !w.Expect.Holds(actual) {
				return &es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: actual}
			}
		}
		if p := c.Progress; p.Projection != "" {
			if actual := r.progress[p.Projection]; !actual.Same(p.From) {
				return &es.ProjectionError{Projection: p.Projection, Expected: p.From, Actual: actual}
			}
			r.progress[p.Projection] = p.To
		}
		for _, w := range c.Writes {
			r.write(w)
		}
		return nil
	})
}

func (r *ReadModels) write(w es.Write) {
	if w.Delete {
		delete(r.models[w.Model], w.Key)
		return
	}
	if r.models[w.Model] == nil {
		r.models[w.Model] = map[string]es.Document{}
	}
	r.revision++
	r.models[w.Model][w.Key] = es.Document{Key: w.Key, Data: slices.Clone(w.Data), Revision: r.revision}
}

// Progress implements [es.ReadModels].
func (r *ReadModels) Progress(ctx context.Context, projection string) (p es.Progress, err error) {
	err = r.call(ctx, es.ValidateName("projection", projection), func() error {
		p = r.progress[projection]
		return nil
	})
	return p, err
}

// Drop implements [es.ReadModels].
func (r *ReadModels) Drop(ctx context.Context, model string) error {
	return r.call(ctx, es.ValidateName("model", model), func() error {
		delete(r.models, model)
		delete(r.progress, model)
		return nil
	})
}

// Switch implements [es.ReadModels]. Names that are there twice are refused: what they mean would depend on their order.
func (r *ReadModels) Switch(ctx context.Context, replacements ...es.Replacement) error {
	return r.call(ctx, validateSwitch(replacements), func() error {
		for _, s := range replacements {
			if len(r.models[s.With]) == 0 && r.progress[s.With] == (es.Progress{}) {
				return es.ErrNotFound
			}
		}
		for _, s := range replacements {
			r.models[s.Model], r.progress[s.Model] = r.models[s.With], r.progress[s.With]
			delete(r.models, s.With)
			delete(r.progress, s.With)
		}
		return nil
	})
}

func validateKeys(model string, keys []string) error {
	for _, key := range keys {
		if err := es.ValidateKey(key); err != nil {
			return err
		}
	}
	return es.ValidateName("model", model)
}

func validateSwitch(replacements []es.Replacement) error {
	var names []string
	for _, s := range replacements {
		for _, name := range []string{s.Model, s.With} {
			if err := es.ValidateName("model", name); err != nil {
				return err
			}
			if slices.Contains(names, name) {
				return es.Invalidf("switch", "has model %q twice", name)
			}
			names = append(names, name)
		}
	}
	return nil
}

// Close ends the store: every later call is [es.ErrClosed].
func (r *ReadModels) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}
