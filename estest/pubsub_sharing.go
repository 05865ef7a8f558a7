package estest

import (
	"context"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

func pubsubSharingLines() []Line[Harness[PubSub]] {
	return []Line[Harness[PubSub]]{
		pubsubLine("P1/every_subscription_sees_all", pubsubAllSeeAll),
		pubsubLine("P1/only_its_own_topic", pubsubOwnTopic),
		pubsubLine("P1/members_share", pubsubMembersShare),
		pubsubLine("P1/every_group_sees_all", pubsubGroupsSeeAll),
		pubsubLine("P1/group_keeps_its_place", pubsubGroupKeepsPlace),
		pubsubLine("P1/backlog_goes_to_the_first", pubsubBacklog),
		pubsubLine("P1/backlog_comes_back", pubsubBacklogComesBack),
		pubsubLine("P1/starts_at_the_end", pubsubStartEnd),
		pubsubLine("P1/starts_where_it_was_told", pubsubStartHistory),
		pubsubLine("P1/without_history_a_position_is_unsupported", pubsubNoHistory),
		pubsubLine("P1/subscribed_context_is_for_the_call_only", pubsubSubscribeContext),
	}
}

func pubsubAllSeeAll(p *pubsubTest) {
	ps := p.open()
	first, second := p.subscribe(ps, es.SubscribeOptions{}), p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "a2", "a3")...)
	late := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a4")...)
	p.want(p.consume(first, 4), "a1", "a2", "a3", "a4")
	p.want(p.consume(second, 4), "a1", "a2", "a3", "a4")
	p.want(p.consume(late, 1), "a4")
}

func pubsubOwnTopic(p *pubsubTest) {
	ps := p.open()
	sub, other := p.subscribe(ps, es.SubscribeOptions{}), p.subscribeTo(ps, "invoices", es.SubscribeOptions{})
	p.publish(ps, es.NewMessage("invoices-1", "Noted", []byte(`"i1"`)), p.message("a", "a1"))
	p.want(p.consume(sub, 1), "a1")
	p.want(p.consume(other, 1), "i1")
}

func pubsubMembersShare(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g"}
	members := []es.Subscription{p.subscribe(ps, opts), p.subscribe(ps, opts)}
	var texts []string
	for key := 'a'; key <= 'z'; key++ {
		texts = append(texts, string(key)+"1")
	}
	p.publish(ps, p.messages(texts...)...)

	type received struct {
		member int
		ds     []es.Delivery
	}
	results := make(chan received)
	ctx, enough := context.WithCancel(p.ctx)
	defer enough()
	for i, member := range members {
		go func() {
			dst := make([]es.Delivery, 1)
			for {
				n, err := member.Receive(ctx, dst)
				if err == nil {
					err = member.Ack(ctx, dst[:n])
				}
				if err != nil {
					results <- received{member: i}
					return
				}
				results <- received{i, slices.Clone(dst[:n])}
			}
		}()
	}
	var got []string
	counts := make([]int, len(members))
	for running := len(members); running > 0; {
		r := <-results
		if r.ds == nil {
			running--
			continue
		}
		got = append(got, pubsubTexts(r.ds)...)
		counts[r.member] += len(r.ds)
		if len(got) == len(texts) {
			enough()
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, texts) {
		p.Fatalf("the members of one group received %v together, want each of %v once", got, texts)
	}
	busy := slices.Index(counts, slices.Max(counts)) // the other one may not have come to what it would get as well
	p.closeSub(members[busy])
	p.wantNothingBefore(ps, members[1-busy], "what others of the group have had")
}

func pubsubGroupsSeeAll(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	one, two := p.subscribe(ps, es.SubscribeOptions{Group: "one"}), p.subscribe(ps, es.SubscribeOptions{Group: "two"})
	p.publish(ps, p.messages("a1", "a2")...)
	p.want(p.consume(one, 2), "a1", "a2")
	p.want(p.consume(two, 2), "a1", "a2")
}

func pubsubGroupKeepsPlace(p *pubsubTest) {
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	opts := es.SubscribeOptions{Group: "g"}
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a1", "a2")...)
	p.consume(sub, 2)
	p.closeSub(sub)
	p.publish(ps, p.messages("a3", "a4")...)
	opts.Start.Kind = es.StartEnd // is for a group that is new
	p.want(p.consume(p.subscribe(ps, opts), 2), "a3", "a4")
}

func pubsubBacklog(p *pubsubTest) {
	if p.h.History() {
		p.Skip("this pub/sub is a log, where a new group starts at the end")
	}
	ps := p.open()
	p.publish(ps, p.messages("a1", "a2")...)
	p.publish(ps, p.messages("a3")...)
	first, second := p.subscribe(ps, es.SubscribeOptions{}), p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a4")...)
	p.want(p.consume(first, 4), "a1", "a2", "a3", "a4")
	p.want(p.consume(second, 1), "a4")
}

func pubsubBacklogComesBack(p *pubsubTest) {
	if p.h.History() {
		p.Skip("this pub/sub is a log, which keeps everything")
	}
	ps := p.open()
	sub := p.subscribe(ps, es.SubscribeOptions{})
	p.publish(ps, p.messages("a1", "b1", "a2", "c1")...)
	ds := p.receive(sub, 3)
	p.ack(sub, ds[1])
	p.closeSub(sub)
	p.publish(ps, p.messages("d1")...)
	got := pubsubTexts(p.consume(p.subscribe(ps, es.SubscribeOptions{}), 4))
	if key := pubsubOfKey(got, 'a'); !slices.Equal(key, []string{"a1", "a2"}) {
		p.Errorf("of key a, %v came", key)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"a1", "a2", "c1", "d1"}) {
		p.Errorf("received %v, want all but b1, which was acknowledged", got)
	}
}

