package projection

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Batch is what handlers change: what of it was changed by the events of one commit. It is good for the call it was given to, and for
// its goroutine.
type Batch struct {
	ledger  *ledger
	touched bool  // the event that is handled may have left something
	using   bool  // a function of Update is called; it may not use another document
	spoiled error // a function of Update has failed, whatever the handler has made of it
	broken  error // the store could not be read, whatever the handler has made of it
	tx      any   // of the target; see [Tables]
	aside   bool  // it is that of a rebuild
}

// begin begins an event.
func (b *Batch) begin() { b.touched, b.using, b.spoiled = false, false, nil }

// ledger has the documents that are in memory: those the batch has changed, and those that may be needed again. It is right for as long as
// the checkpoint in the store is where this projection has left it, which each commit takes care of.
type ledger struct {
	models es.ReadModels
	aside  func(model string) string // where a model is kept; nil: under its own name
	writes []string                  // the models that may be written
	most   int                       // how many documents to keep from one batch to the next

	mu   sync.Mutex // to add a set
	sets atomic.Pointer[[]documentSet]
}

// documentSet are the documents of a model.
type documentSet interface {
	name() string
	// pending appends the writes of what was changed.
	pending(to []es.Write) ([]es.Write, error)
	// keep makes what was changed what is stored.
	keep()
	// reset takes back what was changed.
	reset()
	// size is how many documents it has, and how many bytes they are.
	size() (documents, bytes int)
	// evict forgets documents until there are no more than so many, those first that were not used lately.
	evict(documents, bytes int)
}

// mostBytes bounds the documents that are kept from one batch to the next, as they are stored.
const mostBytes = 64 << 20

func newLedger(c *Config, aside func(string) string) *ledger {
	l := &ledger{models: c.Models, aside: aside, writes: c.Writes, most: max(c.CacheSize, 0)}
	l.sets.Store(&[]documentSet{})
	return l
}

// place is where a model is kept.
func (l *ledger) place(model string) string {
	if l.aside == nil {
		return model
	}
	return l.aside(model)
}

// set returns the documents of a model, as create makes them when they are asked for first.
func (l *ledger) set(model string, create func(place string) documentSet) (documentSet, error) {
	if s := find(*l.sets.Load(), model); s != nil {
		return s, nil
	}
	if !slices.Contains(l.writes, model) {
		return nil, es.Invalidf("model", "%q is none of those that the projection writes, which are %q; name it in Config.Writes", model,
			l.writes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	sets := *l.sets.Load()
	if s := find(sets, model); s != nil {
		return s, nil
	}
	s := create(l.place(model))
	sets = append(slices.Clone(sets), s)
	l.sets.Store(&sets)
	return s, nil
}

func find(sets []documentSet, model string) documentSet {
	for _, s := range sets {
		if s.name() == model {
			return s
		}
	}
	return nil
}

// pending appends the writes of what was changed, in the same order for the same documents: who writes them at the same time locks them
// in the same order.
func (l *ledger) pending(to []es.Write) ([]es.Write, error) {
	var err error
	for _, s := range *l.sets.Load() {
		if to, err = s.pending(to); err != nil {
			return to, err
		}
	}
	return to, nil
}

// reset takes back what was changed and not committed.
func (l *ledger) reset() {
	for _, s := range *l.sets.Load() {
		s.reset()
	}
}

// keep makes what was changed what is stored, and forgets what is too much.
func (l *ledger) keep() {
	documents, bytes := 0, 0
	sets := *l.sets.Load()
	for _, s := range sets {
		s.keep()
		n, b := s.size()
		documents, bytes = documents+n, bytes+b
	}
	if documents <= l.most && bytes <= mostBytes {
		return
	}
	for _, s := range sets { // to each as much as to the others, and to nine tenths, so that not each batch has to do it
		s.evict(l.most*9/10/len(sets), mostBytes*9/10/len(sets))
	}
}

// forget forgets all documents.
func (l *ledger) forget() { l.sets.Store(&[]documentSet{}) }

// loadError notes that the store could not be read: this is no fault of the event, and its handler cannot hide it.
func (b *Batch) loadError(model, key string, err error) error {
	err = fmt.Errorf("load document %q of model %q: %w", key, model, err)
	if !errors.Is(err, es.ErrInvalid) {
		b.broken = err
	}
	return err
}
