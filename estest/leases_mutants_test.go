package estest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// leasesMutant is leases with calls that go wrong: those that are set.
type leasesMutant struct {
	es.Leases

	acquire func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error)
	renew   func(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error)
	release func(ctx context.Context, l es.Lease) error
	check   func(ctx context.Context, l es.Lease) error
}

func (m *leasesMutant) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	if m.acquire != nil {
		return m.acquire(ctx, name, owner, ttl)
	}
	return m.Leases.Acquire(ctx, name, owner, ttl)
}

func (m *leasesMutant) Renew(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
	if m.renew != nil {
		return m.renew(ctx, l, ttl)
	}
	return m.Leases.Renew(ctx, l, ttl)
}

func (m *leasesMutant) Release(ctx context.Context, l es.Lease) error {
	if m.release != nil {
		return m.release(ctx, l)
	}
	return m.Leases.Release(ctx, l)
}

func (m *leasesMutant) Check(ctx context.Context, l es.Lease) error {
	if m.check != nil {
		return m.check(ctx, l)
	}
	return m.Leases.Check(ctx, l)
}

func leasesWith(fault storageFault, change func(m *leasesMutant)) estest.Harness[es.Leases] {
	return roleMutant[es.Leases]{
		role: (*memory.Backend).Leases, fault: fault,
		wrap: func() func(es.Leases, *memory.Backend) es.Leases {
			return func(l es.Leases, _ *memory.Backend) es.Leases {
				m := &leasesMutant{Leases: l}
				if change != nil {
					change(m)
				}
				return m
			}
		},
	}
}

func TestLeasesMutants(t *testing.T) {
	var mutants []mutant[estest.Harness[es.Leases]]
	add := func(line, name string, change func(m *leasesMutant)) {
		mutants = append(mutants, mutant[estest.Harness[es.Leases]]{line, name, leasesWith(noFault, change)})
	}
	fault := func(line, name string, fault storageFault) {
		mutants = append(mutants, mutant[estest.Harness[es.Leases]]{line, name, leasesWith(fault, nil)})
	}
	// acquired changes the lease that was asked for, and the one that was given.
	acquired := func(before func(name string, ttl time.Duration) (string, time.Duration), after func(l *es.Lease, ttl time.Duration)) func(m *leasesMutant) {
		return func(m *leasesMutant) {
			m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
				asked, time := name, ttl
				if before != nil {
					asked, time = before(name, ttl)
				}
				l, err := m.Leases.Acquire(ctx, asked, owner, time)
				if err == nil && after != nil {
					after(&l, ttl)
				}
				return l, err
			}
		}
	}
	twoHoldIt := func(m *leasesMutant) {
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			l, err := m.Leases.Acquire(ctx, name, owner, ttl)
			if errors.Is(err, es.ErrLeaseHeld) {
				return es.Lease{Name: name, Owner: owner, Token: 1, Until: time.Now().Add(ttl)}, nil
			}
			return l, err
		}
	}
	oneToken := acquired(nil, func(l *es.Lease, _ time.Duration) { l.Token = 1 })
	tokenOfRelease := func(m *leasesMutant) { // one for each lease that was released, by its first token
		oneToken(m)
		m.release = func(ctx context.Context, l es.Lease) error {
			last, err := m.Leases.Acquire(ctx, l.Name, l.Owner, time.Hour)
			if err != nil {
				return err
			}
			return m.Leases.Release(ctx, last)
		}
	}
	noRelease := func(m *leasesMutant) { m.release = func(context.Context, es.Lease) error { return nil } }
	sameName := func(name string, ttl time.Duration) (string, time.Duration) { return lower(name), ttl }

	add("J7/one_owner_at_a_time", "lets two hold it", twoHoldIt)
	add("J7/one_owner_at_a_time", "does not tell who holds it", func(m *leasesMutant) {
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			l, err := m.Leases.Acquire(ctx, name, owner, ttl)
			if errors.Is(err, es.ErrLeaseHeld) {
				err = es.ErrLeaseHeld
			}
			return l, err
		}
	})
	fault("J7/handles_share_them", "has them for each handle alone", handlesApart)
	fault("J7/leases_outlive_a_crash", "keeps them in the process", crashLoses)
	add("J7/its_owner_renews_it", "turns down its owner", func(m *leasesMutant) {
		taken := map[string]bool{}
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			if taken[name] {
				return es.Lease{}, &es.LeaseHeldError{Name: name, Owner: owner}
			}
			taken[name] = true
			return m.Leases.Acquire(ctx, name, owner, ttl)
		}
	})
	add("J7/its_owner_renews_it", "gives its owner another token", func(m *leasesMutant) {
		var last es.Lease
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			if last.Owner == owner {
				if err := m.Leases.Release(ctx, last); err != nil {
					return es.Lease{}, err
				}
			}
			var err error
			last, err = m.Leases.Acquire(ctx, name, owner, ttl)
			return last, err
		}
	})
	add("J7/renew_prolongs", "does not prolong", func(m *leasesMutant) {
		m.renew = func(_ context.Context, l es.Lease, _ time.Duration) (es.Lease, error) { return l, nil }
	})
	add("J7/renew_prolongs", "adds to the end instead of now", func(m *leasesMutant) {
		m.renew = func(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
			return m.Leases.Renew(ctx, l, time.Until(l.Until)+ttl)
		}
	})
	add("J7/renewed_it_does_not_end", "only says that it prolongs", func(m *leasesMutant) {
		m.renew = func(_ context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
			l.Until = time.Now().Add(ttl)
			return l, nil
		}
	})
	add("J7/free_when_its_time_is_over", "never ends a lease", acquired(func(name string, ttl time.Duration) (string, time.Duration) {
		return name, 1000 * ttl
	}, nil))
	add("J7/free_when_its_time_is_over", "ends leases early", acquired(func(name string, ttl time.Duration) (string, time.Duration) {
		return name, ttl / 100
	}, func(l *es.Lease, ttl time.Duration) { l.Until = l.Until.Add(ttl - ttl/100) }))
	add("J7/free_when_released", "does not release", noRelease)
	add("J7/names_are_independent", "takes two names for one", acquired(sameName, nil))
	add("J7/owners_at_once_exclude_each_other", "has one token for all", tokenOfRelease)
	add("J7/owners_at_once_exclude_each_other", "lets two hold it", func(m *leasesMutant) {
		both := newMeeting()
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			l, err := m.Leases.Acquire(ctx, name+owner, owner, ttl)
			l.Name = name
			return l, err
		}
		m.release = func(ctx context.Context, l es.Lease) error {
			l.Name += l.Owner
			return m.Leases.Release(ctx, l)
		}
		m.check = func(ctx context.Context, l es.Lease) error {
			both.meet(ctx.Done())
			l.Name += l.Owner
			return m.Leases.Check(ctx, l)
		}
	})
	add("M3/names_are_checked", "takes no time for a minute", acquired(func(name string, ttl time.Duration) (string, time.Duration) {
		if ttl <= 0 {
			ttl = time.Minute
		}
		return name, ttl
	}, nil))
	add("M3/names_are_checked", "takes no owner for somebody", func(m *leasesMutant) {
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			if owner == "" {
				owner = "somebody"
			}
			return m.Leases.Acquire(ctx, name, owner, ttl)
		}
	})
	fault("M3/namespaces_see_nothing_of_each_other", "has one namespace", namespacesLeak)
	for name, change := range map[string]func(m *leasesMutant){
		"acquires": func(m *leasesMutant) {
			m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
				l, err := m.Leases.Acquire(ctx, name, owner, ttl)
				return l, without(es.ErrClosed, err)
			}
		},
		"renews": func(m *leasesMutant) {
			m.renew = func(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
				l, err := m.Leases.Renew(ctx, l, ttl)
				return l, without(es.ErrClosed, err)
			}
		},
		"releases": func(m *leasesMutant) {
			m.release = func(ctx context.Context, l es.Lease) error { return without(es.ErrClosed, m.Leases.Release(ctx, l)) }
		},
		"checks": func(m *leasesMutant) {
			m.check = func(ctx context.Context, l es.Lease) error { return without(es.ErrClosed, m.Leases.Check(ctx, l)) }
		},
	} {
		add("E13/closed_is_closed", name+" when closed", change)
	}
	add("J7/the_token_rises_after_a_release", "has one token for all", tokenOfRelease)
	add("J7/the_token_rises_after_the_end", "has one token for all", oneToken)
	add("J7/the_token_rises_over_close_and_open", "counts tokens in the process", func(m *leasesMutant) {
		var base int64
		acquired(nil, func(l *es.Lease, _ time.Duration) {
			if base == 0 {
				base = l.Token - 1
			}
			l.Token -= base
		})(m)
		m.release = func(ctx context.Context, l es.Lease) error {
			l.Token += base
			return m.Leases.Release(ctx, l)
		}
	})
	addStaleLeases(add)
	hunt(t, estest.LeasesLines(), append(mutants, leasesProcessMutants()...))
}

