package estest

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubOrderLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P2/order_kept_across_batches", pubsubOrder),
		pubsubLine("P2/order_kept_after_nack", pubsubOrderAfterNack),
		pubsubLine("P2/order_kept_after_release", pubsubOrderAfterRelease),
		pubsubLine("P2/nack_releases_those_that_follow", pubsubNackReleasesFollowers),
		pubsubLine("P2/release_releases_those_that_follow", pubsubReleaseReleasesFollowers),
		pubsubLine("P2/key_is_with_one_batch_at_a_time", pubsubOneBatch),
		pubsubLine("P2/key_is_with_one_member_at_a_time", pubsubOneMember),
		pubsubLine("P2/waiting_key_blocks_no_other", pubsubOtherKeysGoOn),
		pubsubLine("P2/custom_key", pubsubCustomKey),
		pubsubLine("P2/several_members_keep_the_order", pubsubManyMembers),
	}
}

func pubsubOrder(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	const keys, rounds = 5, 40
	want := 0
	for round := range rounds {
		var texts []string
		for key := range keys {
			texts = append(texts, fmt.Sprintf("%c%d", 'a'+key, round))
		}
		p.publish(ps, p.messages(texts...)...)
		want += keys
	}
	next := map[byte]int{}
	for got := 0; got < want; {
		ds := p.batch(sub, 7)
		for _, text := range pubsubTexts(ds) {
			if number, _ := strconv.Atoi(text[1:]); number != next[text[0]] {
				p.Fatalf("%s came where %c%d was due", text, text[0], next[text[0]])
			}
			next[text[0]]++
		}
		p.ack(sub, ds...)
		got += len(ds)
	}
}

func pubsubOrderAfterNack(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "a3")...)
	first := p.batch(sub, 1)
	p.want(first, "a1")
	p.publish(ps, p.messages("a4")...)
	p.nack(sub, 20*time.Millisecond, first...)
	p.want(p.consume(sub, 4), "a1", "a2", "a3", "a4")
}

func pubsubOrderAfterRelease(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "a3")...)
	p.release(sub, p.batch(sub, 3)...)
	p.publish(ps, p.messages("a4")...)
	p.want(p.consume(sub, 4), "a1", "a2", "a3", "a4")
}

func pubsubNackReleasesFollowers(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "a3", "a4")...)
	ds := p.batch(sub, 4)
	if len(ds) < 4 {
		// How many messages of one key come in a batch is for the implementation to choose. One at a time, none follow.
		p.nack(sub, 0, ds[0])
		p.want(p.batch(sub, 1), "a1")
		return
	}
	p.nack(sub, 0, ds[1])
	p.ack(sub, ds[0])
	p.wantLeaseLost("Ack of what followed a nacked message", sub.Ack(p.ctx, ds[2:]), 2)
	again := p.receive(sub, 3)
	p.want(again, "a2", "a3", "a4")
	p.wantAttempt(2, again[0])
	p.wantAttempt(1, again[1:]...)
	p.nack(sub, 0, again...) // all of one key in one call
	again = p.receive(sub, 3)
	p.want(again, "a2", "a3", "a4")
	p.wantAttempt(3, again[0])
	p.wantAttempt(2, again[1:]...)
	p.ack(sub, again...)
}

func pubsubReleaseReleasesFollowers(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "a3", "a4")...)
	ds := p.batch(sub, 4)
	if len(ds) < 4 { // one at a time, none follow
		p.release(sub, ds[0])
		p.want(p.batch(sub, 1), "a1")
		return
	}
	p.release(sub, ds[1], ds[3]) // a4 is in the call, and a3 is not
	p.ack(sub, ds[0])
	p.wantLeaseLost("Ack of what followed a released message", sub.Ack(p.ctx, ds[2:3]), 1)
	again := p.receive(sub, 3)
	p.want(again, "a2", "a3", "a4")
	p.wantAttempt(1, again...)
	p.ack(sub, again...)
}

func pubsubOneBatch(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "a3")...)
	first := p.batch(sub, 1)
	p.want(first, "a1")
	p.publish(ps, p.messages("b1")...)
	other := p.batch(sub, 16)
	p.want(other, "b1")
	p.ack(sub, first...)
	p.want(p.consume(sub, 2), "a2", "a3")
	p.ack(sub, other...)
}

func pubsubOneMember(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g"}
	one, two := p.subscribe(ps, opts), p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1", "a2")...)
	// Who of the members gets a message is for the implementation to choose; a log gives a key to one of them.
	held := p.batch(one, 1)
	p.want(held, "a1")
	p.publish(ps, p.messages("b1")...)
	got := make(chan []es.Delivery, 2)
	var members sync.WaitGroup
	for _, member := range []es.Subscription{one, two} {
		members.Go(func() {
			dst := make([]es.Delivery, 16)
			if n, err := member.Receive(p.ctx, dst); err == nil {
				got <- dst[:n]
			}
		})
	}
	first := <-got
	if texts := pubsubTexts(first); len(texts) != 1 || texts[0] != "b1" {
		p.Errorf("while a1 was with another batch, %v came", texts)
	}
	p.ack(one, held...)
	select {
	case second := <-got:
		if texts := pubsubTexts(second); len(texts) != 1 || texts[0] != "a2" {
			p.Errorf("when a1 was acknowledged, %v came", texts)
		}
	case <-p.ctx.Done():
		p.Errorf("a2 did not come when a1 was acknowledged")
	}
	_, _ = one.Close(), two.Close()
	members.Wait()
}

