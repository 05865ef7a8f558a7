package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// TestReadModelsDoWhatMemoryDoes makes the same calls to read models in a file and in memory, at random, and compares all that they
// answer. Revisions are compared by what they are for: whether they have changed.
func TestReadModelsDoWhatMemoryDoes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			w := &modelWalk{
				TB: t, r: rand.New(rand.NewPCG(seed, 1)),
				file: newStore(t).ReadModels(), memory: memory.New().ReadModels(), progress: map[string]es.Progress{},
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
	file, memory es.ReadModels
	progress     map[string]es.Progress
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
		w.same("drop", w.file.Drop(w.Context(), model), w.memory.Drop(w.Context(), model))
		delete(w.progress, model)
	case 1:
		rep := es.Replacement{Model: w.model(), With: w.model()}
		err := w.file.Switch(w.Context(), rep)
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
	var file, mem es.Commit
	model := w.model()
	for _, key := range []string{"a", "a-1", w.key()}[w.r.IntN(3):] {
		write := es.Write{Model: model, Key: key, Data: fmt.Append(nil, w.r.IntN(100)), Delete: w.r.IntN(4) == 0}
		file.Writes, mem.Writes = append(file.Writes, write), append(mem.Writes, write)
		switch w.r.IntN(6) {
		case 0:
			file.Writes[len(file.Writes)-1].Expect, mem.Writes[len(mem.Writes)-1].Expect = es.NoStream, es.NoStream
		case 1:
			file.Writes[len(file.Writes)-1].Expect, mem.Writes[len(mem.Writes)-1].Expect = es.StreamExists, es.StreamExists
		case 2:
			wrong := int64(w.r.IntN(5) / 4)
			file.Writes[len(file.Writes)-1].Expect = es.Exactly(w.load(w.file, model, key).Revision + wrong)
			mem.Writes[len(mem.Writes)-1].Expect = es.Exactly(w.load(w.memory, model, key).Revision + wrong)
		}
	}
	if w.r.IntN(2) == 0 {
		from := w.progress[model]
		to := from
		to.Position, to.Epoch = to.Position+1, int64(w.r.IntN(3))
		if w.r.IntN(8) == 0 {
			from.Generation++
		}
		file.Progress = es.ProgressUpdate{Projection: model, From: from, To: to}
		mem.Progress = file.Progress
	}
	err := w.file.Commit(w.Context(), file)
	w.same(fmt.Sprintf("commit %+v", file), err, w.memory.Commit(w.Context(), mem))
	if err == nil && file.Progress.Projection != "" {
		w.progress[model] = file.Progress.To
	}
}

func (w *modelWalk) load(models es.ReadModels, model, key string) es.Document {
	w.Helper()
	docs, err := models.Load(w.Context(), model, key)
	must(w, err)
	return docs[0]
}

// same fails the test unless two errors are of the same kind.
func (w *modelWalk) same(what string, file, mem error) {
	w.Helper()
	for _, kind := range []error{es.ErrConflict, es.ErrInvalid, es.ErrNotFound} {
		if errors.Is(file, kind) != errors.Is(mem, kind) || (file == nil) != (mem == nil) {
			w.Fatalf("%s: %v in the file, and %v in memory", what, file, mem)
		}
	}
	if p, ok := errors.AsType[*es.ProjectionError](mem); ok {
		if got, ok := errors.AsType[*es.ProjectionError](file); !ok || *got != *p {
			w.Fatalf("%s: %v in the file, and %v in memory", what, file, mem)
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
		file, err := w.file.List(w.Context(), q)
		must(w, err)
		mem, err := w.memory.List(w.Context(), q)
		must(w, err)
		if got, want := withoutRevisions(file), withoutRevisions(mem); got != want {
			w.Fatalf("list %+v: %s in the file, and %s in memory", q, got, want)
		}
		p, err := w.file.Progress(w.Context(), model)
		must(w, err)
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
