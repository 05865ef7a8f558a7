package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Forward appends each entry's message to its stream, expecting [es.Any], and completes the entry, both or neither. All of it is one
// transaction.
func (o *Outbox) Forward(ctx context.Context, entries []es.Entry) []es.Outcome {
	outcomes := make([]es.Outcome, len(entries))
	err := o.db.handle.begin(ctx)
	if err == nil {
		defer o.db.handle.leave()
		err = o.forward(ctx, entries, outcomes)
	}
	if err != nil {
		for i := range outcomes {
			outcomes[i] = es.Outcome{Err: err}
		}
	}
	return outcomes
}

func (o *Outbox) forward(ctx context.Context, entries []es.Entry, outcomes []es.Outcome) error {
	f := &forwarding{Outbox: o, entries: entries, claimed: claimed(entries), outcomes: outcomes}
	if len(f.claimed.ids) == 0 {
		for i := range entries {
			outcomes[i].Err = f.claimed.errs[i]
		}
		return nil
	}
	err := o.db.again(ctx, func() error {
		return o.db.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			err := f.atOnce(ctx, c.Conn())
			if errors.Is(err, errOneByOne) {
				err = f.run(ctx, c.Conn())
			}
			return err
		})
	})
	if err == nil {
		o.changed(everything)
	}
	return err
}

// forwarding is entries on their way into the event store, in a transaction.
type forwarding struct {
	*Outbox

	tx       pgx.Tx
	entries  []es.Entry
	claimed  *claimedEntries
	outcomes []es.Outcome
	mine     []int           // which of the entries are still the caller's
	failed   map[string]bool // streams whose later entries must not overtake one that failed
}

// atOnce forwards entries of which all are the caller's still, and can be appended: in one round trip to take the locks and look, and one
// to write and commit, which is all for nearly every call. With an error nothing was done; it is errOneByOne when they are not like that.
func (f *forwarding) atOnce(ctx context.Context, c *pgx.Conn) error {
	f.mine = f.mine[:0]
	for i, entry := range f.entries {
		if entry.Message == nil || f.claimed.errs[i] != nil {
			return errOneByOne
		}
		f.mine = append(f.mine, i)
	}
	all, order := f.together()
	if len(f.mine) > f.db.config.Limits.EventsPerAppend || all.Validate(f.db.config.Limits) != nil {
		return errOneByOne
	}
	held, p := answers{}, f.db.events.newAppending(&all)
	var look pgx.Batch
	look.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	look.Queue(byIndex + ", " + durable)
	p.queueLook(&look)
	look.Queue(f.sql.lock, f.claimed.streams)
	look.Queue(f.sql.held, f.claimed.ids, f.claimed.tokens, f.claimed.of).Query(held.collect)
	if err := c.SendBatch(ctx, &look).Close(); err != nil {
		rollBack(ctx, c)
		return err
	}
	rows, done, err := p.judge()
	if err != nil || slices.ContainsFunc(f.entries, func(e es.Entry) bool { return !held[keyOf(e)] }) {
		rollBack(ctx, c)
		return errOneByOne
	}
	var write pgx.Batch
	if len(rows.ids) > 0 {
		p.queueInsert(&write, rows, &done)
	}
	write.Queue(f.sql.remove, f.claimed.ids)
	write.Queue(f.sql.settle, f.claimed.streams)
	write.Queue("COMMIT")
	if err := c.SendBatch(ctx, &write).Close(); err != nil {
		rollBack(ctx, c)
		if violatedKey(err) != "" { // another transaction had the same ID under way
			return errOneByOne
		}
		return err
	}
	f.appended(order, done)
	return nil
}

// errOneByOne says that entries need a verdict each.
var errOneByOne = errors.New("postgres: the entries cannot be forwarded at once")

// beginForwarding begins a transaction as a pipeline does.
const beginForwarding = "BEGIN ISOLATION LEVEL READ COMMITTED; " + byIndex + ", " + durable

func (f *forwarding) run(ctx context.Context, c *pgx.Conn) (err error) {
	if f.tx, err = c.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginForwarding}); err != nil {
		return err
	}
	if err = f.hold(ctx); err == nil {
		err = f.append(ctx)
	}
	if err == nil {
		err = f.finish(ctx)
	}
	if err != nil && !c.IsClosed() {
		_ = f.tx.Rollback(ctx) // else the pool closes the connection, which comes to the same
	}
	return err
}

