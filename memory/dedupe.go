package memory

import (
	"context"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// defaultClaimLease is the lease of a claim or reservation that does not say.
const defaultClaimLease = 30 * time.Second

// Dedupe is the memory of handled messages of a namespace. It is an [es.Dedupe].
type Dedupe struct {
	tables *dedupeTables
	closed bool // guarded by the mutex of the tables
}

var _ es.Dedupe = (*Dedupe)(nil)

// begin begins a call, and must be followed by leave unless it fails. Each call is short and takes the mutex of the tables anyway, so
// that alone is what close waits for.
func (d *Dedupe) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.tables.mu.Lock()
	if d.closed {
		d.tables.mu.Unlock()
		return es.ErrClosed
	}
	return nil
}

func (d *Dedupe) leave() { d.tables.mu.Unlock() }

// close waits for the call that is under way, and has those that follow fail.
func (d *Dedupe) close() {
	d.tables.mu.Lock()
	defer d.tables.mu.Unlock()
	d.closed = true
}

// Reserve sets the State of each reservation. A group that breaks the rules of names, an ID that is missing and a negative
// lease are [es.ErrInvalid], and nothing is reserved.
func (d *Dedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.leave()
	lease, err := leaseOr(lease)
	if err != nil {
		return err
	}
	for i := range rs {
		if rs[i].ID == uuid.Nil {
			return es.Invalidf("reservation", "has no ID at index %d; two messages without one would pass for the same", i)
		}
	}
	return d.tables.reserve(group, rs, lease)
}

// Complete marks reservations as done. Completing one again that its holder has completed is fine.
func (d *Dedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.leave()
	return d.tables.complete(group, rs)
}

// Extend starts the lease of reservations anew. A group that breaks the rules of names and a negative lease are [es.ErrInvalid],
// and nothing is prolonged.
func (d *Dedupe) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.leave()
	lease, err := leaseOr(lease)
	if err != nil {
		return err
	}
	return d.tables.extend(group, rs, lease)
}

// leaseOr returns the lease of a reservation, the default one for 0.
func leaseOr(lease time.Duration) (time.Duration, error) {
	if lease == 0 {
		return defaultClaimLease, nil
	}
	return lease, validateLeaseTime(lease)
}

// Release gives reservations up. What is not the caller's any more is passed over.
func (d *Dedupe) Release(ctx context.Context, group string, rs []es.Reservation) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.leave()
	return d.tables.release(group, rs)
}
