package sqlite

import (
	"context"
	"fmt"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Leases is the leases of a namespace. It is an [es.Leases].
//
// The clock is the wall clock of the machine, which all the processes that have the file share. A new token is synced, so that it is
// never given twice; a lease that goes on or ends is not, because after loss of power nobody is left who holds it.
type Leases struct {
	db  *DB
	sql leaseQueries
}

var _ es.Leases = (*Leases)(nil)

type leaseQueries struct{ find, take, prolong string }

func newLeases(db *DB) *Leases {
	return &Leases{db: db, sql: leaseQueries{
		find:    db.sql("SELECT owner, token, until FROM es_leases_$ WHERE name = ?"),
		take:    db.sql("INSERT OR REPLACE INTO es_leases_$ (name, owner, token, until) VALUES (?, ?, ?, ?)"),
		prolong: db.sql("UPDATE es_leases_$ SET until = ? WHERE name = ?"),
	}}
}

// leaseState is a lease as it stands in the file. It has token 0 when the name was never taken.
type leaseState struct {
	owner string
	token int64
	until int64
}

// Acquire takes a lease that is free, and renews one that its owner holds already.
func (s *Leases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Lease{}, err
	}
	defer s.db.handle.leave()
	if err := es.ValidateName("lease", name); err != nil {
		return es.Lease{}, err
	}
	if err := es.ValidateName("lease owner", owner); err != nil {
		return es.Lease{}, err
	}
	if err := validateLeaseTime(ttl); err != nil {
		return es.Lease{}, err
	}
	// Most calls renew, or find that another has it; only one that takes the lease has to be synced.
	free := false
	err := s.db.read(ctx, func(c *conn) error {
		state, err := s.state(c, name)
		free = !state.heldAt(time.Now().UnixMicro())
		return err
	})
	if err != nil {
		return es.Lease{}, err
	}
	l, again, err := s.acquire(ctx, name, owner, ttl, free)
	if again { // it has become free since it was looked at
		l, _, err = s.acquire(ctx, name, owner, ttl, true)
	}
	return l, err
}

// acquire does it in a transaction that is synced when the lease is to be taken. When it is free and that was not expected, nothing is
// done, and again is true.
func (s *Leases) acquire(ctx context.Context, name, owner string, ttl time.Duration, taking bool) (l es.Lease, again bool, err error) {
	err = s.db.write(ctx, &op{relaxed: !taking, run: func(tx *txn) error {
		again = false
		state, err := s.state(tx.conn, name)
		if err != nil {
			return err
		}
		until := leaseEnd(tx.now, ttl)
		held := state.heldAt(tx.now)
		switch {
		case held && state.owner != owner:
			return &es.LeaseHeldError{Name: name, Owner: state.owner, Until: timeOf(state.until)}
		case held:
			err = tx.write(s.sql.prolong, until, name)
		case !taking:
			again = true
			return nil
		default:
			state.token++
			err = tx.write(s.sql.take, name, owner, state.token, until)
		}
		l = es.Lease{Name: name, Owner: owner, Token: state.token, Until: timeOf(until)}
		return err
	}})
	return l, again, err
}

// Renew gives a lease another time from now on.
func (s *Leases) Renew(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
	if err := s.db.handle.begin(ctx); err != nil {
		return es.Lease{}, err
	}
	defer s.db.handle.leave()
	if err := validateLeaseTime(ttl); err != nil {
		return es.Lease{}, err
	}
	var until int64
	err := s.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		if err := s.checkIn(tx, l); err != nil {
			return err
		}
		until = leaseEnd(tx.now, ttl)
		return tx.write(s.sql.prolong, until, l.Name)
	}})
	if err != nil {
		return es.Lease{}, err
	}
	l.Until = timeOf(until)
	return l, nil
}

// Release ends a lease. One that has ended is released already.
func (s *Leases) Release(ctx context.Context, l es.Lease) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	return s.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		state, err := s.state(tx.conn, l.Name)
		if err != nil || !state.is(l, tx.now) {
			return err
		}
		return tx.write(s.sql.prolong, 0, l.Name)
	}})
}

// Check tells whether a lease is held.
func (s *Leases) Check(ctx context.Context, l es.Lease) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	return s.db.read(ctx, func(c *conn) error { return s.check(c, l, time.Now().UnixMicro()) })
}

// checkIn tells whether a lease is held at the time of a transaction: for the fences of other roles.
func (s *Leases) checkIn(tx *txn, l es.Lease) error { return s.check(tx.conn, l, tx.now) }

func (s *Leases) check(c *conn, l es.Lease, now int64) error {
	state, err := s.state(c, l.Name)
	if err == nil && !state.is(l, now) {
		err = fmt.Errorf("lease %q of %q (token %d): %w", l.Name, l.Owner, l.Token, es.ErrLeaseLost)
	}
	return err
}

// state reads a lease.
func (s *Leases) state(c *conn, name string) (state leaseState, err error) {
	err = c.query(func(stmt *lite.Stmt) error {
		state = leaseState{owner: stmt.ColumnText(0), token: stmt.ColumnInt64(1), until: stmt.ColumnInt64(2)}
		return nil
	}, s.sql.find, name)
	return state, err
}

func (s leaseState) heldAt(now int64) bool { return s.until > now }

// is tells whether it is this very lease, and held.
func (s leaseState) is(l es.Lease, now int64) bool {
	return s.owner == l.Owner && s.token == l.Token && s.heldAt(now)
}

func validateLeaseTime(ttl time.Duration) error {
	if ttl <= 0 {
		return es.Invalidf("lease time", "is %v; it takes a duration above 0", ttl)
	}
	return nil
}

// leaseEnd is when a lease ends that begins now, in microseconds since 1970. One that is shorter than a microsecond takes one; one
// that would go beyond the end of time ends there.
func leaseEnd(now int64, ttl time.Duration) int64 { return now + max(ttl.Microseconds(), 1) }