func pubsubOtherKeysGoOn(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "b1", "a3", "c1", "b2")...)
	first := p.batch(sub, 1)
	p.want(first, "a1")
	p.nack(sub, time.Hour, first...)
	var others []string
	for _, d := range p.consume(sub, 3) {
		others = append(others, pubsubText(d))
	}
	p.publish(ps, p.messages("c2")...)
	others = append(others, pubsubTexts(p.consume(sub, 1))...)
	next := map[byte]int{'b': 1, 'c': 1}
	for _, text := range others {
		if text != fmt.Sprintf("%c%d", text[0], next[text[0]]) {
			p.Fatalf("while a1 waits for its retry, %v came", others)
		}
		next[text[0]]++
	}
}

func pubsubCustomKey(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{Key: func(m *es.Message) string { return m.CorrelationID }})
	msgs := p.messages("a1", "b1", "a2")
	msgs[0].CorrelationID, msgs[1].CorrelationID, msgs[2].CorrelationID = "x", "x", "y"
	p.publish(ps, msgs[0])
	first := p.batch(sub, 1)
	p.publish(ps, msgs[1:]...)
	other := p.batch(sub, 16) // b1 has the key of a1; a2 has only its stream
	p.want(other, "a2")
	p.ack(sub, first...)
	p.want(p.consume(sub, 1), "b1")
	p.ack(sub, other...)
}

// pubsubManyMembers lets several members of a group, and several receivers each, work on the same keys and turn some messages
// down, and looks at what each key saw: one at a time, and in order.
func pubsubManyMembers(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	const keys, rounds, members, receivers = 7, 30, 3, 2
	var subs []es.Subscription
	for range members {
		subs = append(subs, p.subscribe(ps, es.SubscribeOptions{Group: "g"}))
	}
	var msgs []*es.Message
	for round := range rounds {
		for key := range keys {
			msgs = append(msgs, p.message(string(rune('a'+key)), fmt.Sprintf("%c%d", 'a'+key, round)))
		}
	}
	w := &pubsubWork{test: p, left: len(msgs), next: map[byte]int{}, busy: map[byte]bool{}, done: make(chan struct{})}
	var workers sync.WaitGroup
	for i, sub := range subs {
		for j := range receivers {
			workers.Go(func() { w.receive(sub, 1+i+j) })
		}
	}
	p.publish(ps, msgs...)
	select {
	case <-w.done:
	case <-p.ctx.Done():
		p.Errorf("not all messages were handled; due next: %v", w.due())
	}
	for _, sub := range subs {
		_ = sub.Close()
	}
	workers.Wait()
}

// pubsubWork is what the members of a group share.
type pubsubWork struct {
	test *pubsubTest
	mu   sync.Mutex
	left int
	next map[byte]int
	busy map[byte]bool
	seen int
	done chan struct{}
}

func (w *pubsubWork) receive(sub es.Subscription, most int) {
	dst := make([]es.Delivery, most)
	for {
		n, err := sub.Receive(w.test.ctx, dst)
		if err != nil {
			return // the subscription was closed
		}
		ds := dst[:n]
		for len(ds) > 0 {
			// One key at a time: the deliveries of the batch with the key of the first.
			key := pubsubText(ds[0])[0]
			var mine, rest []es.Delivery
			for _, d := range ds {
				if pubsubText(d)[0] == key {
					mine = append(mine, d)
				} else {
					rest = append(rest, d)
				}
			}
			ds = rest
			w.handle(sub, key, mine)
		}
	}
}

// handle takes deliveries of one key, in their order; it turns one of them down now and then.
func (w *pubsubWork) handle(sub es.Subscription, key byte, ds []es.Delivery) {
	w.begin(key)
	for i, d := range ds {
		switch w.verdict() {
		case 0:
			w.end(key)
			w.check("Nack", sub.Nack(w.test.ctx, ds[i:i+1], time.Millisecond)) // and those that follow are released
			return
		case 1:
			w.end(key)
			w.check("Release", sub.Release(w.test.ctx, ds[i:]))
			return
		}
		w.count(key, pubsubText(d))
		if i == len(ds)-1 {
			w.end(key) // the answer to the last one lets the key go
		}
		w.check("Ack", sub.Ack(w.test.ctx, ds[i:i+1]))
		w.acknowledged()
	}
}

func (w *pubsubWork) check(what string, err error) {
	if err != nil && w.test.ctx.Err() == nil {
		w.test.Errorf("%s: %v", what, err)
	}
}

func (w *pubsubWork) begin(key byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[key] {
		w.test.Errorf("key %c is with two batches at once", key)
	}
	w.busy[key] = true
}

func (w *pubsubWork) end(key byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[key] = false
}

func (w *pubsubWork) verdict() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen++
	const every = 5
	switch {
	case w.seen%every == 0:
		return 0
	case w.seen%(every+2) == 0:
		return 1
	}
	return 2
}

func (w *pubsubWork) count(key byte, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := fmt.Sprintf("%c%d", key, w.next[key]); text != want {
		w.test.Errorf("%s was handled where %s was due", text, want)
	}
	w.next[key]++
}

func (w *pubsubWork) acknowledged() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left--; w.left == 0 {
		close(w.done)
	}
}

func (w *pubsubWork) due() map[byte]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next
}
