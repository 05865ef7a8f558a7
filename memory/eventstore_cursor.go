package memory

import (
	"cmp"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// cursor goes through positions in one direction. It is good for as long as the log is locked.
type cursor interface {
	// seek returns the first position at or behind the given one, in the cursor's direction, and 0 when there is none. The
	// positions it is given do not go back.
	seek(position uint32) uint32
	// size is how many positions there are at most.
	size() int
}

// cursor returns a cursor over the events that a query selects, whatever its bounds, and nil when there is none. Events that
// were hidden may still be among them.
func (l *eventLog) cursor(q *es.Query) cursor {
	var all allOf
	if q.Stream != "" {
		ref := l.streamRef(q.Stream)
		if ref == noRef {
			return nil
		}
		all = append(all, listCursor(&l.streams.at(ref).postings, q.Reverse))
	}
	if q.Category != "" {
		all = append(all, listCursor(l.categories.postings(q.Category), q.Reverse))
	}
	all = l.criterion(all, es.Criterion{Names: q.Names, Tags: q.Tags}, q.Reverse)
	if len(q.Any) > 0 {
		if c := l.criteria(q.Any, q.Reverse); c != nil {
			all = append(all, c)
		}
	}
	return l.intersect(all, q.Reverse)
}

// criteria returns a cursor over the events that meet one of the criteria, and nil when one of them is met by every event.
func (l *eventLog) criteria(criteria []es.Criterion, reverse bool) cursor {
	either := anyOf{reverse: reverse}
	for _, c := range criteria {
		all := l.criterion(nil, c, reverse)
		if len(all) == 0 {
			return nil
		}
		either.add(l.intersect(all, reverse))
	}
	return either.simple()
}

// criterion adds cursors that an event must be in to meet a criterion.
func (l *eventLog) criterion(all allOf, c es.Criterion, reverse bool) allOf {
	if len(c.Names) > 0 {
		names := anyOf{reverse: reverse}
		for _, name := range c.Names {
			names.add(listCursor(l.names.postings(name), reverse))
		}
		all = append(all, names.simple())
	}
	for _, tag := range c.Tags {
		all = append(all, listCursor(l.tags.postings(tag), reverse))
	}
	return all
}

// intersect returns a cursor over what is in all cursors, led by the one with the fewest positions.
func (l *eventLog) intersect(all allOf, reverse bool) cursor {
	switch len(all) {
	case 0:
		return &everything{log: l, reverse: reverse}
	case 1:
		return all[0]
	}
	slices.SortFunc(all, func(a, b cursor) int { return cmp.Compare(a.size(), b.size()) })
	return all
}

// allOf is in all of its cursors.
type allOf []cursor

func (a allOf) size() int { return a[0].size() }

func (a allOf) seek(position uint32) uint32 {
	for {
		position = a[0].seek(position)
		if position == 0 {
			return 0
		}
		next := position
		for _, c := range a[1:] {
			if next = c.seek(position); next != position {
				break
			}
		}
		if next == position || next == 0 {
			return next
		}
		position = next
	}
}

// anyOf is in at least one of its cursors.
type anyOf struct {
	reverse bool
	cursors []cursor
}

func (a *anyOf) add(c cursor) { a.cursors = append(a.cursors, c) }

// simple returns the only cursor when there is only one.
func (a *anyOf) simple() cursor {
	if len(a.cursors) == 1 {
		return a.cursors[0]
	}
	return a
}

func (a *anyOf) size() int {
	sum := 0
	for _, c := range a.cursors {
		sum += c.size()
	}
	return sum
}

func (a *anyOf) seek(position uint32) uint32 {
	nearest := uint32(0)
	for _, c := range a.cursors {
		next := c.seek(position)
		switch {
		case next == 0:
		case nearest == 0, next < nearest != a.reverse:
			nearest = next
		}
	}
	return nearest
}

// listCursor returns a cursor over a list, which may be nil.
func listCursor(p *postings, reverse bool) cursor {
	switch {
	case p == nil || p.n == 0:
		return nothing{}
	case reverse:
		return &backward{list: p, page: p.pages() - 1, i: -1}
	}
	return &forward{list: p}
}

type nothing struct{}

func (nothing) seek(uint32) uint32 { return 0 }
func (nothing) size() int          { return 0 }

// forward goes through a list. All positions before the i-th of its page are behind it.
type forward struct {
	list    *postings
	page, i int
}

func (c *forward) size() int { return c.list.n }

func (c *forward) seek(position uint32) uint32 {
	if c.page == c.list.pages() {
		return 0
	}
	page := c.list.page(c.page)
	if page[len(page)-1] < position {
		if c.page = max(c.page+1, c.list.pageOf(position)); c.page == c.list.pages() {
			return 0
		}
		if page = c.list.page(c.page); page[len(page)-1] < position { // the tail
			c.page++
			return 0
		}
		c.i = 0
	}
	if page[c.i] < position {
		if c.i++; page[c.i] < position {
			skip, _ := slices.BinarySearch(page[c.i:], position)
			c.i += skip
		}
	}
	return page[c.i]
}

// backward goes through a list from its end. All positions beyond the i-th of its page are behind it; -1 is the last one.
type backward struct {
	list    *postings
	page, i int
}

func (c *backward) size() int { return c.list.n }

func (c *backward) seek(position uint32) uint32 {
	if c.page < 0 {
		return 0
	}
	page := c.list.page(c.page)
	if page[0] > position {
		c.i = -1
		if c.page = min(c.page-1, c.list.pageOf(position)); c.page < 0 {
			return 0
		}
		if page = c.list.page(c.page); page[0] > position { // it lies between two pages
			if c.page--; c.page < 0 {
				return 0
			}
			page = c.list.page(c.page)
		}
	}
	if c.i < 0 {
		c.i = len(page) - 1
	}
	if page[c.i] > position {
		if c.i--; page[c.i] > position {
			beyond, _ := slices.BinarySearch(page[:c.i], position+1)
			c.i = beyond - 1
		}
	}
	return page[c.i]
}

// everything goes through all events but those of chunks in which none are left.
type everything struct {
	log     *eventLog
	reverse bool
	chunk   *logChunk // the one that the last position was in
}

func (c *everything) size() int { return int(c.log.last) }

func (c *everything) seek(position uint32) uint32 {
	if position == 0 || position > c.log.last {
		return 0
	}
	if k := c.chunk; k != nil && position >= k.first && position < k.first+uint32(len(k.offsets)) { //nolint:gosec // few
		return position
	}
	i := c.log.locate(position)
	for c.log.chunks[i].live == 0 {
		switch {
		case c.reverse && i > 0:
			position = c.log.firsts[i] - 1
			i--
		case !c.reverse && i+1 < len(c.log.chunks):
			i++
			position = c.log.firsts[i]
		default:
			return 0
		}
	}
	c.chunk = c.log.chunks[i]
	return position
}
