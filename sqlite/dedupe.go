package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Dedupe is the memory of handled messages of a namespace. It is an [es.Dedupe].
//
// Each group remembers [Config].DedupeEntries of the messages that it has handled, each for [Config].DedupeTTL; those that go are
// removed by the calls that follow, a few at a time. What is completed is synced. Reservations are not: after loss of power nobody is
// left who has one.
type Dedupe struct {
	db  *DB
	sql dedupeQueries
}

var _ es.Dedupe = (*Dedupe)(nil)

type dedupeQueries struct {
	group, addGroup, tokens, find, add, take, complete, prolong, release string
	expire, bound, count, sweep, swept, first, last                      string
}

func newDedupe(db *DB) *Dedupe {
	return &Dedupe{db: db, sql: dedupeQueries{
		group:    db.sql("SELECT grp, done, swept FROM es_dedupe_groups_$ WHERE name = ?"),
		addGroup: db.sql("INSERT INTO es_dedupe_groups_$ (name, token, done, swept) VALUES (?, 0, 0, 0)"),
		tokens:   db.sql("UPDATE es_dedupe_groups_$ SET token = token + ? WHERE grp = ? RETURNING token"),
		find:     db.sql("SELECT entry, token, until, done FROM es_dedupe_$ WHERE grp = ? AND id = ?"),
		add:      db.sql("INSERT INTO es_dedupe_$ (grp, id, token, until) VALUES (?, ?, ?, ?)"),
		take:     db.sql("UPDATE es_dedupe_$ SET token = ?, until = ?, done = NULL WHERE entry = ?"),
		complete: db.sql("UPDATE es_dedupe_$ SET done = ? WHERE entry = ?"),
		prolong:  db.sql("UPDATE es_dedupe_$ SET until = ? WHERE entry = ?"),
		release:  db.sql("DELETE FROM es_dedupe_$ WHERE entry = ?"),
		expire: db.sql("DELETE FROM es_dedupe_$ WHERE entry IN (SELECT entry FROM es_dedupe_$ " +
			"WHERE grp = ? AND done IS NOT NULL AND done <= ? ORDER BY done LIMIT ?)"),
		bound: db.sql("DELETE FROM es_dedupe_$ WHERE entry IN (SELECT entry FROM es_dedupe_$ " +
			"WHERE grp = ? AND done IS NOT NULL ORDER BY done LIMIT ?)"),
		count: db.sql("UPDATE es_dedupe_groups_$ SET done = done + ? WHERE grp = ?"),
		sweep: db.sql("DELETE FROM es_dedupe_$ WHERE entry BETWEEN ? AND ? AND done IS NULL AND until <= ?"),
		swept: db.sql("UPDATE es_dedupe_groups_$ SET swept = ? WHERE grp = ?"),
		first: db.sql("SELECT min(entry) FROM es_dedupe_$"),
		last:  db.sql("SELECT max(entry) FROM es_dedupe_$"),
	}}
}

// defaultLease is the lease of a claim or reservation that does not say.
const defaultLease = 30 * time.Second

// leaseOr returns the lease of a claim or reservation, the default one for 0.
func leaseOr(lease time.Duration) (time.Duration, error) {
	if lease == 0 {
		return defaultLease, nil
	}
	return lease, validateLeaseTime(lease)
}

// Reserve sets the State of each reservation. A group that breaks the rules of names, an ID that is missing and a negative lease
// are [es.ErrInvalid], and nothing is reserved.
func (d *Dedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	lease, err := leaseOr(lease)
	if err != nil {
		return err
	}
	for i := range rs {
		if rs[i].ID == uuid.Nil {
			return es.Invalidf("reservation", "has no ID at index %d; two messages without one would pass for the same", i)
		}
	}
	if err := es.ValidateName("group", group); err != nil {
		return err
	}
	if len(rs) == 0 {
		return nil
	}
	made := make([]es.Reservation, len(rs))
	err = d.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		copy(made, rs)
		return d.reserve(tx, group, made, lease)
	}})
	if err == nil {
		copy(rs, made)
	}
	return err
}

// dedupeGroup is a group in a transaction.
type dedupeGroup struct {
	number, done, swept int64
}

// dedupeEntry is a message of a group. Its number is 0 when it is not there.
type dedupeEntry struct {
	number, token, until, done int64
}

