package estest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunReadModels holds read models to what they promise. The fence of a commit is held to its promise when the storage is a
// [ReadModelsStorage].
func RunReadModels(t *testing.T, h Harness[es.ReadModels]) {
	t.Helper()
	run(t, h, ReadModelsLines())
}

// ReadModelsLines returns the tests of [RunReadModels].
func ReadModelsLines() []Line[Harness[es.ReadModels]] {
	return slices.Concat(
		modelDocumentLines(), modelListLines(), modelRevisionLines(), modelCommitLines(), modelProgressLines(), modelFenceLines(),
		modelRaceLines(), modelSwitchLines(), modelCloseLines(),
		modelProcessLines(),
	)
}

// ReadModelsStorage is storage that has leases beside the read models, for the fence of a commit. It is optional.
type ReadModelsStorage interface {
	// OpenFenced opens read models, and the leases of the same backend. Both are closed when the test ends.
	OpenFenced(t testing.TB, namespace string) (es.ReadModels, es.Leases)
}

// modelBench is read models under test.
type modelBench struct {
	*bench[es.ReadModels]
}

func modelLine(name string, test func(b *modelBench)) Line[Harness[es.ReadModels]] {
	return benchLine(name, func(b *bench[es.ReadModels]) { test(&modelBench{b}) })
}

// put makes a write whose data tells its key and a word.
func put(model, key, word string) es.Write {
	return es.Write{Model: model, Key: key, Data: []byte(key + "=" + word)}
}

// expecting returns a write with an expectation.
func expecting(w es.Write, expect es.Expectation) es.Write {
	w.Expect = expect
	return w
}

// deleting makes a write that deletes.
func deleting(model, key string) es.Write {
	return es.Write{Model: model, Key: key, Delete: true}
}

// commit commits writes.
func (b *modelBench) commit(writes ...es.Write) {
	b.Helper()
	b.ok(b.role.Commit(b.ctx, es.Commit{Writes: writes}), "commit of %d writes", len(writes))
}

// load loads one document.
func (b *modelBench) load(model, key string) es.Document {
	b.Helper()
	docs, err := b.role.Load(b.ctx, model, key)
	b.ok(err, "load %q of %q", key, model)
	if len(docs) != 1 || docs[0].Key != key {
		b.Fatalf("load of key %q gave %+v", key, docs)
	}
	return docs[0]
}

// reads ends the test unless a document says a word; "" stands for no document.
func (b *modelBench) reads(model, key, word string) {
	b.Helper()
	doc := b.load(model, key)
	if got := wordOf(doc); got != word {
		b.Fatalf("document %q of model %q says %q, want %q", key, model, got, word)
	}
	if (doc.Revision == 0) != (word == "") || doc.Revision < 0 {
		b.Fatalf("document %q of model %q says %q at revision %d", key, model, word, doc.Revision)
	}
}

func wordOf(doc es.Document) string {
	_, word, _ := bytes.Cut(doc.Data, []byte("="))
	return string(word)
}

// list lists a page.
func (b *modelBench) list(q es.ListQuery) []string {
	b.Helper()
	docs, err := b.role.List(b.ctx, q)
	b.ok(err, "list %+v", q)
	keys := make([]string, len(docs))
	for i, doc := range docs {
		keys[i] = doc.Key
		if doc.Revision < 1 {
			b.Fatalf("list %+v: document %q has revision %d", q, doc.Key, doc.Revision)
		}
	}
	return keys
}

// lists ends the test unless a page has these keys.
func (b *modelBench) lists(q es.ListQuery, keys ...string) {
	b.Helper()
	if got := b.list(q); !slices.Equal(got, keys) {
		b.Fatalf("list %+v gives %q, want %q", q, got, keys)
	}
}

// at makes a progress.
func at(generation, epoch, position int64) es.Progress {
	return es.Progress{Generation: generation, Epoch: epoch, Checkpoint: es.Checkpoint{Position: position}}
}

// advance makes a commit that moves the checkpoint of a projection, with writes.
func advance(projection string, from, to es.Progress, writes ...es.Write) es.Commit {
	return es.Commit{Writes: writes, Progress: es.ProgressUpdate{Projection: projection, From: from, To: to}}
}

