package estest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubBoundLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P4/blocks_the_publisher_until_there_is_room", pubsubBlock),
		pubsubLine("P4/blocked_publisher_ends_with_its_context", pubsubBlockContext),
		pubsubLine("P4/blocked_publisher_ends_with_close", pubsubBlockClose),
		pubsubLine("P4/evicts_the_oldest_and_counts", pubsubEvict),
		pubsubLine("P4/fails_the_publish_and_keeps_the_order", pubsubFail),
		pubsubLine("P4/backlog_evicts_the_oldest_and_counts", pubsubBacklogBound),
		pubsubLine("P4/group_without_members_is_bounded", pubsubAbsentBound),
		pubsubLine("P4/own_topic_publish_is_an_error_not_a_deadlock", pubsubOwnTopicPublish),
	}
}

// pubsubFew is the size of the small buffers, and pubsubMost how many messages may be on their way before one is full: an
// implementation may count in its own way, and hold some messages before its buffer.
const (
	pubsubFew  = 4
	pubsubMost = 8 * pubsubFew
)

// number makes a message that says a number. All of them have one key, so that they come in order.
func (p *pubsubTest) number(n int) *es.Message { return p.message("number", strconv.Itoa(n)) }

// fill publishes messages one by one until a publication does not go through, and returns how many did, and the error.
func (p *pubsubTest) fill(ctx context.Context, ps PubSub) (int, error) {
	p.Helper()
	for n := range pubsubMost {
		if err := ps.Publish(ctx, es.ToCategory(p.number(n))...); err != nil {
			return n, err
		}
	}
	p.Fatalf("with a buffer of %d, %d messages were taken that nobody received", pubsubFew, pubsubMost)
	return 0, nil
}

// wantNumbers consumes n messages and fails unless they are those that fill has published, from the number first on.
func (p *pubsubTest) wantNumbers(sub es.Subscription, first, n int) {
	p.Helper()
	for i, d := range p.consume(sub, n) {
		if pubsubText(d) != strconv.Itoa(first+i) {
			p.Fatalf("received %s where %d was due", pubsubText(d), first+i)
		}
	}
}

func pubsubBlock(p *pubsubTest) {
	ps, _ := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: pubsubFew, Overflow: OverflowBlock})
	sub := p.subscribe(ps, es.SubscribeOptions{})
	published := make(chan error, 1)
	const total = 10 * pubsubMost
	go func() {
		for n := range total {
			if err := ps.Publish(p.ctx, es.ToCategory(p.number(n))...); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	p.wantNumbers(sub, 0, total) // every one of them, although there was no room for a tenth
	if err := <-published; err != nil {
		p.Fatalf("Publish: %v", err)
	}
	var many []*es.Message // in one call too
	for n := range pubsubMost {
		many = append(many, p.number(n))
	}
	go func() { published <- ps.Publish(p.ctx, es.ToCategory(many...)...) }()
	p.wantNumbers(sub, 0, len(many))
	if err := <-published; err != nil {
		p.Fatalf("Publish of %d messages in one call: %v", len(many), err)
	}
}

func pubsubBlockContext(p *pubsubTest) {
	ps, _ := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: pubsubFew, Overflow: OverflowBlock})
	sub := p.subscribe(ps, es.SubscribeOptions{})
	ctx, cancel := context.WithTimeout(p.ctx, pubsubShortLease)
	defer cancel()
	n, err := p.fill(ctx, ps)
	p.wantError("Publish that waits for room", err, context.DeadlineExceeded)
	p.wantNumbers(sub, 0, n)
	p.wantNothingBefore(ps, sub, "what was not taken does not come")

	var pubs []es.Publication
	for i := range pubsubMost {
		pubs = append(pubs, es.ToCategory(p.number(i))...)
	}
	ctx, cancel = context.WithTimeout(p.ctx, pubsubShortLease)
	defer cancel()
	taken := p.taken(ps.Publish(ctx, pubs...), len(pubs), context.DeadlineExceeded)
	p.wantNumbers(sub, 0, taken)
	p.wantNothingBefore(ps, sub, "what the error names does not come")
}

// taken reads the error of a call that was too much, and returns how many were taken: those at the beginning.
func (p *pubsubTest) taken(err error, n int, want error) int {
	p.Helper()
	var batch *es.BatchError
	if !errors.As(err, &batch) || len(batch.Errs) != n {
		p.Fatalf("Publish of %d messages to a buffer of %d: the error is %v, want a BatchError of as many", n, pubsubFew, err)
	}
	taken := 0
	for taken < n && batch.Errs[taken] == nil {
		taken++
	}
	for i := taken; i < n; i++ {
		p.wantError(fmt.Sprintf("message %d of a call of which %d were taken", i, taken), batch.Errs[i], want)
	}
	if taken == 0 || taken == n {
		p.Fatalf("of %d messages to a buffer of %d, %d were taken", n, pubsubFew, taken)
	}
	return taken
}

