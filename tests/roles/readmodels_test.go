package roles_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestReadModelsDoAsTheirModel does the same to read models and to maps.
func TestReadModelsDoAsTheirModel(t *testing.T) {
	t.Parallel()
	checkOnFakeClock(t, func(t *rapid.T) {
		backend := memory.New()
		defer func() { _ = backend.Close() }() // it never fails
		m := &modelsMachine{
			models: backend.ReadModels(), leases: backend.Leases(),
			docs: map[place]es.Document{}, highest: map[place]int64{}, progress: map[string]es.Progress{},
		}
		repeat(t, map[string]func(*rapid.T){
			"":         m.look,
			"commit":   m.commit,
			"commit 2": m.commit, // twice as often as others
			"drop":     m.drop,
			"switch":   m.replace,
			"page":     m.page,
			"acquire":  m.acquire,
			"sleep":    func(*rapid.T) { time.Sleep(time.Second) },
		})
	})
}

type place struct{ model, key string }

type modelsMachine struct {
	models   es.ReadModels
	leases   es.Leases
	docs     map[place]es.Document
	highest  map[place]int64 // the highest revision that was given to a document
	progress map[string]es.Progress
	fences   []es.Lease
	written  int
}

var (
	modelNames = rapid.SampledFrom([]string{"a", "b", "c"})
	docKeys    = rapid.SampledFrom([]string{"k", "k1", "k10", "k2", "l", "lé", "\xf0\x9f\x99\x82"})
	progresses = rapid.Custom(func(t *rapid.T) es.Progress {
		return es.Progress{
			Generation: rapid.Int64Range(0, 1).Draw(t, "generation"),
			Epoch:      rapid.Int64Range(0, 1).Draw(t, "epoch"),
			Checkpoint: es.Checkpoint{
				Position:    rapid.Int64Range(0, 2).Draw(t, "position"),
				Incarnation: rapid.SampledFrom([]uuid.UUID{uuid.Nil, {1}, {2}}).Draw(t, "incarnation"),
			},
		}
	})
)

// commit draws a commit of which each part holds in some cases and in others not.
func (m *modelsMachine) commit(t *rapid.T) {
	var c es.Commit
	var refused []error // what the commit may be refused for
	for range rapid.IntRange(0, 4).Draw(t, "writes") {
		w := es.Write{Model: modelNames.Draw(t, "model"), Key: docKeys.Draw(t, "key"), Delete: rapid.Bool().Draw(t, "delete")}
		if slices.ContainsFunc(c.Writes, func(x es.Write) bool { return x.Model == w.Model && x.Key == w.Key }) {
			continue
		}
		revision := m.docs[place{w.Model, w.Key}].Revision
		w.Expect = rapid.SampledFrom([]es.Expectation{
			es.Any, es.Any, es.NoStream, es.StreamExists, es.Exactly(revision), es.Exactly(revision), es.Exactly(revision + 1),
		}).Draw(t, "expect")
		if !w.Delete {
			m.written++
			w.Data = fmt.Appendf(nil, "write %d", m.written)
		}
		if !w.Expect.Holds(revision) {
			refused = append(refused, es.ErrConflict)
		}
		c.Writes = append(c.Writes, w)
	}
	if rapid.Bool().Draw(t, "with progress") {
		projection := modelNames.Draw(t, "projection")
		c.Progress = es.ProgressUpdate{Projection: projection, From: m.progress[projection], To: progresses.Draw(t, "to")}
		if rapid.IntRange(0, 3).Draw(t, "from elsewhere") == 0 {
			c.Progress.From = progresses.Draw(t, "from")
		}
		if !c.Progress.From.Same(m.progress[projection]) {
			refused = append(refused, es.ErrConflict)
		}
	}
	if len(m.fences) > 0 && rapid.Bool().Draw(t, "with fence") {
		fence := m.fences[rapid.IntRange(max(0, len(m.fences)-2), len(m.fences)-1).Draw(t, "fence")]
		c.Fence = &fence
		if err := m.leases.Check(t.Context(), fence); err != nil {
			refused = append(refused, es.ErrLeaseLost)
		}
	}
	err := m.models.Commit(t.Context(), c)
	if len(refused) > 0 {
		if !slices.ContainsFunc(refused, func(target error) bool { return errors.Is(err, target) }) {
			t.Fatalf("commit %+v: %v, want one of %v", c, err, refused)
		}
		return
	}
	if err != nil {
		t.Fatalf("commit %+v: %v", c, err)
	}
	m.apply(t, c)
}

