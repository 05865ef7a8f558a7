package estest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// dedupeMutant is a memory of handled messages with calls that go wrong: those that are set.
type dedupeMutant struct {
	es.Dedupe

	reserve  func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error
	complete func(ctx context.Context, group string, rs []es.Reservation) error
	release  func(ctx context.Context, group string, rs []es.Reservation) error
	extend   func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error
}

func (m *dedupeMutant) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if m.reserve != nil {
		return m.reserve(ctx, group, rs, lease)
	}
	return m.Dedupe.Reserve(ctx, group, rs, lease)
}

func (m *dedupeMutant) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	if m.complete != nil {
		return m.complete(ctx, group, rs)
	}
	return m.Dedupe.Complete(ctx, group, rs)
}

func (m *dedupeMutant) Release(ctx context.Context, group string, rs []es.Reservation) error {
	if m.release != nil {
		return m.release(ctx, group, rs)
	}
	return m.Dedupe.Release(ctx, group, rs)
}

func (m *dedupeMutant) Extend(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	if m.extend != nil {
		return m.extend(ctx, group, rs, lease)
	}
	return m.Dedupe.Extend(ctx, group, rs, lease)
}

type boundedMutant struct{ *mutantStorage[es.Dedupe] }

func (s boundedMutant) OpenBounded(t testing.TB, namespace string, entries int, ttl time.Duration) es.Dedupe {
	t.Helper()
	d, _ := s.open(t, memory.Config{Namespace: namespace, DedupeEntries: entries, DedupeTTL: ttl})
	return d
}

func dedupeWith(fault storageFault, change func(m *dedupeMutant), config func(memory.Config) memory.Config) estest.Harness[es.Dedupe] {
	return roleMutant[es.Dedupe]{
		role: (*memory.Backend).Dedupe, fault: fault, config: config,
		wrap: func() func(es.Dedupe, *memory.Backend) es.Dedupe {
			return func(d es.Dedupe, _ *memory.Backend) es.Dedupe {
				m := &dedupeMutant{Dedupe: d}
				if change != nil {
					change(m)
				}
				return m
			}
		},
		with: func(s *mutantStorage[es.Dedupe]) estest.Storage[es.Dedupe] { return boundedMutant{s} },
	}
}

