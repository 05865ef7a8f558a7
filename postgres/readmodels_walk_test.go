package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestReadModelsDoWhatMemoryDoes makes the same calls to read models in a database and in memory, at random, and compares all that they
// answer. Revisions are compared by what they are for: whether they have changed.
func TestReadModelsDoWhatMemoryDoes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			w := &modelWalk{
				TB: t, r: rand.New(rand.NewPCG(seed, 1)), memory: memory.New().ReadModels(),
				base: openDB(t, postgres.Config{URL: pgserver.Database(t)}).ReadModels(), progress: map[string]es.Progress{},
			}
			for range 300 {
				w.step()
			}
		})
	}
}

// modelWalk makes calls to two read models.
type modelWalk struct {
	testing.TB

	r            *rand.Rand
	base, memory es.ReadModels
	progress     map[string]es.Progress
}

func (w *modelWalk) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *modelWalk) model() string { return []string{"m", "m.next", "n"}[w.r.IntN(3)] }

func (w *modelWalk) key() string {
	return []string{"a", "a-1", "a-2", "b", "b\U0010ffff", "\U0010ffff", "c c"}[w.r.IntN(7)]
}

func (w *modelWalk) step() {
	w.Helper()
	switch w.r.IntN(10) {
	case 0:
		model := w.model()
		w.same("drop", w.base.Drop(w.Context(), model), w.memory.Drop(w.Context(), model))
		delete(w.progress, model)
	case 1:
		rep := es.Replacement{Model: w.model(), With: w.model()}
		err := w.base.Switch(w.Context(), rep)
		w.same("switch", err, w.memory.Switch(w.Context(), rep))
		if err == nil {
			w.progress[rep.Model] = w.progress[rep.With]
			delete(w.progress, rep.With)
		}
	default:
		w.commit()
	}
	w.compare()
}

// commit commits the same to both. What it expects of a document is right in most cases.
func (w *modelWalk) commit() {
	w.Helper()
	var base, mem es.Commit
	model := w.model()
	for _, key := range []string{"a", "a-1", w.key()}[w.r.IntN(3):] {
		write := es.Write{Model: model, Key: key, Data: fmt.Append(nil, w.r.IntN(100)), Delete: w.r.IntN(4) == 0}
		same := write
		switch w.r.IntN(6) {
		case 0:
			write.Expect, same.Expect = es.NoStream, es.NoStream
		case 1:
			write.Expect, same.Expect = es.StreamExists, es.StreamExists
		case 2:
			wrong := int64(w.r.IntN(5) / 4)
			write.Expect = es.Exactly(w.load(w.base, model, key).Revision + wrong)
			same.Expect = es.Exactly(w.load(w.memory, model, key).Revision + wrong)
		}
		base.Writes, mem.Writes = append(base.Writes, write), append(mem.Writes, same)
	}
	if w.r.IntN(2) == 0 {
		from := w.progress[model]
		to := from
		to.Position, to.Epoch = to.Position+1, int64(w.r.IntN(3))
		switch w.r.IntN(8) {
		case 0:
			from.Generation++
		case 1:
			to = es.Progress{}
		}
		base.Progress = es.ProgressUpdate{Projection: model, From: from, To: to}
		mem.Progress = base.Progress
	}
	err := w.base.Commit(w.Context(), base)
	w.same(fmt.Sprintf("commit %+v", base), err, w.memory.Commit(w.Context(), mem))
	if err == nil && base.Progress.Projection != "" {
		w.progress[model] = base.Progress.To
	}
}

func (w *modelWalk) load(models es.ReadModels, model, key string) es.Document {
	w.Helper()
	docs, err := models.Load(w.Context(), model, key)
	w.must(err)
	return docs[0]
}

// same fails the test unless two errors are of the same kind.
func (w *modelWalk) same(what string, base, mem error) {
	w.Helper()
	for _, kind := range []error{es.ErrConflict, es.ErrInvalid, es.ErrNotFound} {
		if errors.Is(base, kind) != errors.Is(mem, kind) || (base == nil) != (mem == nil) {
			w.Fatalf("%s: %v in the database, and %v in memory", what, base, mem)
		}
	}
	if p, ok := errors.AsType[*es.ProjectionError](mem); ok {
		if got, ok := errors.AsType[*es.ProjectionError](base); !ok || *got != *p {
			w.Fatalf("%s: %v in the database, and %v in memory", what, base, mem)
		}
	}
	if r, ok := errors.AsType[*es.RevisionError](mem); ok {
		if got, ok := errors.AsType[*es.RevisionError](base); !ok || got.Model != r.Model || got.Key != r.Key || (got.Actual == 0) != (r.Actual == 0) {
			w.Fatalf("%s: %v in the database, and %v in memory", what, base, mem)
		}
	}
}

// compare fails the test unless both have the same documents and checkpoints.
func (w *modelWalk) compare() {
	w.Helper()
	for _, model := range []string{"m", "m.next", "n"} {
		q := es.ListQuery{Model: model, Limit: w.r.IntN(5)}
		if w.r.IntN(2) == 0 {
			q.Prefix = w.key()
		}
		if w.r.IntN(2) == 0 {
			q.After = w.key()
		}
		base, err := w.base.List(w.Context(), q)
		w.must(err)
		mem, err := w.memory.List(w.Context(), q)
		w.must(err)
		if got, want := withoutRevisions(base), withoutRevisions(mem); got != want {
			w.Fatalf("list %+v: %s in the database, and %s in memory", q, got, want)
		}
		p, err := w.base.Progress(w.Context(), model)
		w.must(err)
		if p != w.progress[model] {
			w.Fatalf("projection %s is at %+v, want %+v", model, p, w.progress[model])
		}
	}
}

func withoutRevisions(docs []es.Document) string {
	var b strings.Builder
	for _, doc := range docs {
		fmt.Fprintf(&b, "%q=%s %v;", doc.Key, doc.Data, doc.Revision > 0)
	}
	return b.String()
}