func pubsubStartEnd(p *pubsubTest) {
	ps := p.open()
	opts := es.SubscribeOptions{Start: es.Start{Kind: es.StartEnd}}
	if p.h.Groups() {
		opts.Group = "g"
	}
	p.publish(ps, p.messages("a1", "a2")...)
	sub := p.subscribe(ps, opts)
	p.publish(ps, p.messages("a3")...)
	p.want(p.consume(sub, 1), "a3")
}

func pubsubStartHistory(p *pubsubTest) {
	p.needs(p.h.History, "history")
	p.needs(p.h.Groups, "groups")
	ps := p.open()
	for _, text := range []string{"a1", "a2", "a3", "a4"} { // one by one, so that each has a time of its own
		p.publish(ps, p.messages(text)...)
	}
	all := p.consume(p.subscribe(ps, es.SubscribeOptions{Group: "beginning", Start: es.Start{Kind: es.StartBeginning}}), 4)
	p.want(all, "a1", "a2", "a3", "a4")

	after := es.Start{Kind: es.StartPosition, Position: all[1].Position}
	p.want(p.consume(p.subscribe(ps, es.SubscribeOptions{Group: "position", Start: after}), 2), "a3", "a4")

	from := es.Start{Kind: es.StartTime, Time: all[2].Recorded}
	sub := p.subscribe(ps, es.SubscribeOptions{Group: "time", Start: from})
	for _, want := range all {
		if !want.Recorded.Before(from.Time) { // two may have been recorded in the same microsecond
			p.want(p.consume(sub, 1), pubsubText(want))
		}
	}
}

func pubsubNoHistory(p *pubsubTest) {
	if p.h.History() {
		p.Skip("this pub/sub has history")
	}
	ps := p.open()
	for _, start := range []es.Start{{Kind: es.StartPosition, Position: 1}, {Kind: es.StartTime, Time: time.Unix(1, 0)}} {
		_, err := ps.Subscribe(p.ctx, pubsubTopic, es.SubscribeOptions{Start: start})
		p.wantError("Subscribe at a place in history", err, es.ErrUnsupported)
	}
}

func pubsubSubscribeContext(p *pubsubTest) {
	ps := p.open()
	ctx, cancel := context.WithCancel(p.ctx)
	sub, err := ps.Subscribe(ctx, pubsubTopic, es.SubscribeOptions{})
	if err != nil {
		p.Fatalf("Subscribe: %v", err)
	}
	defer sub.Close()
	cancel()
	p.publish(ps, p.messages("a1")...)
	p.want(p.consume(sub, 1), "a1")
}
