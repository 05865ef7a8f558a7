package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ReadModels is the read models of a namespace. It is an [es.ReadModels].
type ReadModels struct {
	handle *handle
	tables *modelTables
}

var _ es.ReadModels = (*ReadModels)(nil)

// modelTables has the read models of a namespace and the checkpoints of its projections. Lock order: its own, then that of
// the leases.
type modelTables struct {
	leases *leaseTable

	mu       sync.RWMutex
	models   map[string]*modelTable // those that have documents
	progress map[string]es.Progress // those that are not zero
	// revision is the last one that was given to a document of any model. One counter for all keeps revisions from being
	// given twice without remembering what was deleted, dropped or switched.
	revision int64
}

func newModelTables(leases *leaseTable) *modelTables {
	return &modelTables{leases: leases, models: map[string]*modelTable{}, progress: map[string]es.Progress{}}
}

// Load returns a document for each key. All of them are as they were at one moment.
func (r *ReadModels) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	if err := r.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.handle.leave()
	if err := es.ValidateName("model", model); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := es.ValidateKey(key); err != nil {
			return nil, err
		}
	}
	docs := make([]es.Document, len(keys))
	t := r.tables
	t.mu.RLock()
	defer t.mu.RUnlock()
	table := t.models[model]
	for i, key := range keys {
		docs[i].Key = key
		if doc := table.get(key); doc != nil {
			docs[i] = doc.Document
		}
	}
	return docs, nil
}

// List returns a page of documents in bytewise order of their keys. It costs what the page has, and the logarithm of what
// the model has.
func (r *ReadModels) List(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
	if err := r.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer r.handle.leave()
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = es.DefaultListLimit
	}
	t := r.tables
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.models[q.Model].list(q.Prefix, q.After, q.Limit), nil
}

// Progress returns the checkpoint of a projection; zero when it has none yet.
func (r *ReadModels) Progress(ctx context.Context, projection string) (es.Progress, error) {
	if err := r.handle.begin(ctx); err != nil {
		return es.Progress{}, err
	}
	defer r.handle.leave()
	if err := es.ValidateName("projection", projection); err != nil {
		return es.Progress{}, err
	}
	t := r.tables
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.progress[projection], nil
}

// Commit makes all its changes in one step, or none.
func (r *ReadModels) Commit(ctx context.Context, c es.Commit) error {
	if err := r.handle.begin(ctx); err != nil {
		return err
	}
	defer r.handle.leave()
	if err := c.Validate(); err != nil {
		return err
	}
	data := make([][]byte, len(c.Writes)) // copied outside the lock
	for i, w := range c.Writes {
		if !w.Delete {
			data[i] = bytes.Clone(w.Data)
		}
	}
	t := r.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.check(c); err != nil {
		return err
	}
	for i, w := range c.Writes {
		t.write(w, data[i])
	}
	if c.Progress.Projection != "" {
		t.setProgress(c.Progress.Projection, c.Progress.To)
	}
	return nil
}

// check tells whether all that a commit takes for granted holds. A document is there once, so no write of the commit changes
// what another one expects.
func (t *modelTables) check(c es.Commit) error {
	if c.Fence != nil {
		if err := t.leases.check(*c.Fence); err != nil {
			return fmt.Errorf("fence: %w", err)
		}
	}
	if p := c.Progress; p.Projection != "" {
		if actual := t.progress[p.Projection]; !actual.Same(p.From) {
			return &es.ProjectionError{Projection: p.Projection, Expected: p.From, Actual: actual}
		}
	}
	for _, w := range c.Writes {
		var revision int64
		if doc := t.models[w.Model].get(w.Key); doc != nil {
			revision = doc.Revision
		}
		if !w.Expect.Holds(revision) {
			return &es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: revision}
		}
	}
	return nil
}

// write makes one write of a commit. The data is the table's to keep.
func (t *modelTables) write(w es.Write, data []byte) {
	table := t.models[w.Model]
	if w.Delete {
		if table.delete(w.Key); table.len() == 0 {
			delete(t.models, w.Model)
		}
		return
	}
	if table == nil {
		table = newModelTable()
		t.models[w.Model] = table
	}
	t.revision++
	table.put(w.Key, data, t.revision)
}

func (t *modelTables) setProgress(projection string, to es.Progress) {
	if to == (es.Progress{}) {
		delete(t.progress, projection)
		return
	}
	t.progress[projection] = to
}

// Drop removes a model, and the checkpoint of the projection of that name.
func (r *ReadModels) Drop(ctx context.Context, model string) error {
	if err := r.handle.begin(ctx); err != nil {
		return err
	}
	defer r.handle.leave()
	if err := es.ValidateName("model", model); err != nil {
		return err
	}
	t := r.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.models, model)
	delete(t.progress, model)
	return nil
}

// Switch puts models that were built aside into the place of those that are read, all in one step. A name that is there twice
// is [es.ErrInvalid]: the replacements would depend on their order. The documents keep the revisions they were built with.
func (r *ReadModels) Switch(ctx context.Context, replacements ...es.Replacement) error {
	if err := r.handle.begin(ctx); err != nil {
		return err
	}
	defer r.handle.leave()
	if err := validateReplacements(replacements); err != nil {
		return err
	}
	t := r.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, rep := range replacements {
		_, progressed := t.progress[rep.With]
		if t.models[rep.With] == nil && !progressed {
			return fmt.Errorf("replacement %q of model %q has neither documents nor a checkpoint: %w",
				rep.With, rep.Model, es.ErrNotFound)
		}
	}
	for _, rep := range replacements {
		move(t.models, rep.Model, rep.With)
		move(t.progress, rep.Model, rep.With)
	}
	return nil
}

// move puts what stands under one name under another, in place of what was there.
func move[V any](m map[string]V, to, from string) {
	delete(m, to)
	if v, ok := m[from]; ok {
		m[to] = v
		delete(m, from)
	}
}

func validateReplacements(replacements []es.Replacement) error {
	seen := make(map[string]struct{}, 2*len(replacements))
	for _, rep := range replacements {
		for _, name := range [...]string{rep.Model, rep.With} {
			if err := es.ValidateName("model", name); err != nil {
				return err
			}
			if _, twice := seen[name]; twice {
				return es.Invalidf("switch", "has model %q twice; each is replaced once, by another", name)
			}
			seen[name] = struct{}{}
		}
	}
	return nil
}
