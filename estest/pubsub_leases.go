package estest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubLeaseLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P2/order_kept_after_lease_end", pubsubOrderAfterLeaseEnd),
		pubsubLine("P3/lease_end_raises_the_attempt", pubsubLeaseEnd),
		pubsubLine("P3/stale_answer_is_lease_lost", pubsubStaleAnswer),
		pubsubLine("P3/late_answer_of_an_old_owner_moves_nothing", pubsubOldOwner),
		pubsubLine("P3/extend_keeps_the_delivery", pubsubExtend),
		pubsubLine("P3/attempts_survive_a_restart", pubsubAttemptsSurvive),
		pubsubLine("P3/first_survives_a_restart", pubsubFirstSurvives),
		pubsubLine("P7/message_that_kills_comes_alone", pubsubKiller),
	}
}

// pubsubShortLease is a lease that a line waits for the end of.
const pubsubShortLease = 150 * time.Millisecond

// pubsubOrderAfterLeaseEnd leaves a whole batch to its lease, and what comes first of a key after it once more: no other of the
// key may come meanwhile.
func pubsubOrderAfterLeaseEnd(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{Lease: pubsubShortLease})
	p.publish(ps, p.messages("a1", "a2", "a3", "b1")...)
	p.batch(sub, 4)
	next, left := 1, false
	for next <= 3 {
		for _, d := range p.batch(sub, 4) {
			text := pubsubText(d)
			isNext := text == fmt.Sprintf("a%d", next)
			if text != "b1" && !isNext {
				p.Fatalf("%s came before a%d was acknowledged", text, next)
			}
			if isNext && !left {
				left = true
				break
			}
			err := sub.Ack(p.ctx, []es.Delivery{d})
			if errors.Is(es.Of(err, 0), es.ErrLeaseLost) { // on a machine that stood still for as long as the lease
				break
			}
			if err != nil {
				p.Fatalf("Ack of %s: %v", text, err)
			}
			if isNext {
				next++
			}
		}
	}
}

func pubsubLeaseEnd(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{Lease: pubsubShortLease})
	p.publish(ps, p.messages("a1")...)
	before := time.Now()
	last := p.batch(sub, 1)
	p.wantAttempt(1, last...)
	if until := last[0].Deadline; until.Before(before.Add(pubsubShortLease).Truncate(time.Millisecond)) {
		p.Fatalf("a lease of %v that began after %v ends at %v", pubsubShortLease, before, until)
	}
	for attempt := 2; attempt <= 3; attempt++ { // each is left to its lease in turn
		ds := p.batch(sub, 1)
		now := time.Now()
		p.want(ds, "a1")
		p.wantAttempt(attempt, ds...)
		if until := last[0].Deadline; now.Before(until) { // by what was said, and not by when the test got to know
			p.Fatalf("a message with a lease until %v came again at %v", until, now)
		}
		last = ds
	}
}

func pubsubStaleAnswer(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{Lease: pubsubShortLease})
	p.publish(ps, p.messages("a1")...)
	stale := p.batch(sub, 1)
	p.wantAttempt(2, p.batch(sub, 1)...)
	p.wantLeaseLost("Ack after the lease", sub.Ack(p.ctx, stale), 1)
	p.wantLeaseLost("Nack after the lease", sub.Nack(p.ctx, stale, 0), 1)
	p.wantLeaseLost("Release after the lease", sub.Release(p.ctx, stale), 1)
	p.wantLeaseLost("Extend after the lease", sub.Extend(p.ctx, stale), 1)
	for { // none of them has taken it from who holds it now, or held it
		ds := p.batch(sub, 1)
		p.want(ds, "a1")
		if err := sub.Ack(p.ctx, ds); err == nil {
			return
		} else if !errors.Is(es.Of(err, 0), es.ErrLeaseLost) { // on a machine that stood still for as long as the lease
			p.Fatalf("Ack: %v", err)
		}
	}
}

// pubsubOldOwner has one handle leave messages to the end of their leases, and answer them when another has got some of them. There
// are many ordering keys, so that a member of its own gets some of those that the first one had.
func pubsubOldOwner(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	p.needs(p.h.Handles, "several handles to one storage")
	first, second := p.open(), p.open()
	old := p.subscribe(first, es.SubscribeOptions{Group: "g", Lease: 4 * pubsubShortLease})
	var texts []string
	for key := 'a'; key <= 'z'; key++ {
		texts = append(texts, string(key)+"1")
	}
	p.publish(first, p.messages(texts...)...)
	had := map[string]es.Delivery{}
	for len(had) < len(texts) {
		for _, d := range p.batch(old, len(texts)) {
			had[pubsubText(d)] = d
		}
	}
	heir := p.subscribe(second, es.SubscribeOptions{Group: "g"})
	inherited := p.batch(heir, len(texts))
	for _, d := range inherited {
		late := []es.Delivery{had[pubsubText(d)]}
		p.wantLeaseLost("Ack of an old owner", old.Ack(p.ctx, late), 1)
		p.wantLeaseLost("Nack of an old owner", old.Nack(p.ctx, late, 0), 1)
	}
	p.closeSub(old)
	p.release(heir, inherited...)
	got := pubsubTexts(p.consume(heir, len(texts)))
	slices.Sort(got)
	if !slices.Equal(got, texts) {
		p.Fatalf("when the old owner's answers were turned down, the heir received %v, want %v", got, texts)
	}
}

