package estest

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The lines for subscriptions that are an [es.Lagger]. Others are not tested for what they cannot tell.
func pubsubLagLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P4/lag_counts_what_waits_and_what_is_in_flight", pubsubLagCounts),
		pubsubLine("P4/lag_is_that_of_the_group", pubsubLagOfGroup),
		pubsubLine("P4/lag_tells_when_the_oldest_was_published", pubsubLagOldest),
		pubsubLine("P4/lag_of_a_closed_subscription_is_closed", pubsubLagClosed),
	}
}

// lagger returns the subscription as one that knows how far behind it is, or skips the line.
func (p *pubsubTest) lagger(sub es.Subscription) es.Lagger {
	p.Helper()
	lagger, ok := sub.(es.Lagger)
	if !ok {
		p.Skip("the subscriptions of this pub/sub do not know their lag")
	}
	return lagger
}

func (p *pubsubTest) lag(of es.Lagger) es.Lag {
	p.Helper()
	lag, err := of.Lag(p.ctx)
	if err != nil {
		p.Fatalf("Lag: %v", err)
	}
	return lag
}

// wantLag fails unless so many messages are to be handled. A log, which counts positions, may say more; what is all handled
// it has to know.
func (p *pubsubTest) wantLag(when string, of es.Lagger, n int64) {
	p.Helper()
	lag := p.lag(of)
	more := lag.Messages > n && n > 0 && p.h.History()
	if lag.Messages != n && !more {
		p.Fatalf("%s the lag is %d messages, want %d", when, lag.Messages, n)
	}
	if n == 0 && !lag.Oldest.IsZero() {
		p.Fatalf("%s there is nothing to handle, and the oldest of it is from %v", when, lag.Oldest)
	}
}

func pubsubLagCounts(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	lagger := p.lagger(sub)
	p.wantLag("at the beginning", lagger, 0)
	p.publish(ps, p.messages("a1", "b1", "c1", "d1")...)
	p.wantLag("with four messages that wait", lagger, 4)
	ds := p.receive(sub, 2)
	p.wantLag("with two that wait and two in flight", lagger, 4)
	p.ack(sub, ds[0])
	p.wantLag("with two that wait and one in flight", lagger, 3)
	p.nack(sub, time.Hour, ds[1])
	p.wantLag("with three that wait, one of them after a nack,", lagger, 3)
	p.consume(sub, 2)
	p.wantLag("with one that waits after a nack", lagger, 1)
}

func pubsubLagOfGroup(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	one := p.subscribe(ps, es.SubscribeOptions{Group: "mailer"})
	other := p.subscribe(ps, es.SubscribeOptions{Group: "billing"})
	lagger, billing := p.lagger(one), p.lagger(other)
	p.publish(ps, p.messages("a1", "b1", "c1")...)
	p.consume(other, 3)
	p.wantLag("of a group that has handled everything", billing, 0)
	p.wantLag("of a group that has handled nothing", lagger, 3)

	two := p.subscribe(ps, es.SubscribeOptions{Group: "mailer"})
	p.wantLag("of a member that has just come", p.lagger(two), 3)
	p.consume(one, 3)
	p.wantLag("of a member of a group that has handled everything", lagger, 0)
	p.wantLag("of a member that has handled nothing, when its group has,", p.lagger(two), 0)
}

func pubsubLagOldest(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	lagger := p.lagger(sub)
	before := p.moment()
	p.publish(ps, p.message("a", "a1"))
	between := p.moment()
	p.publish(ps, p.message("a", "a2"))
	after := p.moment()
	p.wantOldest("while both wait", lagger, before, between)
	ds := p.receive(sub, 2)
	p.wantOldest("while both are in flight", lagger, before, between)
	p.release(sub, ds...)
	p.wantOldest("after a release", lagger, before, between)
	ds = p.receive(sub, 2)
	p.ack(sub, ds[0])
	p.wantOldest("after an ack of the oldest", lagger, between, after)
	p.nack(sub, time.Hour, ds[1])
	p.wantOldest("when what is left waits after a nack", lagger, between, after)
	p.publish(ps, p.message("b", "b1"))
	p.wantOldest("when newer ones wait too", lagger, between, after)
}

// pubsubClockError is what the clock of a storage may differ from that of the test, or leave out.
const pubsubClockError = time.Millisecond

// moment returns a time that the clock of a storage can tell from what was before the call and from what comes after it.
func (p *pubsubTest) moment() time.Time {
	p.Helper()
	tick := time.NewTicker(2 * pubsubClockError)
	defer tick.Stop()
	<-tick.C
	moment := time.Now()
	<-tick.C
	return moment
}

// wantOldest fails unless the oldest message was published between two moments, or the subscription does not know.
func (p *pubsubTest) wantOldest(when string, of es.Lagger, from, to time.Time) {
	p.Helper()
	oldest := p.lag(of).Oldest
	if oldest.IsZero() {
		return
	}
	if oldest.Before(from.Add(-pubsubClockError)) || oldest.After(to.Add(pubsubClockError)) {
		p.Fatalf("%s the oldest is from %v; it was published from %v to %v", when, oldest, from, to)
	}
}

func pubsubLagClosed(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	lagger := p.lagger(sub)
	p.publish(ps, p.message("a", "a1"))
	ctx, cancel := context.WithCancel(p.ctx)
	cancel()
	_, err := lagger.Lag(ctx)
	p.wantError("Lag with a context that has ended", err, context.Canceled)
	p.closeSub(sub)
	_, err = lagger.Lag(p.ctx)
	p.wantError("Lag after Close of the subscription", err, es.ErrClosed)
}
