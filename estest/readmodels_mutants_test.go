package estest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func TestReadModelsMutants(t *testing.T) {
	h := &modelsHunt{}
	h.documents()
	h.lists()
	h.revisions()
	h.commits()
	h.checkpoints()
	h.races()
	h.switches()
	h.closing()
	h.processes()
	hunt(t, estest.ReadModelsLines(), h.mutants)
}

func (h *modelsHunt) documents() {
	h.add("J1/load_in_the_order_of_the_keys", "gives its own order", func(m *modelsMutant) {
		m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
			return m.ReadModels.Load(ctx, model, slices.Sorted(slices.Values(keys))...)
		}
	})
	h.add("J1/load_in_the_order_of_the_keys", "leaves out what is not there", func(m *modelsMutant) {
		m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
			docs, err := m.ReadModels.Load(ctx, model, keys...)
			return slices.DeleteFunc(docs, func(d es.Document) bool { return d.Revision == 0 }), err
		}
	})
	h.add("J1/saved_byte_for_byte", "cuts data at a NUL", writing(func(w *es.Write) { w.Data, _, _ = bytes.Cut(w.Data, []byte{0}) }))
	h.add("J1/saved_byte_for_byte", "takes no data for a deletion", writing(func(w *es.Write) { w.Delete = w.Delete || len(w.Data) == 0 }))
	h.add("J1/saved_over_and_deleted", "does not delete", writing(func(w *es.Write) { w.Delete = false }))
	h.add("J1/saved_over_and_deleted", "turns down the deletion of what is not there", writing(func(w *es.Write) {
		if w.Delete && w.Expect == es.Any {
			w.Expect = es.StreamExists
		}
	}))
	h.add("J1/saved_over_and_deleted", "keeps the first", func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			c.Writes = slices.DeleteFunc(slices.Clone(c.Writes), func(w es.Write) bool {
				docs, err := m.ReadModels.Load(ctx, w.Model, w.Key)
				return err == nil && !w.Delete && docs[0].Revision > 0
			})
			return m.ReadModels.Commit(ctx, c)
		}
	})
	const questions = "M3/what_is_asked_for_is_checked"
	h.add(questions, "finds nothing under odd keys", func(m *modelsMutant) {
		m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
			docs := make([]es.Document, len(keys))
			for i, key := range keys {
				docs[i].Key = key
				if found, err := m.ReadModels.Load(ctx, model, key); err == nil {
					docs[i] = found[0]
				} else if !errors.Is(err, es.ErrInvalid) {
					return nil, err
				}
			}
			return docs, nil
		}
	})
	listing := func(change func(q *es.ListQuery)) func(m *modelsMutant) {
		return func(m *modelsMutant) {
			m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
				change(&q)
				return m.ReadModels.List(ctx, q)
			}
		}
	}
	h.add(questions, "cuts prefixes", listing(func(q *es.ListQuery) {
		q.Prefix = strings.ToValidUTF8(q.Prefix[:min(len(q.Prefix), es.MaxKeyBytes)], "")
	}))
	h.add(questions, "reads a prefix up to its NUL", listing(func(q *es.ListQuery) { q.Prefix, _, _ = strings.Cut(q.Prefix, "\x00") }))
	h.add(questions, "cuts what to begin after", listing(func(q *es.ListQuery) {
		q.After = strings.ToValidUTF8(q.After[:min(len(q.After), es.MaxKeyBytes)], "")
	}))
	h.fault("J1/kept_over_close_and_open", "keeps them in the process", closeLoses)
	h.fault("J1/durable_when_commit_returns", "keeps them in the process", crashLoses)
	h.fault("J1/handles_share_them", "has them for each handle alone", handlesApart)
	h.add("J1/typed_values", "does not look at revisions", writing(unexpecting))
	h.add("J1/typed_values", "lists without a prefix and a limit", func(m *modelsMutant) {
		m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
			return m.ReadModels.List(ctx, es.ListQuery{Model: q.Model})
		}
	})
	h.add("M5/keeps_copies", "keeps the caller's bytes", func(m *modelsMutant) {
		data := map[string][]byte{}
		m.commit = func(ctx context.Context, c es.Commit) error {
			for _, w := range c.Writes {
				data[w.Key] = w.Data
			}
			return m.ReadModels.Commit(ctx, c)
		}
		loading(func(doc *es.Document) { doc.Data = data[doc.Key] })(m)
	})
	h.add("M3/models_do_not_mix", "drops by prefix", func(m *modelsMutant) {
		m.drop = func(ctx context.Context, model string) error {
			return errors.Join(m.ReadModels.Drop(ctx, model), m.ReadModels.Drop(ctx, model+"a"))
		}
	})
	h.add("M3/models_do_not_mix", "does not tell capitals", writing(func(w *es.Write) { w.Model = lower(w.Model) }))
	h.add("M3/models_do_not_mix", "joins model and key", func(m *modelsMutant) {
		writing(func(w *es.Write) { w.Model, w.Key = "all", w.Model+w.Key })(m)
		m.load = func(ctx context.Context, model string, keys ...string) ([]es.Document, error) {
			docs, err := m.ReadModels.Load(ctx, "all", model+keys[0])
			docs[0].Key = keys[0]
			return docs, err
		}
	})
	h.fault("M3/namespaces_see_nothing_of_each_other", "has one namespace", namespacesLeak)
	h.add("M3/names_are_checked", "writes before it looks", inParts)
	h.add("M3/names_are_checked", "commits anything", func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			return without(es.ErrInvalid, m.ReadModels.Commit(ctx, c))
		}
	})
	h.add("M3/names_are_checked", "takes no control characters in keys", func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			for _, w := range c.Writes {
				if strings.ContainsAny(w.Key, "\t\n") {
					return es.ErrInvalid
				}
			}
			return m.ReadModels.Commit(ctx, c)
		}
	})
}

