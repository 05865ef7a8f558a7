package estest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// modelsMutant is read models with calls that go wrong: those that are set.
type modelsMutant struct {
	es.ReadModels

	load     func(ctx context.Context, model string, keys ...string) ([]es.Document, error)
	list     func(ctx context.Context, q es.ListQuery) ([]es.Document, error)
	commit   func(ctx context.Context, c es.Commit) error
	progress func(ctx context.Context, projection string) (es.Progress, error)
	drop     func(ctx context.Context, model string) error
	replace  func(ctx context.Context, replacements ...es.Replacement) error
}

func (m *modelsMutant) Load(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
	if m.load != nil {
		return m.load(ctx, model, keys...)
	}
	return m.ReadModels.Load(ctx, model, keys...)
}

func (m *modelsMutant) List(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
	if m.list != nil {
		return m.list(ctx, q)
	}
	return m.ReadModels.List(ctx, q)
}

func (m *modelsMutant) Commit(ctx context.Context, c es.Commit) error {
	if m.commit != nil {
		return m.commit(ctx, c)
	}
	return m.ReadModels.Commit(ctx, c)
}

func (m *modelsMutant) Progress(ctx context.Context, projection string) (es.Progress, error) {
	if m.progress != nil {
		return m.progress(ctx, projection)
	}
	return m.ReadModels.Progress(ctx, projection)
}

func (m *modelsMutant) Drop(ctx context.Context, model string) error {
	if m.drop != nil {
		return m.drop(ctx, model)
	}
	return m.ReadModels.Drop(ctx, model)
}

func (m *modelsMutant) Switch(ctx context.Context, replacements ...es.Replacement) error {
	if m.replace != nil {
		return m.replace(ctx, replacements...)
	}
	return m.ReadModels.Switch(ctx, replacements...)
}

type fencedMutant struct{ *mutantStorage[es.ReadModels] }

func (s fencedMutant) OpenFenced(t testing.TB, namespace string) (es.ReadModels, es.Leases) {
	t.Helper()
	models, b := s.open(t, memory.Config{Namespace: namespace})
	return models, b.Leases()
}

// modelsWith is a harness whose handles share what change keeps for one storage.
func modelsWith(fault storageFault, change func() func(m *modelsMutant)) estest.Harness[es.ReadModels] {
	return roleMutant[es.ReadModels]{
		role: (*memory.Backend).ReadModels, fault: fault,
		wrap: func() func(es.ReadModels, *memory.Backend) es.ReadModels {
			each := change()
			return func(r es.ReadModels, _ *memory.Backend) es.ReadModels {
				m := &modelsMutant{ReadModels: r}
				if each != nil {
					each(m)
				}
				return m
			}
		},
		with: func(s *mutantStorage[es.ReadModels]) estest.Storage[es.ReadModels] { return fencedMutant{s} },
	}
}

// modelsHunt collects the mutants of read models.
type modelsHunt struct {
	mutants []mutant[estest.Harness[es.ReadModels]]
}

func (h *modelsHunt) add(line, name string, change func(m *modelsMutant)) {
	h.shared(line, name, func() func(m *modelsMutant) { return change })
}

func (h *modelsHunt) shared(line, name string, change func() func(m *modelsMutant)) {
	h.mutants = append(h.mutants, mutant[estest.Harness[es.ReadModels]]{line, name, modelsWith(noFault, change)})
}

func (h *modelsHunt) fault(line, name string, fault storageFault) {
	none := func() func(m *modelsMutant) { return nil }
	h.mutants = append(h.mutants, mutant[estest.Harness[es.ReadModels]]{line, name, modelsWith(fault, none)})
}

// committing changes what is committed.
func committing(change func(c *es.Commit)) func(m *modelsMutant) {
	return func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			c.Writes = slices.Clone(c.Writes)
			change(&c)
			return m.ReadModels.Commit(ctx, c)
		}
	}
}

