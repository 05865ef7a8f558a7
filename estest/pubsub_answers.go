package estest

import (
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubAnswerLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P3/delivery_says_what_it_is", pubsubDeliveryFields),
		pubsubLine("P3/nack_raises_the_attempt_after_its_delay", pubsubNackDelay),
		pubsubLine("P3/release_keeps_the_attempt", pubsubReleaseKeepsAttempt),
		pubsubLine("P3/close_in_the_middle_of_a_batch_loses_nothing", pubsubCloseMidBatch),
		pubsubLine("P3/acks_come_in_any_order", pubsubAnyOrder),
		pubsubLine("P3/second_answer_is_lease_lost", pubsubAnsweredTwice),
		pubsubLine("P3/answer_after_close_is_lease_lost", pubsubAnswerAfterClose),
		pubsubLine("P3/the_rest_of_a_call_is_answered", pubsubRestAnswered),
		pubsubLine("P3/receipts_are_not_reused", pubsubReceipts),
	}
}

func pubsubDeliveryFields(p *pubsubTest) {
	ps := p.open()
	opts := es.SubscribeOptions{Lease: time.Minute}
	if p.h.Groups() {
		opts.Group = "g"
	}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1")...)
	var first time.Time
	for attempt := 1; attempt <= 3; attempt++ {
		before := time.Now()
		d := p.batch(sub, 1)[0]
		if d.Topic != pubsubTopic || d.Group != opts.Group || d.Attempt != attempt {
			p.Errorf("attempt %d came with topic %q, group %q, attempt %d", attempt, d.Topic, d.Group, d.Attempt)
		}
		// The clock of a broker may be another, so the bounds are wide.
		if low, high := before.Add(opts.Lease/2), time.Now().Add(2*opts.Lease); !d.Deadline.IsZero() &&
			(d.Deadline.Before(low) || d.Deadline.After(high)) {
			p.Errorf("attempt %d has the deadline %v, with a lease of %v and at %v", attempt, d.Deadline, opts.Lease, before)
		}
		if low, high := before.Add(-opts.Lease), time.Now().Add(opts.Lease); !d.First.IsZero() &&
			(d.First.Before(low) || d.First.After(high)) {
			p.Errorf("attempt %d says that it came first at %v, at %v", attempt, d.First, before)
		}
		// To the microsecond, because the ID of a dead letter is made of it.
		if attempt == 1 {
			first = d.First
		} else if d.First.UnixMicro() != first.UnixMicro() {
			p.Errorf("attempt %d says that it came first at %v, the first said %v", attempt, d.First, first)
		}
		p.nack(sub, 0, d)
	}
}

func pubsubNackDelay(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1")...)
	const delay = 100 * time.Millisecond
	for attempt := 1; attempt <= 3; attempt++ {
		ds := p.batch(sub, 1)
		p.want(ds, "a1")
		p.wantAttempt(attempt, ds...)
		nacked := time.Now()
		p.nack(sub, delay, ds...)
		again := p.batch(sub, 1)
		if waited := time.Since(nacked); waited < delay {
			p.Fatalf("nacked for %v, it came again after %v", delay, waited)
		}
		p.wantAttempt(attempt+1, again...)
		p.release(sub, again...)
	}
}

func pubsubReleaseKeepsAttempt(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1")...)
	for range 3 {
		ds := p.batch(sub, 1)
		p.wantAttempt(1, ds...)
		p.release(sub, ds...)
	}
	p.nack(sub, 0, p.batch(sub, 1)...)
	for range 3 {
		ds := p.batch(sub, 1)
		p.wantAttempt(2, ds...)
		p.release(sub, ds...)
	}
}

func pubsubCloseMidBatch(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g"}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1", "b1", "a2", "c1", "d1", "a3", "e1", "b2")...)
	ds := p.receive(sub, 5) // some are with it, some are not
	done := map[string]bool{}
	for _, d := range ds[:2] {
		done[pubsubText(d)] = true
	}
	p.ack(sub, ds[:2]...)
	p.closeSub(sub)
	rest := p.consume(p.subscribe(ps, opts), 6) // those of a key may come one after the other, each when the one before is answered
	p.wantAttempt(1, rest...)
	got := pubsubTexts(rest)
	for _, text := range got {
		if done[text] {
			p.Errorf("%s was acknowledged and came again", text)
		}
		done[text] = true
	}
	if len(done) != 8 {
		p.Errorf("of 8 messages, these were seen: %v", done)
	}
	if key := pubsubOfKey(got, 'a'); !slices.IsSorted(key) {
		p.Errorf("after the close they came in the order %v", key)
	}
}

