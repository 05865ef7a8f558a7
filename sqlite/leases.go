package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Leases is the leases of a namespace. It is an [es.Leases].
//
// The clock is the wall clock of the machine, which all the processes that have the file share. To take a lease is synced, so that its
// token is never given again. To renew and to release it is not: after a loss of power it ends when it would have ended without.
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
	// Most calls renew, or find that another has it. The first need no sync, and the second not even the turn to write.
	var state leaseState
	err := s.db.read(ctx, func(c *conn) (err error) {
		state, err = s.state(c, name)
		return err
	})
	if err != nil {
		return es.Lease{}, err
	}
	now := time.Now().UnixMicro()
	if err := state.deniedTo(name, owner, now); err != nil {
		return es.Lease{}, err
	}
	if state.heldAt(now) {
		l, err := s.renewOwn(ctx, name, owner, ttl)
		if !errors.Is(err, errLeaseFree) {
			return l, err
		}
	}
	return s.take(ctx, name, owner, ttl)
}

// errLeaseFree says that a lease cannot be renewed any more, and can be taken.
var errLeaseFree = errors.New("sqlite: the lease has ended")

// renewOwn gives a lease that its owner holds another time. When it has ended, the error is errLeaseFree.
func (s *Leases) renewOwn(ctx context.Context, name, owner string, ttl time.Duration) (l es.Lease, err error) {
	err = s.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		state, err := s.state(tx.conn, name)
		if err != nil {
			return err
		}
		if err := state.deniedTo(name, owner, tx.now); err != nil {
			return err
		}
		if !state.heldAt(tx.now) {
			return errLeaseFree
		}
		l, err = s.prolong(tx, es.Lease{Name: name, Owner: owner, Token: state.token}, ttl)
		return err
	}})
	if err != nil {
		return es.Lease{}, err
	}
	return l, nil
}

// take takes a lease that is free, or renews it when its owner has come to hold it meanwhile.
func (s *Leases) take(ctx context.Context, name, owner string, ttl time.Duration) (l es.Lease, err error) {
	err = s.db.write(ctx, &op{run: func(tx *txn) error {
		state, err := s.state(tx.conn, name)
		if err != nil {
			return err
		}
		if err := state.deniedTo(name, owner, tx.now); err != nil {
			return err
		}
		if !state.heldAt(tx.now) {
			state.token++
		}
		until := leaseEnd(tx.now, ttl)
		l = es.Lease{Name: name, Owner: owner, Token: state.token, Until: timeAt(until)}
		return tx.write(s.sql.take, name, owner, state.token, until)
	}})
	if err != nil {
		return es.Lease{}, err
	}
	return l, nil
}

// prolong gives a lease that is held another time.
func (s *Leases) prolong(tx *txn, l es.Lease, ttl time.Duration) (es.Lease, error) {
	until := leaseEnd(tx.now, ttl)
	l.Until = timeAt(until)
	return l, tx.write(s.sql.prolong, until, l.Name)
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
	var renewed es.Lease
	err := s.db.write(ctx, &op{relaxed: true, run: func(tx *txn) (err error) {
		if err := s.checkIn(tx, l); err != nil {
			return err
		}
		renewed, err = s.prolong(tx, l, ttl)
		return err
	}})
	if err != nil {
		return es.Lease{}, err
	}
	return renewed, nil
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

// deniedTo returns an error when another owner holds the lease.
func (s leaseState) deniedTo(name, owner string, now int64) error {
	if s.heldAt(now) && s.owner != owner {
		return &es.LeaseHeldError{Name: name, Owner: s.owner, Until: timeAt(s.until)}
	}
	return nil
}

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

// leaseEnd is when a lease ends that begins now, in microseconds since 1970. One that is shorter than a microsecond takes one, so that
// none is over before it has begun.
func leaseEnd(now int64, ttl time.Duration) int64 { return now + max(ttl.Microseconds(), 1) }
