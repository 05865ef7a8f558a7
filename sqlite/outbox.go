package sqlite

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Outbox is the outbox of a namespace, for all the processes that have the file open. It is an [es.Outbox] and an [es.Forwarder].
//
// Each stream is a lease partition of its own. What a claim hands out of a stream is with that claim until all of it is answered or the
// lease has ended, and only then does the next claim, whoever makes it, get entries of the stream. Attempt rises with every Fail and
// when the lease of a claim ends: the message may be what its owner died of. The clock of the machine decides when a lease has ended.
//
// What is enqueued, completed, failed, replayed and discarded is synced. Claims, and what is given back or prolonged, are not: after a
// loss of power no owner is left who has anything in hand, and what they had is handed out again.
type Outbox struct {
	db       *DB
	sql      outboxSQL
	failures atomic.Int64
}

var (
	_ es.Outbox    = (*Outbox)(nil)
	_ es.Forwarder = (*Outbox)(nil)
)

// outboxSQL are the statements of the outbox.
type outboxSQL struct {
	add, addStream, there, stored, count       string // enqueueing
	ready, isReady, nextReady, token, takeBack string // claiming
	handOut                                    string
	held, remove, forget, giveBack, tryAgain   string // answering
	first, setStream, dropStream               string // streams
	bury, find, revive, exhume, parked, stream string // dead letters
	deadPage, lastDeath                        string
	stats                                      string
}