// addStaleLeases adds mutants that do not see that a lease is over.
func addStaleLeases(add func(line, name string, change func(m *leasesMutant))) {
	checksAll := func(m *leasesMutant) {
		m.check = func(ctx context.Context, l es.Lease) error { return without(es.ErrLeaseLost, m.Leases.Check(ctx, l)) }
	}
	renewsAll := func(m *leasesMutant) {
		m.renew = func(ctx context.Context, l es.Lease, ttl time.Duration) (es.Lease, error) {
			renewed, err := m.Leases.Renew(ctx, l, ttl)
			return renewed, without(es.ErrLeaseLost, err)
		}
	}
	turnsDown := func(m *leasesMutant) {
		m.release = func(ctx context.Context, l es.Lease) error {
			return errors.Join(m.Leases.Check(ctx, l), m.Leases.Release(ctx, l))
		}
	}
	releasesAnybodys := func(m *leasesMutant) {
		var mu sync.Mutex
		var last es.Lease
		m.acquire = func(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
			l, err := m.Leases.Acquire(ctx, name, owner, ttl)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				last = l
			}
			return l, err
		}
		m.release = func(ctx context.Context, _ es.Lease) error {
			mu.Lock()
			defer mu.Unlock()
			return m.Leases.Release(ctx, last)
		}
	}
	for _, when := range []string{"after_the_end", "after_a_takeover", "after_a_release", "after_its_owner_took_it_anew"} {
		add("J7/check_"+when, "does not see that it is over", checksAll)
		add("J7/renew_"+when, "does not see that it is over", renewsAll)
		add("J7/release_"+when, "turns down what is released already", turnsDown)
	}
	for _, when := range []string{"after_a_takeover", "after_its_owner_took_it_anew"} {
		add("J7/release_"+when, "releases what another holds", releasesAnybodys)
	}
	add("J7/unknown_leases_are_lost", "does not look at the token", checksAll)
	add("J7/unknown_leases_are_lost", "releases by name", releasesAnybodys)
}
