package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// InTx has do run the program's own SQL in a transaction, together with what the roles do. When do returns nil, all of it is committed and
// on the disk; when it returns an error, or panics, or ctx ends before it is done, nothing of it is.
//
// What is appended and enqueued is collected, and written just before the commit: so the transaction may take its time, and holds
// back no reader and no other append meanwhile. An [es.ErrConflict] of an append is the result of InTx then, and all is rolled back.
//
// The zero options are a transaction as the database has it by default, which is READ COMMITTED unless somebody has changed it; an append
// with a condition needs that level. do runs once. When PostgreSQL undoes the transaction because of others, as at the level SERIALIZABLE,
// it is [ErrBusy]: nothing was done, and InTx may be called again. When the connection is lost during the commit, what has become of it is
// found out on another one; [ErrUnavailable] says whether nothing was done, or that it is not known.
//
// The transaction begins with the first statement that do runs, and has one of the connections of the pool from then on. Should do call
// methods of db, each of them needs another one. With the zero options, and one append, or messages, or both, and no statement of its own,
// nothing has to begin: they are sent as an [es.EventStore].Append is, and share a transaction with others that are on their way.
//
// Errors: that of do, as it is, unless it is one of the database; those of the roles; those of this package; [es.ErrClosed]; that of ctx.
func (db *DB) InTx(ctx context.Context, options pgx.TxOptions, do func(tx *Tx) error) error {
	if err := db.handle.begin(ctx); err != nil {
		return err
	}
	defer db.handle.leave()
	t := &Tx{db: db, ctx: ctx, options: options}
	defer t.rollBack() //nolint:contextcheck // also when ctx has ended, and after a panic
	if options != (pgx.TxOptions{}) {
		if err := t.begin(); err != nil {
			return err
		}
	}
	if err := t.run(do); err != nil {
		t.conclude(err)
		return err
	}
	if t.tells != 0 {
		db.tell(t.tells)
	}
	return nil
}

// rollbackPatience is how long a transaction may take to be rolled back until its connection is given up.
const rollbackPatience = 5 * time.Second

// Tx is a transaction of [DB.InTx]. It is for the goroutine that runs the function. Its methods Exec, Query, QueryRow, SendBatch and
// CopyFrom are those of pgx, so that code which is generated for pgx runs on it.
type Tx struct {
	db      *DB
	ctx     context.Context //nolint:containedctx // of the call that the transaction is a part of
	options pgx.TxOptions
	tx      pgx.Tx // nil until it has begun
	failed  error  // of the attempt to begin it

	over     bool
	invalid  error // of the first append that cannot be done
	appends  []*collected
	messages []*es.Message
	tells    topic
}

// collected is an append that is done at the end.
type collected struct {
	append  es.Append
	done    es.Appended
	outcome es.Outcome // what the function has a pointer to
}

// last returns the last of the events, which is new if one of them is.
func (c *collected) last() (position int64, id uuid.UUID) {
	event := slices.IndexFunc(c.done.Places, func(p es.Place) bool { return p.Position == c.done.Position })
	return c.done.Position, uuid.UUID(idsOf(&c.append)[event])
}

// errUncommitted is the outcome of an append until its transaction is committed.
var errUncommitted = errors.New("postgres: the transaction has not been committed")

// run runs the function, does what it has asked for, and commits.
func (t *Tx) run(do func(tx *Tx) error) error {
	if err := do(t); err != nil {
		return t.explained(err)
	}
	if err := t.usable(); err != nil {
		return err
	}
	if t.tx == nil && len(t.appends) < 2 {
		return t.send()
	}
	if err := t.begin(); err != nil {
		return err
	}
	mark, err := t.flush()
	if err != nil {
		return err
	}
	if err := t.db.commit(t.ctx, t.tx, mark); err != nil {
		return err
	}
	t.conclude(nil)
	return nil
}

// begin begins the transaction, unless it has begun.
func (t *Tx) begin() error {
	switch {
	case t.over:
		return pgx.ErrTxClosed
	case t.tx == nil && t.failed == nil:
		var err error
		if t.tx, err = t.db.pool.BeginTx(t.ctx, t.options); err != nil {
			t.failed = fault(err)
		}
	}
	return t.failed
}

