package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Leases is the leases of a namespace. It is an [es.Leases].
//
// The clock is that of the database, which all processes share. To take and to renew a lease is synced: its holder goes on when the
// database has crashed, and nobody else is to have the lease before the time that the holder was told. To release one is not; after a
// crash it may end when it would have ended without.
type Leases struct {
	db  *DB
	sql leaseQueries
}

var _ es.Leases = (*Leases)(nil)

type leaseQueries struct{ acquire, lock, renew, release, check string }

func newLeases(db *DB) *Leases {
	const held = " WHERE name = $1 AND owner = $2 AND token = $3 AND until > " + now
	return &Leases{db: db, sql: leaseQueries{
		// Who finds that another has it writes nothing. What was found may have changed when the row is inserted or changed, and is judged
		// again then, under the lock of the row. There is no answer when it was free, and another has it now.
		acquire: db.sql(`WITH
			held AS MATERIALIZED (SELECT owner, until FROM @leases_# WHERE name = $1 AND owner <> $2 AND until > ` + now + `),
			taken AS (
			  INSERT INTO @leases_# AS l (name, owner, token, until) SELECT $1, $2, 1, ` + now + ` + $3 WHERE NOT EXISTS (SELECT FROM held)
			  ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = ` + now + ` + $3,
			    token = l.token + CASE WHEN l.owner = excluded.owner AND l.until > ` + now + ` THEN 0 ELSE 1 END
			  WHERE l.owner = excluded.owner OR l.until <= ` + now + `
			  RETURNING owner, token, until
			)
			SELECT owner, token, until FROM taken UNION ALL SELECT owner, 0, until FROM held`),
		lock:    db.sql("SELECT FROM @leases_# WHERE name = $1 FOR NO KEY UPDATE"),
		renew:   db.sql("UPDATE @leases_# SET until = " + now + " + $4" + held + " RETURNING until"),
		release: db.sql("UPDATE @leases_# SET until = 0" + held),
		check:   db.sql("SELECT EXISTS (SELECT FROM @leases_#" + held + ")"),
	}}
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
	for {
		holder, token, until := "", int64(0), int64(0)
		err := s.db.pipeline(ctx, synced, func(b *pgx.Batch) {
			b.Queue(s.sql.acquire, name, owner, leaseMicros(ttl)).QueryRow(func(row pgx.Row) error {
				return row.Scan(&holder, &token, &until)
			})
		})
		switch {
		case errors.Is(err, pgx.ErrNoRows): // another was faster: who has it now?
		case err != nil:
			return es.Lease{}, err
		case token == 0:
			return es.Lease{}, &es.LeaseHeldError{Name: name, Owner: holder, Until: timeAt(until)}
		default:
			return es.Lease{Name: name, Owner: owner, Token: token, Until: timeAt(until)}, nil
		}
	}
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
	if !couldBeHeld(l) {
		return es.Lease{}, leaseLost(l)
	}
	until := int64(0)
	err := s.db.pipeline(ctx, synced, func(b *pgx.Batch) {
		b.Queue(s.sql.lock, l.Name) // to wait for it takes time, and the lease may end meanwhile
		b.Queue(s.sql.renew, l.Name, l.Owner, l.Token, leaseMicros(ttl)).QueryRow(func(row pgx.Row) error { return row.Scan(&until) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return es.Lease{}, leaseLost(l)
	}
	if err != nil {
		return es.Lease{}, err
	}
	l.Until = timeAt(until)
	return l, nil
}

// Release ends a lease. One that has ended is released already.
func (s *Leases) Release(ctx context.Context, l es.Lease) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	if !couldBeHeld(l) {
		return nil
	}
	return s.db.pipeline(ctx, unsynced, func(b *pgx.Batch) { b.Queue(s.sql.release, l.Name, l.Owner, l.Token) })
}

// Check tells whether a lease is held.
func (s *Leases) Check(ctx context.Context, l es.Lease) error {
	if err := s.db.handle.begin(ctx); err != nil {
		return err
	}
	defer s.db.handle.leave()
	if !couldBeHeld(l) {
		return leaseLost(l)
	}
	held := false
	if err := s.db.pool.QueryRow(ctx, s.sql.check, l.Name, l.Owner, l.Token).Scan(&held); err != nil {
		return fault(err)
	}
	if !held {
		return leaseLost(l)
	}
	return nil
}

// couldBeHeld tells whether a lease has names that PostgreSQL can be asked for.
func couldBeHeld(l es.Lease) bool {
	return es.ValidateName("lease", l.Name) == nil && es.ValidateName("lease owner", l.Owner) == nil
}

func leaseLost(l es.Lease) error {
	return fmt.Errorf("lease %q of %q (token %d): %w", l.Name, l.Owner, l.Token, es.ErrLeaseLost)
}

func validateLeaseTime(ttl time.Duration) error {
	if ttl <= 0 {
		return es.Invalidf("lease time", "is %v; it takes a duration above 0", ttl)
	}
	return nil
}

// leaseMicros is how long a lease is, in microseconds. One that is shorter than a microsecond takes one, so that none is over before it
// has begun.
func leaseMicros(ttl time.Duration) int64 { return max(ttl.Microseconds(), 1) }