func newOutbox(db *DB) *Outbox {
	// A plus stands before a parameter where SQLite would look at what is bound to it, and make its plan anew each time: behind LIMIT,
	// and behind = in a join or in the search for a partial index.
	const (
		stream  = "s.stream, s.ready, s.token, s.lease, s.until, s.last, s.open, s.parked"
		withTry = " FROM es_outbox_$ e LEFT JOIN es_outbox_tries_$ t ON t.entry = e.entry "
	)
	return &Outbox{db: db, sql: outboxSQL{
		// How many places behind the last one, the time, and the message. There is no place for the ID of a dead letter, and without
		// one, or with an ID that waits already, nothing is written.
		add: db.sql("INSERT OR IGNORE INTO es_outbox_$ (place, enqueued, " + messageColumns + ") VALUES ((SELECT place + ?" +
			" FROM es_outbox_state_$ WHERE one = 1 AND NOT EXISTS (SELECT 1 FROM es_outbox_dead_$ WHERE id = ?3)), ?2, ?3, " +
			messagePlaces[len("?, "):] + ")"),
		// A stream that has entries is as it was: the new one is its last. One that has none waits for a dead letter before the new one.
		addStream: db.sql("INSERT INTO es_outbox_streams_$ VALUES (?, ?, 0, 0, 0, 0, 0, 0) ON CONFLICT (stream) DO NOTHING"),
		there:     db.sql("SELECT 1 FROM es_outbox_$ WHERE id = ?1 UNION ALL SELECT 1 FROM es_outbox_dead_$ WHERE id = ?1"),
		stored: db.sql("SELECT " + messageColumns + " FROM es_outbox_$ WHERE id = ?1" +
			" UNION ALL SELECT " + messageColumns + " FROM es_outbox_dead_$ WHERE id = ?1"),
		count: db.sql("UPDATE es_outbox_state_$ SET place = place + ?, depth = depth + ?, retrying = retrying + ?, dead = dead + ?, " +
			"parked = parked + ? WHERE one = 1"),

		ready:     db.sql("SELECT " + stream + " FROM es_outbox_streams_$ s WHERE s.ready <= ? ORDER BY s.ready LIMIT +?"),
		isReady:   db.sql("SELECT 1 FROM es_outbox_streams_$ WHERE ready <= ? LIMIT 1"),
		nextReady: db.sql("SELECT min(ready) FROM es_outbox_streams_$ WHERE ready IS NOT NULL"),
		token:     db.sql("UPDATE es_outbox_state_$ SET token = token + 1 WHERE one = 1 RETURNING token"),
		takeBack: db.sql("INSERT INTO es_outbox_tries_$ SELECT e.entry, 2, 0, 0, 0" + withTry +
			"WHERE e.stream = +? AND e.place <= ? AND coalesce(t.back, 0) <> ? ON CONFLICT (entry) DO UPDATE SET attempt = attempt + 1"),
		handOut: db.sql("SELECT place, coalesce(due, 0), enqueued, coalesce(attempt, 1), " + messageColumns + withTry +
			"WHERE stream = +? AND place > ? AND place < ? ORDER BY place LIMIT +?"),

		held: db.sql("SELECT e.entry, e.place, coalesce(t.attempt, 0), coalesce(t.failed, 0), coalesce(t.back, 0), " + stream + withTry +
			"JOIN es_outbox_streams_$ s ON s.stream = e.stream WHERE e.id = +?"),
		remove:   db.sql("DELETE FROM es_outbox_$ WHERE entry = ?"),
		forget:   db.sql("DELETE FROM es_outbox_tries_$ WHERE entry = ?"),
		giveBack: db.sql("INSERT INTO es_outbox_tries_$ VALUES (?, 1, 0, 0, ?) ON CONFLICT (entry) DO UPDATE SET back = excluded.back"),
		tryAgain: db.sql("INSERT INTO es_outbox_tries_$ VALUES (?, 2, ?, 1, ?) ON CONFLICT (entry) DO UPDATE SET " +
			"attempt = attempt + 1, due = excluded.due, failed = 1, back = excluded.back"),

		first: db.sql("SELECT place, coalesce(due, 0)" + withTry + "WHERE stream = +? ORDER BY place LIMIT 1"),
		setStream: db.sql("UPDATE es_outbox_streams_$ SET ready = ?, token = ?, lease = ?, until = ?, last = ?, open = ?, parked = ? " +
			"WHERE stream = ?"),
		dropStream: db.sql("DELETE FROM es_outbox_streams_$ WHERE stream = ?"),

		bury: db.sql("INSERT INTO es_outbox_dead_$ (place, enqueued, died, attempts, error, parked, " + messageColumns +
			") SELECT place, enqueued, ?, ?, ?, ?, " + messageColumns + " FROM es_outbox_$ WHERE entry = ?"),
		find:   db.sql("SELECT death, place, parked, stream FROM es_outbox_dead_$ WHERE id = ?"),
		stream: db.sql("SELECT " + stream + " FROM es_outbox_streams_$ s WHERE s.stream = ?"),
		revive: db.sql("INSERT INTO es_outbox_$ (place, enqueued, " + messageColumns + ") SELECT place, ?, " + messageColumns +
			" FROM es_outbox_dead_$ WHERE death = ?"),
		exhume:    db.sql("DELETE FROM es_outbox_dead_$ WHERE death = ?"),
		parked:    db.sql("SELECT min(place) FROM es_outbox_dead_$ WHERE stream = +? AND parked = 1"),
		lastDeath: db.sql("SELECT max(death) FROM es_outbox_dead_$"),
		deadPage: db.sql("SELECT death, enqueued, died, attempts, error, parked, " + messageColumns +
			" FROM es_outbox_dead_$ WHERE death > ? AND death <= ? ORDER BY death LIMIT +?"),

		stats: db.sql("SELECT depth, retrying, dead, parked, " +
			"(SELECT enqueued FROM es_outbox_$ WHERE entry = (SELECT min(entry) FROM es_outbox_$)) FROM es_outbox_state_$ WHERE one = 1"),
	}}
}

// Enqueue stores messages, all or none. An ID that waits already, or is a dead letter, is left as it is when the content is the same;
// otherwise the error is a [*es.DuplicateError].
func (o *Outbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if err := o.validate(msgs); err != nil || len(msgs) == 0 {
		return err
	}
	texts, size := encodeAll(msgs), 0
	for _, m := range msgs {
		size += len(m.Data) + eventOverhead
	}
	return o.db.write(ctx, &op{size: size, run: func(tx *txn) error { return o.enqueue(tx, msgs, texts) }})
}

// enqueueIn is Enqueue in a transaction. With an error of a role nothing was written.
func (o *Outbox) enqueueIn(tx *txn, msgs []*es.Message) error {
	if err := o.validate(msgs); err != nil {
		return err
	}
	return o.enqueue(tx, msgs, encodeAll(msgs))
}

func encodeAll(msgs []*es.Message) []encoded {
	texts := make([]encoded, len(msgs))
	for i, m := range msgs {
		texts[i] = encode(m)
	}
	return texts
}

