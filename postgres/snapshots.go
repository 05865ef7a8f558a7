package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Snapshots is the snapshots of a namespace. It is an [es.Snapshots].
//
// They are not synced for their own sake: one that goes with a crash of the database is built again.
type Snapshots struct {
	db  *DB
	sql snapshotQueries
}

var _ es.Snapshots = (*Snapshots)(nil)

type snapshotQueries struct{ load, save, remove string }

func newSnapshots(db *DB) *Snapshots {
	const key = " WHERE stream = $1 AND name = $2 AND schema = $3"
	return &Snapshots{db: db, sql: snapshotQueries{
		load: db.sql("SELECT version, time, content_type, data FROM @snapshots_#" + key),
		save: db.sql("INSERT INTO @snapshots_# AS s (stream, name, schema, version, time, content_type, data) " +
			"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (stream, name, schema) DO UPDATE SET version = excluded.version, " +
			"time = excluded.time, content_type = excluded.content_type, data = excluded.data WHERE s.version < excluded.version"),
		remove: db.sql("DELETE FROM @snapshots_#" + key),
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
	snapshot, at := es.Snapshot{SnapshotKey: key}, int64(0)
	var b pgx.Batch
	b.Queue(byIndex)
	b.Queue(s.sql.load, key.Stream, key.Name, key.Schema).QueryRow(func(row pgx.Row) error {
		return row.Scan(&snapshot.Version, &at, &snapshot.ContentType, &snapshot.Data)
	})
	err := s.db.pool.SendBatch(ctx, &b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return es.Snapshot{}, fmt.Errorf("snapshot %q (schema %d) of stream %q: %w", key.Name, key.Schema, key.Stream, es.ErrNotFound)
	}
	if err != nil {
		return es.Snapshot{}, fault(err)
	}
	snapshot.Time = timeAt(at)
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
	if t := snapshot.ContentType; !utf8.ValidString(t) || strings.Contains(t, "\x00") {
		return es.Invalidf("snapshot content type", "is %q; it takes UTF-8 without NUL", t)
	}
	key := snapshot.SnapshotKey
	return s.db.pipeline(ctx, unsynced, func(b *pgx.Batch) {
		b.Queue(s.sql.save, key.Stream, key.Name, key.Schema, snapshot.Version, micros(snapshot.Time), snapshot.ContentType,
			nilIfEmpty(snapshot.Data))
	})
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
	return s.db.pipeline(ctx, synced, func(b *pgx.Batch) { b.Queue(s.sql.remove, key.Stream, key.Name, key.Schema) })
}
