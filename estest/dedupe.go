package estest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunDedupe holds a memory of handled messages to what it promises.
func RunDedupe(t *testing.T, h Harness[es.Dedupe]) {
	t.Helper()
	run(t, h, DedupeLines())
}

// DedupeStorage is storage that can be opened with a small bound, so that the suite sees what becomes of old entries. It is
// optional.
type DedupeStorage interface {
	// OpenBounded opens a memory that remembers so many handled messages of each group, each for so long. It is closed when
	// the test ends.
	OpenBounded(t testing.TB, namespace string, entries int, ttl time.Duration) es.Dedupe
}

// DedupeLines returns the tests of [RunDedupe].
func DedupeLines() []Line[Harness[es.Dedupe]] {
	return append(append(dedupeProcessLines(), dedupeExtendLines()...), []Line[Harness[es.Dedupe]]{
		dedupeLine("R6/new_then_busy_then_done", func(b *dedupeBench) {
			id := es.NewID()
			mine := b.reserve(b.role, "g", longLease, id)
			b.states(mine, es.ReserveNew)
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", mine), "complete")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveDone)
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveDone)
		}),
		dedupeLine("R6/busy_says_until_when", func(b *dedupeBench) {
			id, before := es.NewID(), time.Now()
			mine := b.reserve(b.role, "g", longLease, id)
			b.about(mine[0].Until, before.Add(longLease), time.Now().Add(longLease), "Until")
			busy := b.reserve(b.role, "g", shortLease, id)
			b.about(busy[0].Until, mine[0].Until, mine[0].Until, "Until of a busy message")
		}),
		dedupeLine("R6/a_lease_is_30_seconds_by_default", func(b *dedupeBench) {
			const lease = 30 * time.Second
			before := time.Now()
			mine := b.reserve(b.role, "g", 0, es.NewID())
			b.about(mine[0].Until, before.Add(lease), time.Now().Add(lease), "Until")
		}),
		dedupeLine("R6/each_of_a_call_for_itself", func(b *dedupeBench) {
			done, busy, fresh := es.NewID(), es.NewID(), es.NewID()
			b.ok(b.role.Complete(b.ctx, "g", b.reserve(b.role, "g", longLease, done)), "complete")
			b.reserve(b.role, "g", longLease, busy)
			rs := b.reserve(b.role, "g", longLease, busy, fresh, done)
			b.states(rs, es.ReserveBusy, es.ReserveNew, es.ReserveDone)
			b.ok(b.role.Complete(b.ctx, "g", rs), "complete: what is not new is passed over")
			b.states(b.reserve(b.role, "g", longLease, busy, fresh, done), es.ReserveBusy, es.ReserveDone, es.ReserveDone)
			b.ok(b.role.Reserve(b.ctx, "g", nil, longLease), "reserve nothing")
		}),
		dedupeLine("R6/twice_in_a_call_is_new_once", func(b *dedupeBench) {
			id, other := es.NewID(), es.NewID()
			rs := b.reserve(b.role, "g", longLease, id, other, id)
			b.states(rs, es.ReserveNew, es.ReserveNew, es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", rs), "complete")
			b.states(b.reserve(b.role, "g", longLease, id, id), es.ReserveDone, es.ReserveDone)
		}),
		dedupeLine("R6/a_failed_message_is_handled_again", func(b *dedupeBench) {
			id := es.NewID()
			first := b.reserve(b.role, "g", longLease, id)
			b.ok(b.role.Release(b.ctx, "g", first), "release")
			second := b.reserve(b.role, "g", longLease, id)
			b.states(second, es.ReserveNew)
			err := b.role.Complete(b.ctx, "g", first)
			b.is(err, es.ErrLeaseLost, "complete what was released, and is another's now")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", second), "complete")
		}),
		dedupeLine("R6/a_late_release_takes_nothing_away", func(b *dedupeBench) {
			id := es.NewID()
			first := b.reserve(b.role, "g", longLease, id)
			b.ok(b.role.Release(b.ctx, "g", first), "release")
			second := b.reserve(b.role, "g", longLease, id)
			b.ok(b.role.Release(b.ctx, "g", first), "release what is another's now")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", second), "complete")
			b.ok(b.role.Release(b.ctx, "g", second), "release what is done")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveDone)
		}),
		dedupeLine("R6/release_of_what_is_not_new_takes_nothing_away", func(b *dedupeBench) {
			id := es.NewID()
			b.reserve(b.role, "g", longLease, id)
			b.ok(b.role.Release(b.ctx, "g", b.reserve(b.role, "g", longLease, id)), "release a busy one")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveBusy)
		}),
		dedupeLine("R6/new_when_the_lease_ends", func(b *dedupeBench) {
			id := es.NewID()
			first := b.reserve(b.role, "g", shortLease, id)
			b.states(first, es.ReserveNew)
			second := b.awaitNew(id)
			if now := time.Now(); now.Before(first[0].Until.Add(-clockSlack)) {
				b.Fatalf("the message was another's at %v, and its lease ends at %v", now, first[0].Until)
			}
			b.lost(b.role.Complete(b.ctx, "g", first), 0, 1)
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", second), "complete by the second holder")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveDone)
		}),
		dedupeLine("R6/complete_after_the_lease_ended", func(b *dedupeBench) {
			id := es.NewID()
			late := b.reserve(b.role, "g", shortLease, id)
			b.passed(late[0].Until)
			b.lost(b.role.Complete(b.ctx, "g", late), 0, 1)
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveNew)
		}),
		dedupeLine("R6/completed_again_is_no_error", func(b *dedupeBench) {
			id := es.NewID()
			mine := b.reserve(b.role, "g", longLease, id)
			b.ok(b.role.Complete(b.ctx, "g", mine), "complete")
			b.ok(b.role.Complete(b.ctx, "g", mine), "complete again, as after an unknown outcome")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveDone)
			brief := b.reserve(b.role, "g", shortLease, es.NewID())
			if err := b.role.Complete(b.ctx, "g", brief); err != nil {
				return // the machine stood still for as long as the lease
			}
			b.passed(brief[0].Until)
			b.ok(b.role.Complete(b.ctx, "g", brief), "complete again after the lease, when it is done")
		}),
		dedupeLine("R6/one_late_of_several", func(b *dedupeBench) {
			late, fresh := es.NewID(), es.NewID()
			rs := b.reserve(b.role, "g", longLease, fresh, late)
			b.ok(b.role.Release(b.ctx, "g", rs[1:]), "release one")
			b.lost(b.role.Complete(b.ctx, "g", rs), 1, 2)
			b.states(b.reserve(b.role, "g", longLease, late, fresh), es.ReserveNew, es.ReserveDone)
		}),
		dedupeLine("R6/groups_are_independent", func(b *dedupeBench) {
			id := es.NewID()
			b.ok(b.role.Complete(b.ctx, "g", b.reserve(b.role, "g", longLease, id)), "complete")
			other := b.reserve(b.role, "h", longLease, id)
			b.states(other, es.ReserveNew)
			b.ok(b.role.Release(b.ctx, "g", other), "release in the wrong group")
			b.states(b.reserve(b.role, "h", longLease, id), es.ReserveBusy)
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveDone)
		}),
		dedupeLine("R6/handles_share_it", func(b *dedupeBench) {
			other := b.another()
			id := es.NewID()
			mine := b.reserve(b.role, "g", longLease, id)
			b.states(b.reserve(other, "g", longLease, id), es.ReserveBusy)
			b.ok(b.role.Complete(b.ctx, "g", mine), "complete")
			b.states(b.reserve(other, "g", longLease, id), es.ReserveDone)
		}),
		dedupeLine("R6/done_outlives_a_crash", func(b *dedupeBench) {
			done, busy := es.NewID(), es.NewID()
			b.ok(b.role.Complete(b.ctx, "g", b.reserve(b.role, "g", longLease, done)), "complete")
			b.reserve(b.role, "g", longLease, busy)
			b.crashed()
			b.states(b.reserve(b.role, "g", longLease, done, busy), es.ReserveDone, es.ReserveBusy)
		}),
		dedupeLine("R6/one_of_many_gets_it", func(b *dedupeBench) { dedupeRace(b, 20, 1) }),
		dedupeLine("R6/each_of_many_is_got_once", func(b *dedupeBench) { dedupeRace(b, 5, 50) }),
		dedupeLine("R6/the_oldest_go_first", dedupeBounded),
		dedupeLine("R6/entries_expire", dedupeExpires),
		dedupeLine("M3/names_are_checked", func(b *dedupeBench) {
			for _, group := range []string{"", "g\n", "g\xff"} {
				rs := []es.Reservation{{ID: es.NewID()}}
				b.is(b.role.Reserve(b.ctx, group, rs, longLease), es.ErrInvalid, "reserve in group %q", group)
			}
			for _, group := range []string{"", "g\n", "g\xff"} {
				b.is(b.role.Extend(b.ctx, group, nil, longLease), es.ErrInvalid, "prolong in group %q", group)
			}
			mine := b.reserve(b.role, "g", longLease, es.NewID())
			b.is(b.role.Extend(b.ctx, "g", mine, -1), es.ErrInvalid, "prolong by less than nothing")
			id := es.NewID()
			rs := []es.Reservation{{ID: id}, {}}
			b.is(b.role.Reserve(b.ctx, "g", rs, longLease), es.ErrInvalid, "reserve the zero ID")
			b.states(b.reserve(b.role, "g", longLease, id), es.ReserveNew)
		}),
		dedupeLine("M3/namespaces_see_nothing_of_each_other", func(b *dedupeBench) {
			other := b.elsewhere("other")
			id := es.NewID()
			b.ok(b.role.Complete(b.ctx, "g", b.reserve(b.role, "g", longLease, id)), "complete")
			b.states(b.reserve(other, "g", longLease, id), es.ReserveNew)
		}),
		dedupeLine("E13/closed_is_closed", func(b *dedupeBench) {
			d, rs := b.role, b.reserve(b.role, "g", longLease, es.NewID())
			b.closed(map[string]func() error{
				"Reserve":  func() error { return d.Reserve(b.ctx, "g", []es.Reservation{{ID: es.NewID()}}, longLease) },
				"Complete": func() error { return d.Complete(b.ctx, "g", rs) },
				"Extend":   func() error { return d.Extend(b.ctx, "g", rs, longLease) },
				"Release":  func() error { return d.Release(b.ctx, "g", rs) },
			}, es.ErrClosed)
		}),
	}...)
}