// pubsubOfKey returns those of texts that begin with key.
func pubsubOfKey(texts []string, key byte) []string {
	var of []string
	for _, text := range texts {
		if text[0] == key {
			of = append(of, text)
		}
	}
	return of
}

func pubsubAnyOrder(p *pubsubTest) {
	ps := p.open()
	opts := es.SubscribeOptions{}
	if p.h.Groups() {
		opts.Group = "g"
	}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1", "b1", "c1", "d1", "e1", "f1")...)
	first, second := p.receive(sub, 3), p.receive(sub, 3)
	p.ack(sub, second[2], first[1])
	p.ack(sub, first[2])
	p.ack(sub, second[0], first[0], second[1])
	if !p.h.Groups() {
		p.wantNothingBefore(ps, sub, "all are acknowledged")
		return
	}
	p.closeSub(sub) // gives back what was not answered
	p.wantNothingBefore(ps, p.subscribe(ps, opts), "all are acknowledged")
}

func pubsubAnsweredTwice(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	answers := map[string]func(ds []es.Delivery) error{
		"Ack":     func(ds []es.Delivery) error { return sub.Ack(p.ctx, ds) },
		"Nack":    func(ds []es.Delivery) error { return sub.Nack(p.ctx, ds, 0) },
		"Release": func(ds []es.Delivery) error { return sub.Release(p.ctx, ds) },
	}
	for first, answer := range answers {
		for second, again := range answers {
			p.publish(ps, p.messages("a1")...)
			ds := p.batch(sub, 1)
			p.want(ds, "a1")
			if err := answer(ds); err != nil {
				p.Fatalf("%s: %v", first, err)
			}
			p.wantLeaseLost(second+" after "+first, again(ds), 1)
			p.wantLeaseLost("Extend after "+first, sub.Extend(p.ctx, ds), 1)
			if first != "Ack" {
				p.consume(sub, 1)
			}
		}
	}
	p.publish(ps, p.messages("b1")...)
	d := p.batch(sub, 1)[0]
	err := sub.Ack(p.ctx, []es.Delivery{d, d})
	if es.Of(err, 0) != nil {
		p.Errorf("Ack of a delivery that is in the call twice: the first of them gives %v", es.Of(err, 0))
	}
	p.wantError("Ack of a delivery that is in the call twice", es.Of(err, 1), es.ErrLeaseLost)
	p.wantNothingBefore(ps, sub, "nothing came twice")
}

func pubsubAnswerAfterClose(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "b1", "c1", "d1")...)
	ds := p.receive(sub, 4)
	p.closeSub(sub)
	p.wantLeaseLost("Ack after Close", sub.Ack(p.ctx, ds[:1]), 1)
	p.wantLeaseLost("Nack after Close", sub.Nack(p.ctx, ds[1:2], 0), 1)
	p.wantLeaseLost("Release after Close", sub.Release(p.ctx, ds[2:3]), 1)
	p.wantLeaseLost("Extend after Close", sub.Extend(p.ctx, ds[3:]), 1)
}

func pubsubRestAnswered(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "b1", "c1")...)
	ds := p.receive(sub, 3)
	p.ack(sub, ds[1])
	err := sub.Ack(p.ctx, ds)
	p.wantError("Ack of three, one of which was answered", es.Of(err, 1), es.ErrLeaseLost)
	for _, i := range []int{0, 2} {
		if es.Of(err, i) != nil {
			p.Errorf("Ack of three, one of which was answered: delivery %d gives %v", i, es.Of(err, i))
		}
	}
	p.wantLeaseLost("Ack of those that were answered with another", sub.Ack(p.ctx, []es.Delivery{ds[0], ds[2]}), 2)
	p.wantNothingBefore(ps, sub, "nothing comes again")
}

func pubsubReceipts(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1")...)
	seen := map[uint64]bool{}
	for range 20 {
		d := p.batch(sub, 1)[0]
		if seen[d.Receipt] {
			p.Fatalf("the receipt %d was given twice", d.Receipt)
		}
		seen[d.Receipt] = true
		p.release(sub, d)
	}
}