func pubsubBlockClose(p *pubsubTest) {
	ps, storage := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: pubsubFew, Overflow: OverflowBlock})
	p.subscribe(ps, es.SubscribeOptions{})
	ctx, cancel := context.WithTimeout(p.ctx, pubsubShortLease)
	defer cancel()
	_, err := p.fill(ctx, ps)
	p.wantError("Publish that waits for room", err, context.DeadlineExceeded)
	const publishers = 3
	errs := make(chan error, publishers)
	begun := make(chan struct{}, publishers)
	for range publishers {
		go func() {
			begun <- struct{}{}
			errs <- ps.Publish(p.ctx, es.ToCategory(p.message("a", "a1"))...)
		}()
	}
	for range publishers {
		<-begun
	}
	if err := storage.Close(p.TB, ps); err != nil {
		p.Fatalf("Close: %v", err)
	}
	for range publishers {
		p.wantError("Publish that waited for room when it was closed", <-errs, es.ErrClosed)
	}
}

func pubsubEvict(p *pubsubTest) {
	ps, storage := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: pubsubFew, Overflow: OverflowEvictOldest})
	sub := p.subscribe(ps, es.SubscribeOptions{})
	for n := range pubsubMost {
		p.publish(ps, p.number(n))
	}
	p.wantEvicted(ps, storage, pubsubMost-pubsubFew)
	p.wantNumbers(sub, pubsubMost-pubsubFew, pubsubFew)

	// What waits for its retry waits too, and is the oldest.
	p.publish(ps, p.messages("a1", "b1")...)
	p.nack(sub, time.Hour, p.receive(sub, 2)...)
	for n := range pubsubFew {
		p.publish(ps, p.number(n))
	}
	p.wantEvicted(ps, storage, pubsubMost-pubsubFew+2)
	p.wantNumbers(sub, 0, pubsubFew)
}

func (p *pubsubTest) wantEvicted(ps PubSub, storage PubSubStorage, want int64) {
	p.Helper()
	if got := storage.Evicted(p.TB, ps, pubsubTopic); got != want {
		p.Errorf("%d messages are counted as evicted, want %d", got, want)
	}
}

func pubsubFail(p *pubsubTest) {
	ps, storage := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: pubsubFew, Overflow: OverflowFail})
	sub := p.subscribe(ps, es.SubscribeOptions{})
	n, err := p.fill(p.ctx, ps)
	p.wantError("Publish to a full buffer", err, es.ErrFull)
	p.wantNumbers(sub, 0, n)
	var pubs []es.Publication
	for i := range pubsubMost {
		pubs = append(pubs, es.ToCategory(p.number(i))...)
	}
	taken := p.taken(ps.Publish(p.ctx, pubs...), len(pubs), es.ErrFull)
	p.wantNumbers(sub, 0, taken)
	p.wantNothingBefore(ps, sub, "what the error names does not come")
	p.wantEvicted(ps, storage, 0)
}

func pubsubBacklogBound(p *pubsubTest) {
	if p.h.History() {
		p.Skip("this pub/sub is a log, which has no backlog")
	}
	ps, storage := p.openBounded(Bounds{Buffer: pubsubMost, Backlog: pubsubFew, Overflow: OverflowBlock})
	for n := range pubsubMost {
		p.publish(ps, p.number(n))
	}
	p.wantEvicted(ps, storage, pubsubMost-pubsubFew)
	p.wantNumbers(p.subscribe(ps, es.SubscribeOptions{}), pubsubMost-pubsubFew, pubsubFew)
}

func pubsubAbsentBound(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps, storage := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: 2 * pubsubFew, Overflow: OverflowBlock})
	opts := es.SubscribeOptions{Group: "g"}
	p.closeSub(p.subscribe(ps, opts))
	for n := range pubsubMost { // nobody is there to make room, so that nobody can be waited for
		p.publish(ps, p.number(n))
	}
	p.wantEvicted(ps, storage, pubsubMost-2*pubsubFew)
	p.wantNumbers(p.subscribe(ps, opts), pubsubMost-2*pubsubFew, 2*pubsubFew)
}

func pubsubOwnTopicPublish(p *pubsubTest) {
	ps, _ := p.openBounded(Bounds{Buffer: pubsubFew, Backlog: pubsubFew, Overflow: OverflowBlock})
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.message("first", "first"))
	ds := p.batch(sub, 1)
	ctx, cancel := context.WithCancel(es.WithDelivery(p.ctx, &ds[0]))
	defer cancel()
	n, err := p.fill(ctx, ps) // as a handler of the delivery does
	p.wantError("Publish to the full topic of the delivery that is handled", err, es.ErrFull)
	p.ack(sub, ds...)
	p.wantNumbers(sub, 0, n)

	// To another topic it may wait.
	const elsewhere = "invoices"
	other := p.subscribeTo(ps, elsewhere, es.SubscribeOptions{})
	p.publish(ps, p.message("second", "second"))
	ds = p.batch(sub, 1)
	published := make(chan error, 1)
	go func() {
		ctx := es.WithDelivery(p.ctx, &ds[0])
		for range pubsubMost {
			if err := ps.Publish(ctx, es.ToCategory(es.NewMessage(elsewhere+"-1", "Noted", []byte(`"i"`)))...); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	p.consume(other, pubsubMost)
	if err := <-published; err != nil {
		p.Fatalf("Publish to another topic than that of the delivery that is handled: %v", err)
	}
}
