package memory

import (
	"context"
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Leases is the leases of a namespace. It is an [es.Leases].
type Leases struct {
	handle *handle
	table  *leaseTable
}

var _ es.Leases = (*Leases)(nil)

// leaseTable has the leases of a namespace. Its lock is the innermost: who holds it takes no other.
type leaseTable struct {
	mu sync.Mutex
	// names has every name that was ever taken, because its tokens must never repeat: memory grows with the number of
	// different names, which are few (a projection, a partition), and not with the number of leases.
	names map[string]*leaseState
}

type leaseState struct {
	owner string
	token int64
	until time.Time // with a monotonic clock reading; zero when the lease was released
}

func newLeaseTable() *leaseTable { return &leaseTable{names: map[string]*leaseState{}} }

// Acquire takes a lease that is free, and renews one that its owner holds already.
func (s *Leases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	if err := s.handle.begin(ctx); err != nil {
		return es.Lease{}, err
	}
	defer s.handle.leave()
	if err := es.ValidateName("lease", name); err != nil {
		return es.Lease{}, err
	}
	if err := es.ValidateName("lease owner", owner); err != nil {
		return es.Lease{}, err
	}
	if err := validateLeaseTime(ttl); err != nil {
		return es.Lease{}, err
	}
	return s.table.acquire(name, owner, ttl)
}

// Renew prolongs a lease from now on.
func (s *Leases) Renew(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
	if err := s.handle.begin(ctx); err != nil {
		return es.Lease{}, err
	}
	defer s.handle.leave()
	if err := validateLeaseTime(ttl); err != nil {
		return es.Lease{}, err
	}
	return s.table.renew(l, ttl)
}

// Release ends a lease. One that has ended is released already.
func (s *Leases) Release(ctx context.Context, l es.Lease) error {
	if err := s.handle.begin(ctx); err != nil {
		return err
	}
	defer s.handle.leave()
	s.table.release(l)
	return nil
}

// Check tells whether a lease is held.
func (s *Leases) Check(ctx context.Context, l es.Lease) error {
	if err := s.handle.begin(ctx); err != nil {
		return err
	}
	defer s.handle.leave()
	return s.table.check(l)
}

func (t *leaseTable) acquire(name, owner string, ttl time.Duration) (es.Lease, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	state := t.names[name]
	if state == nil {
		state = &leaseState{}
		t.names[name] = state
	}
	switch held := state.until.After(now); {
	case held && state.owner != owner:
		return es.Lease{}, &es.LeaseHeldError{Name: name, Owner: state.owner, Until: es.Timestamp(state.until)}
	case !held:
		state.owner = owner
		state.token++
	}
	state.until = leaseEnd(now, ttl)
	return es.Lease{Name: name, Owner: owner, Token: state.token, Until: es.Timestamp(state.until)}, nil
}

func (t *leaseTable) renew(l es.Lease, ttl time.Duration) (es.Lease, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	state := t.held(l, now)
	if state == nil {
		return es.Lease{}, leaseLost(l)
	}
	state.until = leaseEnd(now, ttl)
	l.Until = es.Timestamp(state.until)
	return l, nil
}

func (t *leaseTable) release(l es.Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state := t.held(l, time.Now()); state != nil {
		state.until = time.Time{}
	}
}

// check is for the fences of other roles too. What they do under their own lock, taken before, counts as done at the moment
// of the check: whoever takes the lease afterwards has to wait for that lock to see or change anything.
func (t *leaseTable) check(l es.Lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held(l, time.Now()) == nil {
		return leaseLost(l)
	}
	return nil
}

// held returns the state of a lease that is held by this very token, and nil otherwise.
func (t *leaseTable) held(l es.Lease, now time.Time) *leaseState {
	state := t.names[l.Name]
	if state == nil || state.owner != l.Owner || state.token != l.Token || !state.until.After(now) {
		return nil
	}
	return state
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

// leaseEnd is when a lease ends that begins now. It is a whole microsecond, so that the time the owner is told is the very
// time that the lease ends; it keeps the monotonic clock reading, so that a leap of the wall clock ends no lease.
func leaseEnd(now time.Time, lease time.Duration) time.Time {
	end := now.Add(lease)
	return end.Add(-time.Duration(end.Nanosecond() % int(time.Microsecond)))
}