// advanced commits an advance.
func (b *modelBench) advanced(projection string, from, to es.Progress, writes ...es.Write) {
	b.Helper()
	b.ok(b.role.Commit(b.ctx, advance(projection, from, to, writes...)), "commit %q from %+v to %+v", projection, from, to)
}

// stands ends the test unless a projection's checkpoint is this one.
func (b *modelBench) stands(projection string, want es.Progress) {
	b.Helper()
	got, err := b.role.Progress(b.ctx, projection)
	b.ok(err, "progress of %q", projection)
	if got != want {
		b.Fatalf("projection %q is at %+v, want %+v", projection, got, want)
	}
}

// passedBy ends the test unless a commit fails because the checkpoint is not where it was expected.
func (b *modelBench) passedBy(c es.Commit, actual es.Progress) {
	b.Helper()
	err := b.role.Commit(b.ctx, c)
	b.is(err, es.ErrConflict, "commit from %+v at %+v", c.Progress.From, actual)
	var conflict *es.ProjectionError
	if !errors.As(err, &conflict) || conflict.Projection != c.Progress.Projection || conflict.Expected != c.Progress.From ||
		conflict.Actual != actual {
		b.Fatalf("the error is %#v, want a ProjectionError that expected %+v and found %+v", err, c.Progress.From, actual)
	}
}

// refused ends the test unless a commit fails because of a document's revision.
func (b *modelBench) refused(c es.Commit, w es.Write, actual int64) {
	b.Helper()
	err := b.role.Commit(b.ctx, c)
	b.is(err, es.ErrConflict, "commit expecting %v at revision %d", w.Expect, actual)
	var conflict *es.RevisionError
	want := es.RevisionError{Model: w.Model, Key: w.Key, Expected: w.Expect, Actual: actual}
	if !errors.As(err, &conflict) || *conflict != want {
		b.Fatalf("the error is %#v, want %#v", err, &want)
	}
}