// dedupeBench is a memory of handled messages under test.
type dedupeBench struct {
	*bench[es.Dedupe]
}

func dedupeLine(name string, test func(b *dedupeBench)) Line[Harness[es.Dedupe]] {
	return benchLine(name, func(b *bench[es.Dedupe]) { test(&dedupeBench{b}) })
}

func (b *dedupeBench) reserve(d es.Dedupe, group string, lease time.Duration, ids ...uuid.UUID) []es.Reservation {
	b.Helper()
	rs := make([]es.Reservation, len(ids))
	for i, id := range ids {
		rs[i].ID = id
	}
	b.ok(d.Reserve(b.ctx, group, rs, lease), "reserve")
	for i, id := range ids {
		if rs[i].ID != id {
			b.Fatalf("Reserve changed an ID from %s to %s", id, rs[i].ID)
		}
	}
	return rs
}

// awaitNew reserves a message that is busy, again and again when its holder's lease should be over.
func (b *dedupeBench) awaitNew(id uuid.UUID) []es.Reservation {
	b.Helper()
	for {
		rs := b.reserve(b.role, "g", longLease, id)
		if rs[0].State != es.ReserveBusy {
			b.states(rs, es.ReserveNew)
			return rs
		}
		b.paused(max(time.Until(rs[0].Until), time.Millisecond))
	}
}

