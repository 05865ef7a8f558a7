package sqlite

import (
	"errors"

	lite "zombiezen.com/go/sqlite"
)

// outboxState is the row of numbers of an outbox: the last entry that was given, the last that is sorted in by its stream, the last token,
// and how much there is of what.
type outboxState struct {
	entry, sorted, token          int64
	depth, retrying, dead, parked int64
}

// arrived tells whether there are entries that are not sorted in by their streams.
func (s *outboxState) arrived() bool { return s.entry > s.sorted }

// outboxNumbers are the numbers of an outbox in a transaction. They are read once, when somebody first asks for them, and written once,
// before the commit, however many ops change them. To be copied, and put back when an op is undone.
type outboxNumbers struct {
	known       bool
	stored, now outboxState // as they stand in the file, and as they are to be
}

// state returns the numbers, to be read and changed.
func (o *Outbox) state(tx *txn) (*outboxState, error) {
	n := &tx.outbox
	if n.known {
		return &n.now, nil
	}
	err := tx.query(func(stmt *lite.Stmt) error {
		n.known = true
		n.now = outboxState{
			entry: stmt.ColumnInt64(0), sorted: stmt.ColumnInt64(1), token: stmt.ColumnInt64(2), depth: stmt.ColumnInt64(3),
			retrying: stmt.ColumnInt64(4), dead: stmt.ColumnInt64(5), parked: stmt.ColumnInt64(6),
		}
		n.stored = n.now
		return nil
	}, o.sql.state)
	if err == nil && !n.known {
		err = damaged(errors.New("the row with the numbers of the outbox is not there"))
	}
	return &n.now, err
}

// flush writes down how the transaction has changed the numbers.
func (o *Outbox) flush(tx *txn) error {
	n := &tx.outbox
	if n.now == n.stored {
		return nil
	}
	s := &n.now
	return tx.write(o.sql.setState, s.entry, s.sorted, s.token, s.depth, s.retrying, s.dead, s.parked)
}
