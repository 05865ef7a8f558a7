package projection

import (
	"cmp"
	"context"
	"slices"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// List returns a page of the documents, as they are in the course of the batch: those whose keys begin with prefix and come after a key, in
// bytewise order, at most limit of them; 0 for [es.DefaultListLimit]. A page that is not full is the last one. The items are not to be
// changed, and the Revision of one that the projection has changed itself is 0.
func (d BatchDocuments[T]) List(ctx context.Context, prefix, after string, limit int) ([]es.Item[T], error) {
	if d.err != nil {
		return nil, d.err
	}
	q := es.ListQuery{Model: d.documents.place, Prefix: prefix, After: after, Limit: limit}
	if err := q.Validate(); err != nil {
		return nil, err
	}
	limit = cmp.Or(limit, es.DefaultListLimit)
	q.Limit = limit
	pending := d.documents.pendingAfter(prefix, after)
	var items []es.Item[T]
	for {
		page, err := d.batch.ledger.models.List(ctx, q)
		if err != nil {
			return nil, d.batch.loadError(d.documents.model, prefix+"...", err)
		}
		last := len(page) < q.Limit
		for _, doc := range page {
			for len(pending) > 0 && pending[0].key < doc.Key {
				items = d.listed(items, pending[0])
				pending = pending[1:]
			}
			if len(pending) > 0 && pending[0].key == doc.Key {
				continue // it stands for the document when its turn comes
			}
			e, err := d.stored(doc)
			if err != nil {
				return nil, err
			}
			items = d.listed(items, e)
		}
		for last && len(pending) > 0 {
			items = d.listed(items, pending[0])
			pending = pending[1:]
		}
		if last || len(items) >= limit {
			return items[:min(len(items), limit)], nil
		}
		q.After = page[len(page)-1].Key
	}
}

// listed appends a document to a page, if there is one.
func (d BatchDocuments[T]) listed(items []es.Item[T], e *entry[T]) []es.Item[T] {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.exists {
		return items
	}
	if !d.documents.plain {
		d.batch.touched = true
		d.documents.show(e)
	}
	revision, _ := e.expect.Version()
	if e.changed {
		revision = 0
	}
	return append(items, es.Item[T]{Key: e.key, Value: e.value, Revision: revision})
}

// stored returns the entry of a document that was listed.
func (d BatchDocuments[T]) stored(doc es.Document) (*entry[T], error) {
	e := d.documents.find(doc.Key)
	if e == nil {
		e = d.documents.add(doc.Key)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.used = d.documents.batch
	if e.known {
		return e, nil
	}
	if err := d.documents.loaded(e, doc); err != nil {
		return nil, d.failed(doc.Key, err)
	}
	return e, nil
}

// pendingAfter returns what was changed of the documents whose keys begin with prefix and come after a key, in order.
func (s *documents[T]) pendingAfter(prefix, after string) []*entry[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pending []*entry[T]
	for _, e := range s.changed {
		if strings.HasPrefix(e.key, prefix) && e.key > after {
			pending = append(pending, e)
		}
	}
	slices.SortFunc(pending, func(a, b *entry[T]) int { return cmp.Compare(a.key, b.key) })
	return pending
}