func (h *modelsHunt) lists() {
	limited := func(change func(limit int) int) func(m *modelsMutant) {
		return func(m *modelsMutant) {
			m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
				q.Limit = change(q.Limit)
				return m.ReadModels.List(ctx, q)
			}
		}
	}
	byRevision := func(a, b es.Document) int { return cmp.Compare(a.Revision, b.Revision) }
	capitals := func(a, b es.Document) int { return strings.Compare(lower(a.Key), lower(b.Key)) }
	utf16 := func(a, b es.Document) int { // as strings are compared where they are UTF-16
		high := func(r rune) rune {
			if r >= 0x10000 {
				return 0xd800 + (r-0x10000)>>10
			}
			return r
		}
		return slices.CompareFunc([]rune(a.Key), []rune(b.Key), func(a, b rune) int {
			return cmp.Or(cmp.Compare(high(a), high(b)), cmp.Compare(a, b))
		})
	}
	h.add("J1/list_in_bytewise_order", "lists in the order of writing", choosing(byRevision, asPromised))
	h.add("J1/list_in_bytewise_order", "lists capitals among the others", choosing(capitals, asPromised))
	h.add("J1/list_in_bytewise_order", "compares in UTF-16", choosing(utf16, asPromised))
	h.add("J1/list_by_prefix", "takes a prefix for a pattern", choosing(nil, asPattern))
	h.add("J1/list_by_prefix", "does not tell capitals", choosing(nil, func(q es.ListQuery, key string) bool {
		return strings.HasPrefix(lower(key), lower(q.Prefix)) && key > q.After
	}))
	h.add("J1/list_by_prefix", "has no end of a prefix of the last character", choosing(nil, func(q es.ListQuery, key string) bool {
		return key >= q.Prefix && key < q.Prefix+"\U0010ffff" && key > q.After
	}))
	h.add("J1/list_after_a_key", "begins with the key", choosing(nil, func(q es.ListQuery, key string) bool {
		return strings.HasPrefix(key, q.Prefix) && key >= q.After
	}))
	h.add("J1/list_after_a_key", "leaves out what begins with the key", choosing(nil, func(q es.ListQuery, key string) bool {
		return asPromised(q, key) && (q.After == "" || !strings.HasPrefix(key, q.After))
	}))
	h.add("J1/list_after_a_key_within_a_prefix", "forgets the prefix behind a key", choosing(nil, func(q es.ListQuery, key string) bool {
		if q.After != "" {
			return key > q.After
		}
		return asPromised(q, key)
	}))
	h.add("J1/list_after_a_key_within_a_prefix", "forgets the key within a prefix", choosing(nil, func(q es.ListQuery, key string) bool {
		return strings.HasPrefix(key, q.Prefix)
	}))
	h.add("J1/list_page_by_page", "gives one more", limited(func(limit int) int { return limit + 1 }))
	h.add("J1/list_page_by_page", "gives one less", limited(func(limit int) int { return max(limit-1, 1) }))
	h.add("J1/list_gives_1000_by_default", "gives all by default", limited(func(limit int) int { return cmp.Or(limit, 1<<20) }))
	h.add("J1/list_gives_1000_by_default", "gives 100 by default", limited(func(limit int) int { return cmp.Or(limit, 100) }))
	h.add("J1/list_gives_1000_by_default", "gives 1000 at most", limited(func(limit int) int { return min(limit, 1000) }))
	h.add("J1/list_has_what_load_has", "lists without revisions", func(m *modelsMutant) {
		m.list = func(ctx context.Context, q es.ListQuery) ([]es.Document, error) {
			docs, err := m.ReadModels.List(ctx, q)
			for i := range docs {
				docs[i].Revision = 1
			}
			return docs, err
		}
	})
}