// hold finds out which entries are still the caller's, and keeps them so. The locks of the streams of the events come first: a transaction
// that appends to one may have it for long, and nobody who claims or answers is to wait for that.
func (f *forwarding) hold(ctx context.Context) error {
	held := answers{}
	lanes := f.db.events.lanes
	var all es.Append
	for _, stream := range f.claimed.streams {
		all.Streams = append(all.Streams, es.StreamAppend{Stream: stream})
	}
	for _, entry := range f.entries {
		if entry.Message != nil {
			all.Streams[0].Events = append(all.Streams[0].Events, entry.Message)
		}
	}
	var b pgx.Batch
	b.Queue(lanes.sql.lock, lanes.lockArguments(lanes.claimsOf(&all))...)
	b.Queue(f.sql.lock, f.claimed.streams)
	b.Queue(f.sql.held, f.claimed.ids, f.claimed.tokens, f.claimed.of).Query(held.collect)
	if err := f.tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	f.mine, f.failed = f.mine[:0], map[string]bool{}
	for i, entry := range f.entries {
		err := f.claimed.errs[i]
		switch {
		case entry.Message == nil:
		case f.failed[entry.Stream]:
			err = es.ErrHeldBack
		case err == nil && held[keyOf(entry)]:
			f.mine = append(f.mine, i)
		default:
			err = leaseOfEntryLost(entry)
			f.failed[entry.Stream] = true
		}
		f.outcomes[i] = es.Outcome{Err: err}
	}
	return nil
}

// append appends the messages at once, or one after the other where one of them cannot be.
func (f *forwarding) append(ctx context.Context) error {
	if len(f.mine) == 0 {
		return nil
	}
	err := f.appendAll(ctx)
	if err != nil && !isFault(err) && ctx.Err() == nil {
		err = f.appendEach(ctx)
	}
	return err
}

// errTooMany says that the entries are more than an append takes.
var errTooMany = errors.New("postgres: too many entries for one append")

// appendAll appends the messages by one append. With an error of a role it has done nothing.
func (f *forwarding) appendAll(ctx context.Context) error {
	if len(f.mine) > f.db.config.Limits.EventsPerAppend {
		return errTooMany
	}
	all, order := f.together()
	if err := all.Validate(f.db.config.Limits); err != nil {
		return err
	}
	done, err := f.db.events.appendIn(ctx, f.tx, &all)
	if err != nil {
		return err
	}
	f.appended(order, done)
	return nil
}

// together returns the append of the messages that are still the caller's, and the numbers of their entries in its order.
func (f *forwarding) together() (all es.Append, order []int) {
	order = slices.Clone(f.mine)
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(f.entries[a].Stream, f.entries[b].Stream) })
	for _, i := range order {
		m := f.entries[i].Message
		if n := len(all.Streams); n == 0 || all.Streams[n-1].Stream != m.Stream {
			all.Streams = append(all.Streams, es.StreamAppend{Stream: m.Stream})
		}
		to := &all.Streams[len(all.Streams)-1]
		to.Events = append(to.Events, m)
	}
	return all, order
}

// appended notes the places of messages that were appended together, as it is told of each append.
func (f *forwarding) appended(order []int, done es.Appended) {
	old := lastExisting(done)
	for n, i := range order {
		one := es.Appended{Places: done.Places[n : n+1 : n+1], Position: done.Places[n].Position}
		if one.Position <= old {
			one.Existing = 1
		}
		f.outcomes[i] = es.Outcome{Appended: one}
	}
}

// lastExisting returns the position of the last event of an append that was there before, 0 when there is none: what was there has a
// lower position than what was appended now.
func lastExisting(done es.Appended) int64 {
	if done.Existing == 0 {
		return 0
	}
	positions := make([]int64, len(done.Places))
	for i, place := range done.Places {
		positions[i] = place.Position
	}
	slices.Sort(positions)
	return positions[done.Existing-1]
}

// appendEach appends one message after the other.
func (f *forwarding) appendEach(ctx context.Context) error {
	for _, i := range f.mine {
		m, outcome := f.entries[i].Message, &f.outcomes[i]
		if f.failed[m.Stream] {
			outcome.Err = es.ErrHeldBack
			continue
		}
		one := es.AppendTo(m.Stream, es.Any, m)
		if outcome.Err = one.Validate(f.db.config.Limits); outcome.Err == nil {
			outcome.Appended, outcome.Err = f.db.events.appendIn(ctx, f.tx, &one)
		}
		if isFault(outcome.Err) || ctx.Err() != nil {
			return cmp.Or(outcome.Err, ctx.Err())
		}
		if outcome.Err != nil && !es.Permanent(outcome.Err) {
			f.failed[m.Stream] = true
		}
	}
	return nil
}

// finish completes the entries whose messages were appended, and commits.
func (f *forwarding) finish(ctx context.Context) error {
	var ids []uuid.UUID
	for _, i := range f.mine {
		if f.outcomes[i].Err == nil {
			ids = append(ids, f.entries[i].ID)
		}
	}
	var b pgx.Batch
	b.Queue(f.sql.remove, ids)
	b.Queue(f.sql.settle, f.claimed.streams)
	b.Queue("COMMIT")
	return f.tx.SendBatch(ctx, &b).Close()
}
