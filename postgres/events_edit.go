package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// editStatements are the statements of edits in a namespace.
type editStatements struct {
	head, position, put, count, page, clear, untag, all, some, erase string
}

func newEditStatements(db *DB) editStatements {
	return editStatements{
		head: db.sql("SELECT coalesce((SELECT version FROM @events_# WHERE stream = $1 ORDER BY version DESC LIMIT 1), 0), " +
			"coalesce(max(hidden), 0), coalesce(max(deleted), 0), coalesce(max(position), 0) FROM @edits_# WHERE stream = $1"),
		position: db.sql("SELECT position FROM @events_# WHERE stream = $1 AND version = $2"),
		put: db.sql("INSERT INTO @edits_# (stream, hidden, deleted, position) VALUES ($1, $2, $3, $4) " +
			"ON CONFLICT (stream) DO UPDATE SET hidden = excluded.hidden, deleted = excluded.deleted, position = excluded.position"),
		count: db.sql("UPDATE @state_# SET edits = edits + 1"),
		// As many events as have so many bytes of data, and one more.
		page: db.sql("SELECT " + storedColumns + " FROM (SELECT position, version, recorded, " + messageColumns +
			", sum(coalesce(octet_length(data), 0)) OVER (ORDER BY version) - coalesce(octet_length(data), 0) AS before FROM @events_# " +
			"WHERE stream = $1 AND version > $2 AND version <= $3 AND name IS NOT NULL ORDER BY version LIMIT $4" +
			") AS page WHERE before <= $5 ORDER BY version"),
		clear: db.sql("UPDATE @events_# e SET name = NULL, schema = NULL, time = NULL, correlation = NULL, causation = NULL, " +
			"content_type = NULL, tags = NULL, metadata = NULL, data = h.hash " +
			"FROM unnest($1::bigint[], $2::bytea[]) AS h (position, hash) WHERE e.position = h.position"),
		untag: db.sql("DELETE FROM @tags_# t USING unnest($1::text[], $2::bigint[]) AS g (tag, position) " +
			"WHERE t.tag = g.tag AND t.position = g.position"),
		all: db.sql("SELECT position, version FROM @events_# WHERE stream = $1 AND version > $2 AND name IS NOT NULL ORDER BY version"),
		some: db.sql("SELECT position, version FROM @events_# WHERE stream = $1 AND version > $2 AND name IS NOT NULL " +
			"AND version = ANY ($3::bigint[])"),
		erase: db.sql("UPDATE @events_# SET data = NULL, metadata = $2 WHERE position = ANY ($1::bigint[]) AND " +
			"(metadata IS NULL OR NOT metadata::jsonb ? '" + es.MetadataErased + "')"),
	}
}

// oneByOne has the planner find the rows of an edit by their keys. With the statistics of a table that was small it would read it all.
const oneByOne = byIndex + ", set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"

// edit is what was taken away of a stream.
type edit struct {
	hidden   int64 // nobody reads the versions up to this one
	deleted  int64
	position int64 // of the last event that is hidden
}

// Truncate hides the events of a stream below a version; see [es.StreamEditor].
func (s *EventStore) Truncate(ctx context.Context, stream string, before int64) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	if before < 0 {
		return es.Invalidf("truncation", "is before version %d; versions count from 1", before)
	}
	return s.edit(ctx, stream, func(e *edit, version int64) {
		e.hidden = max(e.hidden, min(before-1, version))
	})
}

// Delete hides all the events of a stream; see [es.StreamEditor].
func (s *EventStore) Delete(ctx context.Context, stream string, how es.Deletion) error {
	if err := es.ValidateName("stream", stream); err != nil {
		return err
	}
	if how != es.SoftDelete && how != es.Tombstone {
		return es.Invalidf("deletion", "is of kind %d; there are SoftDelete and Tombstone", how)
	}
	return s.edit(ctx, stream, func(e *edit, version int64) {
		e.hidden = version
		switch {
		case how == es.Tombstone:
			e.deleted = deletedForGood
		case e.deleted == notDeleted && version > 0:
			e.deleted = deletedSoftly
		}
	})
}

// edit changes what is hidden of a stream, and clears it, in one transaction that has the stream for itself: what remains of an event is
// its place, its ID and a hash of what it said, to know it by when it is appended again.
func (s *EventStore) edit(ctx context.Context, stream string, change func(e *edit, version int64)) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	changed := false
	err := s.db.transact(ctx, func(tx pgx.Tx) error {
		changed = false
		if err := s.lanes.lockStream(ctx, tx, stream); err != nil {
			return err
		}
		before, version, err := s.editOf(ctx, tx, stream)
		if err != nil {
			return err
		}
		now := before
		if now.deleted == deletedSoftly && now.hidden < version {
			now.deleted = notDeleted // it was appended to since
		}
		change(&now, version)
		if changed = now != before; !changed {
			return nil
		}
		return s.putEdit(ctx, tx, stream, before, now)
	})
	if err == nil && changed {
		s.edited()
	}
	return err
}

// edited has those who read, or wait, take notice of an edit that was committed.
func (s *EventStore) edited() {
	s.reads.edits.Add(1)
	s.db.tell(eventsChanged)
}

// editOf returns what was taken away of a stream so far, and its version. The transaction has the stream for itself, so both stay.
func (s *EventStore) editOf(ctx context.Context, tx pgx.Tx, stream string) (e edit, version int64, err error) {
	var b pgx.Batch
	b.Queue(oneByOne)
	b.Queue(s.db.edits.head, stream).QueryRow(func(row pgx.Row) error { return row.Scan(&version, &e.hidden, &e.deleted, &e.position) })
	err = tx.SendBatch(ctx, &b).Close()
	return e, version, err
}

