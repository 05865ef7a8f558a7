package estest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunLeases holds leases to what they promise.
func RunLeases(t *testing.T, h Harness[es.Leases]) {
	t.Helper()
	run(t, h, LeasesLines())
}

// LeasesLines returns the tests of [RunLeases].
func LeasesLines() []Line[Harness[es.Leases]] {
	return slices.Concat(leaseHoldingLines(), leaseTokenLines(), leaseStaleLines(), leaseProcessLines())
}

func leaseHoldingLines() []Line[Harness[es.Leases]] {
	return []Line[Harness[es.Leases]]{
		leaseLine("J7/one_owner_at_a_time", func(b *leaseBench) {
			before := time.Now()
			l := b.acquire("n", "A", longLease)
			b.about(l.Until, before.Add(longLease), time.Now().Add(longLease), "Until")
			if l.Name != "n" || l.Owner != "A" || l.Token < 1 {
				b.Fatalf("the lease is %+v, want name n, owner A, a token from 1", l)
			}
			b.held("n", "B", l)
			b.ok(b.role.Check(b.ctx, l), "check")
		}),
		leaseLine("J7/handles_share_them", func(b *leaseBench) {
			other := b.another()
			l := b.acquire("n", "A", longLease)
			_, err := other.Acquire(b.ctx, "n", "B", longLease)
			b.is(err, es.ErrLeaseHeld, "acquire on another handle")
			b.ok(other.Check(b.ctx, l), "check on another handle")
			b.ok(other.Release(b.ctx, l), "release on another handle")
			b.is(b.role.Check(b.ctx, l), es.ErrLeaseLost, "check what was released on another handle")
		}),
		leaseLine("J7/leases_outlive_a_crash", func(b *leaseBench) {
			l := b.acquire("n", "A", longLease)
			b.crashed()
			b.held("n", "B", l)
			b.ok(b.role.Check(b.ctx, l), "check")
		}),
		leaseLine("J7/its_owner_renews_it", func(b *leaseBench) {
			first := b.acquire("n", "A", longLease)
			again := b.acquire("n", "A", 2*longLease)
			if again.Token != first.Token || !again.Until.After(first.Until) {
				b.Fatalf("the owner acquired %+v again and got %+v, want the same token and a later end", first, again)
			}
			b.held("n", "B", again)
			b.ok(b.role.Check(b.ctx, first), "check: the token is the same")
		}),
		leaseLine("J7/renew_prolongs", func(b *leaseBench) {
			first := b.acquire("n", "A", longLease)
			before := time.Now()
			again, err := b.role.Renew(b.ctx, first, 2*longLease)
			b.ok(err, "renew")
			if again.Token != first.Token || again.Name != "n" || again.Owner != "A" {
				b.Fatalf("%+v was renewed to %+v, want the same name, owner and token", first, again)
			}
			b.about(again.Until, before.Add(2*longLease), time.Now().Add(2*longLease), "Until")
			b.held("n", "B", again)
			again, err = b.role.Renew(b.ctx, again, longLease)
			b.ok(err, "renew for a shorter time")
			b.held("n", "B", again)
		}),
		leaseLine("J7/renewed_it_does_not_end", leaseRenewed),
		leaseLine("J7/free_when_its_time_is_over", func(b *leaseBench) {
			first := b.acquire("n", "A", shortLease)
			second := b.acquireWhenFree("n", "B", longLease)
			if now := time.Now(); now.Before(first.Until.Add(-clockSlack)) {
				b.Fatalf("another owner had the lease at %v, and it ends at %v", now, first.Until)
			}
			b.held("n", "A", second)
		}),
		leaseLine("J7/free_when_released", func(b *leaseBench) {
			b.ok(b.role.Release(b.ctx, b.acquire("n", "A", longLease)), "release")
			b.acquire("n", "B", longLease)
		}),
		leaseLine("J7/names_are_independent", func(b *leaseBench) {
			one := b.acquire("n", "A", longLease)
			two := b.acquire("N", "B", longLease)
			b.ok(b.role.Release(b.ctx, one), "release")
			b.ok(b.role.Check(b.ctx, two), "check the other")
		}),
		leaseLine("J7/owners_at_once_exclude_each_other", leaseCrowd),
		leaseLine("M3/names_are_checked", func(b *leaseBench) {
			for why, args := range map[string]struct {
				name, owner string
				ttl         time.Duration
			}{
				"no name":             {"", "A", longLease},
				"a long name":         {strings.Repeat("n", 256), "A", longLease},
				"a control character": {"n\t", "A", longLease},
				"no owner":            {"n", "", longLease},
				"an owner not UTF-8":  {"n", "\xff", longLease},
				"no time":             {"n", "A", 0},
				"a negative time":     {"n", "A", -time.Second},
			} {
				_, err := b.role.Acquire(b.ctx, args.name, args.owner, args.ttl)
				b.is(err, es.ErrInvalid, "acquire with %s", why)
			}
			b.acquire("n", "B", longLease)
		}),
		leaseLine("M3/namespaces_see_nothing_of_each_other", func(b *leaseBench) {
			other := b.elsewhere("other")
			l := b.acquire("n", "A", longLease)
			theirs, err := other.Acquire(b.ctx, "n", "B", longLease)
			b.ok(err, "acquire in another namespace")
			b.ok(b.role.Check(b.ctx, l), "check")
			b.ok(other.Check(b.ctx, theirs), "check in another namespace")
		}),
		leaseLine("E13/closed_is_closed", func(b *leaseBench) {
			l, leases := b.acquire("n", "A", longLease), b.role
			b.closed(map[string]func() error{
				"Acquire": func() error { _, err := leases.Acquire(b.ctx, "m", "A", longLease); return err },
				"Renew":   func() error { _, err := leases.Renew(b.ctx, l, longLease); return err },
				"Release": func() error { return leases.Release(b.ctx, l) },
				"Check":   func() error { return leases.Check(b.ctx, l) },
			}, es.ErrClosed)
		}),
	}
}