func (m *modelsMachine) apply(t *rapid.T, c es.Commit) {
	for _, w := range c.Writes {
		at := place{w.Model, w.Key}
		if w.Delete {
			delete(m.docs, at)
			continue
		}
		docs, err := m.models.Load(t.Context(), w.Model, w.Key)
		if err != nil {
			t.Fatal(err)
		}
		if docs[0].Revision <= m.highest[at] || string(docs[0].Data) != string(w.Data) {
			t.Fatalf("wrote %+v and loaded %+v; the revisions before went up to %d", w, docs[0], m.highest[at])
		}
		m.docs[at] = es.Document{Key: w.Key, Data: slices.Clone(w.Data), Revision: docs[0].Revision}
		m.highest[at] = docs[0].Revision
		for i := range w.Data {
			w.Data[i] = 'x' // the store has a copy
		}
	}
	if c.Progress.Projection != "" {
		m.progress[c.Progress.Projection] = c.Progress.To
	}
}

func (m *modelsMachine) of(model string) []es.Document {
	var docs []es.Document
	for at, doc := range m.docs {
		if at.model == model {
			docs = append(docs, doc)
		}
	}
	slices.SortFunc(docs, func(a, b es.Document) int { return strings.Compare(a.Key, b.Key) })
	return docs
}

func (m *modelsMachine) clear(model string) {
	maps.DeleteFunc(m.docs, func(at place, _ es.Document) bool { return at.model == model })
	delete(m.progress, model)
}

func (m *modelsMachine) drop(t *rapid.T) {
	model := modelNames.Draw(t, "model")
	if err := m.models.Drop(t.Context(), model); err != nil {
		t.Fatal(err)
	}
	m.clear(model)
}

func (m *modelsMachine) replace(t *rapid.T) {
	names := rapid.Permutation([]string{"a", "b", "c", "d"}).Draw(t, "names")
	replacements := []es.Replacement{{Model: names[0], With: names[1]}, {Model: names[2], With: names[3]}}
	replacements = replacements[:rapid.IntRange(1, 2).Draw(t, "number")]
	there := true
	for _, r := range replacements {
		there = there && (len(m.of(r.With)) > 0 || m.progress[r.With] != es.Progress{})
	}
	err := m.models.Switch(t.Context(), replacements...)
	if !there {
		if !errors.Is(err, es.ErrNotFound) {
			t.Fatalf("switched %v, and one is not there: %v", replacements, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range replacements {
		docs, progress := m.of(r.With), m.progress[r.With]
		m.clear(r.Model)
		m.clear(r.With)
		for _, doc := range docs {
			at := place{r.Model, doc.Key}
			m.docs[at] = doc
			m.highest[at] = max(m.highest[at], doc.Revision)
		}
		m.progress[r.Model] = progress
	}
}

func (m *modelsMachine) acquire(t *rapid.T) {
	owner := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "owner")
	if l, err := m.leases.Acquire(t.Context(), "projection", owner, 2*time.Second); err == nil {
		m.fences = append(m.fences, l)
	} else if !errors.Is(err, es.ErrLeaseHeld) {
		t.Fatal(err)
	}
}

func (m *modelsMachine) page(t *rapid.T) {
	q := es.ListQuery{
		Model:  modelNames.Draw(t, "model"),
		Prefix: rapid.SampledFrom([]string{"", "k", "k1", "l", "m"}).Draw(t, "prefix"),
		After:  rapid.OneOf(docKeys, rapid.SampledFrom([]string{"", "a", "k11", "zz"})).Draw(t, "after"),
		Limit:  rapid.IntRange(0, 4).Draw(t, "limit"),
	}
	want := slices.DeleteFunc(m.of(q.Model), func(doc es.Document) bool {
		return !strings.HasPrefix(doc.Key, q.Prefix) || doc.Key <= q.After
	})
	if q.Limit > 0 {
		want = want[:min(len(want), q.Limit)]
	}
	m.list(t, q, want)
}

func (m *modelsMachine) list(t *rapid.T, q es.ListQuery, want []es.Document) {
	got, err := m.models.List(t.Context(), q)
	if err != nil || !slices.EqualFunc(got, want, sameDocument) {
		t.Fatalf("list %+v: %v, %v; want %v", q, got, err, want)
	}
}

func sameDocument(a, b es.Document) bool {
	return a.Key == b.Key && string(a.Data) == string(b.Data) && a.Revision == b.Revision
}

// look compares all that there is.
func (m *modelsMachine) look(t *rapid.T) {
	for _, model := range []string{"a", "b", "c", "d"} {
		m.list(t, es.ListQuery{Model: model}, m.of(model))
		if got, err := m.models.Progress(t.Context(), model); err != nil || got != m.progress[model] {
			t.Fatalf("projection %s is at %+v, %v; want %+v", model, got, err, m.progress[model])
		}
	}
}
