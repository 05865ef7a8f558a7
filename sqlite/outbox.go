package sqlite

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Outbox is the outbox of a namespace, for all the processes that have the file open. It is an [es.Outbox] and an [es.Forwarder].
//
// Entries that were enqueued are found by their streams once a claim has sorted them in, which a claim begins with.
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
	insert   *lite.Stmt // sql.add, prepared, of whoever holds the writer's connection; nil before the first time
	plans    sync.Pool  // of *enqueuePlan
	failures atomic.Int64
}

var (
	_ es.Outbox    = (*Outbox)(nil)
	_ es.Forwarder = (*Outbox)(nil)
)

// outboxSQL are the statements of the outbox.
type outboxSQL struct {
	add, isDead, there, stored                   string // enqueueing
	sort, sortStreams                            string // claiming
	ready, isReady, nextReady, takeBack, handOut string
	held, remove, removeOrder, forget, giveBack  string // answering
	tryAgain                                     string
	first, addStream, setStream, dropStream      string // streams
	bury, find, revive, addOrder, exhume, parked string // dead letters
	stream, deadPage, lastDeath                  string
	state, setState, stats                       string // numbers
}

func newOutbox(db *DB) *Outbox {
	// A plus stands before a parameter where SQLite would look at what is bound to it, and make its plan anew each time: behind LIMIT,
	// and behind = in a join or in the search for a partial index.
	const (
		stream  = "s.stream, s.ready, s.token, s.lease, s.until, s.last, s.open, s.parked"
		arrived = " FROM es_outbox_$ WHERE entry > ? AND entry <= ? ON CONFLICT DO NOTHING"
		withTry = " LEFT JOIN es_outbox_tries_$ t ON t.entry = e.entry "
		inOrder = " FROM es_outbox_order_$ e" + withTry
	)
	return &Outbox{db: db, sql: outboxSQL{
		// The number, the time, and the message. When its ID waits already, nothing is written.
		add: db.sql("INSERT INTO es_outbox_$ (entry, place, enqueued, " + messageColumns + ") VALUES (?1, ?1, ?2, " + messagePlaces +
			") ON CONFLICT (id) DO NOTHING"),
		isDead: db.sql("SELECT 1 FROM es_outbox_dead_$ WHERE id = ?"),
		there:  db.sql("SELECT 1 FROM es_outbox_$ WHERE id = ?1 UNION ALL SELECT 1 FROM es_outbox_dead_$ WHERE id = ?1"),
		stored: db.sql("SELECT " + messageColumns + " FROM es_outbox_$ WHERE id = ?1" +
			" UNION ALL SELECT " + messageColumns + " FROM es_outbox_dead_$ WHERE id = ?1"),

		// What was replayed is there.
		sort: db.sql("INSERT INTO es_outbox_order_$ SELECT stream, place, entry" + arrived),
		// A stream that has entries is as it was: the new ones are its last. One that has none waits for a dead letter before the new ones.
		sortStreams: db.sql("INSERT INTO es_outbox_streams_$ SELECT stream, enqueued, 0, 0, 0, 0, 0, 0" + arrived),
		ready:       db.sql("SELECT " + stream + " FROM es_outbox_streams_$ s WHERE s.ready <= ? ORDER BY s.ready LIMIT +?"),
		isReady: db.sql("SELECT 1 FROM es_outbox_state_$ WHERE one = 1 AND (entry > sorted OR " +
			"EXISTS (SELECT 1 FROM es_outbox_streams_$ WHERE ready <= ?))"),
		nextReady: db.sql("SELECT CASE WHEN entry > sorted THEN 1 ELSE " +
			"(SELECT min(ready) FROM es_outbox_streams_$ WHERE ready IS NOT NULL) END FROM es_outbox_state_$ WHERE one = 1"),
		takeBack: db.sql("INSERT INTO es_outbox_tries_$ SELECT e.entry, 2, 0, 0, 0" + inOrder +
			"WHERE e.stream = +? AND e.place <= ? AND coalesce(t.back, 0) <> ? ON CONFLICT (entry) DO UPDATE SET attempt = attempt + 1"),
		handOut: db.sql("SELECT e.place, coalesce(due, 0), m.enqueued, coalesce(attempt, 1), " +
			"id, m." + messageColumns[len("id, "):] + inOrder + "CROSS JOIN es_outbox_$ m ON m.entry = e.entry " +
			"WHERE e.stream = +? AND e.place > ? AND e.place < ? ORDER BY e.place LIMIT +?"),

		held: db.sql("SELECT e.entry, e.place, coalesce(t.attempt, 0), coalesce(t.failed, 0), coalesce(t.back, 0), " + stream +
			" FROM es_outbox_$ e" + withTry + "JOIN es_outbox_streams_$ s ON s.stream = e.stream WHERE e.id = +?"),
		remove: db.sql("DELETE FROM es_outbox_$ WHERE entry = ?"),
		removeOrder: db.sql("DELETE FROM es_outbox_order_$ WHERE stream = ? AND place >= ? AND place <= ? AND " +
			"NOT EXISTS (SELECT 1 FROM es_outbox_$ e WHERE e.entry = es_outbox_order_$.entry)"),
		forget:   db.sql("DELETE FROM es_outbox_tries_$ WHERE entry = ?"),
		giveBack: db.sql("INSERT INTO es_outbox_tries_$ VALUES (?, 1, 0, 0, ?) ON CONFLICT (entry) DO UPDATE SET back = excluded.back"),
		tryAgain: db.sql("INSERT INTO es_outbox_tries_$ VALUES (?, 2, ?, 1, ?) ON CONFLICT (entry) DO UPDATE SET " +
			"attempt = attempt + 1, due = excluded.due, failed = 1, back = excluded.back"),

		first:     db.sql("SELECT place, coalesce(due, 0)" + inOrder + "WHERE stream = +? ORDER BY place LIMIT 1"),
		addStream: db.sql("INSERT INTO es_outbox_streams_$ VALUES (?, NULL, 0, 0, 0, 0, 0, 0)"),
		setStream: db.sql("UPDATE es_outbox_streams_$ SET ready = ?, token = ?, lease = ?, until = ?, last = ?, open = ?, parked = ? " +
			"WHERE stream = ?"),
		dropStream: db.sql("DELETE FROM es_outbox_streams_$ WHERE stream = ?"),

		bury: db.sql("INSERT INTO es_outbox_dead_$ (place, enqueued, died, attempts, error, parked, " + messageColumns +
			") SELECT place, enqueued, ?, ?, ?, ?, " + messageColumns + " FROM es_outbox_$ WHERE entry = ?"),
		find:   db.sql("SELECT death, place, parked, stream FROM es_outbox_dead_$ WHERE id = ?"),
		stream: db.sql("SELECT " + stream + " FROM es_outbox_streams_$ s WHERE s.stream = ?"),
		revive: db.sql("INSERT INTO es_outbox_$ (entry, place, enqueued, " + messageColumns + ") SELECT ?, place, ?, " + messageColumns +
			" FROM es_outbox_dead_$ WHERE death = ?"),
		addOrder:  db.sql("INSERT INTO es_outbox_order_$ VALUES (?, ?, ?)"),
		exhume:    db.sql("DELETE FROM es_outbox_dead_$ WHERE death = ?"),
		parked:    db.sql("SELECT min(place) FROM es_outbox_dead_$ WHERE stream = +? AND parked = 1"),
		lastDeath: db.sql("SELECT max(death) FROM es_outbox_dead_$"),
		deadPage: db.sql("SELECT death, enqueued, died, attempts, error, parked, " + messageColumns +
			" FROM es_outbox_dead_$ WHERE death > ? AND death <= ? ORDER BY death LIMIT +?"),

		state: db.sql("SELECT entry, sorted, token, depth, retrying, dead, parked FROM es_outbox_state_$ WHERE one = 1"),
		setState: db.sql("UPDATE es_outbox_state_$ SET entry = ?, sorted = ?, token = ?, depth = ?, retrying = ?, dead = ?, parked = ? " +
			"WHERE one = 1"),
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
	p := o.plan(msgs)
	defer p.release()
	return o.db.write(ctx, &p.op)
}

// enqueueIn is Enqueue in a transaction. With an error of a role nothing was written.
func (o *Outbox) enqueueIn(tx *txn, msgs []*es.Message) error {
	if err := o.validate(msgs); err != nil {
		return err
	}
	p := o.plan(msgs)
	defer p.release()
	return p.run(tx)
}

// enqueuePlan is messages on their way to the writer: all that can be done before it has its turn is done.
type enqueuePlan struct {
	op     op
	runs   func(tx *txn) error // run
	outbox *Outbox
	msgs   []*es.Message
	texts  []encoded // of the messages
}

// plan prepares messages, which are valid. The plan must be released.
func (o *Outbox) plan(msgs []*es.Message) *enqueuePlan {
	p, _ := o.plans.Get().(*enqueuePlan)
	if p == nil {
		p = &enqueuePlan{outbox: o}
		p.runs = p.run
	}
	p.op = op{run: p.runs, done: p.op.done}
	p.msgs, p.texts = msgs, p.texts[:0]
	for _, m := range msgs {
		p.texts = append(p.texts, encode(m))
		p.op.size += len(m.Data) + eventOverhead
	}
	return p
}

func (p *enqueuePlan) release() {
	clear(p.texts)
	p.msgs, p.op = nil, op{done: p.op.done}
	p.outbox.plans.Put(p)
}

func (p *enqueuePlan) run(tx *txn) error { return p.outbox.enqueue(tx, p.msgs, p.texts) }

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
	state, err := o.state(tx)
	if err != nil {
		return err
	}
	before := state.arrived()
	for i, m := range msgs {
		fresh, err := o.add(tx, state, m, texts[i])
		if err == nil && !fresh && len(msgs) == 1 {
			err = o.compare(tx, m)
		}
		if err != nil {
			return err
		}
	}
	if !before && state.arrived() { // otherwise those who wait have been told
		tx.tells |= outboxChanged
	}
	return nil
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

// add writes a new entry, and tells whether it did: it does not when the ID is there already.
func (o *Outbox) add(tx *txn, state *outboxState, m *es.Message, texts encoded) (bool, error) {
	if state.dead > 0 {
		dead, err := tx.number(o.sql.isDead, m.ID[:])
		if err != nil || dead != 0 {
			return false, err
		}
	}
	if o.insert == nil {
		stmt, err := tx.prepare(o.sql.add)
		if err != nil {
			return false, err
		}
		o.insert = stmt
	}
	stmt := o.insert
	stmt.BindInt64(1, state.entry+1)
	stmt.BindInt64(2, tx.now)
	bindMessage(stmt, 3, m, texts)
	if err := each(stmt, nil); err != nil || tx.Changes() == 0 {
		return false, err
	}
	tx.writes++
	state.entry++
	state.depth++
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
