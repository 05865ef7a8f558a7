package estest

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxProcessLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/processes_do_each_entry_once", outboxProcesses),
		outboxLine("O2/a_killed_process_loses_nothing", outboxKilledOwner),
		outboxLine("O1/enqueued_survives_kill_9", outboxKilledProducer),
	}
}

// childOutbox is the outbox as a child process has it open, with the calls that the owner of entries makes.
type childOutbox struct {
	es.Outbox // nil: the other calls

	c *child
}

func (o childOutbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	entries, err := calling[[]es.Entry](ctx, o.c, "claim", claimArgs{len(dst), opts})
	return copy(dst, entries), err
}

func (o childOutbox) Complete(ctx context.Context, entries []es.Entry) error {
	_, err := calling[nothing](ctx, o.c, "complete", entries)
	return err
}

func (o childOutbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	_, err := calling[nothing](ctx, o.c, "fail", failArgs{entries, f.Err.Error(), f.Delay, f.Dead, f.Park})
	return err
}

func (o childOutbox) Release(ctx context.Context, entries []es.Entry) error {
	_, err := calling[nothing](ctx, o.c, "release", entries)
	return err
}

func (o childOutbox) Wait(ctx context.Context) error {
	_, err := calling[nothing](ctx, o.c, "wait", nothing{})
	return err
}

// outboxProcesses has owners in several processes work on one outbox at once; see [outboxCrowd].
func outboxProcesses(b *outboxBench) {
	children := b.children(3, job{Kind: jobCall})
	crowd := newOutboxCrowd(b, 1)
	crowd.handles = nil // this process only enqueues
	for _, c := range children {
		crowd.handles = append(crowd.handles, childOutbox{c: c})
	}
	crowd.work(len(crowd.handles))
}

// outboxKilledOwner kills processes that hold entries. The entries come back when the lease is over and not before, all of
// them, in order, and each with an attempt more for every process that died with it.
func outboxKilledOwner(b *outboxBench) {
	const lease = 5 * shortLease
	labels := []string{"a1", "a2", "a3", "b1", "b2", "c1"}
	deadlines := map[string][]time.Time{} // label → the ends of the leases of those that died with it
	claim := func(o es.Outbox, owner string, lease time.Duration) []es.Entry {
		b.Helper()
		entries, now := b.await(o, owner, 1, lease), time.Now()
		for _, e := range entries {
			if died := len(deadlines[e.Name]); e.Attempt != 1+died {
				b.Fatalf("%s has %s as attempt %d; %d processes died with it", owner, e.Name, e.Attempt, died)
			}
			for _, end := range deadlines[e.Name] {
				if now.Before(end.Add(-clockSlack)) {
					b.Fatalf("%s has %s at %v; the lease of the process that died with it ends at %v", owner, e.Name, now, end)
				}
			}
		}
		return entries
	}
	children := b.children(2, job{Kind: jobCall})
	b.enqueue(labels...)
	for i, c := range children {
		for _, e := range claim(childOutbox{c: c}, fmt.Sprint("process ", i), lease) {
			deadlines[e.Name] = append(deadlines[e.Name], e.Deadline)
		}
		c.kill()
	}
	b.enqueue("a4")
	labels = append(labels, "a4")
	var got []es.Entry
	for len(got) < len(labels) {
		got = append(got, claim(b.role, "the last owner", longLease)...)
	}
	b.has(got, labels...)
	b.ok(b.role.Complete(b.ctx, got), "complete")
	b.holds(b.role, 0)
}

// producedName is the name of the message at an index that a producer enqueues.
func producedName(index int) string { return fmt.Sprint("Number", index+1) }

// enqueueNumbers is a job: it enqueues numbered messages, several in a call, and tells of each call as soon as it was
// acknowledged. It ends by being killed.
func enqueueNumbers(w *worker) error {
	for n := 0; ; n += w.Count {
		msgs := make([]*es.Message, w.Count)
		for i := range msgs {
			msgs[i] = es.NewMessage(w.Stream, producedName(n+i), nil)
		}
		if err := w.backend.Outbox().Enqueue(w.ctx, msgs...); err != nil {
			return fmt.Errorf("enqueue on from %d: %w", n, err)
		}
		if err := w.tell(n/w.Count + 1); err != nil {
			return err
		}
	}
}

// outboxKilledProducer kills processes that enqueue. Each message that was acknowledged is there when its process is dead, once
// and in order. The call that was cut off is there whole or not at all, and may come late, as the server of a database may
// finish it when its client is gone.
func outboxKilledProducer(b *outboxBench) {
	const rounds, perCall = 3, 3
	got := map[string]int{} // stream → how many messages of it came
	acked := map[string]int{}
	drain := func(o es.Outbox) {
		b.Helper()
		for {
			entries := b.claimUpTo(o, "A", 64, longLease)
			for _, e := range entries {
				if want := producedName(got[e.Stream]); e.Name != want || e.Attempt != 1 {
					b.Fatalf("%s of %s comes, as attempt %d, where %s is next", e.Name, e.Stream, e.Attempt, want)
				}
				got[e.Stream]++
			}
			b.ok(o.Complete(b.ctx, entries), "complete")
			if len(entries) == 0 {
				return
			}
		}
	}
	for round := range rounds {
		stream := fmt.Sprint("produced-", round)
		c := b.children(1, job{Kind: jobEnqueue, Count: perCall, Stream: stream})[0]
		calls, err := c.countedTo(b.ctx, 3+11*round) // at another moment in each round
		b.ok(err, "a process that enqueues")
		acked[stream] = c.killCounting(calls)
		drain(b.role)
		if got[stream] < acked[stream]*perCall {
			b.Fatalf("%d messages are there after kill -9; %d were acknowledged", got[stream], acked[stream]*perCall)
		}
	}
	drain(b.another())
	for stream, n := range got {
		if n%perCall != 0 || n > (acked[stream]+1)*perCall {
			b.Fatalf("%d messages of %s came, of %d acknowledged calls with %d each and one that was cut off", n, stream, acked[stream], perCall)
		}
	}
	b.holds(b.role, 0)
}
