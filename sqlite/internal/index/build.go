package index

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Build makes a run of level 0 of what a span has. Blocks come in order, numbered from 0, each at most [BlockBytes] long; emit may
// keep them, may take its time, and ends it with an error.
func Build(id int64, span Span, emit func(number int, block []byte) error) (Run, error) {
	return build(id, span, usualLimits(), emit)
}

func build(id int64, span Span, l limits, emit func(number int, block []byte) error) (Run, error) {
	w := newRunWriter(Run{ID: id, Base: span.from, Last: span.to}, l, emit)
	if err := w.addIDs(&span); err != nil {
		return Run{}, err
	}
	for _, s := range []section{sectionStreams, sectionTerms} {
		if err := w.addLists(&span, s); err != nil {
			return Run{}, err
		}
	}
	return w.finish()
}

// addIDs adds the IDs of a span.
func (w *runWriter) addIDs(span *Span) error {
	var entries []sortable
	for _, c := range span.chunks {
		entries = c.appendIDs(entries, span.from, span.to)
	}
	sortEntries(entries)
	for i := range entries {
		k := entries[i].key()
		if err := w.addID(&k, entries[i].value); err != nil {
			return err
		}
	}
	return nil
}

// addLists adds the streams of a span, or its terms.
func (w *runWriter) addLists(span *Span, s section) error {
	var entries []sortable
	var lists []list
	for _, c := range span.chunks {
		entries, lists = c.appendLists(entries, lists, s, span.from, span.to)
	}
	sortEntries(entries)
	for i := range entries {
		k, l := entries[i].key(), &lists[entries[i].value]
		for j := range l.len() {
			if err := w.addPosting(s, &k, l.position(j), l.version(j)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sortable is a key, in two numbers that are quick to compare, and what belongs to it.
type sortable struct {
	high, low uint64
	value     int64
}

func newSortable(k *Key, value int64) sortable {
	return sortable{binary.BigEndian.Uint64(k[:8]), binary.BigEndian.Uint64(k[8:]), value}
}

func (s *sortable) key() Key {
	var k Key
	binary.BigEndian.PutUint64(k[:8], s.high)
	binary.BigEndian.PutUint64(k[8:], s.low)
	return k
}

// sortEntries sorts by key, and then by value.
func sortEntries(entries []sortable) {
	slices.SortFunc(entries, func(a, b sortable) int {
		switch {
		case a.high != b.high:
			return cmp.Compare(a.high, b.high)
		case a.low != b.low:
			return cmp.Compare(a.low, b.low)
		}
		return cmp.Compare(a.value, b.value)
	})
}

// appendIDs appends the IDs that the chunk has in (from, to], with their positions.
func (c *chunk) appendIDs(entries []sortable, from, to int64) []sortable {
	c.mu.RLock()
	defer c.mu.RUnlock()
	low, high := after(c.positions, from), after(c.positions, to)
	entries = slices.Grow(entries, high-low)
	for i := low; i < high; i++ {
		entries = append(entries, newSortable(&c.ids[i], c.positions[i]))
	}
	return entries
}

// appendLists appends what the streams, or the terms, of the chunk have in (from, to]. The entries have the numbers of the lists.
func (c *chunk) appendLists(entries []sortable, lists []list, s section, from, to int64) ([]sortable, []list) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	low, high := after(c.positions, from), after(c.positions, to)
	for number := range c.groups.n {
		g := c.groups.at(number)
		if g.section != s {
			continue
		}
		ordinals := g.ordinals[firstAt(g.ordinals, low):firstAt(g.ordinals, high)]
		if len(ordinals) > 0 {
			entries = append(entries, newSortable(&g.key, int64(len(lists))))
			lists = append(lists, list{ordinals, c.positions, c.versions})
		}
	}
	return entries, lists
}