func (s *EventStore) putEdit(ctx context.Context, tx pgx.Tx, stream string, before, now edit) error {
	if now.hidden > before.hidden {
		if err := tx.QueryRow(ctx, s.db.edits.position, stream, now.hidden).Scan(&now.position); err != nil {
			return err
		}
		if err := s.clear(ctx, tx, stream, before.hidden, now.hidden); err != nil {
			return err
		}
	}
	var b pgx.Batch
	b.Queue(s.db.edits.put, stream, now.hidden, now.deleted, now.position)
	b.Queue(s.db.edits.count) // the last: it is one row for all
	return tx.SendBatch(ctx, &b).Close()
}

// clearEvents is how many events are cleared by a statement, as long as they have no more than clearBytes.
const (
	clearEvents = 500
	clearBytes  = 4 << 20
)

// clear clears the events of a stream with versions beyond one, up to another.
func (s *EventStore) clear(ctx context.Context, tx pgx.Tx, stream string, after, upTo int64) error {
	for {
		rows, err := tx.Query(ctx, s.db.edits.page, stream, after, upTo, clearEvents, clearBytes)
		if err != nil {
			return err
		}
		events, err := storedEvents(rows)
		if err != nil || len(events) == 0 {
			return err
		}
		var positions, tagged []int64
		var hashes [][]byte
		var tags []string
		for i := range events {
			e := &events[i]
			positions, hashes = append(positions, e.Position), append(hashes, e.fingerprint())
			for _, tag := range e.Tags {
				tags, tagged = append(tags, tag), append(tagged, e.Position)
			}
			after = e.Version
		}
		var b pgx.Batch
		b.Queue(s.db.edits.clear, positions, hashes)
		if len(tags) > 0 {
			b.Queue(s.db.edits.untag, tags, tagged)
		}
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return err
		}
	}
}

// Erase removes Data and Metadata from events in place, and appends the audit event that says so; see [es.StreamEditor]. An event that was
// erased before keeps the ID of the audit event that came first. When the audit event is in the store already, it has done its work, and
// nothing is erased.
//
// What is erased is gone from the tables at once. PostgreSQL keeps old versions of rows in the files of the table until it has been
// vacuumed and their space is used again (VACUUM FULL makes the files anew), and in the write-ahead log until that is recycled. Copies on
// replicas go the same way; those in backups and archives stay.
func (s *EventStore) Erase(ctx context.Context, e es.Erasure) (es.Appended, error) {
	if err := es.ValidateName("stream", e.Stream); err != nil {
		return es.Appended{}, err
	}
	if e.Audit == nil {
		return es.Appended{}, es.Invalidf("erasure", "has no audit event; it takes one that records the erasure")
	}
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Appended{}, err
	}
	defer s.db.handle.leave()
	audit := es.AppendTo(e.Audit.Stream, es.Any, e.Audit)
	err := audit.Validate(s.db.config.Limits)
	var done es.Appended
	if err == nil {
		err = s.db.transact(ctx, func(tx pgx.Tx) error {
			done, err = s.eraseIn(ctx, tx, e, &audit)
			return err
		})
	}
	if err != nil {
		return es.Appended{}, fmt.Errorf("erase from stream %q: %w", e.Stream, err)
	}
	if done.Existing == 0 {
		s.edited()
	}
	return done, nil
}

// eraseIn erases in a transaction. With an error the transaction is to be rolled back.
func (s *EventStore) eraseIn(ctx context.Context, tx pgx.Tx, e es.Erasure, audit *es.Append) (es.Appended, error) {
	c := s.lanes.claimsOf(audit) // all at once, so that two of them cannot each wait for the other
	c.streams = append(c.streams, s.lanes.streamKey(e.Stream))
	slices.Sort(c.streams)
	c.streams = slices.Compact(c.streams)
	if _, err := tx.Exec(ctx, s.lanes.sql.lock, s.lanes.lockArguments(c)...); err != nil {
		return es.Appended{}, err
	}
	at, _, err := s.editOf(ctx, tx, e.Stream)
	if err != nil {
		return es.Appended{}, err
	}
	positions, unreadable, err := s.erasable(ctx, tx, e, at.hidden)
	if err != nil {
		return es.Appended{}, err
	}
	done, err := s.appendIn(ctx, tx, audit)
	if err != nil || done.Existing > 0 {
		return done, err
	}
	if unreadable != nil {
		return es.Appended{}, unreadable
	}
	var b pgx.Batch
	if len(positions) > 0 {
		b.Queue(s.db.edits.erase, positions, encodeMetadata(map[string]string{es.MetadataErased: e.Audit.ID.String()}))
	}
	b.Queue(s.db.edits.count)
	return done, tx.SendBatch(ctx, &b).Close()
}

// erasable returns the positions of the events that are to be erased, or that one of them cannot be read.
func (s *EventStore) erasable(ctx context.Context, tx pgx.Tx, e es.Erasure, hidden int64) (positions []int64, unreadable, err error) {
	query, args := s.db.edits.all, []any{e.Stream, hidden}
	if len(e.Versions) > 0 {
		query, args = s.db.edits.some, append(args, e.Versions)
	}
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return nil, nil, err
	}
	there := make(map[int64]bool, len(e.Versions))
	var position, version int64
	_, err = pgx.ForEachRow(rows, []any{&position, &version}, func() error {
		positions = append(positions, position)
		if len(e.Versions) > 0 {
			there[version] = true
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, version := range e.Versions {
		if !there[version] {
			return nil, fmt.Errorf("version %d: %w", version, es.ErrNotFound), nil
		}
	}
	return positions, nil, nil
}
