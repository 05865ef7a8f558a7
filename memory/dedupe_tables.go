package memory

import (
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// dedupeTables has what each group has handled. A group that was ever used stays, empty when everything in it has expired.
// Its methods want the mutex held.
type dedupeTables struct {
	entries int           // how many handled messages a group remembers
	ttl     time.Duration // and for how long

	mu     sync.Mutex
	clock  dedupeClock
	token  uint64 // the last one given
	groups map[string]*dedupeGroup
	recent *dedupeGroup // the one that was asked for last, and mostly is the next time
}

func newDedupeTables(entries int, ttl time.Duration) *dedupeTables {
	return &dedupeTables{
		entries: entries, ttl: ttl, clock: newDedupeClock(),
		groups: map[string]*dedupeGroup{}, recent: newDedupeGroup(""), // which is nobody's
	}
}

func (t *dedupeTables) reserve(group string, rs []es.Reservation, lease time.Duration) error {
	g, err := t.group(group)
	if err != nil {
		return err
	}
	now := t.clock.now()
	until, stated := t.clock.end(now, lease)
	g.forget(now, t.ttl)
	if g.done == t.entries {
		g.touchOldest()
	}
	for i := range rs {
		r := &rs[i]
		n := g.find(&r.ID)
		slot := &g.slots[n]
		switch {
		case slot.state == dedupeDone:
			r.State, r.Token, r.Until = es.ReserveDone, 0, time.Time{}
			continue
		case slot.state == dedupeReserved && slot.time > now:
			r.State, r.Token, r.Until = es.ReserveBusy, 0, t.clock.state(now, slot.time)
			continue
		}
		t.token++
		if n == 0 {
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
	g, err := t.group(group)
	if err != nil {
		return err
	}
	now := t.clock.now()
	g.forget(now, t.ttl)
	var errs []error // made when there is one
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		n := g.held(r, now)
		switch {
		case n == 0:
			errs = lose(errs, rs, i, group)
		case g.slots[n].state == dedupeReserved:
			g.complete(n, now, t.entries)
		}
	}
	return es.BatchErr(errs)
}

func (t *dedupeTables) extend(group string, rs []es.Reservation, lease time.Duration) error {
	g, err := t.group(group)
	if err != nil {
		return err
	}
	now := t.clock.now()
	until, stated := t.clock.end(now, lease)
	g.forget(now, t.ttl)
	var errs []error // made when there is one
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		n := g.held(r, now)
		switch {
		case n == 0:
			errs = lose(errs, rs, i, group)
		case g.slots[n].state == dedupeReserved:
			g.slots[n].time, r.Until = until, stated
		}
	}
	return es.BatchErr(errs)
}

func (t *dedupeTables) release(group string, rs []es.Reservation) error {
	g, err := t.group(group)
	if err != nil {
		return err
	}
	for i := range rs {
		r := &rs[i]
		if r.State != es.ReserveNew {
			continue
		}
		n := g.find(&r.ID)
		if slot := &g.slots[n]; slot.token == r.Token && slot.state == dedupeReserved {
			g.release(n)
		}
	}
	return nil
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
	if name == t.recent.name && name != "" {
		return t.recent, nil
	}
	g := t.groups[name]
	if g == nil {
		if err := es.ValidateName("group", name); err != nil {
			return nil, err
		}
		g = newDedupeGroup(name)
		t.groups[name] = g
	}
	t.recent = g
	return g, nil
}
