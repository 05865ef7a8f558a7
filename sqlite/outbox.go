package sqlite

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Outbox is the outbox of a namespace. It is an [es.Outbox] and an [es.Forwarder].
//
// Each stream is a lease partition of its own. What a claim hands out of a stream is with that claim until all of it is answered or the
// lease has ended, and only then does the next claim, whoever makes it, get entries of the stream.
//
// What is enqueued, completed and failed is synced. Claims, and what is given back or prolonged, are not: after loss of power nobody is
// left who has a claim, and what it had in hand is handed out again.
type Outbox struct {
	db       *DB
	sql      outboxQueries
	failures atomic.Int64
}

var (
	_ es.Outbox    = (*Outbox)(nil)
	_ es.Forwarder = (*Outbox)(nil)
)

// outboxQueries are the statements of the outbox in its namespace.
type outboxQueries struct {
	taken, numbers, add, addStream                                      string
	anyReady, nextReady, ready, overdue, token, handOut                 string
	held, stream, remove, giveBack, retry, depth                        string
	first, parked, setStream, dropStream                                string
	bury, deadPage, lastDeath, dead, exhume, revive                     string
	stats, oldest, oldestReplayed, retrying, deadLetters, parkedStreams string
}

func newOutbox(db *DB) *Outbox {
	return &Outbox{db: db, sql: outboxQueries{
		taken: db.sql("SELECT " + messageColumns + " FROM es_outbox_$ WHERE id = ?1 UNION ALL SELECT " + messageColumns +
			" FROM es_outbox_dead_$ WHERE id = ?1"),
		numbers: db.sql("UPDATE es_outbox_state_$ SET seq = seq + ?1, depth = depth + ?1 RETURNING seq"),
		add: db.sql("INSERT INTO es_outbox_$ (seq, enqueued, attempt, due, answered, failed, replayed, " + messageColumns +
			") VALUES (?, ?, 1, 0, 0, 0, 0, " + messagePlaces + ")"),
		addStream: db.sql("INSERT INTO es_outbox_streams_$ (stream, ready, token, lease, until, last, open) VALUES (?, ?, 0, 0, 0, 0, 0) " +
			"ON CONFLICT (stream) DO NOTHING"),

		anyReady:  db.sql("SELECT 1 FROM es_outbox_streams_$ WHERE ready <= ? LIMIT 1"),
		nextReady: db.sql("SELECT ready FROM es_outbox_streams_$ WHERE ready IS NOT NULL ORDER BY ready LIMIT 1"),
		ready:     db.sql("SELECT stream, token, lease, until, last, open FROM es_outbox_streams_$ WHERE ready <= ? ORDER BY ready LIMIT ?"),
		overdue:   db.sql("UPDATE es_outbox_$ SET attempt = attempt + 1 WHERE stream = ? AND seq <= ? AND answered <> ?"),
		token:     db.sql("UPDATE es_outbox_state_$ SET token = token + 1 RETURNING token"),
		handOut: db.sql("SELECT seq, enqueued, attempt, due, " + messageColumns +
			" FROM es_outbox_$ WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"),

		held:     db.sql("SELECT seq, answered, enqueued, attempt FROM es_outbox_$ WHERE id = ?"),
		stream:   db.sql("SELECT token, lease, until, last, open, ready FROM es_outbox_streams_$ WHERE stream = ?"),
		remove:   db.sql("DELETE FROM es_outbox_$ WHERE seq = ?"),
		giveBack: db.sql("UPDATE es_outbox_$ SET answered = ? WHERE seq = ?"),
		retry:    db.sql("UPDATE es_outbox_$ SET answered = ?, attempt = attempt + 1, due = ?, failed = 1 WHERE seq = ?"),
		depth:    db.sql("UPDATE es_outbox_state_$ SET depth = depth + ?"),

		first:  db.sql("SELECT seq, due FROM es_outbox_$ WHERE stream = ? ORDER BY seq LIMIT 1"),
		parked: db.sql("SELECT seq FROM es_outbox_dead_$ WHERE stream = ? AND parked = 1 ORDER BY seq LIMIT 1"),
		setStream: db.sql("INSERT OR REPLACE INTO es_outbox_streams_$ (stream, ready, token, lease, until, last, open) " +
			"VALUES (?, ?, ?, ?, ?, ?, ?)"),
		dropStream: db.sql("DELETE FROM es_outbox_streams_$ WHERE stream = ?"),

		bury: db.sql("INSERT INTO es_outbox_dead_$ (seq, enqueued, died, attempts, error, parked, " + messageColumns +
			") SELECT seq, enqueued, ?, attempt, ?, ?, " + messageColumns + " FROM es_outbox_$ WHERE seq = ?"),
		deadPage: db.sql("SELECT death, enqueued, died, attempts, error, parked, " + messageColumns +
			" FROM es_outbox_dead_$ WHERE death > ? AND death <= ? ORDER BY death LIMIT ?"),
		lastDeath: db.sql("SELECT max(death) FROM es_outbox_dead_$"),
		dead:      db.sql("SELECT seq, stream FROM es_outbox_dead_$ WHERE id = ?"),
		exhume:    db.sql("DELETE FROM es_outbox_dead_$ WHERE id = ?"),
		revive: db.sql("INSERT INTO es_outbox_$ (seq, enqueued, attempt, due, answered, failed, replayed, " + messageColumns +
			") SELECT seq, ?, 1, 0, ?, 0, 1, " + messageColumns + " FROM es_outbox_dead_$ WHERE id = ?"),

		stats:          db.sql("SELECT depth FROM es_outbox_state_$"),
		oldest:         db.sql("SELECT enqueued FROM es_outbox_$ WHERE replayed = 0 ORDER BY seq LIMIT 1"),
		oldestReplayed: db.sql("SELECT min(enqueued) FROM es_outbox_$ WHERE replayed = 1"),
		retrying:       db.sql("SELECT count(*) FROM es_outbox_$ WHERE failed = 1"),
		deadLetters:    db.sql("SELECT count(*) FROM es_outbox_dead_$"),
		parkedStreams:  db.sql("SELECT count(DISTINCT stream) FROM es_outbox_dead_$ WHERE parked = 1"),
	}}
}

