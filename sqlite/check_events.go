package sqlite

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// events looks at each event by itself, in the order of positions.
func (k *checker) events() error {
	var m es.Message
	last := int64(0)
	return k.query(func(stmt *lite.Stmt) error {
		position := stmt.ColumnInt64(0)
		if position <= last {
			k.problemf("events", remedyRestore, "position %d comes after %d", position, last)
		}
		last = position
		k.here.Head.Position = max(k.here.Head.Position, position)
		k.here.Events++
		if err := checkRow(stmt, &m, &k.texts); err != nil {
			k.problemf("events", remedyRestore, "the event at position %d: %v", position, err)
		}
		return nil
	}, k.sql("SELECT position, version, recorded, "+messageColumns[:len(messageColumns)-len(", data")]+
		", NULL FROM es_events_$ ORDER BY position"))
}

// checkRow tells whether an event could have been written as it stands there. Its payload is not looked at.
func checkRow(stmt *lite.Stmt, m *es.Message, t *texts) error {
	*m = es.Message{}
	switch {
	case stmt.ColumnInt64(0) < 1:
		return errors.New("positions count from 1")
	case stmt.ColumnInt64(1) < 1:
		return fmt.Errorf("it has version %d; they count from 1", stmt.ColumnInt64(1))
	case stmt.ColumnLen(3+idColumn) != len(uuid.UUID{}):
		return fmt.Errorf("its ID has %d bytes", stmt.ColumnLen(3+idColumn))
	}
	if err := es.ValidateName("stream", stmt.ColumnText(3+streamColumn)); err != nil {
		return err
	}
	if stmt.ColumnIsNull(3 + nameColumn) {
		return nil // it is hidden for good
	}
	if err := readMessage(stmt, 3, m, t); err != nil {
		return err
	}
	return m.Validate(es.Limits{EventBytes: 1 << 30, MetadataBytes: 1 << 30, TagsPerEvent: 1 << 30, EventsPerAppend: 1})
}

// streams looks at the versions of each stream, and whether what was edited of it is as the edits say. SQLite sorts the events, with
// temporary files, so that no more than a stream's numbers are in memory.
func (k *checker) streams() error {
	edits, err := k.newEdits()
	if err != nil {
		return err
	}
	s := streamCheck{checker: k, edits: edits}
	err = k.query(func(stmt *lite.Stmt) error {
		return s.event(stmt.ColumnText(0), stmt.ColumnInt64(1), stmt.ColumnInt64(2), stmt.ColumnBool(3))
	}, k.sql("SELECT stream, version, position, name IS NULL FROM es_events_$ ORDER BY stream, version, position"))
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = s.edits.end()
	}
	return err
}

// streamCheck goes through the events of one stream after the other.
type streamCheck struct {
	*checker
	edits *editCheck

	stream            string
	edit              edit
	version, position int64
}

func (s *streamCheck) event(stream string, version, position int64, stub bool) error {
	if stream != s.stream || s.version == 0 {
		if err := s.end(); err != nil {
			return err
		}
		s.here.Streams++
		s.stream, s.version, s.position = stream, 0, 0
		var err error
		if s.edit, err = s.edits.of(stream); err != nil {
			return err
		}
	}
	switch {
	case version == s.version:
		s.problemf("streams", remedyRestore, "stream %q has version %d at positions %d and %d", stream, version, s.position, position)
	case version != s.version+1:
		s.problemf("streams", remedyRestore, "stream %q has no versions from %d to %d", stream, s.version+1, version-1)
	}
	if position <= s.position {
		s.problemf("streams", remedyRestore, "stream %q has version %d at position %d, and version %d before it at position %d", stream,
			s.version, s.position, version, position)
	}
	switch cleared := version <= s.edit.cleared; {
	case cleared && !stub:
		s.problemf("edits", "truncate the stream once more", "version %d of stream %q is still there, and was cleared", version, stream)
	case stub && !cleared:
		s.problemf("edits", remedyRestore, "version %d of stream %q is gone, and was not cleared", version, stream)
	}
	if version <= s.edit.hidden {
		s.here.Hidden++
	}
	if version == s.edit.hidden && position != s.edit.position {
		s.problemf("edits", remedyRestore, "stream %q is hidden up to position %d, and version %d stands at position %d", stream,
			s.edit.position, version, position)
	}
	s.version, s.position = version, position
	return nil
}