// send does what was collected without a transaction of its own.
func (t *Tx) send() error {
	messages, err := t.db.outbox.prepare(t.messages)
	if err != nil {
		return err
	}
	var c collected
	if len(t.appends) > 0 {
		c.append = t.appends[0].append
	}
	if nothingAppended(&c.append) && len(messages) == 0 {
		return nil
	}
	if c.done, err = t.db.events.lanes.do(t.ctx, &c.append, messages); err != nil {
		return err
	}
	if len(t.appends) > 0 {
		t.appends[0].done = c.done
	}
	t.conclude(nil)
	return nil
}

// conclude says what has become of the appends.
func (t *Tx) conclude(err error) {
	for _, c := range t.appends {
		if c.outcome = (es.Outcome{Err: err}); err == nil {
			c.outcome.Appended = c.done
		}
	}
}

// rollBack ends the transaction, unless it has been committed.
func (t *Tx) rollBack() {
	t.over = true
	if t.tx == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackPatience)
	defer cancel()
	_ = t.tx.Rollback(ctx) // it fails when the connection is lost, and then the server rolls back
}

// Append is [es.EventStore].Append at the end of the transaction. What it returns says what has become of it when InTx has returned. An
// append that is invalid ends the transaction.
func (t *Tx) Append(a es.Append) *es.Outcome {
	if err := t.usable(); err != nil {
		return &es.Outcome{Err: err}
	}
	if t.invalid = a.Validate(t.db.config.Limits); t.invalid != nil {
		return &es.Outcome{Err: t.invalid}
	}
	c := &collected{append: clone(a), outcome: es.Outcome{Err: errUncommitted}}
	t.appends = append(t.appends, c)
	return &c.outcome
}

// clone copies what the caller may change when the call has returned.
func clone(a es.Append) es.Append {
	a.Streams, a.Unless = slices.Clone(a.Streams), slices.Clone(a.Unless)
	for i := range a.Streams {
		a.Streams[i].Events = cloneAll(a.Streams[i].Events)
	}
	for i := range a.Unless {
		a.Unless[i].Match = slices.Clone(a.Unless[i].Match)
		for j, c := range a.Unless[i].Match {
			a.Unless[i].Match[j] = es.Criterion{Names: slices.Clone(c.Names), Tags: slices.Clone(c.Tags)}
		}
	}
	return a
}

func cloneAll(msgs []*es.Message) []*es.Message {
	clones := make([]*es.Message, len(msgs))
	for i, m := range msgs {
		clones[i] = m.Clone()
	}
	return clones
}

// Enqueue is [es.Outbox].Enqueue at the end of the transaction, whose result is that of InTx then. [es.ErrInvalid] comes at once, and
// nothing is enqueued.
func (t *Tx) Enqueue(msgs ...*es.Message) error {
	if err := t.usable(); err != nil {
		return err
	}
	for _, m := range msgs {
		if err := m.Validate(t.db.config.Limits); err != nil {
			return err
		}
	}
	t.messages = append(t.messages, cloneAll(msgs)...)
	return nil
}

// Project is [es.ReadModels].Commit in the transaction, at once: later statements see it. After an error of the role, such as
// [es.ErrConflict], the transaction goes on as it was before the call.
func (t *Tx) Project(c es.Commit) error {
	if err := t.ready(); err != nil {
		return err
	}
	return t.db.models.commitIn(t.ctx, t.tx, &c)
}

// Load is [es.ReadModels].Load in the transaction: it sees what the transaction has done.
func (t *Tx) Load(model string, keys ...string) ([]es.Document, error) {
	if err := t.ready(); err != nil {
		return nil, err
	}
	return t.db.models.loadIn(t.ctx, t.tx, model, keys)
}

// Progress is [es.ReadModels].Progress in the transaction: it sees what the transaction has done.
func (t *Tx) Progress(projection string) (es.Progress, error) {
	if err := t.ready(); err != nil {
		return es.Progress{}, err
	}
	if err := es.ValidateName("projection", projection); err != nil {
		return es.Progress{}, err
	}
	p, err := scanProgress(t.tx.QueryRow(t.ctx, t.db.models.sql.progress, projection))
	return p, fault(err)
}

// Exec runs a statement of the program's own; see [pgx.Tx].
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if err := t.begin(); err != nil {
		return pgconn.CommandTag{}, err
	}
	return t.tx.Exec(ctx, query, args...)
}

// Query runs a query of the program's own; see [pgx.Tx].
func (t *Tx) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	if err := t.begin(); err != nil {
		return unbegun{err}, err
	}
	return t.tx.Query(ctx, query, args...)
}