func modelDocumentLines() []Line[Harness[es.ReadModels]] {
	return []Line[Harness[es.ReadModels]]{
		modelLine("J1/load_in_the_order_of_the_keys", func(b *modelBench) {
			b.commit(put("m", "a", "1"), put("m", "b", "2"), put("m", "c", "3"))
			keys := []string{"c", "nobody", "a", "b", "a", "zzz"}
			docs, err := b.role.Load(b.ctx, "m", keys...)
			b.ok(err, "load")
			var got []string
			for i, doc := range docs {
				got = append(got, doc.Key+wordOf(doc))
				if missing := i == 1 || i == 5; missing != (doc.Revision == 0) || missing != (len(doc.Data) == 0) {
					b.Fatalf("document %d is %+v", i, doc)
				}
			}
			if want := []string{"c3", "nobody", "a1", "b2", "a1", "zzz"}; !slices.Equal(got, want) {
				b.Fatalf("load %q gives %q, want %q", keys, got, want)
			}
			docs, err = b.role.Load(b.ctx, "m")
			if b.ok(err, "load no key"); len(docs) != 0 {
				b.Fatalf("load of no key gives %+v", docs)
			}
		}),
		modelLine("J1/saved_byte_for_byte", func(b *modelBench) {
			big := bytes.Repeat([]byte{0, 255, '\'', '\\'}, 100_000)
			data := map[string][]byte{"bytes": []byte("\x00\xff{ \"b\": 1, \"a\": 1.0 }"), "empty": {}, "big": big}
			for key, d := range data {
				b.commit(es.Write{Model: "m", Key: key, Data: d})
			}
			b.commit(es.Write{Model: "m", Key: "nil"})
			for key, want := range data {
				if doc := b.load("m", key); !bytes.Equal(doc.Data, want) || doc.Revision == 0 {
					b.Fatalf("document %q has %d bytes at revision %d, want the %d that were saved", key, len(doc.Data), doc.Revision, len(want))
				}
			}
			if b.load("m", "nil").Revision == 0 {
				b.Fatal("a document without data is not there")
			}
			docs, err := b.role.List(b.ctx, es.ListQuery{Model: "m", Prefix: "big"})
			if b.ok(err, "list"); len(docs) != 1 || !bytes.Equal(docs[0].Data, big) {
				b.Fatal("a document that is listed does not have the bytes that were saved")
			}
		}),
		modelLine("J1/saved_over_and_deleted", func(b *modelBench) {
			b.commit(put("m", "a", "1"), put("m", "b", "1"))
			b.commit(put("m", "a", "2"))
			b.reads("m", "a", "2")
			b.commit(deleting("m", "a"), deleting("m", "nobody"))
			b.reads("m", "a", "")
			b.reads("m", "b", "1")
			b.lists(es.ListQuery{Model: "m"}, "b")
		}),
		modelLine("J1/kept_over_close_and_open", func(b *modelBench) {
			b.keeps()
			b.advanced("p", es.Progress{}, at(1, 2, 3), put("m", "a", "1"))
			revision := b.load("m", "a").Revision
			b.reopened()
			b.reads("m", "a", "1")
			b.stands("p", at(1, 2, 3))
			b.commit(expecting(put("m", "a", "2"), es.Exactly(revision)))
		}),
		modelLine("J1/durable_when_commit_returns", func(b *modelBench) {
			b.advanced("p", es.Progress{}, at(1, 2, 3), put("m", "a", "1"))
			b.crashed()
			b.reads("m", "a", "1")
			b.stands("p", at(1, 2, 3))
		}),
		modelLine("J1/handles_share_them", func(b *modelBench) {
			other := b.another()
			b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"))
			b.ok(other.Commit(b.ctx, advance("p", at(1, 1, 1), at(1, 1, 2), put("m", "a", "2"))), "commit on another handle")
			b.reads("m", "a", "2")
			b.stands("p", at(1, 1, 2))
		}),
		modelLine("J1/typed_values", modelTyped),
		modelLine("M5/keeps_copies", func(b *modelBench) {
			w := put("m", "a", "1")
			b.commit(w)
			copy(w.Data, "xxxxx")
			b.reads("m", "a", "1")
		}),
		modelLine("M3/models_do_not_mix", func(b *modelBench) {
			b.commit(put("m", "ab", "1"))
			b.commit(put("ma", "b", "2"))
			b.commit(put("M", "ab", "3"))
			b.reads("m", "ab", "1")
			b.reads("ma", "b", "2")
			b.reads("M", "ab", "3")
			b.reads("m", "b", "")
			b.lists(es.ListQuery{Model: "m"}, "ab")
			b.lists(es.ListQuery{Model: "ma"}, "b")
			b.ok(b.role.Drop(b.ctx, "m"), "drop")
			b.reads("ma", "b", "2")
			b.reads("M", "ab", "3")
		}),
		modelLine("M3/namespaces_see_nothing_of_each_other", func(b *modelBench) {
			other := &modelBench{&bench[es.ReadModels]{TB: b, h: b.h, storage: b.storage, role: b.elsewhere("other"), ctx: b.ctx}}
			b.advanced("p", es.Progress{}, at(1, 1, 1), put("m", "a", "1"))
			other.reads("m", "a", "")
			other.lists(es.ListQuery{Model: "m"})
			other.stands("p", es.Progress{})
			b.is(other.role.Switch(b.ctx, es.Replacement{Model: "n", With: "m"}), es.ErrNotFound, "switch to a model of another namespace")
			b.ok(other.role.Drop(b.ctx, "m"), "drop in another namespace")
			b.reads("m", "a", "1")
		}),
		modelLine("M3/names_are_checked", modelInvalid),
		modelLine("M3/what_is_asked_for_is_checked", modelInvalidQuestions),
	}
}

