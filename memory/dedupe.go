package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// defaultClaimLease is the lease of a claim or reservation that does not say.
const defaultClaimLease = 30 * time.Second

// Dedupe is the memory of handled messages of a namespace. It is an [es.Dedupe].
type Dedupe struct {
	handle *handle
	tables *dedupeTables
}

var _ es.Dedupe = (*Dedupe)(nil)

// dedupeTables has what each group has handled. A group that was ever used stays, empty when everything in it has expired.
type dedupeTables struct {
	entries int           // how many handled messages a group remembers
	ttl     time.Duration // and for how long

	mu     sync.Mutex
	start  time.Time // clock readings are kept as the time since then: half the size, and free of leaps of the wall clock
	token  uint64    // the last one given
	groups map[string]*dedupeGroup
}

func newDedupeTables(entries int, ttl time.Duration) *dedupeTables {
	return &dedupeTables{entries: entries, ttl: ttl, start: time.Now(), groups: map[string]*dedupeGroup{}}
}

// Reserve sets the State of each reservation. A group that breaks the rules of names, an ID that is missing and a negative
// lease are [es.ErrInvalid], and nothing is reserved.
func (d *Dedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if err := d.handle.begin(ctx); err != nil {
		return err
	}
	defer d.handle.leave()
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
	if err := d.handle.begin(ctx); err != nil {
		return err
	}
	defer d.handle.leave()
	return d.tables.complete(group, rs)
}

// Extend starts the lease of reservations anew. A group that breaks the rules of names and a negative lease are [es.ErrInvalid],
// and nothing is prolonged.
func (d *Dedupe) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if err := d.handle.begin(ctx); err != nil {
		return err
	}
	defer d.handle.leave()
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
	if err := d.handle.begin(ctx); err != nil {
		return err
	}
	defer d.handle.leave()
	return d.tables.release(group, rs)
}

func (t *dedupeTables) reserve(group string, rs []es.Reservation, lease time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, err := t.group(group)
	if err != nil {
		return err
	}
	clock := time.Now()
	end := leaseEnd(clock, lease)
	stated := es.Timestamp(end)
	now, until := clock.Sub(t.start), end.Sub(t.start)
	g.forget(now, t.ttl)
	for i := range rs {
		r := &rs[i]
		slot := g.find(&r.ID)
		switch {
		case slot != nil && slot.state == dedupeDone:
			r.State, r.Token, r.Until = es.ReserveDone, 0, time.Time{}
			continue
		case slot != nil && slot.time > now:
			r.State, r.Token, r.Until = es.ReserveBusy, 0, es.Timestamp(clock.Add(slot.time-now))
			continue
		}
		t.token++
		if slot == nil {
			g.reserve(&r.ID, t.token, until)
		} else {
			slot.token, slot.time = t.token, until
		}
		r.State, r.Token, r.Until = es.ReserveNew, t.token, stated
	}
	g.sweep(now)
	return nil
}

func (t *dedupeTables) complete(group string, rs []es.Reservation) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, err := t.group(group)
	if err != nil {
		return err
	}
	now := time.Since(t.start)
	g.forget(now, t.ttl)
	var errs []error // made when there is one
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		slot := g.held(r, now)
		switch {
		case slot == nil:
			errs = lose(errs, rs, i, group)
		case slot.state == dedupeReserved:
			g.complete(slot, now, t.entries)
		}
	}
	return es.BatchErr(errs)
}

func (t *dedupeTables) extend(group string, rs []es.Reservation, lease time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, err := t.group(group)
	if err != nil {
		return err
	}
	clock := time.Now()
	end := leaseEnd(clock, lease)
	now, until := clock.Sub(t.start), end.Sub(t.start)
	g.forget(now, t.ttl)
	var errs []error // made when there is one
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		slot := g.held(r, now)
		switch {
		case slot == nil:
			errs = lose(errs, rs, i, group)
		case slot.state == dedupeReserved:
			slot.time, r.Until = until, es.Timestamp(end)
		}
	}
	return es.BatchErr(errs)
}

func (t *dedupeTables) release(group string, rs []es.Reservation) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, err := t.group(group)
	if err != nil {
		return err
	}
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		if slot := g.find(&r.ID); slot != nil && slot.token == r.Token && slot.state == dedupeReserved {
			g.release(slot)
		}
	}
	return nil
}

// held returns the slot of a reservation that is its holder's still, or that its holder has completed; nil when it is neither.
func (g *dedupeGroup) held(r *es.Reservation, now time.Duration) *dedupeSlot {
	slot := g.find(&r.ID)
	if slot == nil || slot.token != r.Token || slot.state == dedupeReserved && slot.time <= now {
		return nil
	}
	return slot
}

// lose notes that reservation i of a call is not its holder's any more. The errors are made when there is the first.
func lose(errs []error, rs []es.Reservation, i int, group string) []error {
	if errs == nil {
		errs = make([]error, len(rs))
	}
	errs[i] = fmt.Errorf("reservation of message %s in group %q: %w", rs[i].ID, group, es.ErrLeaseLost)
	return errs
}

// group returns what a group has. A name is checked when it is new, and not for each message.
func (t *dedupeTables) group(name string) (*dedupeGroup, error) {
	if g := t.groups[name]; g != nil {
		return g, nil
	}
	if err := es.ValidateName("group", name); err != nil {
		return nil, err
	}
	g := newDedupeGroup()
	t.groups[name] = g
	return g, nil
}
