package sqlite

import (
	"fmt"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outboxStream is a stream of the outbox, as it stands in the file. A NULL there is 0 here.
type outboxStream struct {
	name                                           string
	ready, token, lease, until, last, open, parked int64
}

// readOutboxStream reads a stream from the columns of a row from one on.
func readOutboxStream(stmt *lite.Stmt, first int) outboxStream {
	return outboxStream{
		name: stmt.ColumnText(first), ready: stmt.ColumnInt64(first + 1), token: stmt.ColumnInt64(first + 2),
		lease: stmt.ColumnInt64(first + 3), until: stmt.ColumnInt64(first + 4), last: stmt.ColumnInt64(first + 5),
		open: stmt.ColumnInt64(first + 6), parked: stmt.ColumnInt64(first + 7),
	}
}

// outboxEdit changes the outbox in a transaction. It has one stream in hand at a time, and writes it down once, when it takes up another
// one or at the end: entries that come stream by stream, as a claim hands them out, cost little beside what is done with each.
type outboxEdit struct {
	*Outbox

	tx      *txn
	stream  outboxStream
	there   bool // the stream stands in the file
	changed bool // it is to be written down
	// removed is from where to where in the stream entries were removed, which stand in its order until it is written down.
	removed places
	numbers *outboxState
}

func (o *Outbox) edit(tx *txn) (*outboxEdit, error) {
	numbers, err := o.state(tx)
	return &outboxEdit{Outbox: o, tx: tx, numbers: numbers}, err
}

// places are those from one to another, none when the last is 0.
type places struct{ first, last int64 }

// add makes room for a place.
func (p *places) add(place int64) {
	if p.last == 0 {
		p.first = place
	}
	p.first, p.last = min(p.first, place), max(p.last, place)
}

// take takes up a stream that stands in the file.
func (e *outboxEdit) take(s outboxStream) error {
	if err := e.put(); err != nil {
		return err
	}
	e.stream, e.there = s, true
	return nil
}

// put writes the stream down, with when it can be claimed from next. One that has nothing any more is removed.
func (e *outboxEdit) put() error {
	if !e.changed {
		return nil
	}
	e.changed = false
	if r := e.removed; r.last != 0 {
		e.removed = places{}
		if err := e.tx.write(e.sql.removeOrder, e.stream.name, r.first, r.last); err != nil {
			return err
		}
	}
	s, before := &e.stream, e.stream.ready
	if s.open > 0 {
		s.ready = s.until
		return e.write()
	}
	first, due, err := e.first()
	switch {
	case err != nil:
		return err
	case first == 0 && s.parked == 0:
		return e.tx.write(e.sql.dropStream, s.name)
	case first == 0 || s.parked != 0 && s.parked < first:
		s.ready = 0
	case due > e.tx.now:
		s.ready = due
	case before == 0 || before > e.tx.now: // otherwise it keeps its turn
		s.ready = e.tx.now
	}
	if s.ready != 0 && (before == 0 || s.ready < before) {
		e.tx.tells |= outboxChanged
	}
	return e.write()
}

func (e *outboxEdit) write() error {
	s := &e.stream
	var ready any
	if s.ready != 0 {
		ready = s.ready
	}
	return e.tx.write(e.sql.setStream, ready, s.token, s.lease, s.until, s.last, s.open, s.parked, s.name)
}

// first returns the place of the stream's first entry that is sorted in, 0 when there is none, and when that may be tried.
func (e *outboxEdit) first() (place, due int64, err error) {
	err = e.tx.query(func(stmt *lite.Stmt) error {
		place, due = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		return nil
	}, e.sql.first, e.stream.name)
	return place, due, err
}

// heldEntry is an entry that a claim has in hand, and whose stream is in the hand of the edit.
type heldEntry struct {
	entry, place int64
	tried        int64 // its attempt, 0 when it has never come back from a claim
	failed       int64 // 1 when it has failed before
}

// held returns an entry, unless it was answered or the lease of its claim has ended: then the error is [es.ErrLeaseLost].
func (e *outboxEdit) held(claimed es.Entry) (heldEntry, error) {
	if claimed.Message == nil {
		return heldEntry{}, es.Invalidf("outbox entry", "has no message; pass what Claim gave")
	}
	var h heldEntry
	var s outboxStream
	var back int64
	err := e.tx.query(func(stmt *lite.Stmt) error {
		h = heldEntry{
			entry: stmt.ColumnInt64(0), place: stmt.ColumnInt64(1), tried: stmt.ColumnInt64(2), failed: stmt.ColumnInt64(3),
		}
		back, s = stmt.ColumnInt64(4), readOutboxStream(stmt, 5)
		return nil
	}, e.sql.held, claimed.ID[:])
	if err == nil && h.entry != 0 && s.name != e.stream.name { // the one in hand is newer than the one that was read
		err = e.take(s)
	}
	if err != nil {
		return heldEntry{}, err
	}
	c := &e.stream
	mine := uint64(c.token) == claimed.Token //nolint:gosec // a token is above 0
	if h.entry == 0 || !mine || c.open == 0 || c.until <= e.tx.now || c.last < h.place || c.token == back {
		return heldEntry{}, fmt.Errorf("outbox entry %s of stream %q: %w", claimed.ID, claimed.Stream, es.ErrLeaseLost)
	}
	return h, nil
}

// answer ends the claim on an entry.
func (e *outboxEdit) answer() {
	e.stream.open--
	e.changed = true
}

// complete removes an entry that a claim has in hand.
func (e *outboxEdit) complete(h heldEntry) error {
	e.answer()
	e.numbers.depth--
	e.numbers.retrying -= h.failed
	if h.tried > 0 {
		if err := e.tx.write(e.sql.forget, h.entry); err != nil {
			return err
		}
	}
	e.removed.add(h.place)
	return e.tx.write(e.sql.remove, h.entry)
}

// release gives an entry back as it is.
func (e *outboxEdit) release(h heldEntry) error {
	e.answer()
	return e.tx.write(e.sql.giveBack, h.entry, e.stream.token)
}

// retry gives an entry back to be tried again at a time.
func (e *outboxEdit) retry(h heldEntry, due int64) error {
	e.answer()
	e.numbers.retrying += 1 - h.failed
	return e.tx.write(e.sql.tryAgain, h.entry, due, e.stream.token)
}
