package projection

import (
	"context"
	"fmt"
	"reflect"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Documents are the documents of a model, each a T kept as JSON, as handlers see them. [es.NewModel] is the view for everybody else.
type Documents[T any] struct {
	model string
	plain bool // a copy of a T shares nothing that could be changed
}

// NewDocuments returns the documents of a model, which has to be one of [Config].Writes.
func NewDocuments[T any](model string) Documents[T] {
	return Documents[T]{model: model, plain: isPlain(reflect.TypeFor[T]())}
}

// isPlain tells whether a copy of a value shares nothing with it that could be changed.
func isPlain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return false
	case reflect.Array:
		return isPlain(t.Elem())
	case reflect.Struct:
		for field := range t.Fields() {
			if !isPlain(field.Type) {
				return t == timeType // the pointer in it is to a location, which nobody changes
			}
		}
	default:
	}
	return true
}

// In returns the documents as they are in the course of a batch: what events before have changed is seen, also what is not committed yet.
func (d Documents[T]) In(b *Batch) BatchDocuments[T] {
	s, err := b.ledger.set(d.model, func(place string) documentSet {
		return &documents[T]{model: d.model, place: place, plain: d.plain, entries: map[string]*entry[T]{}}
	})
	if err != nil {
		return BatchDocuments[T]{err: err}
	}
	own, ok := s.(*documents[T])
	if !ok {
		return BatchDocuments[T]{err: es.Invalidf("documents", "of model %q are used as %v and as another type; a model has one",
			d.model, reflect.TypeFor[T]())}
	}
	return BatchDocuments[T]{batch: b, documents: own}
}

// BatchDocuments are the documents of a model in the course of a batch.
type BatchDocuments[T any] struct {
	batch     *Batch
	documents *documents[T]
	err       error
}

// Get returns the document under a key, and whether there is one. A value that has maps, slices or pointers shares them with the document,
// and must not be changed: for that there is Update.
func (d BatchDocuments[T]) Get(ctx context.Context, key string) (value T, found bool, err error) {
	e, err := d.load(ctx, key)
	if err != nil {
		return value, false, err
	}
	defer e.mu.Unlock()
	if !d.documents.plain {
		d.batch.touched = true // nobody can say that it will not be changed
		d.documents.show(e)
	}
	return e.value, e.exists, nil
}

// Put puts a value under a key, whatever was there. What it shares with the value that was given must not be changed any more.
func (d BatchDocuments[T]) Put(key string, value T) error {
	e, err := d.entry(key)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	d.change(e)
	e.value, e.exists = value, true
	return nil
}

// Update has a function change the document under a key; one that is not there begins as the zero value. The function must not use
// documents itself. When it fails, the error is its own, and the document is as it was. Where a T has maps, slices or pointers, that takes
// the whole event: it fails then, whatever its handler returns.
func (d BatchDocuments[T]) Update(ctx context.Context, key string, fn func(value *T) error) error {
	e, err := d.load(ctx, key)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	b := d.batch
	b.using, b.spoiled = true, errUnfinished // unless it returns
	defer func() { b.using = false }()
	before, touched := e.value, b.touched
	b.touched = true
	switch err := fn(&e.value); {
	case err == nil:
		d.change(e)
		e.exists, b.spoiled = true, nil
		return nil
	case d.documents.plain:
		e.value, b.touched, b.spoiled = before, touched, nil
		return err
	default:
		d.documents.show(e) // so that it is taken back
		b.spoiled = err
		return err
	}
}

// Delete removes the document under a key; one that is not there is deleted already.
func (d BatchDocuments[T]) Delete(key string) error {
	e, err := d.entry(key)
	if err != nil {
		return err
	}
	defer e.mu.Unlock()
	d.change(e)
	var none T
	e.value, e.exists = none, false
	return nil
}

// entry returns what is in memory of the document under a key, which may be nothing yet. It is locked.
func (d BatchDocuments[T]) entry(key string) (*entry[T], error) {
	switch {
	case d.err != nil:
		return nil, d.err
	case d.batch.using:
		return nil, es.Invalidf("document", "is %q, and is used within Update of another one; use it before or after", key)
	}
	e := d.documents.find(key)
	if e == nil {
		if err := es.ValidateKey(key); err != nil {
			return nil, err
		}
		e = d.documents.add(key)
	}
	e.mu.Lock()
	return e, nil
}

// load returns the document under a key. It is locked.
func (d BatchDocuments[T]) load(ctx context.Context, key string) (*entry[T], error) {
	e, err := d.entry(key)
	if err != nil {
		return nil, err
	}
	e.used = d.documents.batch
	if e.known {
		return e, nil
	}
	stored, err := d.batch.ledger.models.Load(ctx, d.documents.place, key)
	if err == nil {
		err = d.documents.loaded(e, stored[0])
	}
	if err != nil {
		e.mu.Unlock()
		return nil, d.failed(key, err)
	}
	return e, nil
}

// failed tells why a document could not be loaded. One that cannot be decoded is no trouble of the store.
func (d BatchDocuments[T]) failed(key string, err error) error {
	if decode, ok := err.(*decodeError); ok { //nolint:errorlint // it is made a few lines from here, and nothing wraps it
		return fmt.Errorf("decode document %q of model %q: %w", key, d.documents.model, decode.cause)
	}
	return d.batch.loadError(d.documents.model, key, err)
}

// change notes that a document is about to be changed.
func (d BatchDocuments[T]) change(e *entry[T]) {
	d.batch.touched = true
	d.documents.change(e)
}