// end looks at a stream after its last event.
func (s *streamCheck) end() error {
	if s.edit.hidden > s.version {
		s.problemf("edits", remedyRestore, "stream %q is hidden up to version %d, and ends at version %d", s.stream, s.edit.hidden, s.version)
	}
	return nil
}

// editCheck goes through the edits in the order of their streams, beside the events.
type editCheck struct {
	*checker
	stmt   *lite.Stmt
	stream string
	edit   edit
	over   bool
	known  int64 // the largest edit, as the state has it
}

func (k *checker) newEdits() (*editCheck, error) {
	known, err := k.number(k.sql("SELECT edits FROM es_state_$"))
	if err != nil {
		return nil, err
	}
	stmt, err := k.prepare(k.sql("SELECT stream, edit, hidden, cleared, deleted, position FROM es_edits_$ ORDER BY stream"))
	if err != nil {
		return nil, err
	}
	e := &editCheck{checker: k, stmt: stmt, known: known}
	return e, e.next()
}

// next goes to the next edit, and looks at it.
func (e *editCheck) next() error {
	more, err := e.stmt.Step()
	if err != nil {
		return fault(err)
	}
	if !more {
		e.over = true
		return fault(e.stmt.Reset())
	}
	e.stream = e.stmt.ColumnText(0)
	number := e.stmt.ColumnInt64(1)
	e.edit = edit{
		hidden: e.stmt.ColumnInt64(2), cleared: e.stmt.ColumnInt64(3), deleted: e.stmt.ColumnInt64(4), position: e.stmt.ColumnInt64(5),
	}
	if number < 1 || number > e.known {
		e.problemf("edits", remedyRestore, "stream %q has edit %d, and the last one is %d", e.stream, number, e.known)
	}
	if e.edit.cleared < 0 || e.edit.cleared > e.edit.hidden {
		e.problemf("edits", remedyRestore,
			"stream %q is hidden up to version %d, and cleared up to %d", e.stream, e.edit.hidden, e.edit.cleared)
	}
	if e.edit.deleted < notDeleted || e.edit.deleted > deletedForGood {
		e.problemf("edits", remedyRestore, "stream %q is deleted in way %d, which is unknown", e.stream, e.edit.deleted)
	}
	return nil
}

// of returns the edit of a stream. Streams come in their order.
func (e *editCheck) of(stream string) (edit, error) {
	for !e.over && e.stream < stream {
		if err := e.withoutEvents(); err != nil {
			return edit{}, err
		}
	}
	if e.over || e.stream != stream {
		return edit{}, nil
	}
	found := e.edit
	return found, e.next()
}

// withoutEvents looks at the edit of a stream that has no events, and goes on.
func (e *editCheck) withoutEvents() error {
	if e.edit.hidden > 0 {
		e.problemf("edits", remedyRestore, "stream %q is hidden up to version %d, and has no events", e.stream, e.edit.hidden)
	}
	return e.next()
}

func (e *editCheck) end() error {
	for !e.over {
		if err := e.withoutEvents(); err != nil {
			return err
		}
	}
	return nil
}

// ids looks for IDs that are there twice.
func (k *checker) ids() error {
	var last uuid.UUID
	var at int64
	return k.query(func(stmt *lite.Stmt) error {
		var id uuid.UUID
		stmt.ColumnBytes(0, id[:])
		position := stmt.ColumnInt64(1)
		if id == last && at != 0 {
			k.problemf("IDs", remedyRestore, "ID %s stands at positions %d and %d", id, at, position)
		}
		last, at = id, position
		return nil
	}, k.sql("SELECT id, position FROM es_events_$ ORDER BY id, position"))
}