func leaseTokenLines() []Line[Harness[es.Leases]] {
	return []Line[Harness[es.Leases]]{
		leaseLine("J7/the_token_rises_after_a_release", func(b *leaseBench) {
			last := int64(0)
			for _, owner := range []string{"A", "A", "B", "A"} {
				l := b.acquire("n", owner, longLease)
				b.rises(&last, l)
				b.ok(b.role.Release(b.ctx, l), "release")
			}
		}),
		leaseLine("J7/the_token_rises_after_the_end", func(b *leaseBench) {
			last := int64(0)
			for _, owner := range []string{"A", "B", "B"} {
				b.rises(&last, b.acquireWhenFree("n", owner, shortLease))
				b.passed(time.Now().Add(shortLease))
			}
		}),
		leaseLine("J7/the_token_rises_over_close_and_open", func(b *leaseBench) {
			b.keeps()
			last := int64(0)
			for range 3 {
				l := b.acquire("n", "A", longLease)
				b.rises(&last, l)
				b.ok(b.role.Release(b.ctx, l), "release")
				b.reopened()
			}
		}),
	}
}

func leaseStaleLines() []Line[Harness[es.Leases]] {
	lost := map[string]func(b *leaseBench) (stale es.Lease, now func()){
		"after_the_end": func(b *leaseBench) (es.Lease, func()) {
			l := b.acquire("n", "A", shortLease)
			b.passed(l.Until)
			return l, func() { b.acquire("n", "C", longLease) }
		},
		"after_a_takeover": func(b *leaseBench) (es.Lease, func()) {
			l := b.acquire("n", "A", shortLease)
			fresh := b.acquireWhenFree("n", "B", longLease)
			return l, func() { b.held("n", "C", fresh) }
		},
		"after_a_release": func(b *leaseBench) (es.Lease, func()) {
			l := b.acquire("n", "A", longLease)
			b.ok(b.role.Release(b.ctx, l), "release")
			return l, func() { b.acquire("n", "C", longLease) }
		},
		"after_its_owner_took_it_anew": func(b *leaseBench) (es.Lease, func()) {
			l := b.acquire("n", "A", longLease)
			b.ok(b.role.Release(b.ctx, l), "release")
			fresh := b.acquire("n", "A", longLease)
			return l, func() { b.held("n", "C", fresh) }
		},
	}
	var lines []Line[Harness[es.Leases]]
	for _, when := range []string{"after_the_end", "after_a_takeover", "after_a_release", "after_its_owner_took_it_anew"} {
		lines = append(lines,
			leaseLine("J7/check_"+when, func(b *leaseBench) {
				stale, now := lost[when](b)
				b.is(b.role.Check(b.ctx, stale), es.ErrLeaseLost, "check")
				now()
			}),
			leaseLine("J7/renew_"+when, func(b *leaseBench) {
				stale, now := lost[when](b)
				_, err := b.role.Renew(b.ctx, stale, longLease)
				b.is(err, es.ErrLeaseLost, "renew")
				now()
			}),
			leaseLine("J7/release_"+when, func(b *leaseBench) {
				stale, now := lost[when](b)
				b.ok(b.role.Release(b.ctx, stale), "release what is released already")
				now()
			}),
		)
	}
	return append(lines, leaseLine("J7/unknown_leases_are_lost", func(b *leaseBench) {
		l := b.acquire("n", "A", longLease)
		for what, other := range map[string]es.Lease{
			"another name":  {Name: "m", Owner: "A", Token: l.Token, Until: l.Until},
			"another token": {Name: "n", Owner: "A", Token: l.Token + 1, Until: l.Until},
		} {
			b.is(b.role.Check(b.ctx, other), es.ErrLeaseLost, "check a lease with %s", what)
			_, err := b.role.Renew(b.ctx, other, longLease)
			b.is(err, es.ErrLeaseLost, "renew a lease with %s", what)
			b.ok(b.role.Release(b.ctx, other), "release a lease with %s", what)
		}
		b.ok(b.role.Check(b.ctx, l), "check")
	}))
}

