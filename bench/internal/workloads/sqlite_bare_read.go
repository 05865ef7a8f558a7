package workloads

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"
)

// bareReading is what a bare reader makes of a row.
type bareReading int

const (
	asStored bareReading = iota
	decoded              // metadata is a map
)

// bareMessage has what a row has.
type bareMessage struct {
	id                     uuid.UUID
	name, stream           string
	schema                 int
	version, position      int64
	time, recorded         time.Time
	correlation, causation string
	contentType            string
	tags, metadata         string
	decoded                map[string]string
	data                   []byte
}

const bareColumns = `SELECT position, version, id, stream, name, schema, time, recorded, correlation, causation, content_type, tags,
	metadata, data FROM es_events_1 `

type bareReader struct {
	all, stream *lite.Stmt
	how         bareReading
}

func newBareReader(f *bareFile, how bareReading) (*bareReader, error) {
	all, err := f.conn.Prepare(bareColumns + "ORDER BY position LIMIT ?")
	if err != nil {
		return nil, err
	}
	stream, err := f.conn.Prepare(bareColumns + "WHERE stream = ?2 ORDER BY version LIMIT ?1")
	if err != nil {
		return nil, err
	}
	return &bareReader{all: all, stream: stream, how: how}, nil
}

func (r *bareReader) read(_ context.Context, stream string, limit int, see func(data []byte) error) error {
	stmt := r.all
	if stream != "" {
		stmt = r.stream
		stmt.BindText(2, stream)
	}
	stmt.BindInt64(1, int64(limit))
	for {
		more, err := stmt.Step()
		if err != nil {
			return err
		}
		if !more {
			return stmt.Reset()
		}
		m, err := r.message(stmt)
		if err == nil {
			err = see(m.data)
		}
		if err != nil {
			return errors.Join(err, stmt.Reset())
		}
	}
}

// message copies every column of a row.
func (r *bareReader) message(stmt *lite.Stmt) (*bareMessage, error) {
	m := &bareMessage{
		position:    stmt.ColumnInt64(0),
		version:     stmt.ColumnInt64(1),
		stream:      stmt.ColumnText(3),
		name:        stmt.ColumnText(4),
		schema:      stmt.ColumnInt(5),
		time:        time.UnixMicro(stmt.ColumnInt64(6)).UTC(),
		recorded:    time.UnixMicro(stmt.ColumnInt64(7)).UTC(),
		correlation: stmt.ColumnText(8),
		causation:   stmt.ColumnText(9),
		contentType: stmt.ColumnText(10),
		tags:        stmt.ColumnText(11),
		metadata:    stmt.ColumnText(12),
		data:        make([]byte, stmt.ColumnLen(13)),
	}
	stmt.ColumnBytes(2, m.id[:])
	stmt.ColumnBytes(13, m.data)
	if r.how == decoded {
		return m, json.Unmarshal([]byte(m.metadata), &m.decoded)
	}
	return m, nil
}
