package eventsourcing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
)

// Model is a read model seen as values of type T, kept as JSON.
type Model[T any] struct {
	store ReadModels
	name  string
}

// NewModel returns the typed view of a model.
func NewModel[T any](store ReadModels, name string) Model[T] {
	return Model[T]{store: store, name: name}
}

// Item is a value of a [Model], with its key and revision.
type Item[T any] struct {
	Key      string
	Value    T
	Revision int64
}

// Load returns the value under a key, or [ErrNotFound].
func (m Model[T]) Load(ctx context.Context, key string) (Item[T], error) {
	docs, err := m.store.Load(ctx, m.name, key)
	if err != nil {
		return Item[T]{}, err
	}
	if docs[0].Revision == 0 {
		return Item[T]{}, fmt.Errorf("document %q of model %q: %w", key, m.name, ErrNotFound)
	}
	return m.decode(docs[0])
}

// List returns a page of values: those whose keys begin with prefix and come after a key, at most limit, 0 for
// [DefaultListLimit].
func (m Model[T]) List(ctx context.Context, prefix, after string, limit int) ([]Item[T], error) {
	docs, err := m.store.List(ctx, ListQuery{Model: m.name, Prefix: prefix, After: after, Limit: limit})
	if err != nil {
		return nil, err
	}
	items := make([]Item[T], len(docs))
	for i, doc := range docs {
		if items[i], err = m.decode(doc); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// All yields the values whose keys begin with prefix, in bytewise order of their keys. It reads a page at a time, so that
// memory does not grow with their number; what is changed meanwhile may be seen or not. An error ends it, with a zero item.
func (m Model[T]) All(ctx context.Context, prefix string) iter.Seq2[Item[T], error] {
	return func(yield func(Item[T], error) bool) {
		after := ""
		for {
			page, err := m.List(ctx, prefix, after, DefaultListLimit)
			if err != nil {
				yield(Item[T]{}, err)
				return
			}
			for _, item := range page {
				if !yield(item, nil) {
					return
				}
				after = item.Key
			}
			if len(page) < DefaultListLimit {
				return
			}
		}
	}
}

// Save puts a value under a key, if the document there is as expected; a [*RevisionError] otherwise. To change what was
// loaded, expect [Exactly] its revision.
func (m Model[T]) Save(ctx context.Context, key string, value T, expect Expectation) error {
	w, err := m.Put(key, value, expect)
	if err != nil {
		return err
	}
	return m.store.Commit(ctx, Commit{Writes: []Write{w}})
}

// Delete removes the document under a key, if it is as expected; a [*RevisionError] otherwise.
func (m Model[T]) Delete(ctx context.Context, key string, expect Expectation) error {
	return m.store.Commit(ctx, Commit{Writes: []Write{{Model: m.name, Key: key, Delete: true, Expect: expect}}})
}

// Put makes the write of a value, for a [Commit] that has more in it.
func (m Model[T]) Put(key string, value T, expect Expectation) (Write, error) {
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false) // a document is no part of an HTML page, and JSON that is put stays as it was
	if err := encoder.Encode(value); err != nil {
		return Write{}, fmt.Errorf("encode document %q of model %q: %w", key, m.name, err)
	}
	return Write{Model: m.name, Key: key, Data: bytes.TrimSuffix(data.Bytes(), []byte("\n")), Expect: expect}, nil
}

func (m Model[T]) decode(doc Document) (Item[T], error) {
	item := Item[T]{Key: doc.Key, Revision: doc.Revision}
	if err := json.Unmarshal(doc.Data, &item.Value); err != nil {
		return Item[T]{}, fmt.Errorf("decode document %q of model %q: %w", doc.Key, m.name, err)
	}
	return item, nil
}
