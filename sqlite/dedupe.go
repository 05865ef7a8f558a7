package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Dedupe is the memory of handled messages of a namespace, for all the processes that have the file open. It is an [es.Dedupe].
//
// Each group remembers the last [Config].DedupeEntries messages that it has handled, each for [Config].DedupeTTL. What is beyond that is
// forgotten at once, and removed from the file by later completions, a little at a time.
//
// To complete is synced; to reserve, to prolong and to release is not. After a loss of power a reservation may be gone, and then the
// message is new before the lease would have ended. Nobody on the machine handles it any more by then, and a holder elsewhere cannot
// complete it: its token is never given again, because tokens follow the clock. A completion that is acknowledged has the reservation
// that it completes on the disk as well.
type Dedupe struct {
	db  *DB
	sql dedupeSQL
	// sweeper is where the search for abandoned reservations goes on. Only the writer uses it.
	sweeper dedupeSweeper
}

var _ es.Dedupe = (*Dedupe)(nil)

// defaultLease is the lease of a reservation that does not say.
const defaultLease = 30 * time.Second

// leaseOr returns the lease of a reservation, the default one for 0.
func leaseOr(lease time.Duration) (time.Duration, error) {
	if lease == 0 {
		return defaultLease, nil
	}
	return lease, validateLeaseTime(lease)
}

// Reserve sets the State of each reservation, and leaves all of them as they are when it fails.
//
// It always takes a turn of the writer. To look first whether all of the messages are done already, and to be content with that, would
// be right; but hardly any are, and the look would cost the others more than it could save.
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
	reserved := make([]es.Reservation, len(rs))
	err = d.write(ctx, group, rs, unsynced, func(tx *txn) error {
		copy(reserved, rs)
		return d.reserve(tx, group, reserved, lease)
	})
	if err != nil || len(rs) == 0 {
		return err
	}
	copy(rs, reserved)
	return nil
}

// Complete marks reservations as done. Completing one again that its holder has completed is fine.
func (d *Dedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	var errs []error
	err := d.write(ctx, group, rs, synced, func(tx *txn) (err error) {
		errs, err = d.complete(tx, group, rs)
		return err
	})
	if err != nil {
		return err
	}
	return es.BatchErr(errs)
}

// Extend starts the lease of reservations anew.
func (d *Dedupe) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	lease, err := leaseOr(lease)
	if err != nil {
		return err
	}
	var errs []error
	prolonged := make([]es.Reservation, len(rs))
	err = d.write(ctx, group, rs, unsynced, func(tx *txn) (err error) {
		copy(prolonged, rs)
		errs, err = d.extend(tx, group, prolonged, lease)
		return err
	})
	if err != nil || len(rs) == 0 {
		return err
	}
	copy(rs, prolonged)
	return es.BatchErr(errs)
}

// Release gives reservations up. What is not the caller's any more is passed over.
func (d *Dedupe) Release(ctx context.Context, group string, rs []es.Reservation) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	return d.write(ctx, group, rs, unsynced, func(tx *txn) error { return d.release(tx, group, rs) })
}

// durability is whether the outcome of a call survives loss of power.
type durability int

const (
	synced durability = iota
	unsynced
)

// write has something done about reservations of a group, if there are any.
func (d *Dedupe) write(ctx context.Context, group string, rs []es.Reservation, how durability, run func(tx *txn) error) error {
	if err := es.ValidateName("group", group); err != nil || len(rs) == 0 {
		return err
	}
	const bytes = 100 // what a message takes in the file, roughly
	return d.db.write(ctx, &op{relaxed: how == unsynced, size: bytes * len(rs), run: run})
}

// lose notes that reservation i of a call is not its holder's any more. The errors are made when there is the first.
func lose(errs []error, rs []es.Reservation, i int, group string) []error {
	if errs == nil {
		errs = make([]error, len(rs))
	}
	errs[i] = fmt.Errorf("reservation of message %s in group %q: %w", rs[i].ID, group, es.ErrLeaseLost)
	return errs
}
