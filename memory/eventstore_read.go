package memory

import (
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

const (
	// A reader fetches few events at first and then more: a short history is read at once, and a long one in pages that are
	// made for many events. The last size bounds what somebody keeps alive who keeps one message.
	firstPageEvents = 16
	pageEvents      = 128
	// scanEvents is how many events that are not visible a reader may pass over before it lets go of the lock.
	scanEvents = 4096
)

// logReader reads what a query selects, in pages.
type logReader struct {
	log   *eventLog
	query es.Query
	next  uint32 // the position to go on from, 0 when there is nothing more
	end   uint32 // the last position to look at
	left  int    // how many events may still be handed out, or -1
	size  int    // of the next page
}

// logPage is some messages, as they were when so many edits had been made.
type logPage struct {
	messages []es.Message
	edits    uint64
}

// reader returns a reader of what a query selects of the events that are there now.
func (l *eventLog) reader(q es.Query) (*logReader, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	from := es.Checkpoint{Incarnation: q.Incarnation, Position: q.After}
	if l.foreign(from) || q.Stream == "" && l.ahead(from) {
		return nil, &es.CheckpointError{Checkpoint: from, Last: l.headLocked()}
	}
	r := &logReader{log: l, query: q, left: -1, size: firstPageEvents}
	if q.Limit > 0 {
		r.left = q.Limit
	}
	low, high := l.bounds(q)
	if low > high {
		return r, nil
	}
	r.next, r.end = low, high
	if q.Reverse {
		r.next, r.end = high, low
	}
	return r, nil
}

// bounds returns the positions that a query's bounds select, the second below the first when there are none.
func (l *eventLog) bounds(q es.Query) (low, high uint32) {
	upTo := func(last uint32) int64 {
		if q.UpTo == 0 {
			return int64(last)
		}
		return min(q.UpTo, int64(last))
	}
	if q.Stream == "" {
		if to := upTo(l.last); q.After < to {
			return uint32(q.After) + 1, uint32(to) //nolint:gosec // both are positions of this log
		}
		return 1, 0
	}
	ref := l.streamRef(q.Stream)
	if ref == noRef {
		return 1, 0
	}
	s := l.streams.at(ref)
	from, to := max(q.After, int64(s.hidden))+1, upTo(s.version)
	if from > to {
		return 1, 0
	}
	return s.position(uint32(from)), s.position(uint32(to)) //nolint:gosec // both are versions of this stream
}

// position returns the position of a version that is in the indexes.
func (s *logStream) position(version uint32) uint32 {
	return s.postings.at(int(version - s.cleared - 1))
}

// done tells whether there is nothing more to read.
func (r *logReader) done() bool { return r.next == 0 || r.left == 0 }

// took counts a message that was handed out.
func (r *logReader) took() {
	if r.left > 0 {
		r.left--
	}
}

// rewind makes the next page begin with a message that was not handed out.
func (r *logReader) rewind(m *es.Message) { r.next = uint32(m.Position) } //nolint:gosec // it came from there

// fetch returns the next page. It may be empty without being the last.
func (r *logReader) fetch() logPage {
	l := r.log
	l.mu.RLock()
	defer l.mu.RUnlock()
	page := logPage{edits: l.edits.Load()}
	c := l.cursor(&r.query)
	if c == nil {
		r.next = 0
		return page
	}
	size := r.pageSize(c)
	var d decoder
	var chunk *logChunk
	for scan := 0; scan < scanEvents && len(page.messages) < size; scan++ {
		position := c.seek(r.next)
		if position == 0 || position != r.end && position < r.end == r.query.Reverse {
			r.next = 0
			break
		}
		if chunk == nil || position-chunk.first >= uint32(len(chunk.offsets)) { //nolint:gosec // there are few in a chunk
			chunk = l.chunks[l.locate(position)]
		}
		if rec := chunk.record(int(position - chunk.first)); l.visible(&rec) {
			if page.messages == nil {
				page.messages = make([]es.Message, 0, size)
			}
			page.messages = page.messages[:len(page.messages)+1]
			l.decode(&rec, position, &d, &page.messages[len(page.messages)-1])
		}
		if r.next = r.after(position); r.next == 0 {
			break
		}
	}
	r.size = min(4*r.size, pageEvents)
	return page
}

// pageSize is how many messages the next page is to have at most.
func (r *logReader) pageSize(c cursor) int {
	distance := max(r.next, r.end) - min(r.next, r.end)
	size := min(r.size, c.size(), int(min(distance, pageEvents))+1)
	if r.left >= 0 {
		size = min(size, r.left)
	}
	return max(size, 1)
}

// after returns the position behind one in the reader's direction, and 0 at its end.
func (r *logReader) after(position uint32) uint32 {
	switch {
	case position == r.end:
		return 0
	case r.query.Reverse:
		return position - 1
	}
	return position + 1
}

// checkCondition returns an error when events match a condition that its maker has not seen. The events of the append under
// way that are there already do not count.
//
// Hidden events match nothing. But when some were hidden beyond After, it cannot be told any more whether they are among those
// that were seen; then others could hide behind them, and what was seen is of no use: the decision is to be made again.
func (l *eventLog) checkCondition(c *es.Condition) error {
	if c.After >= int64(l.last) || l.quiet(c) {
		return nil
	}
	matches := l.matches(c)
	if matches <= c.Seen && (c.Seen == 0 || int64(l.hiddenHigh) <= c.After) {
		return nil
	}
	broken := *c
	broken.Match = slices.Clone(c.Match)
	return &es.ConflictError{Condition: &broken, Matches: matches}
}

// quiet tells whether the ends of the posting lists alone say that nothing matches a condition: so it is with most conditions,
// and costs no allocation.
func (l *eventLog) quiet(c *es.Condition) bool {
	for i := range c.Match {
		if !l.quietCriterion(&c.Match[i], c.After) {
			return false
		}
	}
	return c.Seen == 0 || int64(l.hiddenHigh) <= c.After
}

func (l *eventLog) quietCriterion(c *es.Criterion, after int64) bool {
	for _, tag := range c.Tags {
		if int64(l.tags.postings(tag).last()) <= after {
			return true
		}
	}
	for _, name := range c.Names {
		if int64(l.names.postings(name).last()) > after {
			return false
		}
	}
	return len(c.Names) > 0
}

// matches counts the events that match a condition, as far as one more than were seen.
func (l *eventLog) matches(c *es.Condition) int {
	matching := l.criteria(c.Match, false)
	if matching == nil {
		matching = &everything{log: l}
	}
	own := slices.Sorted(slices.Values(l.found))
	n := 0
	next := uint32(c.After) + 1 //nolint:gosec // it is below the last position
	for n <= c.Seen && next != 0 {
		position := matching.seek(next)
		if position == 0 {
			break
		}
		if _, ours := slices.BinarySearch(own, position); !ours && l.visibleAt(position) {
			n++
		}
		next = position + 1 // which is 0 behind the largest position of all
	}
	return n
}

func (l *eventLog) visibleAt(position uint32) bool {
	r := l.record(position)
	return l.visible(&r)
}
