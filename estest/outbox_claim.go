package estest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxClaimLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/claims_in_order_of_each_stream", func(b *outboxBench) {
			b.enqueue("a1", "b1", "a2", "c1", "b2")
			b.enqueue("a3", "c2", "a4")
			var got []es.Entry
			for {
				entries := b.claimUpTo(b.role, "A", 3, longLease)
				if len(entries) == 0 {
					break
				}
				got = append(got, entries...)
				b.ok(b.role.Complete(b.ctx, entries), "complete")
			}
			b.has(got, "a1", "a2", "a3", "a4", "b1", "b2", "c1", "c2")
			b.holds(b.role, 0)
		}),
		outboxLine("O2/claim_gives_what_fits", func(b *outboxBench) {
			b.claimUpTo(b.role, "A", 3, longLease) // nothing there, and it does not wait
			b.enqueue("a1", "a2", "a3")
			if got := b.claimUpTo(b.role, "A", 0, longLease); len(got) != 0 {
				b.Fatalf("a claim for no entry gave %d", len(got))
			}
			dst := make([]es.Entry, 3)
			n, err := b.role.Claim(b.ctx, dst[:1:1], es.ClaimOptions{Owner: "A", Lease: longLease})
			b.ok(err, "claim one")
			if n != 1 || dst[0].Message == nil || dst[0].Name != "a1" || dst[1].Message != nil {
				b.Fatalf("a claim for one entry gave %d: %v", n, dst)
			}
			b.ok(b.role.Complete(b.ctx, dst[:1]), "complete")
			b.has(b.claim(b.role, "A", longLease), "a2", "a3")
		}),
		outboxLine("O2/a_claim_needs_an_owner", func(b *outboxBench) {
			b.enqueue("a1")
			n, err := b.role.Claim(b.ctx, make([]es.Entry, 1), es.ClaimOptions{Lease: longLease})
			b.is(err, es.ErrInvalid, "claim without an owner")
			if n != 0 {
				b.Fatalf("a claim that failed gave %d entries", n)
			}
			b.take("a1")
		}),
		outboxLine("O2/what_is_claimed_is_not_claimed_again", func(b *outboxBench) {
			b.enqueue("a1", "b1", "a2")
			b.take("a1", "a2", "b1")
			b.nothing(b.role, "B", "another owner holds all entries")
			b.nothing(b.role, "A", "it holds all entries already")
		}),
		outboxLine("O2/what_is_completed_is_gone", func(b *outboxBench) {
			b.keeps()
			b.enqueue("a1", "a2", "b1")
			b.ok(b.role.Complete(b.ctx, b.take("a1", "a2", "b1")[1:]), "complete a2 and b1, and not a1")
			b.holds(b.role, 1)
			b.reopened()
			b.holds(b.role, 1)
			b.isDead(b.role)
		}),
		outboxLine("O2/a_stream_is_with_one_owner", func(b *outboxBench) {
			b.enqueue("a1", "a2", "a3")
			if first := b.claimUpTo(b.role, "A", 1, longLease); len(first) != 1 {
				b.Fatalf("a claim for one of three entries gave %d", len(first))
			}
			b.nothing(b.role, "B", "another owner has the first entry of the stream")
		}),
	}
}

func outboxOwnerLines() []Line[Harness[es.Outbox]] {
	return []Line[Harness[es.Outbox]]{
		outboxLine("O2/giving_part_back_keeps_the_stream", func(b *outboxBench) {
			b.enqueue("a1", "a2", "a3")
			entries := b.take("a1", "a2", "a3")
			b.ok(b.role.Release(b.ctx, entries[:1]), "release a1")
			b.nothing(b.role, "B", "another owner has later entries of the stream")
			b.ok(b.role.Release(b.ctx, entries[2:]), "release a3")
			b.nothing(b.role, "B", "another owner has an entry of the stream")
			b.ok(b.role.Release(b.ctx, entries[1:2]), "release a2")
			b.has(b.await(b.role, "B", 3, longLease), "a1", "a2", "a3")
		}),
		outboxLine("O2/what_follows_a_held_entry_waits", func(b *outboxBench) {
			b.enqueue("a1", "a2", "a3")
			entries := b.take("a1", "a2", "a3")
			b.ok(b.role.Release(b.ctx, entries[1:]), "release a2 and a3")
			b.nothing(b.role, "B", "another owner has the first entry of the stream")
			b.ok(b.role.Complete(b.ctx, entries[:1]), "complete a1")
			b.has(b.await(b.role, "B", 2, longLease), "a2", "a3")
		}),
		outboxLine("O2/owners_at_once_do_each_entry_once", func(b *outboxBench) { newOutboxCrowd(b, 1).work(6) }),
		outboxLine("O2/owners_on_handles_do_each_entry_once", func(b *outboxBench) {
			crowd := newOutboxCrowd(b, 3)
			crowd.work(6)
		}),
	}
}