// heldBy tells whether it is the holder's still, who has not completed it.
func (e dedupeEntry) heldBy(r *es.Reservation, now int64) bool {
	return e.number != 0 && e.done == 0 && uint64(e.token) == r.Token && e.until > now //nolint:gosec // a token is above 0
}

// doneBy tells whether its holder has completed it.
func (e dedupeEntry) doneBy(r *es.Reservation) bool {
	return e.number != 0 && e.done != 0 && uint64(e.token) == r.Token //nolint:gosec // a token is above 0
}

func (d *Dedupe) reserve(tx *txn, group string, rs []es.Reservation, lease time.Duration) error {
	g, err := d.group(tx, group)
	if err != nil {
		return err
	}
	tx.writes++
	token, err := tx.number(d.sql.tokens, len(rs), g.number)
	if err != nil {
		return err
	}
	token -= int64(len(rs))
	until := leaseEnd(tx.now, lease)
	forgotten := int64(0)
	for i := range rs {
		r := &rs[i]
		token++
		e, err := d.find(tx, g, r.ID)
		if err != nil {
			return err
		}
		expired := e.done != 0 && e.done <= tx.now-d.db.config.DedupeTTL.Microseconds()
		switch {
		case e.done != 0 && !expired:
			r.State, r.Token, r.Until = es.ReserveDone, 0, time.Time{}
			continue
		case e.done == 0 && e.until > tx.now:
			r.State, r.Token, r.Until = es.ReserveBusy, 0, timeOf(e.until)
			continue
		case e.number == 0:
			err = tx.write(d.sql.add, g.number, r.ID[:], token, until)
		default:
			err = tx.write(d.sql.take, token, until, e.number)
		}
		if err != nil {
			return err
		}
		if expired {
			forgotten++
		}
		r.State, r.Token, r.Until = es.ReserveNew, uint64(token), timeOf(until) //nolint:gosec // a token is above 0
	}
	if forgotten > 0 {
		if err := tx.write(d.sql.count, -forgotten, g.number); err != nil {
			return err
		}
	}
	return d.sweep(tx, g, len(rs))
}

// Complete marks reservations as done. Completing one again that its holder has completed is fine.
func (d *Dedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	return d.each(ctx, group, rs, synced, func(tx *txn, g *dedupeGroup, errs []error) ([]error, error) {
		done := int64(0)
		for i := range rs {
			e, err := d.held(tx, g, &rs[i])
			switch {
			case err != nil:
				return nil, err
			case rs[i].State != es.ReserveNew || e.doneBy(&rs[i]):
			case !e.heldBy(&rs[i], tx.now):
				errs = lose(errs, rs, i, group)
			default:
				if err := tx.write(d.sql.complete, tx.now, e.number); err != nil {
					return nil, err
				}
				done++
			}
		}
		return errs, d.forget(tx, g, done)
	})
}

// Extend starts the lease of reservations anew. A group that breaks the rules of names and a negative lease are [es.ErrInvalid],
// and nothing is prolonged.
func (d *Dedupe) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	lease, err := leaseOr(lease)
	if err != nil {
		return err
	}
	var until int64
	prolonged := make([]bool, len(rs))
	err = d.each(ctx, group, rs, unsynced, func(tx *txn, g *dedupeGroup, errs []error) ([]error, error) {
		until = leaseEnd(tx.now, lease)
		for i := range rs {
			prolonged[i] = false
			e, err := d.held(tx, g, &rs[i])
			switch {
			case err != nil:
				return nil, err
			case rs[i].State != es.ReserveNew || e.doneBy(&rs[i]):
			case !e.heldBy(&rs[i], tx.now):
				errs = lose(errs, rs, i, group)
			default:
				if err := tx.write(d.sql.prolong, until, e.number); err != nil {
					return nil, err
				}
				prolonged[i] = true
			}
		}
		return errs, nil
	})
	for i := range rs {
		if prolonged[i] && es.Of(err, i) == nil {
			rs[i].Until = timeOf(until)
		}
	}
	return err
}