// states ends the test unless the reservations have these states.
func (b *dedupeBench) states(rs []es.Reservation, want ...es.ReserveState) {
	b.Helper()
	if len(rs) != len(want) {
		b.Fatalf("%d reservations, want %d", len(rs), len(want))
	}
	for i, r := range rs {
		if r.State != want[i] {
			b.Fatalf("reservation %d of %d is %v, want %v", i, len(rs), r.State, want[i])
		}
	}
}

// lost ends the test unless err is a BatchError that turns down one of several reservations.
func (b *dedupeBench) lost(err error, index, of int) {
	b.Helper()
	var batch *es.BatchError
	if !errors.As(err, &batch) || len(batch.Errs) != of {
		b.Fatalf("the error is %v, want a BatchError for %d reservations", err, of)
	}
	for i, err := range batch.Errs {
		if lost := errors.Is(err, es.ErrLeaseLost); lost != (i == index) || !lost && err != nil {
			b.Fatalf("the error of reservation %d is %v; only %d lost its lease", i, err, index)
		}
	}
}

// dedupeRace has goroutines reserve the same messages at once, half of them in the opposite order.
func dedupeRace(b *dedupeBench, rounds, messages int) {
	handles := []es.Dedupe{b.role}
	if b.h.Handles() {
		handles = append(handles, b.another())
	}
	const workers = 8
	for range rounds {
		ids := make([]uuid.UUID, messages)
		for i := range ids {
			ids[i] = es.NewID()
		}
		reserved := make([][]es.Reservation, workers)
		b.atOnce(workers, func(w int) error {
			rs := make([]es.Reservation, messages)
			for i, id := range ids {
				if w%2 == 1 {
					i = messages - 1 - i
				}
				rs[i].ID = id
			}
			reserved[w] = rs
			return handles[w%len(handles)].Reserve(b.ctx, "g", rs, longLease)
		})
		got := map[uuid.UUID]int{}
		for _, rs := range reserved {
			for _, r := range rs {
				if r.State == es.ReserveNew {
					got[r.ID]++
				} else if r.State != es.ReserveBusy {
					b.Fatalf("a message that nobody has handled is %v", r.State)
				}
			}
		}
		for _, id := range ids {
			if got[id] != 1 {
				b.Fatalf("%d of %d got a message at once, want 1", got[id], workers)
			}
		}
	}
}