func (h *modelsHunt) revisions() {
	fromOne := loading(func(doc *es.Document) { doc.Revision = min(doc.Revision, 1) })
	h.add("J1/a_revision_rises_with_each_write", "has one revision", fromOne)
	h.add("J1/a_revision_rises_with_each_write", "takes the same bytes for no write", func(m *modelsMutant) {
		m.commit = func(ctx context.Context, c es.Commit) error {
			c.Writes = slices.DeleteFunc(slices.Clone(c.Writes), func(w es.Write) bool {
				docs, err := m.ReadModels.Load(ctx, w.Model, w.Key)
				return err == nil && docs[0].Revision > 0 && bytes.Equal(docs[0].Data, w.Data)
			})
			return m.ReadModels.Commit(ctx, c)
		}
	})
	for _, line := range []string{"J1/saved_only_if_as_expected", "J1/deleted_only_if_as_expected"} {
		h.add(line, "does not look at revisions", writing(unexpecting))
		h.add(line, "takes none for any", writing(func(w *es.Write) {
			if w.Expect == es.NoStream {
				w.Expect = es.Any
			}
		}))
		h.add(line, "does not look whether it is there", writing(func(w *es.Write) {
			if w.Expect == es.StreamExists {
				w.Expect = es.Any
			}
		}))
		h.add(line, "takes any revision that is there", writing(func(w *es.Write) {
			if _, exact := w.Expect.Version(); exact {
				w.Expect = es.StreamExists
			}
		}))
		h.add(line, "does not tell the revision", func(m *modelsMutant) {
			m.commit = func(ctx context.Context, c es.Commit) error {
				err := m.ReadModels.Commit(ctx, c)
				if errors.Is(err, es.ErrConflict) {
					err = es.ErrConflict
				}
				return err
			}
		})
	}
	h.add("J1/a_revision_never_comes_back_after_a_deletion", "begins from 1 again", fromOne)
	h.add("J1/a_revision_never_comes_back_after_a_drop", "begins from 1 again", fromOne)
}
