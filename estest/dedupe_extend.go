package estest

import (
	"cmp"
	"errors"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// dedupeExtendLines are about holders that take longer than their lease.
func dedupeExtendLines() []Line[Harness[es.Dedupe]] {
	return []Line[Harness[es.Dedupe]]{
		dedupeLine("R6/a_prolonged_one_stays_its_holders", func(b *dedupeBench) {
			mine, first := b.prolonged(longLease)
			b.passed(first)
			b.states(b.reserve(b.role, "g", longLease, mine[0].ID), es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", mine), "complete after the end of the first lease")
			b.states(b.reserve(b.role, "g", longLease, mine[0].ID), es.ReserveDone)
		}),
		dedupeLine("R6/a_lease_starts_anew_when_it_is_prolonged", func(b *dedupeBench) {
			mine := b.reserve(b.role, "g", longLease, es.NewID())
			for _, asked := range []time.Duration{0, 2 * longLease, time.Minute} {
				lease := cmp.Or(asked, 30*time.Second)
				before := time.Now()
				b.ok(b.role.Extend(b.ctx, "g", mine, asked), "prolong by %v", asked)
				b.states(mine, es.ReserveNew)
				b.about(mine[0].Until, before.Add(lease), time.Now().Add(lease), "Until")
				busy := b.reserve(b.role, "g", longLease, mine[0].ID)
				b.about(busy[0].Until, mine[0].Until, mine[0].Until, "Until of a busy message")
			}
		}),
		dedupeLine("R6/a_prolonged_lease_ends_as_well", func(b *dedupeBench) {
			mine := b.reserve(b.role, "g", longLease, es.NewID())
			b.ok(b.role.Extend(b.ctx, "g", mine, shortLease), "shorten")
			theirs := b.awaitNew(mine[0].ID)
			if now := time.Now(); now.Before(mine[0].Until.Add(-clockSlack)) {
				b.Fatalf("the message was another's at %v, and its lease ends at %v", now, mine[0].Until)
			}
			b.lost(b.role.Extend(b.ctx, "g", mine, longLease), 0, 1)
			b.ok(b.role.Complete(b.ctx, "g", theirs), "complete by the second holder")
		}),
		dedupeLine("R6/too_late_to_prolong", func(b *dedupeBench) {
			late := b.reserve(b.role, "g", shortLease, es.NewID())
			until := late[0].Until
			b.passed(until)
			b.lost(b.role.Extend(b.ctx, "g", late, longLease), 0, 1)
			b.about(late[0].Until, until, until, "Until of what could not be prolonged")
			b.states(b.reserve(b.role, "g", longLease, late[0].ID), es.ReserveNew)
			given := b.reserve(b.role, "g", longLease, es.NewID())
			b.ok(b.role.Release(b.ctx, "g", given), "release")
			b.lost(b.role.Extend(b.ctx, "g", given, longLease), 0, 1)
			b.states(b.reserve(b.role, "g", longLease, given[0].ID), es.ReserveNew)
		}),
		dedupeLine("R6/one_too_late_of_several", func(b *dedupeBench) {
			rs := b.reserve(b.role, "g", time.Minute, es.NewID(), es.NewID(), es.NewID())
			b.ok(b.role.Release(b.ctx, "g", rs[1:2]), "release one")
			before := time.Now()
			b.lost(b.role.Extend(b.ctx, "g", rs, longLease), 1, 3)
			for _, i := range []int{0, 2} {
				b.about(rs[i].Until, before.Add(longLease), time.Now().Add(longLease), "Until of what was prolonged")
			}
		}),
		dedupeLine("R6/to_prolong_what_is_done_undoes_nothing", func(b *dedupeBench) {
			mine := b.reserve(b.role, "g", longLease, es.NewID())
			b.ok(b.role.Complete(b.ctx, "g", mine), "complete")
			b.ok(b.role.Extend(b.ctx, "g", mine, longLease), "prolong what is done")
			b.states(b.reserve(b.role, "g", longLease, mine[0].ID), es.ReserveDone)
		}),
		dedupeLine("R6/only_the_holder_prolongs", func(b *dedupeBench) {
			mine := b.reserve(b.role, "g", longLease, es.NewID())
			busy := b.reserve(b.role, "g", longLease, mine[0].ID)
			b.ok(b.role.Extend(b.ctx, "g", busy, 2*longLease), "prolong a busy one: it is passed over")
			b.lost(b.role.Extend(b.ctx, "h", mine, 2*longLease), 0, 1)
			b.ok(b.role.Release(b.ctx, "g", mine), "release")
			theirs := b.reserve(b.role, "g", longLease, mine[0].ID)
			b.lost(b.role.Extend(b.ctx, "g", mine, 2*longLease), 0, 1)
			until := b.reserve(b.role, "g", longLease, mine[0].ID)[0].Until
			b.about(until, theirs[0].Until, theirs[0].Until, "Until of what somebody else holds")
		}),
	}
}

// prolonged reserves a message for a short time and prolongs it; it also returns when the first lease would have ended. A machine
// that stands still for as long as that lease has another try.
func (b *dedupeBench) prolonged(lease time.Duration) ([]es.Reservation, time.Time) {
	b.Helper()
	const tries = 10
	for try := 1; ; try++ {
		mine := b.reserve(b.role, "g", shortLease, es.NewID())
		first := mine[0].Until
		err := b.role.Extend(b.ctx, "g", mine, lease)
		if try < tries && errors.Is(err, es.ErrLeaseLost) {
			continue
		}
		b.ok(err, "prolong")
		return mine, first
	}
}
