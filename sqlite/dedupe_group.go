package sqlite

import (
	"time"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// dedupeSQL is the statements of dedupe.
type dedupeSQL struct {
	group, addGroup, setToken, setDone        string
	done, doneBy, addDone, oldestKept, forget string
	reserve, until, take, prolong, release    string
	reservedAfter, removeIfAbandoned          string
}

func newDedupe(db *DB) *Dedupe {
	const held = " WHERE id = ? AND grp = ? AND token = ?"
	return &Dedupe{db: db, sql: dedupeSQL{
		group:    db.sql("SELECT grp, token, newest, swept FROM es_dedupe_groups_$ WHERE name = ?"),
		addGroup: db.sql("INSERT INTO es_dedupe_groups_$ (name, token, newest, swept) VALUES (?, 0, 0, 0)"),
		setToken: db.sql("UPDATE es_dedupe_groups_$ SET token = ? WHERE grp = ?"),
		setDone:  db.sql("UPDATE es_dedupe_groups_$ SET newest = ?, swept = ? WHERE grp = ?"),
		done:     db.sql("SELECT number, time FROM es_dedupe_done_$ WHERE id = ? AND grp = ?"),
		doneBy:   db.sql("SELECT 1 FROM es_dedupe_done_$" + held),
		addDone: db.sql("INSERT INTO es_dedupe_done_$ (grp, number, id, token, time) VALUES (?, ?, ?, ?, ?) " +
			"ON CONFLICT (id, grp) DO UPDATE SET number = excluded.number, token = excluded.token, time = excluded.time"),
		oldestKept: db.sql("SELECT number FROM es_dedupe_done_$ WHERE grp = ? AND number > ? AND number <= ? AND time > ? " +
			"ORDER BY number LIMIT 1"),
		forget: db.sql("DELETE FROM es_dedupe_done_$ WHERE grp = ? AND number <= ?"),
		reserve: db.sql("INSERT INTO es_dedupe_reserved_$ (id, grp, token, until) VALUES (?, ?, ?, ?) " +
			"ON CONFLICT (id, grp) DO UPDATE SET token = excluded.token, until = excluded.until WHERE until <= ?"),
		until:   db.sql("SELECT until FROM es_dedupe_reserved_$ WHERE id = ? AND grp = ?"),
		take:    db.sql("DELETE FROM es_dedupe_reserved_$" + held + " AND until > ?"),
		prolong: db.sql("UPDATE es_dedupe_reserved_$ SET until = ?" + held + " AND until > ?"),
		release: db.sql("DELETE FROM es_dedupe_reserved_$" + held),
		reservedAfter: db.sql("SELECT id, grp, until FROM es_dedupe_reserved_$ WHERE (id, grp) > (?, ?) " +
			"ORDER BY id, grp LIMIT +?"),
		removeIfAbandoned: db.sql("DELETE FROM es_dedupe_reserved_$ WHERE id = ? AND grp = ? AND until <= ?"),
	}}
}

// dedupeGroup is a group in a transaction. Those whose number is 0 are not there.
type dedupeGroup struct {
	number, token, newest, swept int64
	// What was completed at this time or before has expired; what has this number or a lower one is beyond the bound.
	expired, beyond int64
}

func (d *Dedupe) group(tx *txn, name string) (g dedupeGroup, err error) {
	err = tx.query(func(stmt *lite.Stmt) error {
		g = dedupeGroup{
			number: stmt.ColumnInt64(0), token: stmt.ColumnInt64(1), newest: stmt.ColumnInt64(2), swept: stmt.ColumnInt64(3),
		}
		return nil
	}, d.sql.group, name)
	g.expired = tx.now - d.db.config.DedupeTTL.Microseconds()
	g.beyond = g.newest - int64(d.db.config.DedupeEntries)
	return g, err
}

// reserve is Reserve in a transaction.
func (d *Dedupe) reserve(tx *txn, name string, rs []es.Reservation, lease time.Duration) error {
	g, err := d.group(tx, name)
	if err == nil && g.number == 0 {
		if err = tx.write(d.sql.addGroup, name); err == nil {
			g, err = d.group(tx, name)
		}
	}
	if err != nil {
		return err
	}
	done, err := tx.prepare(d.sql.done)
	if err != nil {
		return err
	}
	reserve, err := tx.prepare(d.sql.reserve)
	if err != nil {
		return err
	}
	until, taken := leaseEnd(tx.now, lease), 0
	g.token = max(g.token, tx.now) // so that no token comes again after a loss of power
	for i := range rs {
		r := &rs[i]
		handled, err := g.handled(done, r.ID)
		if err != nil {
			return err
		}
		if handled {
			r.State, r.Token, r.Until = es.ReserveDone, 0, time.Time{}
			continue
		}
		reserve.BindBytes(1, r.ID[:])
		reserve.BindInt64(2, g.number)
		reserve.BindInt64(3, g.token+1)
		reserve.BindInt64(4, until)
		reserve.BindInt64(5, tx.now)
		free, err := tx.change(reserve)
		switch {
		case err != nil:
			return err
		case free:
			g.token++
			taken++
			r.State, r.Token, r.Until = es.ReserveNew, uint64(g.token), timeAt(until) //nolint:gosec // tokens are above 0
		default:
			theirs, err := tx.number(d.sql.until, r.ID[:], g.number)
			if err != nil {
				return err
			}
			r.State, r.Token, r.Until = es.ReserveBusy, 0, timeAt(theirs)
		}
	}
	if taken == 0 {
		return nil
	}
	if err := tx.write(d.sql.setToken, g.token, g.number); err != nil {
		return err
	}
	return d.sweeper.sweep(tx, &d.sql, taken)
}

// handled tells whether the group remembers that it has handled a message.
func (g *dedupeGroup) handled(done *lite.Stmt, id uuid.UUID) (bool, error) {
	done.BindBytes(1, id[:])
	done.BindInt64(2, g.number)
	there, err := done.Step()
	if err != nil {
		return false, fault(err)
	}
	handled := there && done.ColumnInt64(0) > g.beyond && done.ColumnInt64(1) > g.expired
	return handled, fault(done.Reset())
}

// complete is Complete in a transaction. It returns the errors of those that their holders have lost.
func (d *Dedupe) complete(tx *txn, name string, rs []es.Reservation) (errs []error, err error) {
	g, err := d.group(tx, name)
	if err != nil {
		return nil, err
	}
	take, err := tx.prepare(d.sql.take)
	if err != nil {
		return nil, err
	}
	add, err := tx.prepare(d.sql.addDone)
	if err != nil {
		return nil, err
	}
	before := g.newest
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		bindHeld(take, 1, r, g.number)
		take.BindInt64(4, tx.now)
		taken, err := tx.change(take)
		if err != nil {
			return nil, err
		}
		if !taken {
			if errs, err = d.loseUnlessDone(tx, &g, errs, rs, i, name); err != nil {
				return nil, err
			}
			continue
		}
		g.newest++
		add.BindInt64(1, g.number)
		add.BindInt64(2, g.newest)
		add.BindBytes(3, r.ID[:])
		add.BindInt64(4, int64(r.Token)) //nolint:gosec // it was made of one
		add.BindInt64(5, tx.now)
		if _, err := tx.change(add); err != nil {
			return nil, err
		}
	}
	if g.newest == before {
		return errs, nil
	}
	if err := d.forget(tx, &g, g.newest-before); err != nil {
		return nil, err
	}
	return errs, tx.write(d.sql.setDone, g.newest, g.swept, g.number)
}