// Enqueue stores messages, all or none. An ID that waits already, or is a dead letter, is left as it is when the content is the
// same; otherwise the error is a [*es.DuplicateError].
func (o *Outbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if err := o.validate(msgs); err != nil || len(msgs) == 0 {
		return err
	}
	size := 0
	for _, m := range msgs {
		size += len(m.Data) + eventOverhead
	}
	return o.db.write(ctx, &op{size: size, run: func(tx *txn) error { return o.enqueue(tx, msgs) }})
}

// enqueueIn is Enqueue in a transaction. It checks everything before it writes.
func (o *Outbox) enqueueIn(tx *txn, msgs []*es.Message) error {
	if err := o.validate(msgs); err != nil || len(msgs) == 0 {
		return err
	}
	return o.enqueue(tx, msgs)
}

func (o *Outbox) validate(msgs []*es.Message) error {
	for _, m := range msgs {
		if err := m.Validate(o.db.config.Limits); err != nil {
			return err
		}
	}
	return nil
}

func (o *Outbox) enqueue(tx *txn, msgs []*es.Message) error {
	fresh := make([]*es.Message, 0, len(msgs))
	for i, m := range msgs {
		same, err := o.there(tx, m, msgs[:i])
		if err != nil {
			return err
		}
		if !same {
			fresh = append(fresh, m)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	tx.writes++
	tx.tells |= outboxChanged
	seq, err := tx.number(o.sql.numbers, len(fresh))
	if err != nil {
		return err
	}
	seq -= int64(len(fresh))
	for _, m := range fresh {
		seq++
		if err := o.add(tx, seq, m); err != nil {
			return err
		}
	}
	return nil
}

// there tells whether a message is in the outbox already, or is one of those that come with it and before it. The error is a
// [*es.DuplicateError] when that has the ID and says something else.
func (o *Outbox) there(tx *txn, m *es.Message, before []*es.Message) (bool, error) {
	var stored *es.Message
	for _, other := range before {
		if other.ID == m.ID {
			stored = other
		}
	}
	if stored == nil {
		err := tx.query(func(stmt *lite.Stmt) error {
			stored = new(es.Message)
			if err := readMessage(stmt, 0, stored); err != nil {
				return damaged(fmt.Errorf("outbox entry %s: %w", m.ID, err))
			}
			return nil
		}, o.sql.taken, m.ID[:])
		if err != nil {
			return false, err
		}
	}
	if stored != nil && !stored.SameContent(m) {
		return false, &es.DuplicateError{ID: m.ID, Stream: stored.Stream, Reason: "in the outbox, with other content"}
	}
	return stored != nil, nil
}

// add writes an entry.
func (o *Outbox) add(tx *txn, seq int64, m *es.Message) error {
	stmt, err := tx.prepare(o.sql.add)
	if err != nil {
		return err
	}
	stmt.BindInt64(1, seq)
	stmt.BindInt64(2, tx.now)
	if err := bindMessage(stmt, 3, m); err != nil {
		return err
	}
	if err := each(stmt, nil); err != nil {
		return err
	}
	return tx.write(o.sql.addStream, m.Stream, tx.now)
}

// Wait returns when there may be something to claim.
func (o *Outbox) Wait(ctx context.Context) error {
	watching := false
	defer func() {
		if watching {
			o.db.watch.end()
		}
	}()
	for {
		rung := o.db.outboxBell.listen()
		next, err := o.nextReady(ctx)
		if err != nil {
			return err
		}
		if next != 0 && next <= time.Now().UnixMicro() {
			return nil
		}
		if !watching { // and look once more: somebody may have written in between
			if err := o.db.watch.begin(); err != nil {
				return err
			}
			watching = true
			continue
		}
		if err := o.db.wait(ctx, rung, timeOf(next)); err != nil {
			return err
		}
	}
}

// nextReady returns when there is something to claim next, 0 when nobody knows.
func (o *Outbox) nextReady(ctx context.Context) (at int64, err error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.db.handle.leave()
	err = o.db.read(ctx, func(c *conn) error {
		at, err = c.number(o.sql.nextReady)
		return err
	})
	return at, err
}

// Stats tells what is in the outbox. Failures are those of this handle, since it was opened.
func (o *Outbox) Stats(ctx context.Context) (es.OutboxStats, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return es.OutboxStats{}, err
	}
	defer o.db.handle.leave()
	stats := es.OutboxStats{Failures: o.failures.Load()}
	var depth, oldest, replayed, retrying, dead, parked int64
	err := o.db.read(ctx, func(c *conn) error {
		for _, ask := range []struct {
			into  *int64
			query string
		}{
			{&depth, o.sql.stats},
			{&oldest, o.sql.oldest},
			{&replayed, o.sql.oldestReplayed},
			{&retrying, o.sql.retrying},
			{&dead, o.sql.deadLetters},
			{&parked, o.sql.parkedStreams},
		} {
			n, err := c.number(ask.query)
			if err != nil {
				return err
			}
			*ask.into = n
		}
		return nil
	})
	if replayed != 0 && (oldest == 0 || replayed < oldest) {
		oldest = replayed
	}
	stats.Depth, stats.Retrying, stats.Dead, stats.Parked = int(depth), int(retrying), int(dead), int(parked)
	stats.Oldest = timeOf(oldest)
	return stats, err
}
