package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const topic = "orders"

// TestSchedules holds the pub/sub in memory against the model, over schedules of everything that can be done with it, in fake
// time: each delivery has to be one that the model allows, nothing that is there may be left out, and each answer is taken or
// refused as the model says.
func TestSchedules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Behind an interface, because rapid asks a *testing.T for its deadline, which is none of fake time.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			s := newSchedule(t)
			defer s.close()
			t.Repeat(map[string]func(*rapid.T){
				"":            s.check,
				"publish":     s.publish,
				"publish too": s.publish,
				"subscribe":   s.subscribe,
				"receive":     s.receive,
				"receive too": s.receive,
				"ack":         s.ack,
				"nack":        s.nack,
				"release":     s.release,
				"extend":      s.extend,
				"leave":       s.leave,
				"wait":        s.wait,
			})
			s.drain(t)
		})
	})
}

// schedule is a pub/sub and what it should be.
type schedule struct {
	ps      *memory.PubSub
	model   model
	open    []*opened
	lent    []lent // everything that ever was, so that stale ones are answered too
	counter int
}

// opened is a subscription and what it should be.
type opened struct {
	*member
	sub es.Subscription
}

type lent struct {
	to *opened
	d  es.Delivery
}

func newSchedule(t *rapid.T) *schedule {
	c := memory.PubSubConfig{
		Buffer:       rapid.IntRange(1, 12).Draw(t, "buffer"),
		BacklogLimit: rapid.IntRange(1, 12).Draw(t, "backlog"),
		Overflow: rapid.SampledFrom([]memory.Overflow{
			memory.OverflowBlock, memory.OverflowEvictOldest, memory.OverflowFail,
		}).Draw(t, "overflow"),
	}
	if rapid.Bool().Draw(t, "spacious") {
		c.Buffer, c.BacklogLimit = 1000, 1000
	}
	ps, err := memory.NewPubSub(c)
	if err != nil {
		t.Fatal(err)
	}
	return &schedule{ps: ps, model: model{
		buffer: c.Buffer, backlogLimit: c.BacklogLimit, evictOldest: c.Overflow == memory.OverflowEvictOldest,
	}}
}

func (s *schedule) close() { _ = s.ps.Close() }

// atOnce is a context for a call that would wait: in fake time the nanosecond passes when nothing else can happen.
func atOnce() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Nanosecond)
}

func (s *schedule) publish(t *rapid.T) {
	n := rapid.IntRange(1, 6).Draw(t, "messages")
	pubs := make([]es.Publication, n)
	msgs := make([]*es.Message, n)
	for i := range pubs {
		s.counter++
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
		msgs[i] = es.NewMessage(topic+"-"+key, "Noted", fmt.Appendf(nil, "%s%d", key, s.counter))
		msgs[i].CorrelationID = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "correlation")
		pubs[i] = es.Publication{Topic: topic, Message: msgs[i]}
	}
	room := min(s.model.room(), n)
	ctx, cancel := atOnce()
	defer cancel()
	err := s.ps.Publish(ctx, pubs...)
	for i := range pubs {
		if taken := es.Of(err, i) == nil; taken != (i < room) {
			t.Fatalf("publication %d of %d, with room for %d: %v", i, n, room, es.Of(err, i))
		}
	}
	s.model.publish(msgs[:room])
}

func (s *schedule) subscribe(t *rapid.T) {
	if len(s.open) == 5 {
		t.Skip("enough")
	}
	opts := es.SubscribeOptions{
		Group: rapid.SampledFrom([]string{"", "g", "h"}).Draw(t, "group"),
		Start: es.Start{Kind: rapid.SampledFrom([]es.StartKind{es.StartDefault, es.StartBeginning, es.StartEnd}).Draw(t, "start")},
		Lease: rapid.SampledFrom([]time.Duration{10 * time.Millisecond, 50 * time.Millisecond, time.Second}).Draw(t, "lease"),
	}
	if rapid.Bool().Draw(t, "by correlation") {
		opts.Key = func(m *es.Message) string { return m.CorrelationID }
	}
	sub, err := s.ps.Subscribe(context.Background(), topic, opts)
	if err != nil {
		t.Fatal(err)
	}
	s.open = append(s.open, &opened{s.model.join(opts), sub})
}

func (s *schedule) member(t *rapid.T) *opened {
	if len(s.open) == 0 {
		t.Skip("nobody is subscribed")
	}
	return rapid.SampledFrom(s.open).Draw(t, "member")
}

func (s *schedule) receive(t *rapid.T) {
	s.receiveBy(t, s.member(t), rapid.IntRange(1, 8).Draw(t, "most"))
}

func (s *schedule) receiveBy(t *rapid.T, o *opened, most int) int {
	ctx, cancel := atOnce()
	defer cancel()
	dst := make([]es.Delivery, most)
	n, err := o.sub.Receive(ctx, dst)
	if err != nil && (n != 0 || !errors.Is(err, context.DeadlineExceeded)) {
		t.Fatalf("Receive: %d, %v", n, err)
	}
	now := time.Now()
	o.group.refresh(now)
	if wrong := s.model.receive(o.member, dst[:n], most, now); wrong != "" {
		t.Fatal(wrong)
	}
	for _, d := range dst[:n] {
		s.lent = append(s.lent, lent{o, d})
	}
	return n
}

