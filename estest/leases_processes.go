package estest

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func leaseProcessLines() []Line[Harness[es.Leases]] {
	return []Line[Harness[es.Leases]]{
		leaseLine("J7/one_of_many_processes_holds_it", leaseProcesses),
		leaseLine("J7/taken_over_after_kill_9", leaseKilled),
	}
}

// childLeases is leases as a child process has them open.
type childLeases struct {
	es.Leases // nil: the other calls

	c *child
}

func (l childLeases) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (es.Lease, error) {
	return calling[es.Lease](ctx, l.c, "acquire", acquireArgs{name, owner, ttl})
}

func (l childLeases) Release(ctx context.Context, lease es.Lease) error {
	_, err := calling[nothing](ctx, l.c, "end", lease)
	return err
}

func (l childLeases) Check(ctx context.Context, lease es.Lease) error {
	_, err := calling[nothing](ctx, l.c, "check", lease)
	return err
}

// leaseProcesses has several processes acquire a lease at once, again and again: one of them gets it, each time with a higher
// token, and all of them know that it is held and when it is not.
func leaseProcesses(b *leaseBench) {
	const rounds = 15
	handles := []es.Leases{b.role}
	for _, c := range b.children(3, job{Kind: jobCall}) {
		handles = append(handles, childLeases{c: c})
	}
	last := int64(0)
	for range rounds {
		held := make([]es.Lease, len(handles))
		b.atOnce(len(handles), func(i int) error {
			l, err := handles[i].Acquire(b.ctx, "n", fmt.Sprint("process ", i), longLease)
			if errors.Is(err, es.ErrLeaseHeld) {
				return nil
			}
			held[i] = l
			return err
		})
		winner := -1
		for i, l := range held {
			if l.Token == 0 {
				continue
			}
			if winner >= 0 {
				b.Fatalf("processes %d and %d hold one lease: %+v and %+v", winner, i, held[winner], l)
			}
			winner = i
		}
		if winner < 0 {
			b.Fatal("a lease that is free is nobody's, of all who acquired it")
		}
		b.rises(&last, held[winner])
		for i, l := range handles {
			b.ok(l.Check(b.ctx, held[winner]), "check in process %d what process %d holds", i, winner)
		}
		b.ok(handles[winner].Release(b.ctx, held[winner]), "release")
		for i, l := range handles {
			b.is(l.Check(b.ctx, held[winner]), es.ErrLeaseLost, "check in process %d what process %d has released", i, winner)
		}
	}
}

// leaseKilled kills a process that holds a lease: another takes it over when its time is over and not before, with a higher
// token, and what was said under the old one is turned down.
func leaseKilled(b *leaseBench) {
	last := int64(0)
	for round, c := range b.children(2, job{Kind: jobCall}) {
		theirs, err := childLeases{c: c}.Acquire(b.ctx, "n", "A", 5*shortLease)
		b.ok(err, "acquire in another process")
		b.rises(&last, theirs)
		c.kill()
		mine := b.acquireWhenFree("n", fmt.Sprint("B", round), longLease)
		if now := time.Now(); now.Before(theirs.Until.Add(-clockSlack)) {
			b.Fatalf("the lease was taken over at %v; that of the process that died ends at %v", now, theirs.Until)
		}
		b.rises(&last, mine)
		b.is(b.role.Check(b.ctx, theirs), es.ErrLeaseLost, "check the lease of the process that died")
		b.ok(b.role.Release(b.ctx, theirs), "release the lease of the process that died")
		b.held("n", "C", mine)
		b.ok(b.role.Release(b.ctx, mine), "release")
	}
}