// pubsubExtend holds a message for longer than its lease. Time passes by the retries of another message, in steps of a
// quarter of a lease. A machine that stands still for the rest of the lease proves nothing, so that it is tried again.
func pubsubExtend(p *pubsubTest) {
	ps := p.open()
	for lease := 2 * pubsubShortLease; ; lease *= 4 {
		stalled, err := pubsubHold(p, ps, lease)
		if err == nil {
			return
		}
		if !stalled || lease > time.Minute {
			p.Fatalf("with a lease of %v that was extended in time: %v", lease, err)
		}
	}
}

func pubsubHold(p *pubsubTest, ps PubSub, lease time.Duration) (stalled bool, _ error) {
	sub := p.subscribe(ps, es.SubscribeOptions{Lease: lease, Start: es.Start{Kind: es.StartEnd}})
	defer p.closeSub(sub)
	extended := time.Now()
	p.publish(ps, p.messages("a1", "b1")...)
	held := p.receive(sub, 2)
	a, b := held[:1], held[1:]
	const steps, inALease = 7, 4
	for range steps {
		if err := sub.Nack(p.ctx, b, lease/inALease); err != nil {
			return time.Since(extended) >= lease, fmt.Errorf("nack of the other message: %w", err)
		}
		b = p.batch(sub, 2)
		if len(b) != 1 || pubsubText(b[0]) != "b1" {
			return time.Since(extended) >= lease, fmt.Errorf("it came again: %v", pubsubTexts(b))
		}
		before, now := a[0].Deadline, time.Now()
		if err := sub.Extend(p.ctx, a); err != nil {
			return time.Since(extended) >= lease, fmt.Errorf("extend: %w", err)
		}
		if !before.IsZero() && !a[0].Deadline.After(before) {
			p.Fatalf("Extend moved the deadline from %v to %v", before, a[0].Deadline)
		}
		extended = now
	}
	if err := sub.Ack(p.ctx, a); err != nil {
		return time.Since(extended) >= lease, fmt.Errorf("ack: %w", err)
	}
	return false, nil
}

// crash drops a handle as a killed process does, and opens another.
func (p *pubsubTest) crash(ps PubSub) PubSub {
	p.Helper()
	p.storage.Crash(p.TB, ps)
	return p.open()
}

func pubsubAttemptsSurvive(p *pubsubTest) {
	p.needs(p.h.Durable, "durability")
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g", Lease: pubsubShortLease}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1", "a2")...)
	for range 2 {
		p.nack(sub, 0, p.batch(sub, 1)...)
	}
	ps = p.crash(ps)
	ds := p.batch(p.subscribe(ps, opts), 1)
	p.want(ds, "a1")
	if ds[0].Attempt < 3 {
		p.Errorf("nacked twice before the crash, it came as attempt %d", ds[0].Attempt)
	}
}

// pubsubFirstSurvives compares when a message was handed out first, before and after its receiver died.
func pubsubFirstSurvives(p *pubsubTest) {
	p.needs(p.h.Durable, "durability")
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g", Lease: pubsubShortLease}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1")...)
	ds := p.batch(sub, 1)
	first := ds[0].First
	p.nack(sub, 0, ds...)
	for range 2 {
		ps = p.crash(ps)
		sub = p.subscribe(ps, opts)
		ds = p.batch(sub, 1)
		p.want(ds, "a1")
		if !ds[0].First.Equal(first) {
			p.Fatalf("after a crash it came first at %v, and before at %v", ds[0].First, first)
		}
	}
}

// pubsubKiller lets a message kill its process again and again, by dropping the handle that has received it. Those in the
// batch with it must come through with one attempt more than they should, and no more than that.
func pubsubKiller(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	p.needs(func() bool { return p.h.Durable() || p.h.Handles() }, "a storage that outlives the crash of a handle")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g", Lease: pubsubShortLease}
	if patience(p.TB) > 10*pubsubShortLease { // longer than a slow machine stands still, where there is time
		opts.Lease *= 6
	}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1", "b1", "c1", "d1", "e1")...)
	const killer, lethal = "c1", 3
	handled := map[string]bool{}
	for len(handled) < 5 {
		ds := p.batch(sub, 16)
		for i, d := range ds {
			text := pubsubText(d)
			switch {
			case handled[text]:
				p.Fatalf("%s was acknowledged and came again", text)
			case d.Attempt > 1 && len(ds) > 1:
				p.Fatalf("attempt %d of %s came in a batch: %v", d.Attempt, text, pubsubTexts(ds))
			case text != killer && d.Attempt > 2:
				p.Fatalf("%s, which kills nobody, came as attempt %d", text, d.Attempt)
			case text == killer && d.Attempt < lethal:
				ps = p.crash(ps)
				sub = p.subscribe(ps, opts)
			default:
				if err := sub.Ack(p.ctx, ds[i:i+1]); err != nil {
					p.Fatalf("Ack of %s: %v", text, err)
				}
				handled[text] = true
				continue
			}
			break // the process is gone, and the rest of the batch with it
		}
	}
}