// outboxCrowd is several owners that work on one outbox at once, and watches that no entry is done twice, that a stream is
// with one of them at a time, and that no entry comes before an earlier one of its stream was completed.
type outboxCrowd struct {
	b       *outboxBench
	handles []es.Outbox
	streams int
	each    int // entries of each stream

	mu     sync.Mutex
	holder map[string]string // stream → owner that holds entries of it
	next   map[string]int    // stream → the first entry that nobody has begun to complete
	done   int
	allOne chan struct{} // closed when all is done
}

func newOutboxCrowd(b *outboxBench, handles int) *outboxCrowd {
	b.Helper()
	c := &outboxCrowd{
		b: b, handles: []es.Outbox{b.role}, streams: 12, each: 12,
		holder: map[string]string{}, next: map[string]int{}, allOne: make(chan struct{}),
	}
	for len(c.handles) < handles {
		c.handles = append(c.handles, b.another())
	}
	for n := range c.each {
		msgs := make([]*es.Message, c.streams)
		for s := range msgs {
			msgs[s] = es.NewMessage(fmt.Sprint("stream-", s), strconv.Itoa(n), nil)
		}
		b.ok(b.role.Enqueue(b.ctx, msgs...), "enqueue")
	}
	return c
}

func (c *outboxCrowd) work(owners int) {
	c.b.Helper()
	ctx, cancel := context.WithCancel(c.b.ctx)
	defer cancel()
	c.b.atOnce(owners, func(i int) error {
		return c.own(ctx, cancel, c.handles[i%len(c.handles)], fmt.Sprint("owner ", i))
	})
	c.b.holds(c.b.role, 0)
	if c.done != c.streams*c.each {
		c.b.Fatalf("%d entries were done, want %d", c.done, c.streams*c.each)
	}
}

// own is the life of one owner. The last one to complete something stops the others; so does the first to see a fault.
func (c *outboxCrowd) own(ctx context.Context, stop context.CancelFunc, o es.Outbox, owner string) error {
	dst := make([]es.Entry, 5)
	for {
		n, err := o.Claim(ctx, dst, es.ClaimOptions{Owner: owner, Lease: longLease})
		if err == nil && n == 0 {
			err = o.Wait(ctx)
		}
		if err == nil {
			err = c.handle(ctx, o, owner, dst[:n])
		}
		if c.finished() {
			stop()
			return nil
		}
		if err != nil {
			stop()
			return fmt.Errorf("%s: %w", owner, err)
		}
	}
}

func (c *outboxCrowd) finished() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done >= c.streams*c.each
}

// handle completes some of the entries of each stream, fails the one that follows, and gives back the rest. What is later in
// a stream is answered first, so that a stream is never free for others in the middle of it.
func (c *outboxCrowd) handle(ctx context.Context, o es.Outbox, owner string, entries []es.Entry) error {
	if err := c.claimed(owner, entries); err != nil {
		return err
	}
	byStream := map[string][]es.Entry{}
	for _, e := range entries {
		byStream[e.Stream] = append(byStream[e.Stream], e)
	}
	for stream, of := range byStream {
		good := min(rand.IntN(len(of)+2), len(of))
		bad := of[good:]
		c.letGo(stream, good)
		if len(bad) > 1 {
			if err := o.Release(ctx, bad[1:]); err != nil {
				return fmt.Errorf("release: %w", err)
			}
		}
		if len(bad) > 0 {
			if err := o.Fail(ctx, bad[:1], es.Failure{Err: errBoom}); err != nil {
				return fmt.Errorf("fail: %w", err)
			}
		}
		if err := o.Complete(ctx, of[:good]); err != nil {
			return fmt.Errorf("complete: %w", err)
		}
		c.mu.Lock()
		c.done += good
		c.mu.Unlock()
	}
	return nil
}

// claimed looks at what a claim gave.
func (c *outboxCrowd) claimed(owner string, entries []es.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	offset := map[string]int{}
	for _, e := range entries {
		if other := c.holder[e.Stream]; other != "" && offset[e.Stream] == 0 {
			return fmt.Errorf("stream %s is with %s already", e.Stream, other)
		}
		c.holder[e.Stream] = owner
		if want := strconv.Itoa(c.next[e.Stream] + offset[e.Stream]); e.Name != want {
			return fmt.Errorf("entry %s of %s came, want entry %s", e.Name, e.Stream, want)
		}
		offset[e.Stream]++
	}
	return nil
}

// letGo notes that an owner is about to answer the entries of a stream that it holds, good of them as completed.
func (c *outboxCrowd) letGo(stream string, good int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.holder, stream)
	c.next[stream] += good
}
