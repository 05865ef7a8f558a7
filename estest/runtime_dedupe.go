package estest

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeDedupeLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R6/what_was_handled_is_not_handled_again", runtimeHandledOnce),
		runtimeLine("R6/what_failed_is_handled_again", runtimeFailedAgain),
		runtimeLine("R6/a_panic_gives_the_reservation_up", runtimePanicReleases),
		runtimeLine("R6/what_is_busy_comes_back_later", runtimeBusy),
		runtimeLine("R6/what_another_has_handled_meanwhile_is_done", runtimeBusyDone),
		runtimeLine("R6/two_groups_are_no_duplicates", runtimeTwoGroups),
		runtimeLine("R6/handles_share_what_they_know", runtimeSharedDedupe),
		runtimeLine("R6/a_crash_leaves_a_reservation_that_ends", runtimeCrashedReservation),
	}
}

// dedupe is the dedupe middleware on the program's own store.
func (p *program) dedupe(c middleware.DedupeConfig) es.Middleware {
	const soon = 20 * time.Millisecond
	c.Poll = soon
	return p.parts.Dedupe(p.backend.Dedupe(), c)
}

// unacknowledged fails the first time that something is done, as an acknowledgement that gets lost: the message comes again.
func unacknowledged() es.Middleware {
	return around(func(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
		outputs, err := next.Handle(ctx, d)
		if err == nil && d.Attempt == 1 {
			return nil, es.RetryAfter(0, errLost)
		}
		return outputs, err
	})
}

func runtimeHandledOnce(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	r := p.serve(saw.succeeding(), with(unacknowledged(), p.dedupe(middleware.DedupeConfig{})))
	p.publish(t.messages("a1", "a2", "a3")...)
	saw.want("a1", "a2", "a3")
	t.until("the copies are skipped", func() bool { return r.Stats()[0].Skipped == 3 })
	saw.want("a1", "a2", "a3")
}

func runtimeFailedAgain(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	r := p.serve(saw.failing("a1", failTimes(2, errBoom)), with(t.retry(5), p.dedupe(middleware.DedupeConfig{})))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a1", "a2")
	t.until("both are handled", func() bool { return r.Stats()[0].Handled == 2 })
}

func runtimePanicReleases(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	p.serve(saw.failing("a1", panicOnce), with(p.dedupe(middleware.DedupeConfig{Lease: time.Hour})))
	p.publish(t.messages("a1", "a2")...)
	saw.want("a1", "a1", "a2")
}

// elsewhere reserves a message for a handler that is somewhere else.
func (p *program) elsewhere(m *es.Message, group string) []es.Reservation {
	p.Helper()
	rs := []es.Reservation{{ID: m.ID}}
	p.ok(p.handle.Dedupe().Reserve(p.ctx, group, rs, time.Hour), "reserve")
	return rs
}

// runtimeBusy lets a message be in somebody else's hands, who gives it up in the end. Others go on meanwhile.
func runtimeBusy(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	a1 := t.message("a", "a1")
	held := p.elsewhere(a1, "g")
	r := p.serve(saw.succeeding(), with(t.retry(2), p.dedupe(middleware.DedupeConfig{})))
	p.publish(append([]*es.Message{a1}, t.messages("b1")...)...)
	saw.want("b1")
	t.until("the message was found busy more often than it may be tried", func() bool { return r.Stats()[0].Busy >= 3 })
	saw.want("b1")
	t.ok(p.handle.Dedupe().Release(t.ctx, "g", held), "release")
	saw.want("b1", "a1")
	if d := saw.seen()[1]; d.Attempt != 1 {
		t.Fatalf("a message that was busy comes as attempt %d, want 1", d.Attempt)
	}
}

func runtimeBusyDone(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	a1 := t.message("a", "a1")
	held := p.elsewhere(a1, "g")
	r := p.serve(saw.succeeding(), with(p.dedupe(middleware.DedupeConfig{})))
	p.publish(append([]*es.Message{a1}, t.messages("a2")...)...)
	t.until("the message was found busy", func() bool { return r.Stats()[0].Busy >= 1 })
	t.ok(p.handle.Dedupe().Complete(t.ctx, "g", held), "complete")
	saw.want("a2")
	if s := r.Stats()[0]; s.Skipped != 1 {
		t.Fatalf("the figures of the route are %+v, want one message skipped", s)
	}
}

func runtimeTwoGroups(t *runtimeTest) {
	p := t.open()
	r := p.router()
	t.ok(r.Use(p.dedupe(middleware.DedupeConfig{})), "use dedupe")
	first, second := t.journal(), t.journal()
	p.route(r, first.succeeding(), router.Options{Name: "first"})
	p.route(r, second.succeeding(), router.Options{Name: "second"})
	p.run(r)
	p.publish(t.messages("a1", "b1")...)
	first.wantInAnyOrder("a1", "b1")
	second.wantInAnyOrder("a1", "b1")
}

// runtimeSharedDedupe has two programs, each with a route of its own, that share the memory of one group.
func runtimeSharedDedupe(t *runtimeTest) {
	t.needsHandles()
	saw := t.journal()
	var routers []Router
	var last *program
	for _, name := range []string{"first", "second"} {
		last = t.open()
		o := with(last.dedupe(middleware.DedupeConfig{Group: "shared"}))
		o.Name = name
		routers = append(routers, last.serve(saw.succeeding(), o))
	}
	texts := []string{"a1", "b1", "a2", "c1", "b2"}
	last.publish(t.messages(texts...)...)
	t.until("both programs have dealt with all messages", func() bool {
		first, second := routers[0].Stats()[0], routers[1].Stats()[0]
		return first.Handled+first.Skipped == int64(len(texts)) && second.Handled+second.Skipped == int64(len(texts))
	})
	saw.wantInAnyOrder(texts...)
}

// runtimeCrashedReservation lets a program die with a reservation. Another handles the message when it has ended.
func runtimeCrashedReservation(t *runtimeTest) {
	p := t.openMortal()
	c := middleware.DedupeConfig{Lease: t.shortLease()}
	died := make(chan struct{})
	p.serve(t.journal().withContext(func(ctx context.Context, _ int) error { return p.die(ctx, died) }), with(p.dedupe(c)))
	p.publish(t.messages("a1")...)
	t.wait("a handler has the message", died)
	p.crash()
	next := t.openMortal()
	saw := t.journal()
	next.serve(saw.succeeding(), with(next.dedupe(c)))
	saw.want("a1")
}
