package estest

import (
	"context"
	"errors"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/router"
)

func runtimeStopLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("R8/running_handlers_finish", runtimeHandlersFinish),
		runtimeLine("R8/nothing_new_is_begun", runtimeNothingNew),
		runtimeLine("R8/what_is_broken_off_is_no_attempt", runtimeBrokenOff),
		runtimeLine("R8/what_is_broken_off_is_no_dead_letter", runtimeBrokenOffAlive),
	}
}

// runtimeHandlersFinish stops a router while a handler runs. It finishes, and its message does not come again.
func runtimeHandlersFinish(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	gate := newGate()
	var result error
	r := p.serve(saw.withContext(func(ctx context.Context, _ int) error {
		result = gate.pass(ctx)
		return result
	}), router.Options{})
	p.publish(t.messages("a1")...)
	t.wait("a handler runs", gate.reached)
	stopped := p.beginStop(r)
	gate.open()
	t.ok(<-stopped, "stop")
	t.ok(result, "what the handler was told within the grace period")
	p.serve(saw.succeeding(), router.Options{})
	p.publish(t.messages("a2")...)
	saw.want("a1", "a2")
}

func runtimeNothingNew(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	gate := newGate()
	r := p.serve(saw.withContext(func(ctx context.Context, _ int) error { return gate.pass(ctx) }), router.Options{})
	p.publish(t.messages("a1", "a2", "a3")...)
	t.wait("a handler runs", gate.reached)
	stopped := p.beginStop(r)
	gate.open()
	t.ok(<-stopped, "stop")
	saw.want("a1")
	p.serve(saw.succeeding(), router.Options{})
	saw.want("a1", "a2", "a3")
	for _, d := range saw.seen() {
		if d.Attempt != 1 {
			t.Errorf("%s came as attempt %d, want 1", pubsubText(d), d.Attempt)
		}
	}
}

// breakOff stops a router without patience while a handler runs that waits for the end of its context.
func (p *program) breakOff(saw *journal, o router.Options) (cause error) {
	p.Helper()
	gate := newGate()
	r := p.serve(saw.withContext(func(ctx context.Context, _ int) error {
		err := gate.pass(ctx)
		cause = context.Cause(ctx)
		return err
	}), o)
	p.publish(p.messages("a1", "a2")...)
	p.wait("a handler runs", gate.reached)
	p.stopNow(r)
	return cause
}

func runtimeBrokenOff(t *runtimeTest) {
	p := t.open()
	saw := t.journal()
	if cause := p.breakOff(saw, router.Options{}); !errors.Is(cause, router.ErrStopped) {
		t.Errorf("the context of a handler that is broken off ends because of %v, want ErrStopped", cause)
	}
	p.serve(saw.succeeding(), router.Options{})
	saw.want("a1", "a1", "a2")
	if d := saw.seen()[1]; d.Attempt != 1 {
		t.Fatalf("a message whose handler was broken off came as attempt %d, want 1", d.Attempt)
	}
}

// runtimeBrokenOffAlive breaks the last attempt off, with retry in the chain.
func runtimeBrokenOffAlive(t *runtimeTest) {
	p := t.open()
	p.process()
	saw := t.journal()
	o := router.Options{MaxAttempts: 1, Middleware: []es.Middleware{t.retry(1)}}
	_ = p.breakOff(saw, o)
	p.serve(saw.succeeding(), o)
	saw.want("a1", "a1", "a2")
	p.enqueue(es.NewMessage("marker", "Marker", nil)) // a dead letter would be before it
	p.awaitEvents(es.Query{Stream: "marker"}, 1)
	p.wantLetters()
}
