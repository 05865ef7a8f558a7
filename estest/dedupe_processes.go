package estest

import (
	"context"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

func dedupeProcessLines() []Line[Harness[es.Dedupe]] {
	return []Line[Harness[es.Dedupe]]{
		dedupeLine("R6/one_of_many_processes_is_new", dedupeProcesses),
		dedupeLine("R6/a_killed_process_leaves_a_reservation_that_ends", dedupeKilled),
	}
}

// childDedupe is the memory of handled messages as a child process has it open.
type childDedupe struct {
	es.Dedupe // nil: the other calls

	c *child
}

func (d childDedupe) Reserve(ctx context.Context, group string, rs []es.Reservation, lease time.Duration) error {
	reserved, err := calling[[]es.Reservation](ctx, d.c, "reserve", reserveArgs{group, rs, lease})
	copy(rs, reserved)
	return err
}

func (d childDedupe) Complete(ctx context.Context, group string, rs []es.Reservation) error {
	_, err := calling[nothing](ctx, d.c, "done", reserveArgs{Group: group, Reservations: rs})
	return err
}

// dedupeProcesses has several processes reserve the same messages at once. Each is new to one of them; when that one has
// completed it, it is done for all.
func dedupeProcesses(b *dedupeBench) {
	const rounds, messages = 10, 5
	handles := []es.Dedupe{b.role}
	for _, c := range b.children(3, job{Kind: jobCall}) {
		handles = append(handles, childDedupe{c: c})
	}
	for range rounds {
		ids := make([]uuid.UUID, messages)
		for i := range ids {
			ids[i] = es.NewID()
		}
		reserved := make([][]es.Reservation, len(handles))
		b.atOnce(len(handles), func(i int) error {
			reserved[i] = make([]es.Reservation, messages)
			for n, id := range ids {
				reserved[i][n].ID = id
			}
			return handles[i].Reserve(b.ctx, "g", reserved[i], longLease)
		})
		for n := range ids {
			fresh := 0
			for i, rs := range reserved {
				switch rs[n].State {
				case es.ReserveNew:
					fresh++
				case es.ReserveBusy:
				default:
					b.Fatalf("a message that nobody has handled is %v for process %d", rs[n].State, i)
				}
			}
			if fresh != 1 {
				b.Fatalf("a message is new to %d of %d processes, want 1", fresh, len(handles))
			}
		}
		b.atOnce(len(handles), func(i int) error { return handles[i].Complete(b.ctx, "g", reserved[i]) })
		for _, d := range handles {
			for _, r := range b.reserve(d, "g", longLease, ids...) {
				b.states([]es.Reservation{r}, es.ReserveDone)
			}
		}
	}
}

// dedupeKilled kills a process between reserving a message and completing it.
func dedupeKilled(b *dedupeBench) {
	c := b.children(1, job{Kind: jobCall})[0]
	d := childDedupe{c: c}
	done, cut := es.NewID(), es.NewID()
	b.ok(d.Complete(b.ctx, "g", b.reserve(d, "g", longLease, done)), "complete in another process")
	theirs := b.reserve(d, "g", 5*shortLease, cut)
	b.states(theirs, es.ReserveNew)
	c.kill()
	b.states(b.reserve(b.role, "g", longLease, done), es.ReserveDone)
	mine := b.awaitNew(cut)
	if now := time.Now(); now.Before(theirs[0].Until.Add(-clockSlack)) {
		b.Fatalf("the message was another's at %v, and the lease of the process that died ends at %v", now, theirs[0].Until)
	}
	b.lost(b.role.Complete(b.ctx, "g", theirs), 0, 1)
	b.ok(b.role.Complete(b.ctx, "g", mine), "complete what the other process did not")
	b.states(b.reserve(b.another(), "g", longLease, cut), es.ReserveDone)
}
