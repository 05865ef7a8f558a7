package sqlite_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// documents makes writes of so many documents, each of which says a word.
func documents(model string, n int, word string) []es.Write {
	writes := make([]es.Write, n)
	for i := range writes {
		writes[i] = es.Write{Model: model, Key: fmt.Sprintf("key-%06d", i), Data: []byte(word)}
	}
	return writes
}

func project(t testing.TB, models es.ReadModels, writes ...es.Write) {
	t.Helper()
	must(t, models.Commit(t.Context(), es.Commit{Writes: writes}))
}

// fillModel puts so many documents into a model.
func fillModel(t testing.TB, models es.ReadModels, model string, n int) {
	t.Helper()
	const most = 1000
	for writes := documents(model, n, "x"); len(writes) > 0; writes = writes[min(most, len(writes)):] {
		project(t, models, writes[:min(most, len(writes))]...)
	}
}

func listModel(t testing.TB, models es.ReadModels, model string) []es.Document {
	t.Helper()
	docs, err := models.List(t.Context(), es.ListQuery{Model: model, Limit: 1 << 30})
	must(t, err)
	return docs
}

const (
	countDocuments = "SELECT count(*) FROM es_documents_1"
	countHidden    = "SELECT count(*) FROM es_models_1 WHERE name IS NULL"
)

// TestRevisionsNeverComeBack opens a file again and again. Whatever was deleted, dropped, switched or left out by a commit that failed,
// each document that is written has a higher revision than any document before.
func TestRevisionsNeverComeBack(t *testing.T) {
	t.Parallel()
	config := sqlite.Config{Path: tempFile(t)}
	last := int64(0)
	for range 3 {
		db, err := sqlite.Open(config)
		must(t, err)
		models := db.ReadModels()
		for _, then := range []func() error{
			func() error { return nil },
			func() error {
				return models.Commit(t.Context(), es.Commit{Writes: []es.Write{{Model: "m", Key: "key-000001", Delete: true}}})
			},
			func() error { return models.Drop(t.Context(), "m") },
			func() error {
				project(t, models, documents("aside", 2, "new")...)
				return models.Switch(t.Context(), es.Replacement{Model: "m", With: "aside"})
			},
		} {
			project(t, models, documents("m", 2, "x")...)
			for _, doc := range listModel(t, models, "m") {
				if doc.Revision <= last {
					t.Fatalf("revision %d of %s follows %d", doc.Revision, doc.Key, last)
				}
				last = doc.Revision
			}
			must(t, then())
			for _, doc := range listModel(t, models, "m") {
				last = max(last, doc.Revision)
			}
		}
		must(t, db.Close())
	}
}

// TestDroppedDocumentsAreRemovedInSlices drops and switches models of several slices. The next call sees nothing of what was there, and
// the file gets rid of it.
func TestDroppedDocumentsAreRemovedInSlices(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	models := db.ReadModels()
	fillModel(t, models, "m", 1000)
	must(t, models.Drop(t.Context(), "m"))
	if docs := listModel(t, models, "m"); len(docs) > 0 {
		t.Fatalf("a model that was dropped has %d documents", len(docs))
	}
	project(t, models, documents("m", 3, "new")...)
	fillModel(t, models, "aside", 1000)
	must(t, models.Switch(t.Context(), es.Replacement{Model: "m", With: "aside"}))
	must(t, models.Switch(t.Context(), es.Replacement{Model: "n", With: "m"}))
	db.AwaitSweep()
	wantRows(t, db, 1, countDocuments, "1000")
	wantRows(t, db, 1, "SELECT name FROM es_models_1", "n")
}

// TestASliceEndsWithLargeDocuments drops documents of which two make a slice.
func TestASliceEndsWithLargeDocuments(t *testing.T) {
	t.Parallel()
	db := newStore(t)
	project(t, db.ReadModels(), documents("m", 6, strings.Repeat("x", 600<<10))...)
	var left []string
	for range 4 {
		left = append(left, rows(t, db, 1, countDocuments))
		must(t, db.SweepSlice("m"))
	}
	if want := []string{"6", "4", "2", "0"}; !slices.Equal(left, want) {
		t.Fatalf("after each slice there were %q documents left, want %q", left, want)
	}
}

// TestASweepThatWasCutGoesOn kills the program at moments of a drop and of what follows it. The model is there or not, and whole; and
// when the file is opened again, what nobody sees is removed.
func TestASweepThatWasCutGoesOn(t *testing.T) {
	t.Parallel()
	const stored = 900
	disk, db := newDiskStore(t)
	fillModel(t, db.ReadModels(), "m", stored)
	fillModel(t, db.ReadModels(), "kept", 3)
	before := disk.Moment()
	must(t, db.ReadModels().Drop(t.Context(), "m"))
	db.AwaitSweep()
	after := disk.Moment()
	partly := 0
	const moments = 8
	for i := range moments {
		killed := disk.KillAt(before + (after-before)*i/(moments-1))
		config := onDisk(killed)
		config.Namespace = "onlooker" // which removes nothing of another namespace
		onlooker := openStore(t, config)
		left, err := strconv.Atoi(rows(t, onlooker, 1, countDocuments))
		must(t, err)
		must(t, onlooker.Close())
		again := openStore(t, onDisk(killed))
		there := len(listModel(t, again.ReadModels(), "m"))
		if there != 0 && there != stored {
			t.Fatalf("%d of %d documents are seen", there, stored)
		}
		if there == 0 && left > 3 && left < stored {
			partly++
		}
		project(t, again.ReadModels(), documents("m", 2, "new")...)
		again.AwaitSweep()
		want := 3 + max(2, there)
		wantRows(t, again, 1, countDocuments, strconv.Itoa(want))
		wantRows(t, again, 1, countHidden, "0")
		if docs := listModel(t, again.ReadModels(), "kept"); len(docs) != 3 {
			t.Fatalf("another model has %d documents, want 3", len(docs))
		}
	}
	if partly == 0 {
		t.Fatal("at no moment was there a part of the documents")
	}
}

// TestSweepersLeaveNewModelsAlone has many sweepers look for what one of them has just removed: the number of a model that is gone
// belongs to a new one the next moment, whose documents none of them may touch.
func TestSweepersLeaveNewModelsAlone(t *testing.T) {
	t.Parallel()
	path := tempFile(t)
	handles := make([]*sqlite.DB, 6)
	for i := range handles {
		handles[i] = openStore(t, sqlite.Config{Path: path})
	}
	models := handles[0].ReadModels()
	for range 40 {
		project(t, models, documents("old", 3, "x")...)
		must(t, models.Drop(t.Context(), "old"))
		for _, db := range handles[1:] {
			db.Sweep()
		}
		handles[0].AwaitSweep()
		project(t, models, documents("new", 3, "x")...)
		for _, db := range handles[1:] {
			db.AwaitSweep()
		}
		if docs := listModel(t, models, "new"); len(docs) != 3 {
			t.Fatalf("a new model has %d of 3 documents", len(docs))
		}
		must(t, models.Drop(t.Context(), "new"))
		handles[0].AwaitSweep()
	}
}
