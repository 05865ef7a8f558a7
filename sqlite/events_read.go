package sqlite

import (
	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

const (
	// A reader fetches few events at first and then more: a short history is read at once, and a long one in pages that are worth
	// a snapshot each. The last size bounds what is in memory.
	firstPageEvents = 32
	lastPageEvents  = 1024
	// scanEvents is how many events that are not selected a reader may pass over before it lets go of its snapshot.
	scanEvents = 8192
	// pageBytes is from how many bytes of payload on a page is full.
	pageBytes = 1 << 20
)

// logReader reads what a query selects, in pages, each in a snapshot of its own.
type logReader struct {
	log   *eventLog
	query es.Query

	begun     bool
	low, high int64 // what is still to be read: positions, or versions of the stream
	end       int64 // the bound that does not move: the last in the reader's direction
	taken     int   // how many events were handed out
	size      int   // of the next page

	page  []es.Message
	edits uint64 // how many edits there were when the page was read
	done  bool   // there is nothing behind the page
}

// took counts a message that was handed out.
func (r *logReader) took() { r.taken++ }

// rewind makes the next page begin with a message that was not handed out.
func (r *logReader) rewind(m *es.Message) {
	at := m.Position
	if r.query.Stream != "" {
		at = m.Version
	}
	r.done = false
	if r.query.Reverse {
		r.low, r.high = r.end, at
	} else {
		r.low, r.high = at, r.end
	}
}

// passed makes the one behind a position, or version, the next one.
func (r *logReader) passed(at int64) {
	if r.query.Reverse {
		r.high = at - 1
	} else {
		r.low = at + 1
	}
}

func (r *logReader) direction() index.Direction {
	if r.query.Reverse {
		return index.Backward
	}
	return index.Forward
}

// fetch reads the next page. It may be empty without being the last.
func (r *logReader) fetch(c *conn) error {
	l := r.log
	last, err := c.number(l.sql.last)
	if err != nil {
		return err
	}
	_, edits, err := l.readState(c)
	if err != nil {
		return err
	}
	if err := l.edits.load(c, l.sql.edits, edits); err != nil {
		return err
	}
	r.edits = l.edits.count.Load()
	r.page = make([]es.Message, 0, r.nextSize())
	if !r.begun {
		if err := r.begin(last); err != nil {
			return err
		}
	}
	r.end = r.high
	if r.query.Reverse {
		r.end = r.low
	}
	switch {
	case r.low > r.high:
		r.done = true
	case r.query.Stream != "":
		err = r.fetchStream(c, last)
	case r.selective():
		err = r.fetchSelected(c, last)
	default:
		err = r.fetchAll(c)
	}
	r.done = r.done || r.low > r.high || r.full(0)
	return err
}

// nextSize is how many messages the next page has at most.
func (r *logReader) nextSize() int {
	r.size = min(max(4*r.size, firstPageEvents), lastPageEvents)
	if r.query.Limit > 0 {
		return min(r.size, r.query.Limit-r.taken)
	}
	return r.size
}

// full tells whether the limit is reached, with so many messages that are not handed out yet.
func (r *logReader) full(waiting int) bool {
	return r.query.Limit > 0 && r.taken+waiting+len(r.page) >= r.query.Limit
}

// begin finds the bounds of the whole read, when it begins.
func (r *logReader) begin(last int64) error {
	r.begun = true
	q := &r.query
	from := es.Checkpoint{Incarnation: q.Incarnation, Position: q.After}
	head := es.Checkpoint{Incarnation: r.log.db.incarnation, Position: last}
	if foreign(from, head) || q.Stream == "" && from.Position > last { // of a stream, After is a version
		return &es.CheckpointError{Checkpoint: from, Last: head}
	}
	r.low, r.high = q.After+1, last
	if q.Stream != "" {
		r.high = noVersion
	}
	if q.UpTo > 0 {
		r.high = min(r.high, q.UpTo)
	}
	return nil
}

// noVersion is beyond every version.
const noVersion = 1<<63 - 1

// selective tells whether the query selects less than everything.
func (r *logReader) selective() bool {
	q := &r.query
	return q.Category != "" || len(q.Names) > 0 || len(q.Tags) > 0 || len(q.Any) > 0
}

// fetchAll reads everything.
func (r *logReader) fetchAll(c *conn) error {
	query := r.log.sql.pageForward
	if r.query.Reverse {
		query = r.log.sql.pageBackward
	}
	stmt, err := c.prepare(query)
	if err != nil {
		return err
	}
	size := cap(r.page)
	stmt.BindInt64(1, r.low)
	stmt.BindInt64(2, r.high)
	stmt.BindInt64(3, int64(size))
	rows, bytes := 0, 0
	var stored storedEvent
	for rows < size && bytes < pageBytes {
		more, err := stmt.Step()
		if err != nil {
			return fault(err)
		}
		if !more {
			r.low, r.high = 1, 0
			break
		}
		if err := readEvent(stmt, &stored, &c.texts); err != nil {
			_ = stmt.Reset() // it repeats the error of the last step, which was none
			return err
		}
		rows++
		bytes += len(stored.Data)
		r.passed(stored.Position)
		if r.log.visible(&stored) {
			r.page = append(r.page, stored.Message)
		}
	}
	return fault(stmt.Reset())
}

// fetchSelected reads what the index finds.
func (r *logReader) fetchSelected(c *conn, last int64) error {
	view, err := r.log.readerView(c, last)
	if err != nil {
		return err
	}
	cursor := queryCursor(&view, &r.query, r.direction())
	next := func() int64 {
		if r.query.Reverse {
			return r.high
		}
		return r.low
	}
	return r.collect(c, func() (int64, int64, error) {
		position, err := cursor.SeekPosition(next())
		if err != nil {
			return 0, 0, damaged(err)
		}
		if position < r.low || position > r.high {
			position = 0
		}
		return position, position, nil
	})
}

// fetchStream reads a stream.
func (r *logReader) fetchStream(c *conn, last int64) error {
	view, err := r.log.readerView(c, last)
	if err != nil {
		return err
	}
	key := index.KeyOf(index.KindStream, r.query.Stream)
	version, _, err := view.Head(key)
	if err != nil {
		return damaged(err)
	}
	r.high = min(r.high, version) // what is appended from now on is not of this read
	if edit, edited := r.log.edits.get(r.query.Stream); edited {
		r.low = max(r.low, edit.hidden+1)
	}
	if r.low > r.high {
		return nil
	}
	cursor := view.Stream(key, r.direction())
	return r.collect(c, func() (at, position int64, err error) {
		if r.query.Reverse {
			at, position, err = cursor.SeekVersion(r.high)
		} else {
			at, position, err = cursor.SeekVersion(r.low)
		}
		if err != nil {
			return 0, 0, damaged(err)
		}
		if at < r.low || at > r.high {
			return 0, 0, nil
		}
		return at, position, nil
	})
}
