package eventsourcing

import (
	"context"
	"encoding/json"
	"fmt"
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
	data, err := json.Marshal(value)
	if err != nil {
		return Write{}, fmt.Errorf("encode document %q of model %q: %w", key, m.name, err)
	}
	return Write{Model: m.name, Key: key, Data: data, Expect: expect}, nil
}

func (m Model[T]) decode(doc Document) (Item[T], error) {
	item := Item[T]{Key: doc.Key, Revision: doc.Revision}
	if err := json.Unmarshal(doc.Data, &item.Value); err != nil {
		return Item[T]{}, fmt.Errorf("decode document %q of model %q: %w", doc.Key, m.name, err)
	}
	return item, nil
}