// extend is Extend in a transaction. It returns the errors of those that their holders have lost.
func (d *Dedupe) extend(tx *txn, name string, rs []es.Reservation, lease time.Duration) (errs []error, err error) {
	g, err := d.group(tx, name)
	if err != nil {
		return nil, err
	}
	prolong, err := tx.prepare(d.sql.prolong)
	if err != nil {
		return nil, err
	}
	until := leaseEnd(tx.now, lease)
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		prolong.BindInt64(1, until)
		bindHeld(prolong, 2, r, g.number)
		prolong.BindInt64(5, tx.now)
		prolonged, err := tx.change(prolong)
		if err != nil {
			return nil, err
		}
		if prolonged {
			r.Until = timeAt(until)
			continue
		}
		if errs, err = d.loseUnlessDone(tx, &g, errs, rs, i, name); err != nil {
			return nil, err
		}
	}
	return errs, nil
}

// release is Release in a transaction.
func (d *Dedupe) release(tx *txn, name string, rs []es.Reservation) error {
	g, err := d.group(tx, name)
	if err != nil {
		return err
	}
	release, err := tx.prepare(d.sql.release)
	if err != nil {
		return err
	}
	for i := range rs {
		if rs[i].State != es.ReserveNew {
			continue
		}
		bindHeld(release, 1, &rs[i], g.number)
		if _, err := tx.change(release); err != nil {
			return err
		}
	}
	return nil
}