func TestDedupeMutants(t *testing.T) {
	var mutants []mutant[estest.Harness[es.Dedupe]]
	add := func(line, name string, change func(m *dedupeMutant)) {
		mutants = append(mutants, mutant[estest.Harness[es.Dedupe]]{line, name, dedupeWith(noFault, change, nil)})
	}
	fault := func(line, name string, fault storageFault) {
		mutants = append(mutants, mutant[estest.Harness[es.Dedupe]]{line, name, dedupeWith(fault, nil, nil)})
	}
	config := func(line, name string, change func(memory.Config) memory.Config) {
		mutants = append(mutants, mutant[estest.Harness[es.Dedupe]]{line, name, dedupeWith(noFault, nil, change)})
	}
	// after changes what Reserve has answered.
	after := func(change func(i int, rs []es.Reservation)) func(m *dedupeMutant) {
		return func(m *dedupeMutant) {
			m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
				err := m.Dedupe.Reserve(ctx, group, rs, lease)
				for i := range rs {
					change(i, rs)
				}
				return err
			}
		}
	}
	twoAreNew := after(func(i int, rs []es.Reservation) {
		if rs[i].State == es.ReserveBusy {
			rs[i].State = es.ReserveNew
		}
	})
	forgetsDone := func(m *dedupeMutant) { m.complete = m.Dedupe.Release }
	keepsReleased := func(m *dedupeMutant) {
		m.release = func(context.Context, string, []es.Reservation) error { return nil }
	}
	leases := func(change func(time.Duration) time.Duration) func(m *dedupeMutant) {
		return func(m *dedupeMutant) {
			m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
				return m.Dedupe.Reserve(ctx, group, rs, change(lease))
			}
		}
	}
	swallowsLost := func(m *dedupeMutant) {
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			return without(es.ErrLeaseLost, m.Dedupe.Complete(ctx, group, rs))
		}
	}
	// releasesAnybodys gives up what anybody holds of an ID.
	releasesAnybodys := func(m *dedupeMutant) {
		var mu sync.Mutex
		held := map[uuid.UUID]es.Reservation{}
		m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			err := m.Dedupe.Reserve(ctx, group, rs, lease)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rs {
				if r.State == es.ReserveNew {
					held[r.ID] = r
				}
			}
			return err
		}
		m.release = func(ctx context.Context, group string, rs []es.Reservation) error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rs {
				if err := m.Dedupe.Release(ctx, group, []es.Reservation{held[r.ID]}); err != nil {
					return err
				}
			}
			return nil
		}
	}

	add("R6/new_then_busy_then_done", "lets two have it", twoAreNew)
	add("R6/new_then_busy_then_done", "forgets what is done", forgetsDone)
	add("R6/new_then_busy_then_done", "calls the reserved done", after(func(i int, rs []es.Reservation) {
		if rs[i].State == es.ReserveBusy {
			rs[i].State = es.ReserveDone
		}
	}))
	add("R6/busy_says_until_when", "does not say until when", after(func(i int, rs []es.Reservation) {
		if rs[i].State == es.ReserveBusy {
			rs[i].Until = time.Time{}
		}
	}))
	add("R6/busy_says_until_when", "starts the holder's lease anew", after(func(i int, rs []es.Reservation) {
		if rs[i].State == es.ReserveBusy {
			rs[i].Until = rs[i].Until.Add(time.Second)
		}
	}))
	add("R6/a_lease_is_30_seconds_by_default", "has another default", leases(func(lease time.Duration) time.Duration {
		if lease == 0 {
			return time.Minute
		}
		return lease
	}))
	add("R6/each_of_a_call_for_itself", "turns down what is not new", func(m *dedupeMutant) {
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			for _, r := range rs {
				if r.State != es.ReserveNew {
					return es.ErrLeaseLost
				}
			}
			return m.Dedupe.Complete(ctx, group, rs)
		}
	})
	add("R6/each_of_a_call_for_itself", "gives all of a call the state of the first", after(func(i int, rs []es.Reservation) {
		rs[i].State = rs[0].State
	}))
	add("R6/twice_in_a_call_is_new_once", "takes it twice in a call", after(func(i int, rs []es.Reservation) {
		for _, earlier := range rs[:i] {
			if earlier.ID == rs[i].ID {
				rs[i] = earlier
			}
		}
	}))
	add("R6/a_failed_message_is_handled_again", "keeps what was released", keepsReleased)
	add("R6/a_failed_message_is_handled_again", "takes a stale completion", swallowsLost)
	add("R6/a_failed_message_is_handled_again", "makes what was released done", func(m *dedupeMutant) {
		m.release = m.Dedupe.Complete
	})
	add("R6/a_late_release_takes_nothing_away", "releases what another holds", releasesAnybodys)
	add("R6/release_of_what_is_not_new_takes_nothing_away", "releases what another holds", releasesAnybodys)
	add("R6/new_when_the_lease_ends", "never ends a lease", leases(func(lease time.Duration) time.Duration { return 1000 * lease }))
	add("R6/new_when_the_lease_ends", "takes a stale completion", swallowsLost)
	add("R6/new_when_the_lease_ends", "ends leases early", func(m *dedupeMutant) {
		m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			err := m.Dedupe.Reserve(ctx, group, rs, max(lease/100, 1))
			for i := range rs {
				if rs[i].State == es.ReserveNew {
					rs[i].Until = rs[i].Until.Add(lease - lease/100)
				}
			}
			return err
		}
	})
	add("R6/complete_after_the_lease_ended", "takes a late completion", swallowsLost)
	add("R6/completed_again_is_no_error", "takes it for lost", func(m *dedupeMutant) {
		completed := map[uuid.UUID]bool{}
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			if completed[rs[0].ID] {
				return es.BatchErr([]error{es.ErrLeaseLost})
			}
			completed[rs[0].ID] = true
			return m.Dedupe.Complete(ctx, group, rs)
		}
	})
	add("R6/completed_again_is_no_error", "takes it for lost after the lease", func(m *dedupeMutant) {
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			if time.Now().After(rs[0].Until) {
				return es.BatchErr([]error{es.ErrLeaseLost})
			}
			return m.Dedupe.Complete(ctx, group, rs)
		}
	})
	add("R6/one_late_of_several", "fails all when one is late", func(m *dedupeMutant) {
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			if err := m.Dedupe.Complete(ctx, group, rs[len(rs)-1:]); err != nil {
				return es.ErrLeaseLost
			}
			return m.Dedupe.Complete(ctx, group, rs)
		}
	})
	add("R6/groups_are_independent", "has one memory for all groups", func(m *dedupeMutant) {
		m.reserve = func(ctx context.Context, _ string, rs []es.Reservation, lease time.Duration) error {
			return m.Dedupe.Reserve(ctx, "all", rs, lease)
		}
		m.complete = func(ctx context.Context, _ string, rs []es.Reservation) error {
			return m.Dedupe.Complete(ctx, "all", rs)
		}
		m.release = func(ctx context.Context, _ string, rs []es.Reservation) error {
			return m.Dedupe.Release(ctx, "all", rs)
		}
		m.extend = func(ctx context.Context, _ string, rs []es.Reservation, lease time.Duration) error {
			return m.Dedupe.Extend(ctx, "all", rs, lease)
		}
	})
	fault("R6/handles_share_it", "remembers for each handle alone", handlesApart)
	fault("R6/done_outlives_a_crash", "keeps it in the process", crashLoses)
	add("R6/one_of_many_gets_it", "lets two have it", twoAreNew)
	add("R6/one_of_many_gets_it", "lets nobody have it", after(func(i int, rs []es.Reservation) { rs[i].State = es.ReserveBusy }))
	add("R6/each_of_many_is_got_once", "reserves the first of a call only", func(m *dedupeMutant) {
		m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			for i := range rs {
				rs[i].State = es.ReserveNew
			}
			return m.Dedupe.Reserve(ctx, group, rs[:1], lease)
		}
	})
	config("R6/the_oldest_go_first", "has no bound", func(c memory.Config) memory.Config {
		c.DedupeEntries *= 100
		return c
	})
	config("R6/the_oldest_go_first", "remembers fewer", func(c memory.Config) memory.Config {
		c.DedupeEntries = max(c.DedupeEntries-1, 0)
		return c
	})
	config("R6/entries_expire", "never forgets", func(c memory.Config) memory.Config {
		c.DedupeTTL = time.Hour
		return c
	})
	add("M3/names_are_checked", "takes any group", func(m *dedupeMutant) {
		m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			return without(es.ErrInvalid, m.Dedupe.Reserve(ctx, group, rs, lease))
		}
	})
	fault("M3/namespaces_see_nothing_of_each_other", "has one namespace", namespacesLeak)
	add("E13/closed_is_closed", "reserves when closed", func(m *dedupeMutant) {
		m.reserve = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			return without(es.ErrClosed, m.Dedupe.Reserve(ctx, group, rs, lease))
		}
	})
	add("E13/closed_is_closed", "completes when closed", func(m *dedupeMutant) {
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			return without(es.ErrClosed, m.Dedupe.Complete(ctx, group, rs))
		}
	})
	add("E13/closed_is_closed", "releases when closed", func(m *dedupeMutant) {
		m.release = func(ctx context.Context, group string, rs []es.Reservation) error {
			return without(es.ErrClosed, m.Dedupe.Release(ctx, group, rs))
		}
	})
	mutants = append(mutants, dedupeExtendMutants()...)
	hunt(t, estest.DedupeLines(), append(mutants, dedupeProcessMutants()...))
}
