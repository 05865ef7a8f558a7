package estest

import (
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

func outboxForwardLines() []Line[Harness[es.Outbox]] {
	line := func(name string, test func(b *forwardBench)) Line[Harness[es.Outbox]] {
		return outboxLine(name, func(b *outboxBench) { test(newForwardBench(b)) })
	}
	return []Line[Harness[es.Outbox]]{
		line("O3/forward_appends_and_completes", func(b *forwardBench) {
			b.enqueue("a1", "b1", "a2")
			entries := b.take("a1", "a2", "b1")
			b.forwarded(b.Forward(b.ctx, entries), nil, nil, nil)
			b.holds(b.role, 0)
			b.nothing(b.role, "A", "all entries were forwarded")
			b.appended("a", "a1", "a2")
			b.appended("b", "b1")
			err := b.role.Complete(b.ctx, entries[:1])
			b.is(err, es.ErrLeaseLost, "complete what was forwarded")
		}),
		line("O3/forward_tells_the_places", func(b *forwardBench) {
			b.enqueue("a1", "a2")
			outcomes := b.Forward(b.ctx, b.take("a1", "a2"))
			b.forwarded(outcomes, nil, nil)
			for i, m := range b.read("a") {
				got := outcomes[i].Appended
				if len(got.Places) != 1 || got.Places[0] != (es.Place{Version: m.Version, Position: m.Position}) ||
					got.Position != m.Position || got.Existing != 0 {
					b.Fatalf("outcome %d is %+v, and the event is at version %d, position %d", i, got, m.Version, m.Position)
				}
			}
		}),
		line("O3/forward_under_a_lost_lease_does_nothing", func(b *forwardBench) {
			b.enqueue("a1", "b1")
			entries := b.take("a1", "b1")
			b.ok(b.role.Release(b.ctx, entries[:1]), "release a1")
			b.forwarded(b.Forward(b.ctx, entries), es.ErrLeaseLost, nil)
			b.appended("a")
			b.appended("b", "b1")
			b.has(b.await(b.role, "B", 1, longLease), "a1")
			b.holds(b.role, 1)
		}),
		line("O3/forward_after_another_took_over_does_nothing", func(b *forwardBench) {
			b.enqueue("a1")
			old := b.claim(b.role, "A", shortLease)
			b.has(old, "a1")
			fresh := b.await(b.role, "B", 1, longLease)
			b.forwarded(b.Forward(b.ctx, old), es.ErrLeaseLost)
			b.appended("a")
			b.forwarded(b.Forward(b.ctx, fresh), nil)
			b.appended("a", "a1")
		}),
		line("O3/forward_of_what_was_appended_before_completes", func(b *forwardBench) {
			msgs := b.enqueue("a1", "a2")
			_, err := b.events.Append(b.ctx, es.AppendTo("a", es.NoStream, msgs[0]))
			b.ok(err, "append a1, as before a crash")
			outcomes := b.Forward(b.ctx, b.take("a1", "a2"))
			b.forwarded(outcomes, nil, nil)
			if outcomes[0].Existing != 1 || outcomes[1].Existing != 0 {
				b.Fatalf("the outcomes are %+v, want the first to exist already", outcomes)
			}
			b.appended("a", "a1", "a2")
			b.holds(b.role, 0)
		}),
		line("O3/forward_holds_back_what_follows_a_failure", func(b *forwardBench) {
			b.enqueue("a1", "a2", "b1", "a3")
			entries := b.take("a1", "a2", "a3", "b1")
			b.ok(b.role.Release(b.ctx, entries[:1]), "release a1")
			b.forwarded(b.Forward(b.ctx, entries), es.ErrLeaseLost, es.ErrHeldBack, es.ErrHeldBack, nil)
			b.appended("a")
			b.appended("b", "b1")
			b.ok(b.role.Release(b.ctx, entries[1:3]), "release a2 and a3")
			b.forwarded(b.Forward(b.ctx, b.await(b.role, "A", 3, longLease)), nil, nil, nil)
			b.appended("a", "a1", "a2", "a3")
		}),
		line("O3/forward_goes_on_behind_what_can_never_succeed", func(b *forwardBench) {
			msgs := b.enqueue("a1", "a2")
			taken := msgs[0].Clone()
			taken.Stream = "z"
			_, err := b.events.Append(b.ctx, es.AppendTo("z", es.NoStream, taken))
			b.ok(err, "append the ID of a1 to another stream")
			b.forwarded(b.Forward(b.ctx, b.take("a1", "a2")), es.ErrDuplicate, nil)
			b.appended("a", "a2")
		}),
		line("O3/forward_that_fails_leaves_the_entry", func(b *forwardBench) {
			msgs := b.enqueue("a1", "b1", "c1")
			taken := msgs[1].Clone()
			taken.Stream = "z"
			_, err := b.events.Append(b.ctx, es.AppendTo("z", es.NoStream, taken))
			b.ok(err, "append the ID of b1 to another stream")
			entries := b.take("a1", "b1", "c1")
			b.forwarded(b.Forward(b.ctx, entries), nil, es.ErrDuplicate, nil)
			b.appended("a", "a1")
			b.appended("b")
			b.appended("c", "c1")
			b.holds(b.role, 1)
			b.ok(b.role.Fail(b.ctx, entries[1:2], es.Failure{Err: es.ErrDuplicate}), "fail what could not be forwarded")
			b.isDead(b.role, "b1")
		}),
	}
}

// forwardBench is an outbox that forwards, and the event store beside it.
type forwardBench struct {
	*outboxBench
	es.Forwarder

	events es.EventStore
}

func newForwardBench(b *outboxBench) *forwardBench {
	b.Helper()
	storage, ok := b.storage.(OutboxStorage)
	if !ok {
		b.Skip("needs an OutboxStorage")
	}
	b.ok(b.storage.Close(b, b.role), "close")
	outbox, events := storage.OpenForwarder(b, Namespace)
	forwarder, ok := outbox.(es.Forwarder)
	if !ok {
		b.Fatalf("OpenForwarder opened a %T, which is no Forwarder", outbox)
	}
	b.role = outbox
	return &forwardBench{outboxBench: b, Forwarder: forwarder, events: events}
}

// forwarded ends the test unless the outcomes have these errors.
func (b *forwardBench) forwarded(outcomes []es.Outcome, errs ...error) {
	b.Helper()
	if len(outcomes) != len(errs) {
		b.Fatalf("%d outcomes, want %d", len(outcomes), len(errs))
	}
	for i, o := range outcomes {
		if !errors.Is(o.Err, errs[i]) {
			b.Fatalf("forward: the error of entry %d is %v, want %v", i, o.Err, errs[i])
		}
	}
}

func (b *forwardBench) read(stream string) []*es.Message {
	b.Helper()
	var got []*es.Message
	for m, err := range b.events.Read(b.ctx, es.Query{Stream: stream}) {
		b.ok(err, "read %s", stream)
		got = append(got, m)
	}
	return got
}

// appended ends the test unless a stream of the event store has these events.
func (b *forwardBench) appended(stream string, labels ...string) {
	b.Helper()
	var got []string
	for _, m := range b.read(stream) {
		got = append(got, m.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(labels) {
		b.Fatalf("stream %s of the event store has %v, want %v", stream, got, labels)
	}
}
