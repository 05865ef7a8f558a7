package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Dedupe is the memory of handled messages of a namespace, for all the processes that have the database open. It is an [es.Dedupe].
//
// Each group remembers the last [Config].DedupeEntries messages that it has handled, or some more: a sixteenth of them, or 1,024, for each
// process that handles messages, because those who forget the oldest do so now and then, for many at once, and nobody waits for them. Each
// is remembered for the [Config].DedupeTTL of the process that has handled it.
//
// To reserve, to prolong and to complete is synced; to release is not: after a crash of the database the message may be busy until its
// lease ends. Tokens follow the clock of the database, so that none is given again when a reservation was lost with a failover.
type Dedupe struct {
	db      *DB
	sql     dedupeSQL
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
	if err := es.ValidateName("group", group); err != nil || len(rs) == 0 {
		return err
	}
	reserved := slices.Clone(rs)
	taken, err := d.reserve(ctx, group, reserved, lease)
	if err != nil {
		return err
	}
	copy(rs, reserved)
	d.sweepReserved(ctx, taken)
	return nil
}

// Complete marks reservations as done. Completing one again that its holder has completed is fine.
func (d *Dedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	held, err := heldIn(group, rs)
	if err != nil || len(held.at) == 0 {
		return err
	}
	ttl := d.db.config.DedupeTTL.Microseconds()
	found := make([]bool, len(held.at))
	done := 0
	err = d.db.pipeline(ctx, synced, func(b *pgx.Batch) {
		clear(found)
		done = 0
		b.Queue(d.sql.lock, group, held.ids, held.tokens)
		b.Queue(d.sql.complete, group, held.ids, held.tokens, ttl).Query(func(rows pgx.Rows) error {
			var n int64
			_, err := pgx.ForEachRow(rows, []any{&n}, func() error {
				found[n-1] = true
				done++
				return nil
			})
			return err
		})
	})
	if err != nil {
		return err
	}
	d.sweepDone(ctx, group, done)
	return held.lost(group, rs, found)
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
	held, err := heldIn(group, rs)
	if err != nil || len(held.at) == 0 {
		return err
	}
	found, untils := make([]bool, len(held.at)), make([]int64, len(held.at)) // until is 0 for those that are completed
	err = d.db.pipeline(ctx, synced, func(b *pgx.Batch) {
		clear(found)
		b.Queue(d.sql.lock, group, held.ids, held.tokens)
		b.Queue(d.sql.extend, group, held.ids, held.tokens, leaseMicros(lease)).Query(func(rows pgx.Rows) error {
			var n, until int64
			_, err := pgx.ForEachRow(rows, []any{&n, &until}, func() error {
				found[n-1], untils[n-1] = true, until
				return nil
			})
			return err
		})
	})
	if err != nil {
		return err
	}
	for n, until := range untils {
		if until != 0 {
			rs[held.at[n]].Until = timeAt(until)
		}
	}
	return held.lost(group, rs, found)
}

// Release gives reservations up. What is not the caller's any more is passed over.
func (d *Dedupe) Release(ctx context.Context, group string, rs []es.Reservation) error {
	if err := d.db.handle.begin(ctx); err != nil {
		return err
	}
	defer d.db.handle.leave()
	held, err := heldIn(group, rs)
	if err != nil || len(held.at) == 0 {
		return err
	}
	return d.db.pipeline(ctx, unsynced, func(b *pgx.Batch) {
		b.Queue(d.sql.lock, group, held.ids, held.tokens)
		b.Queue(d.sql.release, group, held.ids, held.tokens)
	})
}

// holdings are the reservations of a call that its caller holds, or has held.
type holdings struct {
	at     []int      // their places in the call, in the order of their IDs; see byID
	ids    [][16]byte // and their IDs
	tokens []int64
}

// heldIn returns what the caller holds, or has held.
func heldIn(group string, rs []es.Reservation) (h holdings, err error) {
	if err := es.ValidateName("group", group); err != nil {
		return h, err
	}
	h.at = byID(rs, func(r *es.Reservation) bool { return r.State == es.ReserveNew })
	h.ids, h.tokens = make([][16]byte, len(h.at)), make([]int64, len(h.at))
	for n, i := range h.at {
		h.ids[n], h.tokens[n] = rs[i].ID, int64(rs[i].Token) //nolint:gosec // one that nobody has been given finds nothing
	}
	return h, nil
}

// lost returns an error that tells of those that were not found, if there are any.
func (h holdings) lost(group string, rs []es.Reservation, found []bool) error {
	if !slices.Contains(found, false) {
		return nil
	}
	errs := make([]error, len(rs))
	for n, i := range h.at {
		if !found[n] {
			errs[i] = fmt.Errorf("reservation of message %s in group %q: %w", rs[i].ID, group, es.ErrLeaseLost)
		}
	}
	return es.BatchErr(errs)
}

// byID returns the places of reservations in the order of their IDs. All calls lock rows in this order, so that no two wait for each
// other.
func byID(rs []es.Reservation, which func(r *es.Reservation) bool) []int {
	at := make([]int, 0, len(rs))
	for i := range rs {
		if which(&rs[i]) {
			at = append(at, i)
		}
	}
	slices.SortFunc(at, func(a, b int) int {
		return cmp.Or(bytes.Compare(rs[a].ID[:], rs[b].ID[:]), cmp.Compare(a, b))
	})
	return at
}
