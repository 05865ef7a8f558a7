package estest_test

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

// extendCall is a call of Extend.
type extendCall func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error

func dedupeExtendMutants() []mutant[estest.Harness[es.Dedupe]] {
	var mutants []mutant[estest.Harness[es.Dedupe]]
	add := func(line, name string, change func(m *dedupeMutant)) {
		mutants = append(mutants, mutant[estest.Harness[es.Dedupe]]{line, name, dedupeWith(noFault, change, nil)})
	}
	// extend puts another call in the place of the right one.
	extend := func(line, name string, change func(right extendCall) extendCall) {
		add(line, name, func(m *dedupeMutant) { m.extend = change(m.Dedupe.Extend) })
	}
	nothing := func(extendCall) extendCall {
		return func(context.Context, string, []es.Reservation, time.Duration) error { return nil }
	}
	swallows := func(target error) func(right extendCall) extendCall {
		return func(right extendCall) extendCall {
			return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
				return without(target, right(ctx, group, rs, lease))
			}
		}
	}
	leases := func(change func(time.Duration) time.Duration) func(right extendCall) extendCall {
		return func(right extendCall) extendCall {
			return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
				return right(ctx, group, rs, change(lease))
			}
		}
	}
	quietly := func(right extendCall) extendCall {
		return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			return right(ctx, group, append([]es.Reservation(nil), rs...), lease)
		}
	}

	extend("R6/a_prolonged_one_stays_its_holders", "does nothing", nothing)
	extend("R6/a_prolonged_one_stays_its_holders", "cannot do it", func(extendCall) extendCall {
		return func(context.Context, string, []es.Reservation, time.Duration) error { return es.ErrLeaseLost }
	})
	add("R6/a_prolonged_one_stays_its_holders", "reserves it anew under another token", reservesAnew)
	extend("R6/a_lease_starts_anew_when_it_is_prolonged", "does not say until when", quietly)
	extend("R6/a_lease_starts_anew_when_it_is_prolonged", "has another default", leases(func(lease time.Duration) time.Duration {
		if lease == 0 {
			return time.Minute
		}
		return lease
	}))
	extend("R6/a_lease_starts_anew_when_it_is_prolonged", "adds to what is left", func(right extendCall) extendCall {
		return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			return right(ctx, group, rs, time.Until(rs[0].Until)+lease)
		}
	})
	extend("R6/a_prolonged_lease_ends_as_well", "makes it last for ever", leases(func(time.Duration) time.Duration { return time.Hour }))
	extend("R6/a_prolonged_lease_ends_as_well", "prolongs what is another's", swallows(es.ErrLeaseLost))
	extend("R6/too_late_to_prolong", "says that it did", swallows(es.ErrLeaseLost))
	extend("R6/too_late_to_prolong", "states a lease that there is not", func(right extendCall) extendCall {
		return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			err := right(ctx, group, rs, lease)
			for i := range rs {
				rs[i].Until = time.Now().Add(lease)
			}
			return err
		}
	})
	add("R6/too_late_to_prolong", "takes it back when nobody else has it", takesBack)
	extend("R6/one_too_late_of_several", "fails all when one is late", func(right extendCall) extendCall {
		return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			if err := right(ctx, group, rs, lease); err != nil {
				return es.ErrLeaseLost
			}
			return nil
		}
	})
	extend("R6/one_too_late_of_several", "stops at the first that is late", func(right extendCall) extendCall {
		return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			errs := make([]error, len(rs))
			for i := range rs {
				if errs[i] = es.Of(right(ctx, group, rs[i:i+1], lease), 0); errs[i] != nil {
					break
				}
			}
			return es.BatchErr(errs)
		}
	})
	add("R6/to_prolong_what_is_done_undoes_nothing", "takes what is done for lost", func(m *dedupeMutant) {
		var done sync.Map
		m.complete = func(ctx context.Context, group string, rs []es.Reservation) error {
			for _, r := range rs {
				done.Store(r.ID, true)
			}
			return m.Dedupe.Complete(ctx, group, rs)
		}
		m.extend = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			if _, ok := done.Load(rs[0].ID); ok {
				return es.BatchErr([]error{es.ErrLeaseLost})
			}
			return m.Dedupe.Extend(ctx, group, rs, lease)
		}
	})
	extend("R6/only_the_holder_prolongs", "turns down what is not new", func(right extendCall) extendCall {
		return func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
			for _, r := range rs {
				if r.State != es.ReserveNew {
					return es.BatchErr([]error{es.ErrLeaseLost})
				}
			}
			return right(ctx, group, rs, lease)
		}
	})
	add("R6/only_the_holder_prolongs", "prolongs what another holds", prolongsAnybodys)
	extend("M3/names_are_checked", "prolongs in any group", swallows(es.ErrInvalid))
	extend("E13/closed_is_closed", "prolongs when closed", swallows(es.ErrClosed))
	return mutants
}

// reservesAnew prolongs by a new reservation, which its holder does not know the token of.
func reservesAnew(m *dedupeMutant) {
	m.extend = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
		if err := m.Dedupe.Release(ctx, group, rs); err != nil {
			return err
		}
		return m.Dedupe.Reserve(ctx, group, append([]es.Reservation(nil), rs...), lease)
	}
}

// takesBack says that what could not be prolonged is lost, and reserves it all the same.
func takesBack(m *dedupeMutant) {
	m.extend = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
		err := m.Dedupe.Extend(ctx, group, rs, lease)
		if errors.Is(err, es.ErrLeaseLost) {
			return errors.Join(err, m.Dedupe.Reserve(ctx, group, append([]es.Reservation(nil), rs...), lease))
		}
		return err
	}
}

// prolongsAnybodys prolongs whatever anybody holds of an ID.
func prolongsAnybodys(m *dedupeMutant) {
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
	m.extend = func(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
		err := m.Dedupe.Extend(ctx, group, rs, lease)
		mu.Lock()
		defer mu.Unlock()
		if err != nil { // the answer is right, and what it did is not
			_ = m.Dedupe.Extend(ctx, group, []es.Reservation{held[rs[0].ID]}, lease)
		}
		return err
	}
}
