package estest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubLifetimeLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P5/receive_does_not_wait_for_more", pubsubNoWait),
		pubsubLine("P5/receive_gives_at_most_what_fits", pubsubFits),
		pubsubLine("P5/receive_waits_for_the_first", pubsubWaits),
		pubsubLine("P5/every_waiting_member_is_served", pubsubAllServed),
		pubsubLine("P5/receive_ends_with_its_context", pubsubReceiveContext),
		pubsubLine("P5/receive_ends_with_its_subscription", pubsubReceiveClose),
		pubsubLine("P5/receive_ends_with_the_pubsub", pubsubReceivePubSubClose),
		pubsubLine("P5/closed_subscription_leaves_the_others", pubsubCloseOne),
		pubsubLine("P5/publish_during_close", pubsubPublishDuringClose),
		pubsubLine("P5/closed_is_closed", pubsubClosed),
		pubsubLine("P6/undecodable_comes_with_its_bytes", pubsubUndecodable),
		pubsubLine("P8/no_goroutine_left", pubsubGoroutines),
	}
}

func pubsubNoWait(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "b1")...)
	var got []es.Delivery
	for len(got) < 2 { // with a hundred times the room, and nothing more to come
		got = append(got, p.batch(sub, 200)...)
	}
	p.ack(sub, got...)
}

func pubsubFits(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	var want []string
	for n := range 20 {
		want = append(want, fmt.Sprintf("a%d", n))
	}
	p.publish(ps, p.messages(want...)...)
	backing := make([]es.Delivery, 8)
	var got []string
	for len(got) < len(want) {
		n, err := sub.Receive(p.ctx, backing[:3])
		if err != nil || n < 1 || n > 3 {
			p.Fatalf("Receive into 3 gave %d, %v", n, err)
		}
		if backing[3].Message != nil {
			p.Fatal("Receive wrote behind the slice it was given")
		}
		got = append(got, pubsubTexts(backing[:n])...)
		p.ack(sub, backing[:n]...)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		p.Fatalf("received %v, want %v", got, want)
	}
}

// waiting runs Receive in a goroutine, and returns the channel of its results when it has begun.
func (p *pubsubTest) waiting(ctx context.Context, sub es.Subscription) <-chan pubsubResult {
	begun, result := make(chan struct{}), make(chan pubsubResult, 1)
	go func() {
		dst := make([]es.Delivery, 4)
		close(begun)
		n, err := sub.Receive(ctx, dst)
		result <- pubsubResult{dst[:n], err}
	}()
	<-begun
	return result
}

type pubsubResult struct {
	ds  []es.Delivery
	err error
}

// result waits for what a Receive in a goroutine gives.
func (p *pubsubTest) result(what string, results <-chan pubsubResult) pubsubResult {
	p.Helper()
	select {
	case r := <-results:
		return r
	case <-p.ctx.Done():
		p.Fatalf("%s: Receive did not return", what)
		return pubsubResult{}
	}
}

func pubsubWaits(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	for range 20 {
		result := p.waiting(p.ctx, sub)
		p.publish(ps, p.messages("a1")...)
		r := p.result("a message was published", result)
		if r.err != nil {
			p.Fatalf("Receive: %v", r.err)
		}
		p.want(r.ds, "a1")
		p.ack(sub, r.ds...)
	}
}

func pubsubAllServed(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{Group: "g"})
	const receivers = 4
	for round := range 10 {
		results := make(chan pubsubResult, receivers)
		for range receivers {
			go func() {
				dst := make([]es.Delivery, 1)
				n, err := sub.Receive(p.ctx, dst)
				results <- pubsubResult{dst[:n], err}
			}()
		}
		texts := []string{"a", "b", "c", "d"}
		for i := range texts {
			texts[i] += strconv.Itoa(round)
		}
		p.publish(ps, p.messages(texts...)...)
		var ds []es.Delivery
		for range receivers { // each gets one, although none is answered yet
			r := p.result("as many messages were published as wait for one", results)
			if r.err != nil {
				p.Fatalf("Receive: %v", r.err)
			}
			ds = append(ds, r.ds...)
		}
		p.ack(sub, ds...)
	}
}

func pubsubReceiveContext(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	ctx, cancel := context.WithCancel(p.ctx)
	result := p.waiting(ctx, sub)
	cancel()
	r := p.result("its context was canceled", result)
	p.wantError("Receive with a canceled context", r.err, context.Canceled)
	if len(r.ds) != 0 {
		p.Errorf("with an error, Receive gave %d", len(r.ds))
	}
	ctx, cancel = context.WithTimeout(p.ctx, time.Millisecond)
	defer cancel()
	_, err := sub.Receive(ctx, make([]es.Delivery, 1))
	p.wantError("Receive with a deadline", err, context.DeadlineExceeded)
	p.publish(ps, p.messages("a1")...) // the subscription goes on
	p.want(p.consume(sub, 1), "a1")
}

func pubsubReceiveClose(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	one, two := p.waiting(p.ctx, sub), p.waiting(p.ctx, sub)
	p.closeSub(sub)
	p.wantError("Receive when its subscription is closed", p.result("it was closed", one).err, es.ErrClosed)
	p.wantError("Receive when its subscription is closed", p.result("it was closed", two).err, es.ErrClosed)
	_, err := sub.Receive(p.ctx, make([]es.Delivery, 1))
	p.wantError("Receive of a closed subscription", err, es.ErrClosed)
	p.closeSub(sub) // twice is fine
}

func pubsubReceivePubSubClose(p *pubsubTest) {
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	result := p.waiting(p.ctx, sub)
	p.close(ps)
	p.wantError("Receive when the pub/sub is closed", p.result("the pub/sub was closed", result).err, es.ErrClosed)
	_, err := sub.Receive(p.ctx, make([]es.Delivery, 1))
	p.wantError("Receive of a closed pub/sub", err, es.ErrClosed)
}