// QueryRow runs a query of the program's own that gives one row; see [pgx.Tx].
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	if err := t.begin(); err != nil {
		return unbegun{err}
	}
	return t.tx.QueryRow(ctx, query, args...)
}

// SendBatch runs several statements of the program's own in one round trip; see [pgx.Tx].
func (t *Tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := t.begin(); err != nil {
		return unbegunBatch{err}
	}
	return t.tx.SendBatch(ctx, b)
}

// CopyFrom writes many rows of the program's own; see [pgx.Tx].
func (t *Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := t.begin(); err != nil {
		return 0, err
	}
	return t.tx.CopyFrom(ctx, table, columns, rows)
}

// explained says what an error of the function is, when it is one of the database.
func (t *Tx) explained(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && kindOf(server) != nil {
		return fault(err)
	}
	if t.ctx.Err() == nil && t.tx != nil && t.tx.Conn().IsClosed() && !isFault(err) {
		return &engineError{kind: ErrUnavailable, err: err}
	}
	return err
}

// The states of a connection, by PostgreSQL's manual, 55.7, ReadyForQuery.
const (
	inTransactionBlock = 'T'
	inFailedBlock      = 'E'
)

// ready begins the transaction, unless it has begun, and returns an error when nothing more can be done.
func (t *Tx) ready() error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.begin()
}

// usable returns an error when nothing more can be done.
func (t *Tx) usable() error {
	switch {
	case t.over:
		return es.Invalidf("transaction", "is over; use it only inside of the function given to InTx")
	case t.failed != nil:
		return t.failed
	case t.invalid != nil:
		return t.invalid
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	case t.tx == nil:
		return nil
	case t.tx.Conn().IsClosed():
		return &engineError{kind: ErrUnavailable, err: errors.New("the connection was lost, and nothing was done")}
	}
	switch t.tx.Conn().PgConn().TxStatus() {
	case inTransactionBlock:
		return nil
	case inFailedBlock:
		return es.Invalidf("transaction", "was undone by an error of a statement that the function has passed over; return it, or use a "+
			"SAVEPOINT")
	}
	return es.Invalidf("transaction", "was ended by a statement of the function's own; InTx ends it")
}

// flush writes what was collected, and returns what to know the transaction by.
func (t *Tx) flush() (mark commitMark, err error) {
	var b pgx.Batch
	b.Queue(durably)
	number := numberIfAny
	if len(t.appends)+len(t.messages) > 0 {
		number = numberNow
	}
	t.db.queueMark(&b, number, &mark)
	t.queueLocks(&b)
	if err := t.tx.SendBatch(t.ctx, &b).Close(); err != nil {
		return mark, fault(err)
	}
	for _, c := range t.appends {
		if c.done, err = t.db.events.appendIn(t.ctx, t.tx, &c.append); err != nil {
			return mark, err
		}
		if len(c.done.Places) > c.done.Existing {
			mark.position, mark.event = c.last()
			t.tells |= eventsChanged
		}
	}
	if len(t.messages) == 0 {
		return mark, nil
	}
	t.tells |= outboxChanged
	return mark, t.db.outbox.enqueueIn(t.ctx, t.tx, t.messages)
}

// queueLocks takes the locks of all appends at once, so that two transactions cannot each wait for the other.
func (t *Tx) queueLocks(b *pgx.Batch) {
	if len(t.appends) < 2 {
		return
	}
	lanes := t.db.events.lanes
	var all claims
	for _, c := range t.appends {
		one := lanes.claimsOf(&c.append)
		all.streams = append(all.streams, one.streams...)
		all.exclusive, all.shared = append(all.exclusive, one.exclusive...), append(all.shared, one.shared...)
		if len(one.streams) > manyStreams {
			all.exclusive = append(all.exclusive, wholeStore)
		}
	}
	slices.Sort(all.streams)
	for streams := range slices.Chunk(slices.Compact(all.streams), manyStreams) {
		b.Queue(lanes.sql.lock, lanes.lockArguments(claims{streams: streams})...)
	}
	all.exclusive, all.shared = sortedSet(all.exclusive), sortedSet(all.shared)
	all.shared = slices.DeleteFunc(all.shared, func(b bucket) bool { return slices.Contains(all.exclusive, b) })
	b.Queue(lanes.sql.lock, lanes.lockArguments(claims{exclusive: all.exclusive, shared: all.shared})...)
}
