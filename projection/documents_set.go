package projection

import (
	"bytes"
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

var timeType = reflect.TypeFor[time.Time]() //nolint:gochecknoglobals // a constant that the language has no word for

// documents are the documents of a model that are in memory. Several handlers may use them at once, for events of different streams.
type documents[T any] struct {
	model string // as handlers call it
	place string // where it is kept
	plain bool

	mu      sync.Mutex
	entries map[string]*entry[T]
	changed []*entry[T]
	shown   []*entry[T] // to handlers, who may have changed them all the same

	batch int64        // counts the batches
	bytes atomic.Int64 // as they are stored, of all entries
}

// entry is a document in memory.
type entry[T any] struct {
	key string

	mu     sync.Mutex
	value  T
	exists bool // there is a document
	known  bool // value and exists say what it is; otherwise it has to be loaded

	// stored is what is in the store, and expect how sure that is: the revision it was loaded with. What this projection has written
	// has a revision that it does not know, and needs none: nobody else writes it while the checkpoint stays.
	stored  []byte // nil: no document, or it was not looked at
	looked  bool   // stored says what is in the store
	expect  es.Expectation
	changed bool
	shown   bool
	encoded []byte // what the present commit writes
	used    int64  // the last batch that looked at it
}

// decodeError says that what is stored is no T.
type decodeError struct{ cause error }

func (e *decodeError) Error() string { return e.cause.Error() }

// restore makes the document what is stored.
func (e *entry[T]) restore() error {
	var value T
	if e.stored != nil {
		if err := json.Unmarshal(e.stored, &value); err != nil {
			return &decodeError{err}
		}
	}
	e.value, e.exists, e.known, e.looked = value, e.stored != nil, true, true
	return nil
}

func (s *documents[T]) name() string { return s.model }

func (s *documents[T]) find(key string) *entry[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries[key]
}

// add adds an entry for a key, unless somebody else has meanwhile.
func (s *documents[T]) add(key string) *entry[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil {
		e = &entry[T]{key: key, used: s.batch}
		s.entries[key] = e
	}
	return e
}

// change notes that an entry, which is locked, is about to be changed.
func (s *documents[T]) change(e *entry[T]) {
	e.known, e.used = true, s.batch
	if e.changed {
		return
	}
	e.changed = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = append(s.changed, e)
}

// show notes that a handler has what it could change in an entry, which is locked.
func (s *documents[T]) show(e *entry[T]) {
	if e.shown {
		return
	}
	e.shown = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = append(s.shown, e)
}

// loaded makes an entry, which is locked, what was loaded from the store.
func (s *documents[T]) loaded(e *entry[T], doc es.Document) error {
	e.stored, e.expect = nil, es.Exactly(doc.Revision)
	if doc.Revision > 0 {
		e.stored = append([]byte{}, doc.Data...) // never nil, and its own: it stays
	}
	if err := e.restore(); err != nil {
		return err
	}
	s.bytes.Add(int64(len(e.stored)))
	return nil
}

func (s *documents[T]) pending(to []es.Write) ([]es.Write, error) {
	slices.SortFunc(s.changed, func(a, b *entry[T]) int { return cmp.Compare(a.key, b.key) })
	view := es.NewModel[T](nil, s.place)
	for _, e := range s.changed {
		if !e.exists {
			e.encoded = nil
			if e.looked && e.stored == nil {
				continue // it came and went within the batch
			}
			to = append(to, es.Write{Model: s.place, Key: e.key, Delete: true, Expect: e.expect})
			continue
		}
		w, err := view.Put(e.key, e.value, e.expect)
		if err != nil {
			return to, err
		}
		e.encoded = w.Data
		if e.looked && e.stored != nil && bytes.Equal(e.stored, w.Data) {
			continue
		}
		to = append(to, w)
	}
	return to, nil
}

func (s *documents[T]) keep() {
	for _, e := range s.changed {
		s.bytes.Add(int64(len(e.encoded) - len(e.stored)))
		if !e.looked || !bytes.Equal(e.stored, e.encoded) {
			e.expect = es.Any
		}
		e.stored, e.looked, e.encoded, e.changed = e.encoded, true, nil, false
	}
	for _, e := range s.shown {
		e.shown = false
	}
	s.begin()
}

func (s *documents[T]) reset() {
	for _, e := range s.changed {
		e.encoded, e.changed = nil, false
		s.takeBack(e)
	}
	for _, e := range s.shown {
		e.shown = false
		s.takeBack(e)
	}
	s.begin()
}

// takeBack makes an entry what is stored.
func (s *documents[T]) takeBack(e *entry[T]) {
	if e.looked && e.restore() == nil {
		return
	}
	s.forget(e) // it was put without a look at the store
}

// begin begins a batch.
func (s *documents[T]) begin() {
	clear(s.changed)
	clear(s.shown)
	s.changed, s.shown = s.changed[:0], s.shown[:0]
	s.batch++
}

func (s *documents[T]) forget(e *entry[T]) {
	if s.entries[e.key] == e {
		delete(s.entries, e.key)
		s.bytes.Add(-int64(len(e.stored)))
	}
}

func (s *documents[T]) size() (documents, bytes int) { return len(s.entries), int(s.bytes.Load()) }

func (s *documents[T]) evict(documents, bytes int) {
	for _, oldest := range [...]int64{s.batch - 2, s.batch} { // the batch that was just committed is the one before
		for _, e := range s.entries {
			if len(s.entries) <= documents && int(s.bytes.Load()) <= bytes {
				return
			}
			if e.used <= oldest {
				s.forget(e)
			}
		}
	}
}