func modelInvalid(b *modelBench) {
	long := string(bytes.Repeat([]byte("k"), es.MaxKeyBytes))
	b.commit(put("m", long, "1"), put("m", "tab\tand\nline", "2"), put("m", "ключ 🙂", "3"))
	b.reads("m", long, "1")
	b.reads("m", "tab\tand\nline", "2")
	b.reads("m", "ключ 🙂", "3")
	good := put("m", "good", "1")
	for why, c := range map[string]es.Commit{
		"an empty key":          {Writes: []es.Write{good, put("m", "", "1")}},
		"a long key":            {Writes: []es.Write{good, put("m", long+"k", "1")}},
		"a key with a NUL":      {Writes: []es.Write{good, put("m", "a\x00", "1")}},
		"a key not in UTF-8":    {Writes: []es.Write{good, put("m", "a\xff", "1")}},
		"an empty model":        {Writes: []es.Write{good, put("", "a", "1")}},
		"a control character":   {Writes: []es.Write{good, put("m\n", "a", "1")}},
		"a document twice":      {Writes: []es.Write{good, put("m", "a", "1"), deleting("m", "a")}},
		"a negative revision":   {Writes: []es.Write{good, expecting(put("m", "a", "1"), es.Exactly(-1))}},
		"a nameless projection": advance("", at(1, 1, 1), at(1, 1, 2), good),
		"an odd projection":     advance("p\n", es.Progress{}, at(1, 1, 1), good),
	} {
		b.is(b.role.Commit(b.ctx, c), es.ErrInvalid, "commit with %s", why)
	}
	b.reads("m", "good", "")
	_, err := b.role.List(b.ctx, es.ListQuery{Model: "m", Limit: -1})
	b.is(err, es.ErrInvalid, "list with a negative limit")
	_, err = b.role.List(b.ctx, es.ListQuery{})
	b.is(err, es.ErrInvalid, "list without a model")
	_, err = b.role.Load(b.ctx, "", "a")
	b.is(err, es.ErrInvalid, "load without a model")
}

// modelInvalidQuestions asks for keys that no document can have: some stores cannot even be asked for them, and others would
// find nothing.
func modelInvalidQuestions(b *modelBench) {
	long := string(bytes.Repeat([]byte("k"), es.MaxKeyBytes))
	b.commit(put("m", long, "1"))
	for why, key := range map[string]string{"a long key": long + "k", "a key with a NUL": "a\x00", "a key not in UTF-8": "a\xff"} {
		_, err := b.role.Load(b.ctx, "m", "good", key)
		b.is(err, es.ErrInvalid, "load of %s", why)
		_, err = b.role.List(b.ctx, es.ListQuery{Model: "m", Prefix: key})
		b.is(err, es.ErrInvalid, "list by a prefix that is %s", why)
		_, err = b.role.List(b.ctx, es.ListQuery{Model: "m", After: key})
		b.is(err, es.ErrInvalid, "list after %s", why)
	}
	_, err := b.role.Load(b.ctx, "m", "good", "")
	b.is(err, es.ErrInvalid, "load of an empty key")
	b.lists(es.ListQuery{Model: "m", Prefix: long}, long)
	b.lists(es.ListQuery{Model: "m", After: long})
}

func modelTyped(b *modelBench) {
	type order struct {
		Items []string
		Total int
	}
	orders := es.NewModel[order](b.role, "orders")
	_, err := orders.Load(b.ctx, "7")
	b.is(err, es.ErrNotFound, "load a value that is not there")
	b.ok(orders.Save(b.ctx, "7", order{Items: []string{"tea"}, Total: 3}, es.NoStream), "save")
	first, err := orders.Load(b.ctx, "7")
	b.ok(err, "load")
	first.Value.Total = 4
	b.ok(orders.Save(b.ctx, "7", first.Value, es.Exactly(first.Revision)), "save what was loaded")
	b.is(orders.Save(b.ctx, "7", order{}, es.Exactly(first.Revision)), es.ErrConflict, "save over a later revision")
	b.is(orders.Delete(b.ctx, "7", es.Exactly(first.Revision)), es.ErrConflict, "delete a later revision")
	b.ok(orders.Save(b.ctx, "8", order{Total: 8}, es.Any), "save another")
	page, err := orders.List(b.ctx, "", "", 0)
	b.ok(err, "list")
	if len(page) != 2 || fmt.Sprint(page[0].Value, page[1].Value) != "{[tea] 4} {[] 8}" || page[0].Revision <= first.Revision {
		b.Fatalf("the list is %+v", page)
	}
	page, err = orders.List(b.ctx, "8", "7", 1)
	if b.ok(err, "list"); len(page) != 1 || page[0].Key != "8" {
		b.Fatalf("the page is %+v, want 8", page)
	}
	b.ok(orders.Delete(b.ctx, "7", es.Exactly(b.load("orders", "7").Revision)), "delete")
	_, err = orders.Load(b.ctx, "7")
	b.is(err, es.ErrNotFound, "load a value that was deleted")
}
