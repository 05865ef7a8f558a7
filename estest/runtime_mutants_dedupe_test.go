package estest_test

import (
	"context"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// hastyDedupe is a dedupe as it is written in a hurry. With nothing set it is right for the lines that it is a mutant of.
type hastyDedupe struct {
	store es.Dedupe
	group string // empty: that of the delivery
	lease time.Duration

	before      bool  // marks a message before it is handled
	keepOnPanic bool  // does not give a reservation up when the handler panics
	busy        error // what becomes of a message that is busy, when that is given; otherwise it comes back
	handleBusy  bool  // handles what is busy
}

func (h *hastyDedupe) around(ctx context.Context, d *es.Delivery, next es.Handler) ([]*es.Message, error) {
	group := h.group
	if group == "" {
		group = d.Group
	}
	rs := []es.Reservation{{ID: d.ID}}
	if err := h.store.Reserve(ctx, group, rs, h.lease); err != nil {
		return nil, err
	}
	switch {
	case rs[0].State == es.ReserveDone:
		return nil, es.Skip(nil)
	case rs[0].State == es.ReserveBusy && h.handleBusy:
		return next.Handle(ctx, d)
	case rs[0].State == es.ReserveBusy && h.busy != nil:
		return nil, h.busy
	case rs[0].State == es.ReserveBusy:
		return nil, es.Busy(time.Millisecond, nil)
	}
	if h.before {
		if err := h.store.Complete(ctx, group, rs); err != nil {
			return nil, err
		}
		return next.Handle(ctx, d)
	}
	if !h.keepOnPanic {
		defer func() { _ = h.store.Release(context.WithoutCancel(ctx), group, rs) }() // what is completed is passed over
	}
	outputs, err := next.Handle(ctx, d)
	if err == nil {
		return outputs, h.store.Complete(ctx, group, rs)
	}
	_ = h.store.Release(context.WithoutCancel(ctx), group, rs)
	return nil, err
}

// brokenDedupe are programs that have a hasty dedupe with something wrong.
func brokenDedupe(set func(h *hastyDedupe)) runtimeBreakage {
	return brokenParts(func(p *estest.Parts) {
		p.Dedupe = func(store es.Dedupe, c middleware.DedupeConfig) es.Middleware {
			h := &hastyDedupe{store: store, group: c.Group, lease: c.Lease}
			set(h)
			return aroundHandler(h.around)
		}
	})
}

func runtimeDedupeMutants() []runtimeMutant {
	return []runtimeMutant{
		{
			"R6/what_was_handled_is_not_handled_again", "remembers nothing",
			brokenParts(func(p *estest.Parts) {
				p.Dedupe = func(es.Dedupe, middleware.DedupeConfig) es.Middleware { return asItIs }
			}),
		},
		{"R6/what_failed_is_handled_again", "marks messages before they are handled", brokenDedupe(func(h *hastyDedupe) { h.before = true })},
		{"R6/a_panic_gives_the_reservation_up", "keeps it", brokenDedupe(func(h *hastyDedupe) { h.keepOnPanic = true })},
		{"R6/what_is_busy_comes_back_later", "takes it for done", brokenDedupe(func(h *hastyDedupe) { h.busy = es.Skip(nil) })},
		{"R6/what_is_busy_comes_back_later", "takes it for a failure", brokenDedupe(func(h *hastyDedupe) { h.busy = errBroken })},
		{"R6/what_another_has_handled_meanwhile_is_done", "handles what is busy", brokenDedupe(func(h *hastyDedupe) { h.handleBusy = true })},
		{"R6/two_groups_are_no_duplicates", "has one memory for all groups", brokenDedupe(func(h *hastyDedupe) { h.group = "all" })},
		{"R6/handles_share_what_they_know", "has a memory for each", brokenDedupe(func(h *hastyDedupe) { h.group = uuid.NewString() })},
		{"R6/a_crash_leaves_a_reservation_that_ends", "reserves without end", brokenDedupe(func(h *hastyDedupe) { h.lease = time.Hour })},
	}
}