func (o *Outbox) validate(msgs []*es.Message) error {
	for _, m := range msgs {
		if err := m.Validate(o.db.config.Limits); err != nil {
			return err
		}
	}
	return nil
}

// enqueue adds messages to what waits. It checks all of them before it writes.
func (o *Outbox) enqueue(tx *txn, msgs []*es.Message, texts []encoded) error {
	if len(msgs) > 1 { // a single one is written, or was there: that is checked when it is not written
		if err := o.check(tx, msgs); err != nil {
			return err
		}
	}
	var added outboxCounts
	stream := "" // the one that was seen to last
	for i, m := range msgs {
		fresh, err := o.add(tx, m, texts[i], added.depth+1)
		if err == nil && !fresh && len(msgs) == 1 {
			err = o.compare(tx, m)
		}
		if err != nil {
			return err
		}
		if !fresh {
			continue
		}
		added.place++
		added.depth++
		if m.Stream == stream {
			continue
		}
		stream = m.Stream
		if err := tx.write(o.sql.addStream, stream, tx.now); err != nil {
			return err
		}
		if tx.Changes() > 0 {
			tx.tells |= outboxChanged
		}
	}
	return o.count(tx, added)
}

// check returns an error unless those of the messages whose ID is there already, or is that of one before it, say the same as that.
func (o *Outbox) check(tx *txn, msgs []*es.Message) error {
	before := make(map[uuid.UUID]*es.Message, len(msgs))
	for _, m := range msgs {
		if same := before[m.ID]; same != nil {
			if !same.SameContent(m) {
				return otherContent(m.ID, same.Stream)
			}
			continue
		}
		before[m.ID] = m
		there, err := tx.number(o.sql.there, m.ID[:])
		if err == nil && there != 0 {
			err = o.compare(tx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add writes a new entry, so many places behind the last one, and tells whether it did: it does not when the ID is there already.
func (o *Outbox) add(tx *txn, m *es.Message, texts encoded, behind int64) (bool, error) {
	stmt, err := tx.prepare(o.sql.add)
	if err != nil {
		return false, err
	}
	stmt.BindInt64(1, behind)
	stmt.BindInt64(2, tx.now)
	bindMessage(stmt, 3, m, texts)
	if err := each(stmt, nil); err != nil || tx.Changes() == 0 {
		return false, err
	}
	tx.writes++
	return true, nil
}

// compare returns an error unless a message whose ID is there already says what is there.
func (o *Outbox) compare(tx *txn, m *es.Message) error {
	var stored es.Message
	err := tx.query(func(stmt *lite.Stmt) error {
		if err := readMessage(stmt, 0, &stored, &tx.texts); err != nil {
			return damaged(fmt.Errorf("outbox entry %s: %w", m.ID, err))
		}
		return nil
	}, o.sql.stored, m.ID[:])
	if err == nil && !stored.SameContent(m) {
		return otherContent(m.ID, stored.Stream)
	}
	return err
}

func otherContent(id uuid.UUID, stream string) error {
	return &es.DuplicateError{ID: id, Stream: stream, Reason: "in the outbox, with other content"}
}

// outboxCounts is how much there is of what, or how much that changes.
type outboxCounts struct{ place, depth, retrying, dead, parked int64 }

// count writes down a change of what there is.
func (o *Outbox) count(tx *txn, c outboxCounts) error {
	if c == (outboxCounts{}) {
		return nil
	}
	return tx.write(o.sql.count, c.place, c.depth, c.retrying, c.dead, c.parked)
}

// Stats tells what is in the outbox, without counting it. Failures are those of this handle, since it was opened.
func (o *Outbox) Stats(ctx context.Context) (es.OutboxStats, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return es.OutboxStats{}, err
	}
	defer o.db.handle.leave()
	var stats es.OutboxStats
	err := o.db.read(ctx, func(c *conn) error {
		return c.query(func(stmt *lite.Stmt) error {
			stats = es.OutboxStats{
				Depth: stmt.ColumnInt(0), Retrying: stmt.ColumnInt(1), Dead: stmt.ColumnInt(2), Parked: stmt.ColumnInt(3),
				Oldest: timeOf(stmt.ColumnInt64(4)), Failures: o.failures.Load(),
			}
			return nil
		}, o.sql.stats)
	})
	if err != nil {
		return es.OutboxStats{}, err
	}
	return stats, nil
}
