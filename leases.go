package eventsourcing

import (
	"context"
	"time"
)

// Leases let one of many be the owner of something, for a time. The clock of the backend decides when a lease has ended.
type Leases interface {
	// Acquire takes a lease that is free, and renews one that its owner holds already. While another owner holds it, the error
	// is a [*LeaseHeldError]. A name or owner that breaks the rules, or a time of 0 or less, is [ErrInvalid].
	Acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error)
	// Renew gives a lease another time from now on, which may end earlier than it would have. When it has ended, even if nobody
	// has taken it since, the error is [ErrLeaseLost]. A time of 0 or less is [ErrInvalid].
	Renew(ctx context.Context, l Lease, ttl time.Duration) (Lease, error)
	// Release ends a lease, so that others need not wait. One that has ended is released already.
	Release(ctx context.Context, l Lease) error
	// Check tells whether a lease is held: nil, or [ErrLeaseLost].
	Check(ctx context.Context, l Lease) error
}

// Lease is the right to own something until a time.
type Lease struct {
	Name, Owner string
	// Token is the fencing token. It rises each time the lease is taken by Acquire after it was free, also by the same owner,
	// and never repeats for a name, so that a store which has seen a higher one can turn down a late write.
	// (Kleppmann, "How to do distributed locking", 2016.)
	Token int64
	Until time.Time
}
