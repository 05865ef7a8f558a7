package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// storedEvent is an event as it stands in the file.
type storedEvent struct {
	es.Message

	stub bool   // it was hidden, and is gone but for its place, its ID and hash
	hash []byte // of what it said
}

// says tells whether the event says the same as m, which is of the same stream. Of one that was erased nobody can say, and every
// content will do.
func (e *storedEvent) says(m *es.Message) bool {
	if e.stub {
		given := storedEvent{Message: *m}
		return len(e.hash) == 0 || string(e.hash) == string(given.fingerprint()) // it was erased before, or says the same
	}
	if _, erased := e.Metadata[es.MetadataErased]; erased {
		return true
	}
	return e.SameContent(m)
}

// fingerprint is a hash of what [es.Message.SameContent] compares, for events whose content is gone.
func (e *storedEvent) fingerprint() []byte {
	if _, erased := e.Metadata[es.MetadataErased]; erased {
		return nil // nobody can say any more
	}
	text := func(b []byte, s string) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b := binary.AppendUvarint(nil, uint64(e.Schema)) //nolint:gosec // it is 1 or more
	b = text(text(b, e.Name), e.ContentType)
	b = binary.AppendUvarint(b, uint64(len(e.Tags)))
	for _, tag := range e.Tags {
		b = text(b, tag)
	}
	sum := sha256.Sum256(append(b, e.Data...))
	return sum[:]
}

// event reads the event at a position, which is there because the index says so.
func (l *eventLog) event(c *conn, position int64, into *storedEvent) error {
	there, err := l.lookUp(c, position, into)
	if err == nil && !there {
		err = damaged(fmt.Errorf("the index has an event at position %d, and there is none", position))
	}
	return err
}

// lookUp reads the event at a position, and tells whether there is one.
func (l *eventLog) lookUp(c *conn, position int64, into *storedEvent) (bool, error) {
	stmt, err := c.prepare(l.sql.row)
	if err != nil {
		return false, err
	}
	stmt.BindInt64(1, position)
	there, err := stmt.Step()
	if err != nil {
		return false, fault(err)
	}
	if there {
		err = readEvent(stmt, into, &c.texts)
	}
	if reset := stmt.Reset(); err == nil {
		err = fault(reset)
	}
	return there, err
}

// readEvent reads a row of position, version, recorded, and the columns of a message.
func readEvent(stmt *lite.Stmt, e *storedEvent, t *texts) error {
	*e = storedEvent{}
	e.Position, e.Version = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
	e.Recorded = timeOf(stmt.ColumnInt64(2))
	if e.stub = stmt.ColumnIsNull(3 + nameColumn); e.stub {
		stmt.ColumnBytes(3+idColumn, e.ID[:])
		e.Stream = stmt.ColumnText(3 + streamColumn)
		e.hash = columnBytes(stmt, 3+dataColumn)
		return nil
	}
	if err := readMessage(stmt, 3, &e.Message, t); err != nil {
		return damaged(fmt.Errorf("event at position %d: %w", e.Position, err))
	}
	return nil
}

// checkIdentity tells whether the event that the index has found is the one that was looked for.
func (l *eventLog) checkIdentity(c *conn, position int64, stream string, version int64) error {
	found := false
	err := c.query(func(stmt *lite.Stmt) error {
		found = stmt.ColumnInt64(0) == version && stmt.ColumnText(2) == stream
		return nil
	}, l.sql.identity, position)
	if err == nil && !found {
		err = damaged(fmt.Errorf("the index has version %d of stream %q at position %d, and it is not there", version, stream, position))
	}
	return err
}

// visible tells whether an event may be read.
func (l *eventLog) visible(e *storedEvent) bool {
	if e.stub {
		return false
	}
	edit, edited := l.edits.get(e.Stream)
	return !edited || e.Version > edit.hidden
}