func pubsubCloseOne(p *pubsubTest) {
	ps := p.open()
	one, two := p.subscribe(ps, es.SubscribeOptions{}), p.subscribe(ps, es.SubscribeOptions{})
	result := p.waiting(p.ctx, two)
	p.closeSub(one)
	p.publish(ps, p.messages("a1")...)
	r := p.result("a message was published after another subscription was closed", result)
	if r.err != nil {
		p.Fatalf("Receive: %v", r.err)
	}
	p.want(r.ds, "a1")
}

func pubsubPublishDuringClose(p *pubsubTest) {
	for range 10 {
		ps := p.open()
		sub := p.subscribe(ps, es.SubscribeOptions{Start: es.Start{Kind: es.StartEnd}})
		var publishers sync.WaitGroup
		begun := make(chan struct{}, 4)
		for i := range 4 {
			publishers.Go(func() {
				defer func() {
					if v := recover(); v != nil {
						p.Errorf("Publish during Close panics: %v", v)
					}
				}()
				for n := 0; ; n++ {
					if n == 1 {
						begun <- struct{}{}
					}
					err := ps.Publish(p.ctx, es.ToCategory(p.message(strconv.Itoa(i), "x"))...)
					if errors.Is(err, es.ErrClosed) {
						return
					}
					if err != nil {
						p.Errorf("Publish during Close: %v", err)
						return
					}
				}
			})
		}
		publishers.Go(func() { // makes room meanwhile
			dst := make([]es.Delivery, 16)
			for {
				n, err := sub.Receive(p.ctx, dst)
				if err != nil {
					return
				}
				_ = sub.Ack(p.ctx, dst[:n]) // it may be closed in between
			}
		})
		for range 4 {
			select {
			case <-begun:
			case <-p.ctx.Done():
				p.Fatal("Publish does not return")
			}
		}
		p.close(ps)
		publishers.Wait()
		p.wantError("Publish after Close", ps.Publish(p.ctx, es.ToCategory(p.message("a", "a1"))...), es.ErrClosed)
	}
}

func pubsubClosed(p *pubsubTest) {
	ps := p.open()
	p.close(ps)
	p.wantError("Publish after Close", ps.Publish(p.ctx, es.ToCategory(p.message("a", "a1"))...), es.ErrClosed)
	_, err := ps.Subscribe(p.ctx, pubsubTopic, es.SubscribeOptions{})
	p.wantError("Subscribe after Close", err, es.ErrClosed)
	if err := ps.Close(); err != nil {
		p.Errorf("the second Close: %v", err)
	}
}

func pubsubUndecodable(p *pubsubTest) {
	ps := p.open()
	storage, ok := p.storage.(UndecodableStorage)
	if !ok {
		p.Skipf("the storage %T has no way to publish what cannot be decoded", p.storage)
	}
	sub := p.subscribe(ps, es.SubscribeOptions{})
	raw := []byte("\x00no message\xff")
	p.publish(ps, p.messages("a1")...)
	storage.PublishUndecodable(p.TB, ps, pubsubTopic, raw)
	p.publish(ps, p.messages("a2")...)
	seen := map[string]int{}
	for range 3 {
		d := p.consume(sub, 1)[0]
		if d.Err == nil {
			seen[pubsubText(d)]++
			continue
		}
		seen["undecodable"]++
		if !bytes.Equal(d.Raw, raw) {
			p.Errorf("what could not be decoded came as %q, want its bytes %q", d.Raw, raw)
		}
	}
	if len(seen) != 3 {
		p.Errorf("received %v, want a1, a2 and what cannot be decoded once each", seen)
	}
	p.wantNothingBefore(ps, sub, "it does not come again")
}

// pubsubGoroutines counts the goroutines that a pub/sub has started, by a label that goroutines inherit: those of other tests
// do not have it.
func pubsubGoroutines(p *pubsubTest) {
	p.storage = p.h.New(p.TB)
	label := fmt.Sprintf("%p", p)
	pprof.Do(p.ctx, pprof.Labels("estest", label), func(ctx context.Context) {
		ps := p.open()
		code := []string{"eventsourcing", reflect.Indirect(reflect.ValueOf(ps)).Type().PkgPath()}
		sub := p.subscribe(ps, es.SubscribeOptions{Lease: pubsubShortLease})
		p.publish(ps, p.messages("a1", "b1", "c1")...)
		ds := p.receive(sub, 2)
		p.nack(sub, time.Hour, ds[0])
		results := []<-chan pubsubResult{p.waiting(ctx, sub), p.waiting(ctx, p.subscribe(ps, es.SubscribeOptions{}))}
		p.close(ps)
		for _, result := range results {
			p.result("the pub/sub was closed", result)
		}
		for { // a goroutine that has said that it ends is there a moment longer
			left := pubsubStacks(label, code)
			if left == "" {
				return
			}
			runtime.Gosched()
			if ctx.Err() != nil {
				p.Fatalf("goroutines are left after Close:\n%s", left)
			}
		}
	})
}

// pubsubStacks returns the stacks of the goroutines with a label that are in code of the given packages, but for the caller's.
func pubsubStacks(label string, code []string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	var stacks []string
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		ours := strings.Contains(stack, fmt.Sprintf("%q:%q", "estest", label)) && !strings.Contains(stack, "pubsubStacks")
		for _, pkg := range code {
			if ours && pkg != "" && strings.Contains(stack, pkg) {
				stacks = append(stacks, stack)
				break
			}
		}
	}
	return strings.Join(stacks, "\n\n")
}