// leaseBench is leases under test.
type leaseBench struct {
	*bench[es.Leases]
}

func leaseLine(name string, test func(b *leaseBench)) Line[Harness[es.Leases]] {
	return benchLine(name, func(b *bench[es.Leases]) { test(&leaseBench{b}) })
}

func (b *leaseBench) acquire(name, owner string, ttl time.Duration) es.Lease {
	b.Helper()
	l, err := b.role.Acquire(b.ctx, name, owner, ttl)
	b.ok(err, "acquire %q by %s", name, owner)
	return l
}

// acquireWhenFree acquires a lease that another owner holds, again and again when it should be over.
func (b *leaseBench) acquireWhenFree(name, owner string, ttl time.Duration) es.Lease {
	b.Helper()
	for {
		l, err := b.role.Acquire(b.ctx, name, owner, ttl)
		var held *es.LeaseHeldError
		if !errors.As(err, &held) {
			b.ok(err, "acquire %q by %s", name, owner)
			return l
		}
		b.paused(max(time.Until(held.Until), time.Millisecond))
	}
}

// held ends the test unless acquiring a lease fails, and tells who holds it and until when.
func (b *leaseBench) held(name, owner string, by es.Lease) {
	b.Helper()
	_, err := b.role.Acquire(b.ctx, name, owner, longLease)
	b.is(err, es.ErrLeaseHeld, "acquire %q by %s, while %s holds it", name, owner, by.Owner)
	var held *es.LeaseHeldError
	if !errors.As(err, &held) || held.Name != name || held.Owner != by.Owner {
		b.Fatalf("the error is %#v, want a LeaseHeldError that tells of %+v", err, by)
	}
	b.about(held.Until, by.Until, by.Until, "Until of a lease that is held")
}

// rises ends the test unless a lease has a higher token than the last one.
func (b *leaseBench) rises(last *int64, l es.Lease) {
	b.Helper()
	if l.Token <= *last {
		b.Fatalf("token %d follows token %d", l.Token, *last)
	}
	*last = l.Token
}

// leaseRenewed renews a lease until its first end is over. When the machine stalls for longer than the lease, the round says
// nothing, and another follows with a longer one.
func leaseRenewed(b *leaseBench) {
	for ttl := 5 * shortLease; ; ttl *= 2 {
		name := ttl.String()
		renewed := time.Now()
		l := b.acquire(name, "A", ttl)
		kept := true
		for first := l.Until; kept && time.Now().Before(first.Add(clockSlack)); {
			b.paused(ttl / 4)
			before := time.Now()
			next, err := b.role.Renew(b.ctx, l, ttl)
			if kept = err == nil || time.Now().Before(renewed.Add(ttl-clockSlack)); kept {
				b.ok(err, "renew")
				l, renewed = next, before
			}
		}
		_, err := b.role.Acquire(b.ctx, name, "B", ttl)
		if kept && time.Now().Before(renewed.Add(ttl-clockSlack)) {
			b.is(err, es.ErrLeaseHeld, "acquire while it is renewed to %v", l.Until)
			return
		}
	}
}

// leaseCrowd has owners take and release one lease at once: never two of them have it, and its token rises.
func leaseCrowd(b *leaseBench) {
	handles := []es.Leases{b.role}
	if b.h.Handles() {
		handles = append(handles, b.another())
	}
	const owners, turns = 8, 10
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var mu sync.Mutex
	holder, last := "", int64(0)
	turn := func(leases es.Leases, owner string) error {
		l, err := leases.Acquire(ctx, "n", owner, longLease)
		if err != nil {
			return err
		}
		mu.Lock()
		if holder != "" || l.Token <= last {
			err = fmt.Errorf("%s has the lease with token %d; %q has it already, and the last token was %d", owner, l.Token, holder, last)
		}
		holder, last = owner, l.Token
		mu.Unlock()
		err = errors.Join(err, leases.Check(ctx, l))
		mu.Lock()
		holder = ""
		mu.Unlock()
		return errors.Join(err, leases.Release(ctx, l))
	}
	b.atOnce(owners, func(i int) error {
		for taken := 0; taken < turns; {
			switch err := turn(handles[i%len(handles)], fmt.Sprint("owner ", i)); {
			case err == nil:
				taken++
			case !errors.Is(err, es.ErrLeaseHeld):
				cancel()
				return err
			}
		}
		return nil
	})
}
