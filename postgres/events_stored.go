package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// storedColumns are the columns of an event for [storedEvent]. Of an event that was hidden, and is gone but for its place, its ID and a
// hash, name, schema and time are NULL.
const storedColumns = "position, version, coalesce(recorded, 0), id, stream, coalesce(name, ''), coalesce(schema, 0), coalesce(time, 0), " +
	"correlation, causation, content_type, tags, metadata, data"

// storedEvent is an event as it stands in the database.
type storedEvent struct {
	es.Message

	stub bool   // it was hidden, and is gone but for its place, its ID and hash
	hash []byte // of what it said
}

// storedEvents reads rows of storedColumns.
func storedEvents(rows pgx.Rows) ([]storedEvent, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (storedEvent, error) {
		var r messageRow
		var position, version, recorded int64
		if err := row.Scan(append([]any{&position, &version, &recorded}, r.fields()...)...); err != nil {
			return storedEvent{}, err
		}
		if r.Name == "" {
			stub := es.Message{ID: r.ID, Stream: r.Stream, Position: position, Version: version}
			return storedEvent{Message: stub, stub: true, hash: r.Data}, nil
		}
		m, err := r.message()
		if err != nil {
			return storedEvent{}, fmt.Errorf("event at position %d: %w", position, err)
		}
		m.Position, m.Version, m.Recorded = position, version, timeAt(recorded)
		return storedEvent{Message: *m}, nil
	})
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