// writing changes each write.
func writing(change func(w *es.Write)) func(m *modelsMutant) {
	return committing(func(c *es.Commit) {
		for i := range c.Writes {
			change(&c.Writes[i])
		}
	})
}

// loading changes each document that is loaded.
func loading(change func(doc *es.Document)) func(m *modelsMutant) {
	return func(m *modelsMutant) {
		m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
			docs, err := m.ReadModels.Load(ctx, model, keys...)
			for i := range docs {
				change(&docs[i])
			}
			return docs, err
		}
	}
}

// inParts makes the writes of a commit one by one, and then moves the checkpoint.
func inParts(m *modelsMutant) {
	m.commit = func(ctx context.Context, c es.Commit) error {
		for _, w := range c.Writes {
			if err := m.ReadModels.Commit(ctx, es.Commit{Writes: []es.Write{w}, Fence: c.Fence}); err != nil {
				return err
			}
		}
		return m.ReadModels.Commit(ctx, es.Commit{Progress: c.Progress, Fence: c.Fence})
	}
}

func unexpecting(w *es.Write) { w.Expect = es.Any }

// everything lists all the documents of a model, for mutants that choose among them themselves.
func (m *modelsMutant) everything(ctx context.Context, model string) ([]es.Document, error) {
	return m.ReadModels.List(ctx, es.ListQuery{Model: model, Limit: 1 << 20})
}

// choosing lists what is chosen of all documents, in the order in which compare puts them.
func choosing(compare func(a, b es.Document) int, chosen func(q es.ListQuery, key string) bool) func(m *modelsMutant) {
	return func(m *modelsMutant) {
		m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
			docs, err := m.everything(ctx, q.Model)
			docs = slices.DeleteFunc(docs, func(d es.Document) bool { return !chosen(q, d.Key) })
			if compare != nil {
				slices.SortStableFunc(docs, compare)
			}
			if q.Limit == 0 {
				q.Limit = es.DefaultListLimit
			}
			return docs[:min(len(docs), q.Limit)], err
		}
	}
}

func asPromised(q es.ListQuery, key string) bool {
	return strings.HasPrefix(key, q.Prefix) && key > q.After
}

// asPattern takes a prefix for a pattern of SQL's LIKE.
func asPattern(q es.ListQuery, key string) bool {
	prefix, text := []rune(q.Prefix), []rune(key)
	if i := slices.Index(prefix, '%'); i >= 0 {
		prefix = prefix[:i]
	}
	for i, r := range prefix {
		if i >= len(text) || r != '_' && r != text[i] {
			return false
		}
	}
	return key > q.After
}

// actual makes a commit expect what is there, in a part.
func actual(part func(from *es.Progress, actual es.Progress)) func(m *modelsMutant) {
	return func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			if c.Progress.Projection != "" {
				now, err := m.ReadModels.Progress(ctx, c.Progress.Projection)
				if err != nil {
					return err
				}
				part(&c.Progress.From, now)
			}
			return m.ReadModels.Commit(ctx, c)
		}
	}
}

// setProgress puts a checkpoint in place of whatever is there.
func (m *modelsMutant) setProgress(ctx context.Context, projection string, to es.Progress) error {
	now, err := m.ReadModels.Progress(ctx, projection)
	if err != nil {
		return err
	}
	return m.ReadModels.Commit(ctx, es.Commit{Progress: es.ProgressUpdate{Projection: projection, From: now, To: to}})
}

// putAll writes documents to a model, unless there are others under their keys.
func (m *modelsMutant) putAll(ctx context.Context, model string, docs []es.Document) error {
	for _, doc := range docs {
		w := es.Write{Model: model, Key: doc.Key, Data: doc.Data, Expect: es.NoStream}
		if err := m.ReadModels.Commit(ctx, es.Commit{Writes: []es.Write{w}}); err != nil && !errors.Is(err, es.ErrConflict) {
			return err
		}
	}
	return nil
}
