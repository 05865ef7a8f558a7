package projection

import (
	"bytes"
	"cmp"
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Differences are those between the documents that are read and those that a rebuild has built.
type Differences struct {
	// Same, Added, Removed and Changed count documents: those that are equal byte for byte, that only the new one has, that only the old one
	// has, and that are different.
	Same, Added, Removed, Changed int64
	// Examples are some of those that are not the same, the first ones of each kind in the order of their models and keys.
	Examples []Difference
}

// None tells whether all documents are the same.
func (d Differences) None() bool { return d.Added+d.Removed+d.Changed == 0 }

// Difference is a document that is not the same.
type Difference struct {
	Model, Key string
	// Old and New are the documents; nil where there is none.
	Old, New []byte
}

// compare compares the documents of all models of the projection. It keeps a page of each in memory.
func (p *Projection) compare(ctx context.Context, examples int) (Differences, error) {
	var d Differences
	var kept [3]int // of each kind
	note := func(kind int, counter *int64, one Difference) {
		*counter++
		if kept[kind] < examples {
			kept[kind]++
			d.Examples = append(d.Examples, one)
		}
	}
	for _, model := range p.config.Writes {
		before, after := documentsOf(ctx, p.config.Models, model), documentsOf(ctx, p.config.Models, asideName(model))
		was, is := before.next(), after.next()
		for was != nil || is != nil {
			order := orderOf(was, is)
			switch {
			case order < 0:
				note(0, &d.Removed, Difference{Model: model, Key: was.Key, Old: was.Data})
			case order > 0:
				note(1, &d.Added, Difference{Model: model, Key: is.Key, New: is.Data})
			case bytes.Equal(was.Data, is.Data):
				d.Same++
			default:
				note(2, &d.Changed, Difference{Model: model, Key: is.Key, Old: was.Data, New: is.Data})
			}
			if order <= 0 {
				was = before.next()
			}
			if order >= 0 {
				is = after.next()
			}
		}
		if err := cmp.Or(before.err, after.err); err != nil {
			return d, err
		}
	}
	return d, nil
}

// orderOf tells which of two documents comes first: that of the old ones below 0, that of the new ones above, and both when they have the
// same key.
func orderOf(was, is *es.Document) int {
	switch {
	case was == nil:
		return 1
	case is == nil:
		return -1
	}
	return cmp.Compare(was.Key, is.Key)
}

// listing lists the documents of a model, a page at a time.
type listing struct {
	list func(after string) ([]es.Document, error)
	page []es.Document
	last string
	end  bool
	err  error
}

func documentsOf(ctx context.Context, models es.ReadModels, model string) *listing {
	return &listing{list: func(after string) ([]es.Document, error) {
		return models.List(ctx, es.ListQuery{Model: model, After: after})
	}}
}

// next returns the next document; nil when there is none, or after an error.
func (l *listing) next() *es.Document {
	if len(l.page) == 0 && !l.end && l.err == nil {
		l.page, l.err = l.list(l.last)
		l.end = len(l.page) < es.DefaultListLimit
	}
	if len(l.page) == 0 || l.err != nil {
		return nil
	}
	d := &l.page[0]
	l.page, l.last = l.page[1:], d.Key
	return d
}