// bounded opens a memory with a bound.
func (b *dedupeBench) bounded(entries int, ttl time.Duration) es.Dedupe {
	b.Helper()
	storage, ok := b.storage.(DedupeStorage)
	if !ok {
		b.Skip("needs a DedupeStorage")
	}
	b.ok(b.storage.Close(b, b.role), "close")
	b.role = storage.OpenBounded(b, "bounded", entries, ttl)
	return b.role
}

func dedupeBounded(b *dedupeBench) {
	const bound = 8
	d := b.bounded(bound, time.Hour)
	busy := es.NewID()
	b.reserve(d, "g", longLease, busy)
	other := b.reserve(d, "h", longLease, es.NewID())
	b.ok(d.Complete(b.ctx, "h", other), "complete")
	ids := make([]uuid.UUID, 3*bound)
	for i := range ids {
		ids[i] = es.NewID()
		b.ok(d.Complete(b.ctx, "g", b.reserve(d, "g", longLease, ids[i])), "complete")
	}
	for _, id := range ids[len(ids)-bound:] {
		b.states(b.reserve(d, "g", longLease, id), es.ReserveDone)
	}
	b.states(b.reserve(d, "g", longLease, busy), es.ReserveBusy)
	b.states(b.reserve(d, "h", longLease, other[0].ID), es.ReserveDone)
	b.states(b.reserve(d, "g", longLease, ids[0]), es.ReserveNew)
}

func dedupeExpires(b *dedupeBench) {
	const ttl = shortLease
	d := b.bounded(1000, ttl)
	busy, done := es.NewID(), es.NewID()
	b.reserve(d, "g", longLease, busy)
	b.ok(d.Complete(b.ctx, "g", b.reserve(d, "g", longLease, done)), "complete")
	before := time.Now()
	for {
		b.paused(ttl)
		rs := b.reserve(d, "g", longLease, done, busy)
		b.states(rs[1:], es.ReserveBusy)
		if rs[0].State == es.ReserveNew {
			return
		}
		b.states(rs[:1], es.ReserveDone)
		if waited := time.Since(before); waited > patience(b)/2 {
			b.Fatalf("a message that expires after %v is done still after %v", ttl, waited)
		}
	}
}
