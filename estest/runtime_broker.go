package estest

import (
	"context"
	"fmt"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeBrokerLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("P1/routers_of_a_group_share_the_messages", runtimeShared),
		runtimeLine("P2/order_is_kept_when_a_router_comes_and_goes", runtimeComeAndGo),
		runtimeLine("P3/death_of_a_handler_raises_the_attempt", runtimeDeath),
		runtimeLine("P3/stop_within_a_batch_loses_nothing", runtimeStopInBatch),
		runtimeLine("P6/what_cannot_be_decoded_is_a_dead_letter_with_its_bytes", runtimeUndecodable),
		runtimeLine("P7/message_that_kills_is_a_dead_letter_and_the_others_are_not", runtimeKiller),
	}
}

// runtimeShared has two programs work on one group. They hold what they have in hand until both have something.
func runtimeShared(t *runtimeTest) {
	t.needsHandles()
	first, second := t.open(), t.open()
	saw := t.journal()
	var mu sync.Mutex
	working := map[*program]bool{}
	both := make(chan struct{})
	for _, p := range []*program{first, second} {
		p.serve(saw.handler(func(ctx context.Context, _ *es.Delivery, _ int) ([]*es.Message, error) {
			mu.Lock()
			if !working[p] {
				working[p] = true
				if len(working) == 2 {
					close(both)
				}
			}
			mu.Unlock()
			select {
			case <-both:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}), router.Options{Batch: 1, Concurrency: 2})
	}
	var texts []string
	for key := range 26 { // keys enough for both
		texts = append(texts, fmt.Sprintf("%c1", 'a'+key))
	}
	first.publish(t.messages(texts...)...)
	t.wait("both programs have a message", both)
	saw.await(len(texts))
	first.publish(t.messages("a2", "z2")...)
	saw.wantInAnyOrder(append(texts, "a2", "z2")...)
}

// runtimeComeAndGo starts and stops routers of a group one after the other, in the middle of the work. Each message is handled once,
// and those of a key in order.
func runtimeComeAndGo(t *runtimeTest) {
	const rounds, perRound, keys = 4, 5, 3
	p := t.open()
	saw := t.journal()
	want := map[string][]string{}
	for n := range rounds {
		before := len(saw.seen())
		gate := newGate()
		r := p.serve(saw.withContext(func(ctx context.Context, _ int) error {
			if len(saw.seen()) > before+keys {
				return gate.pass(ctx)
			}
			return nil
		}), router.Options{Concurrency: keys})
		var msgs []*es.Message
		for i := range perRound {
			for key := range keys {
				letter := string(rune('a' + key))
				text := fmt.Sprint(letter, n*perRound+i)
				want[letter] = append(want[letter], text)
				msgs = append(msgs, t.message(letter, text))
			}
		}
		p.publish(msgs...)
		t.wait("the router is in the middle of its work", gate.reached)
		stopped := p.beginStop(r)
		gate.open()
		t.ok(<-stopped, "stop")
	}
	p.serve(saw.succeeding(), router.Options{Concurrency: keys})
	saw.await(rounds * perRound * keys)
	for letter, texts := range want {
		saw.wantKey(letter, texts...)
	}
}

// runtimeDeath lets a program die while a handler is at a message. Another has it again, as a further attempt.
func runtimeDeath(t *runtimeTest) {
	p := t.openMortal()
	saw := t.journal()
	died := make(chan struct{})
	p.serve(saw.withContext(func(ctx context.Context, _ int) error { return p.die(ctx, died) }), router.Options{})
	p.publish(t.messages("a1")...)
	t.wait("a handler has the message", died)
	p.crash()
	next := t.openMortal()
	again := t.journal()
	next.serve(again.succeeding(), router.Options{})
	if d := again.await(1)[0]; pubsubText(d) != "a1" || d.Attempt < 2 {
		t.Fatalf("after the death of its handler %s came as attempt %d, want a1 as attempt 2 at least", pubsubText(d), d.Attempt)
	}
}

// runtimeStopInBatch stops a router that has received several messages and is at the first of them.
func runtimeStopInBatch(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	gate := newGate()
	r := p.serve(saw.withContext(func(ctx context.Context, _ int) error { return gate.pass(ctx) }), router.Options{})
	p.publish(t.messages("a1", "a2", "a3", "b1")...)
	t.wait("a handler has the first message", gate.reached)
	stopped := p.beginStop(r)
	gate.open()
	t.ok(<-stopped, "stop")
	first := pubsubText(saw.seen()[0])
	p.serve(saw.handler(func(_ context.Context, d *es.Delivery, _ int) ([]*es.Message, error) {
		if d.Attempt != 1 {
			t.Errorf("%s, which nobody had begun with, came as attempt %d", runtimeText(d.Message), d.Attempt)
		}
		return nil, nil
	}), router.Options{})
	saw.wantInAnyOrder("a1", "a2", "a3", "b1")
	if first != "b1" {
		saw.wantKey("a", "a1", "a2", "a3")
	}
}

// undecodable makes messages of one name such that cannot be decoded, as a broker with other bytes in it delivers them.
type undecodable struct {
	es.Subscriber

	raw []byte
}

type undecodableSubscription struct {
	es.Subscription

	raw []byte
}

const undecodableName = "Undecodable"

func (s undecodable) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	sub, err := s.Subscriber.Subscribe(ctx, topic, opts)
	if err != nil {
		return nil, err
	}
	return undecodableSubscription{sub, s.raw}, nil
}

func (s undecodableSubscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	n, err := s.Subscription.Receive(ctx, dst)
	for i := range dst[:n] {
		if dst[i].Name == undecodableName {
			dst[i].Err, dst[i].Raw = errBoom, s.raw
		}
	}
	return n, err
}

func runtimeUndecodable(t *runtimeTest) {
	p := t.open()
	p.process()
	raw := []byte("\xff\x00 no message")
	saw := t.journal()
	r := p.router(func(c *router.Config) { c.Subscriber = undecodable{p.broker, raw} })
	p.route(r, saw.succeeding(), router.Options{})
	p.run(r)
	broken := t.message("a", "a1")
	broken.Name = undecodableName
	p.publish(broken, t.message("a", "a2"))
	saw.want("a2")
	_, records := p.awaitLetters(1)
	if got := records[0]; string(got.Original.Raw) != string(raw) || got.Topic != runtimeTopic || got.Group != "g" {
		t.Fatalf("the dead letter of what cannot be decoded is %+v, want its bytes %q", got, raw)
	}
}

// runtimeKiller lets a message kill each program that handles it, until its attempts are used up.
func runtimeKiller(t *runtimeTest) {
	const attempts = 2
	saw := t.journal()
	for round := 1; ; round++ {
		p := t.openMortal()
		p.process()
		died := make(chan struct{})
		p.serve(saw.handler(func(ctx context.Context, d *es.Delivery, _ int) ([]*es.Message, error) {
			if runtimeText(d.Message) == "c1" {
				return nil, p.die(ctx, died)
			}
			return nil, nil
		}), router.Options{MaxAttempts: attempts})
		if round == 1 {
			p.publish(t.messages("a1", "b1", "c1", "d1", "c2")...)
		}
		if round <= attempts {
			t.wait("the message has killed its program", died)
			p.crash()
			continue
		}
		saw.awaitCall("c2", 1)
		saw.awaitCall("a1", 1)
		saw.awaitCall("b1", 1)
		saw.awaitCall("d1", 1)
		p.wantLetters("c1")
		select {
		case <-died:
			t.Fatalf("a message that has killed %d programs got a handler once more", attempts)
		default:
		}
		return
	}
}
