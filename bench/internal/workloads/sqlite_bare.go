package workloads

import (
	"context"
	"errors"
	"fmt"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// bareTable is the toolkit's own table of events, see sqlite/schema/1/events.sql.
const bareTable = `CREATE TABLE es_events_1 (
	position INTEGER PRIMARY KEY, version INTEGER NOT NULL, id BLOB NOT NULL, stream TEXT NOT NULL, name TEXT, schema INTEGER,
	time INTEGER, recorded INTEGER, correlation TEXT, causation TEXT, content_type TEXT, tags TEXT, metadata TEXT, data BLOB)`

const bareInsert = `INSERT INTO es_events_1 (version, id, stream, name, schema, time, recorded, correlation, causation, metadata, data)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

// The indexes that a bare file can have.
const (
	indexStreams = `CREATE UNIQUE INDEX streams ON es_events_1 (stream, version)`
	indexIDs     = `CREATE UNIQUE INDEX ids ON es_events_1 (id)`
)

// bareFile is a file with events and nothing of the toolkit, on the same driver, with the same settings.
type bareFile struct {
	onSQLiteFile

	conn                            *lite.Conn
	path                            string
	begin, commit, rollback, insert *lite.Stmt
}

// makeBare makes a file.
func makeBare(path string, indexes ...string) (*bareFile, error) {
	conn, err := lite.OpenConn(path, lite.OpenReadWrite|lite.OpenCreate)
	if err != nil {
		return nil, err
	}
	err = run(conn, "PRAGMA page_size=4096", "PRAGMA journal_mode=WAL", bareTable)
	if err == nil {
		err = run(conn, indexes...)
	}
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	return openBare(path)
}

// openBare opens a file that is there.
func openBare(path string) (*bareFile, error) {
	conn, err := lite.OpenConn(path, lite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	f := &bareFile{conn: conn, path: path}
	if err := f.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), conn.Close())
	}
	return f, nil
}

func (f *bareFile) prepare() (err error) {
	if err := run(f.conn, "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=4000"); err != nil {
		return err
	}
	for _, p := range []struct {
		stmt  **lite.Stmt
		query string
	}{{&f.begin, "BEGIN IMMEDIATE"}, {&f.commit, "COMMIT"}, {&f.rollback, "ROLLBACK"}, {&f.insert, bareInsert}} {
		if *p.stmt, err = f.conn.Prepare(p.query); err != nil {
			return err
		}
	}
	return nil
}

// run runs statements that are not needed again.
func run(conn *lite.Conn, queries ...string) error {
	for _, query := range queries {
		stmt, _, err := conn.PrepareTransient(query)
		if err != nil {
			return err
		}
		if err := errors.Join(do(stmt), stmt.Finalize()); err != nil {
			return err
		}
	}
	return nil
}

// do runs a statement that is bound, and leaves it to be used again.
func do(stmt *lite.Stmt) error {
	for {
		more, err := stmt.Step()
		if err != nil {
			return err
		}
		if !more {
			return stmt.Reset()
		}
	}
}

// add inserts an event, in a transaction.
func (f *bareFile) add(m *es.Message, version, now int64) error {
	s := f.insert
	s.BindInt64(1, version)
	s.BindBytes(2, m.ID[:])
	s.BindText(3, m.Stream)
	s.BindText(4, m.Name)
	s.BindInt64(5, int64(m.Schema))
	s.BindInt64(6, m.Time.UnixMicro())
	s.BindInt64(7, now)
	s.BindText(8, m.CorrelationID)
	s.BindText(9, m.CausationID)
	s.BindText(10, `{"`+tenantKey+`":"`+m.Metadata[tenantKey]+`"}`)
	s.BindBytes(11, m.Data)
	return do(s)
}

// append appends an event in a transaction of its own.
func (f *bareFile) append(_ context.Context, a es.Append) (es.Place, error) {
	to := a.Streams[0]
	version := max(int64(to.Expect), 0) + 1
	if err := do(f.begin); err != nil {
		return es.Place{}, err
	}
	if err := f.add(to.Events[0], version, time.Now().UnixMicro()); err != nil {
		return es.Place{}, errors.Join(err, do(f.rollback))
	}
	return es.Place{Version: version, Position: f.conn.LastInsertRowID()}, do(f.commit)
}

// each shows all events, in order.
func (f *bareFile) each(see func(stream string, version int64, data []byte) error) error {
	stmt, err := f.conn.Prepare("SELECT stream, version, data FROM es_events_1 ORDER BY position")
	if err != nil {
		return err
	}
	data := make([]byte, payloadBytes+1)
	for {
		more, err := stmt.Step()
		if err != nil || !more {
			return err
		}
		got := stmt.ColumnBytes(2, data)
		if err := see(stmt.ColumnText(0), stmt.ColumnInt64(1), data[:got]); err != nil {
			return errors.Join(err, stmt.Reset())
		}
	}
}

func (f *bareFile) close() (string, error) { return f.path, f.conn.Close() }