// Release gives reservations up. What is not the caller's any more is passed over.
func (d *Dedupe) Release(ctx context.Context, group string, rs []es.Reservation) error {
	return d.each(ctx, group, rs, unsynced, func(tx *txn, g *dedupeGroup, _ []error) ([]error, error) {
		for i := range rs {
			e, err := d.held(tx, g, &rs[i])
			if err == nil && rs[i].State == es.ReserveNew && e.heldBy(&rs[i], 0) {
				err = tx.write(d.sql.release, e.number)
			}
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
}

// durability is whether an answer survives loss of power.
type durability int

const (
	synced durability = iota
	unsynced
)

// each has do answer the reservations of a call, in a transaction. It returns the error of each that it could not do.
func (d *Dedupe) each(ctx context.Context, group string, rs []es.Reservation, how durability,
	do func(tx *txn, g *dedupeGroup, errs []error) ([]error, error),
) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	if err := es.ValidateName("group", group); err != nil {
		return err
	}
	if len(rs) == 0 {
		return nil
	}
	var errs []error
	err := d.db.write(ctx, &op{relaxed: how == unsynced, run: func(tx *txn) error {
		g, err := d.group(tx, group)
		if err != nil {
			return err
		}
		errs, err = do(tx, g, nil)
		return err
	}})
	if err != nil {
		return err
	}
	return es.BatchErr(errs)
}

// forget makes room for messages that were just completed: what has expired goes, twice as many as have come so that the past is
// caught up with, and what is beyond the bound.
func (d *Dedupe) forget(tx *txn, g *dedupeGroup, completed int64) error {
	if completed == 0 {
		return nil
	}
	if err := tx.write(d.sql.expire, g.number, tx.now-d.db.config.DedupeTTL.Microseconds(), 2*completed); err != nil {
		return err
	}
	gone := int64(tx.Changes())
	if over := g.done + completed - gone - int64(d.db.config.DedupeEntries); over > 0 {
		if err := tx.write(d.sql.bound, g.number, over); err != nil {
			return err
		}
		gone += int64(tx.Changes())
	}
	return tx.write(d.sql.count, completed-gone, g.number)
}

// sweptPerReservation is how many entries are looked at for each reservation that is made.
const sweptPerReservation = 4

// sweep removes reservations that nobody completed and whose lease has ended, so that they do not pile up. It goes round the whole
// table, a little at a time.
func (d *Dedupe) sweep(tx *txn, g *dedupeGroup, reserved int) error {
	first, err := tx.number(d.sql.first)
	if err != nil {
		return err
	}
	last, err := tx.number(d.sql.last)
	if err != nil {
		return err
	}
	from := max(g.swept+1, first)
	if from > last {
		from = first
	}
	to := from + int64(sweptPerReservation*reserved)
	if err := tx.write(d.sql.sweep, from, to, tx.now); err != nil {
		return err
	}
	return tx.write(d.sql.swept, min(to, last), g.number)
}

// group returns a group, which is made when it is new.
func (d *Dedupe) group(tx *txn, name string) (*dedupeGroup, error) {
	var g dedupeGroup
	read := func(stmt *lite.Stmt) error {
		g = dedupeGroup{number: stmt.ColumnInt64(0), done: stmt.ColumnInt64(1), swept: stmt.ColumnInt64(2)}
		return nil
	}
	if err := tx.query(read, d.sql.group, name); err != nil || g.number != 0 {
		return &g, err
	}
	if err := tx.write(d.sql.addGroup, name); err != nil {
		return nil, err
	}
	return &g, tx.query(read, d.sql.group, name)
}

// held returns the entry of a reservation, none when the reservation is not the caller's.
func (d *Dedupe) held(tx *txn, g *dedupeGroup, r *es.Reservation) (dedupeEntry, error) {
	if r.State != es.ReserveNew {
		return dedupeEntry{}, nil
	}
	return d.find(tx, g, r.ID)
}

func (d *Dedupe) find(tx *txn, g *dedupeGroup, id uuid.UUID) (e dedupeEntry, err error) {
	err = tx.query(func(stmt *lite.Stmt) error {
		e = dedupeEntry{
			number: stmt.ColumnInt64(0), token: stmt.ColumnInt64(1), until: stmt.ColumnInt64(2), done: stmt.ColumnInt64(3),
		}
		return nil
	}, d.sql.find, g.number, id[:])
	return e, err
}

// lose notes that reservation i of a call is not its holder's any more. The errors are made when there is the first.
func lose(errs []error, rs []es.Reservation, i int, group string) []error {
	if errs == nil {
		errs = make([]error, len(rs))
	}
	errs[i] = fmt.Errorf("reservation of message %s in group %q: %w", rs[i].ID, group, es.ErrLeaseLost)
	return errs
}
