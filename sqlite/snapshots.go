package sqlite

import (
	"context"
	"fmt"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Snapshots is the snapshots of a namespace. It is an [es.Snapshots].
//
// They are not synced for their own sake: one that goes with loss of power is built again.
type Snapshots struct {
	db  *DB
	sql snapshotQueries
}

var _ es.Snapshots = (*Snapshots)(nil)

type snapshotQueries struct{ load, version, save, remove string }

func newSnapshots(db *DB) *Snapshots {
	const key = " WHERE stream = ? AND name = ? AND schema = ?"
	return &Snapshots{db: db, sql: snapshotQueries{
		load:    db.sql("SELECT version, time, content_type, data FROM es_snapshots_$" + key),
		version: db.sql("SELECT version FROM es_snapshots_$" + key),
		save: db.sql("INSERT INTO es_snapshots_$ (stream, name, schema, version, time, content_type, data) VALUES (?, ?, ?, ?, ?, ?, ?) " +
			"ON CONFLICT (stream, name, schema) DO UPDATE SET version = excluded.version, time = excluded.time, " +
			"content_type = excluded.content_type, data = excluded.data"),
		remove: db.sql("DELETE FROM es_snapshots_$" + key),
	}}
}

// Load returns the latest snapshot under a key, or [es.ErrNotFound].
func (s *Snapshots) Load(ctx context.Context, key es.SnapshotKey) (es.Snapshot, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Snapshot{}, err
	}
	defer s.db.handle.leave()
	if err := key.Validate(); err != nil {
		return es.Snapshot{}, err
	}
	snapshot := es.Snapshot{SnapshotKey: key}
	err := s.db.read(ctx, func(c *conn) error {
		return c.query(func(stmt *lite.Stmt) error {
			snapshot.Version, snapshot.Time = stmt.ColumnInt64(0), timeAt(stmt.ColumnInt64(1))
			snapshot.ContentType, snapshot.Data = stmt.ColumnText(2), columnBytes(stmt, 3)
			return nil
		}, s.sql.load, key.Stream, key.Name, key.Schema)
	})
	if err == nil && snapshot.Version == 0 {
		err = fmt.Errorf("snapshot %q (schema %d) of stream %q: %w", key.Name, key.Schema, key.Stream, es.ErrNotFound)
	}
	if err != nil {
		return es.Snapshot{}, err
	}
	return snapshot, nil
}

// Save keeps a snapshot unless there is one of the same or a later version under its key.
func (s *Snapshots) Save(ctx context.Context, snapshot es.Snapshot) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	if err := snapshot.Validate(); err != nil {
		return err
	}
	key := snapshot.SnapshotKey
	return s.db.write(ctx, &op{relaxed: true, size: len(snapshot.Data), run: func(tx *txn) error {
		version, err := tx.number(s.sql.version, key.Stream, key.Name, key.Schema)
		if err != nil || version >= snapshot.Version {
			return err
		}
		return tx.write(s.sql.save, key.Stream, key.Name, key.Schema, snapshot.Version, es.Timestamp(snapshot.Time).UnixMicro(),
			snapshot.ContentType, snapshot.Data)
	}})
}

// Delete removes the snapshot under a key. What is not there is deleted already.
func (s *Snapshots) Delete(ctx context.Context, key es.SnapshotKey) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	if err := key.Validate(); err != nil {
		return err
	}
	return s.db.write(ctx, &op{run: func(tx *txn) error {
		return tx.write(s.sql.remove, key.Stream, key.Name, key.Schema)
	}})
}
