package sqlite

import (
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// readerView returns the index as of a reader's snapshot, whose last position is given.
func (l *eventLog) readerView(c *conn, last int64) (index.View, error) {
	generation, _, err := l.readState(c)
	if err != nil {
		return index.View{}, err
	}
	runs := l.runs.Load()
	if runs.generation != generation {
		if runs, err = l.readRuns(c, generation); err != nil {
			return index.View{}, err
		}
	}
	if l.tail.Last() < last {
		if err := l.takeIn(c, last); err != nil {
			return index.View{}, err
		}
	}
	spans, err := l.spans(c, runs.last, last)
	if err != nil {
		return index.View{}, err
	}
	view, err := index.NewView(runs.runs, l.blocks.With(&blockReader{log: l, conn: c}), spans...)
	if err != nil {
		return index.View{}, damaged(err)
	}
	return view, nil
}

// takeIn takes in the events that others have written, up to what a snapshot has.
func (l *eventLog) takeIn(c *conn, last int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail.Last() >= last { // somebody else was quicker
		return nil
	}
	return l.catchUp(c)
}

// spans returns the index of the events in (from, to]. What the tail does not have any more, because it was cut after the snapshot
// was taken, is read.
func (l *eventLog) spans(c *conn, from, to int64) ([]index.Span, error) {
	if from >= to {
		return nil, nil
	}
	if span, ok := l.tail.Span(from, to); ok {
		return []index.Span{span}, nil
	}
	gap := index.NewTail(from)
	err := l.scan(c, from, to, func(_ *index.Event, _ int64, keys *index.Keys) { gap.Add(keys) })
	if err != nil {
		return nil, err
	}
	span, ok := gap.Span(from, to)
	if !ok {
		return nil, damaged(fmt.Errorf("the log has no events from %d to %d, and %d is its last", from, to, to))
	}
	return []index.Span{span}, nil
}

// queryCursor returns a cursor over the events that a query selects by category, names, tags and criteria. Events that do not match may
// be among them, and none that matches is missing.
func queryCursor(view *index.View, q *es.Query, d index.Direction) index.Cursor {
	var all []index.Cursor
	if q.Category != "" {
		all = append(all, view.Term(index.KeyOf(index.KindCategory, q.Category), d))
	}
	if c := criterionCursor(view, es.Criterion{Names: q.Names, Tags: q.Tags}, d); c != nil {
		all = append(all, c)
	}
	if c := criteriaCursor(view, q.Any, d); c != nil {
		all = append(all, c)
	}
	if len(all) == 0 {
		return index.All(d, view.Last())
	}
	return index.Intersect(d, all...)
}

// criteriaCursor returns a cursor over what meets one of the criteria, and nil when everything does.
func criteriaCursor(view *index.View, criteria []es.Criterion, d index.Direction) index.Cursor {
	var some []index.Cursor
	for _, criterion := range criteria {
		c := criterionCursor(view, criterion, d)
		if c == nil {
			return nil
		}
		some = append(some, c)
	}
	if len(some) == 0 {
		return nil
	}
	return index.Union(d, some...)
}

// criterionCursor returns a cursor over what meets a criterion, and nil when everything does.
func criterionCursor(view *index.View, c es.Criterion, d index.Direction) index.Cursor {
	var all []index.Cursor
	for _, tag := range c.Tags {
		all = append(all, view.Term(index.KeyOf(index.KindTag, tag), d))
	}
	if len(c.Names) > 0 {
		var names []index.Cursor
		for _, name := range c.Names {
			names = append(names, view.Term(index.KeyOf(index.KindName, name), d))
		}
		all = append(all, index.Union(d, names...))
	}
	if len(all) == 0 {
		return nil
	}
	return index.Intersect(d, all...)
}