// answer answers some of what a subscription has handed out, and perhaps was answered before.
func (s *schedule) answer(t *rapid.T, ask func(es.Subscription, []es.Delivery) error, answer func(g *group, e *entry)) {
	if len(s.lent) == 0 {
		t.Skip("nothing was received")
	}
	recent := s.lent[max(len(s.lent)-20, 0):]
	o := rapid.SampledFrom(recent).Draw(t, "of").to
	var ds []es.Delivery
	for _, l := range recent {
		if l.to == o && rapid.Bool().Draw(t, "this one") {
			ds = append(ds, l.d)
		}
	}
	ds = rapid.Permutation(ds).Draw(t, "order")
	if len(ds) > 0 && rapid.IntRange(0, 9).Draw(t, "one twice") == 0 {
		ds = append(ds, ds[0])
	}
	answered := make([]bool, len(ds))
	if slices.Contains(s.open, o) { // what belongs to a closed one is lost
		answered = s.model.answer(o.member, ds, time.Now(), answer)
	}
	err := ask(o.sub, ds)
	for i := range ds {
		switch e := es.Of(err, i); {
		case answered[i] && e != nil:
			t.Fatalf("answer to %s (%d): %v", ds[i].Data, ds[i].Receipt, e)
		case !answered[i] && !errors.Is(e, es.ErrLeaseLost):
			t.Fatalf("answer to %s (%d), which is lost: %v", ds[i].Data, ds[i].Receipt, e)
		}
	}
}

func (s *schedule) ack(t *rapid.T) {
	s.answer(t, func(sub es.Subscription, ds []es.Delivery) error { return sub.Ack(context.Background(), ds) },
		(*group).acknowledge)
}

func (s *schedule) nack(t *rapid.T) {
	delay := rapid.SampledFrom([]time.Duration{0, 7 * time.Millisecond, 50 * time.Millisecond}).Draw(t, "delay")
	var back []*entry
	s.answer(t, func(sub es.Subscription, ds []es.Delivery) error { return sub.Nack(context.Background(), ds, delay) },
		func(g *group, e *entry) {
			e.attempt++
			e.suspect = false
			e.notBefore = time.Now().Add(delay)
			back = append(back, e)
			g.giveBack(e)
		})
}

func (s *schedule) release(t *rapid.T) {
	s.answer(t, func(sub es.Subscription, ds []es.Delivery) error { return sub.Release(context.Background(), ds) },
		func(g *group, e *entry) {
			e.notBefore = time.Time{}
			g.giveBack(e)
		})
}

// extend has no mark of an answer: a delivery that is in the call twice is extended twice.
func (s *schedule) extend(t *rapid.T) {
	if len(s.lent) == 0 {
		t.Skip("nothing was received")
	}
	l := rapid.SampledFrom(s.lent[max(len(s.lent)-20, 0):]).Draw(t, "delivery")
	answered := slices.Contains(s.open, l.to) && s.model.answer(l.to.member, []es.Delivery{l.d}, time.Now(),
		func(_ *group, e *entry) { e.due = time.Now().Add(l.to.lease) })[0]
	ds := []es.Delivery{l.d}
	err := l.to.sub.Extend(context.Background(), ds)
	switch {
	case answered && (err != nil || !ds[0].Deadline.Equal(time.Now().Add(l.to.lease))):
		t.Fatalf("Extend of %s: %v, the deadline is %v", l.d.Data, err, ds[0].Deadline)
	case !answered && !errors.Is(err, es.ErrLeaseLost):
		t.Fatalf("Extend of %s, which is lost: %v", l.d.Data, err)
	}
}

func (s *schedule) leave(t *rapid.T) {
	o := s.member(t)
	if err := o.sub.Close(); err != nil {
		t.Fatal(err)
	}
	s.model.leave(o.member, time.Now())
	s.open = slices.DeleteFunc(s.open, func(other *opened) bool { return other == o })
}

func (s *schedule) wait(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{
		time.Microsecond, 7 * time.Millisecond, 40 * time.Millisecond, 700 * time.Millisecond, time.Second,
	}).Draw(t, "time"))
}

// check compares the counts.
func (s *schedule) check(t *rapid.T) {
	want := memory.TopicStats{Topic: topic, Evicted: s.model.evicted}
	depths := map[string][2]int{}
	if s.model.backlog != nil {
		want.Backlog = s.model.backlog.waiting()
	}
	for _, g := range s.model.groups {
		if g != s.model.backlog && g.name != "" {
			depths[g.name] = [2]int{g.waiting(), g.inFlight()}
		}
	}
	for _, got := range s.ps.Stats() {
		if got.Backlog != want.Backlog || got.Evicted != want.Evicted {
			t.Fatalf("the topic has %+v, want %+v", got, want)
		}
		for _, g := range got.Groups {
			if g.Group != "" && depths[g.Group] != [2]int{g.Depth, g.InFlight} {
				t.Fatalf("group %q has %d waiting and %d in flight, want %v", g.Group, g.Depth, g.InFlight, depths[g.Group])
			}
		}
	}
}

// drain lets each subscription receive and acknowledge until nothing is left, whatever was lent or delayed.
func (s *schedule) drain(t *rapid.T) {
	for _, o := range s.open {
		for rounds := 0; len(o.group.entries) > 0; rounds++ {
			if rounds > 10_000 {
				t.Fatalf("%d messages do not come", len(o.group.entries))
			}
			begin := len(s.lent)
			if s.receiveBy(t, o, 8) == 0 {
				time.Sleep(time.Second) // for what is delayed, or lent to others
				continue
			}
			var ds []es.Delivery
			for _, l := range s.lent[begin:] {
				ds = append(ds, l.d)
			}
			s.model.answer(o.member, ds, time.Now(), (*group).acknowledge)
			if err := o.sub.Ack(context.Background(), ds); err != nil {
				t.Fatal(err)
			}
		}
	}
}