// bindHeld binds a reservation to three parameters of a statement.
func bindHeld(stmt *lite.Stmt, first int, r *es.Reservation, group int64) {
	stmt.BindBytes(first, r.ID[:])
	stmt.BindInt64(first+1, group)
	stmt.BindInt64(first+2, int64(r.Token)) //nolint:gosec // one that nobody has been given finds nothing
}

// loseUnlessDone notes that reservation i of a call, which is not held, is lost. One that its holder has completed is not.
func (d *Dedupe) loseUnlessDone(tx *txn, g *dedupeGroup, errs []error, rs []es.Reservation, i int, name string) ([]error, error) {
	r := &rs[i]
	done, err := tx.number(d.sql.doneBy, r.ID[:], g.number, int64(r.Token)) //nolint:gosec // as in bindHeld
	if err != nil || done != 0 {
		return errs, err
	}
	return lose(errs, rs, i, name), nil
}

// forgetEvery is how often messages are removed, in completions: to remove several at once costs less than one at a time.
const forgetEvery = 16

// forget removes messages that are forgotten, some more than were just completed, so that it catches up after the bound was lowered or
// many have expired. The oldest stand together.
func (d *Dedupe) forget(tx *txn, g *dedupeGroup, completed int64) error {
	if g.newest/forgetEvery == (g.newest-completed)/forgetEvery {
		return nil
	}
	most := g.swept + 2*completed + 4*forgetEvery
	last := g.newest - int64(d.db.config.DedupeEntries)
	if last < most {
		kept, err := tx.number(d.sql.oldestKept, g.number, max(g.swept, last), most, g.expired)
		if err != nil {
			return err
		}
		last = max(last, kept-1)
		if kept == 0 { // all that were looked at have expired
			last = min(most, g.newest)
		}
	}
	last = min(last, most)
	if last <= g.swept {
		return nil
	}
	g.swept = last
	return tx.write(d.sql.forget, g.number, last)
}

// dedupeSweeper looks for reservations that nobody has completed before their lease ended, so that they do not pile up: one that was
// made by a program that died may never be asked for again. It goes round and round.
type dedupeSweeper struct {
	due   int       // how many reservations were made since it looked last
	after uuid.UUID // the last one it has looked at, and its group
	group int64
}

// It looks at a few reservations every so often, at more of them than are made meanwhile.
const (
	sweepEvery = 64
	sweepSlice = 2 * sweepEvery
)

// sweep notes that reservations were made.
func (s *dedupeSweeper) sweep(tx *txn, sql *dedupeSQL, made int) error {
	if s.due += made; s.due < sweepEvery {
		return nil
	}
	most := sweepSlice * s.due / sweepEvery
	s.due = 0
	type place struct {
		id    uuid.UUID
		group int64
	}
	var abandoned []place
	looked := 0
	look := func(stmt *lite.Stmt) error {
		looked++
		stmt.ColumnBytes(0, s.after[:])
		s.group = stmt.ColumnInt64(1)
		if stmt.ColumnInt64(2) <= tx.now {
			abandoned = append(abandoned, place{s.after, s.group})
		}
		return nil
	}
	if err := tx.query(look, sql.reservedAfter, s.after[:], s.group, most); err != nil {
		return err
	}
	if looked < most { // that was the end: the next look begins anew
		s.after, s.group = uuid.Nil, 0
	}
	for _, a := range abandoned {
		if err := tx.write(sql.removeIfAbandoned, a.id[:], a.group, tx.now); err != nil {
			return err
		}
	}
	return nil
}

// change runs a statement that is bound, and tells whether it has changed anything.
func (tx *txn) change(stmt *lite.Stmt) (bool, error) {
	if err := each(stmt, nil); err != nil || tx.Changes() == 0 {
		return false, err
	}
	tx.writes++
	return true, nil
}
