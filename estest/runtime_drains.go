package estest

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func runtimeDrainLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("O8/a_stop_finishes_what_is_in_hand", runtimeDrained),
		runtimeLine("O8/what_is_broken_off_is_released_at_once", runtimeDrainBroken),
		runtimeLine("O8/depth_age_and_failures_can_be_read", runtimeStats),
	}
}

// claimAll claims what there is, as another processor does, and fails unless it is of these texts, each as its first attempt.
func (p *program) claimAll(texts ...string) {
	p.Helper()
	room := make([]es.Entry, 16)
	var got []string
	p.until("the rest can be claimed", func() bool {
		n, err := p.handle.Outbox().Claim(p.ctx, room, es.ClaimOptions{Owner: "another"})
		p.ok(err, "claim")
		for _, e := range room[:n] {
			got = append(got, runtimeText(e.Message))
			if e.Attempt != 1 {
				p.Errorf("%s is to be claimed as attempt %d, want 1", runtimeText(e.Message), e.Attempt)
			}
		}
		return len(got) >= len(texts)
	})
	if len(got) != len(texts) {
		p.Fatalf("claimed were %v, want %v", got, texts)
	}
}

// runtimeDrained stops a processor while it publishes. That is finished, and the rest is there for others at once.
func runtimeDrained(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	gate := newGate()
	published.before = func(ctx context.Context, _ []*es.Message) error { return gate.pass(ctx) }
	proc := p.process(published.publishTo, func(c *processor.Config) { c.InHand = 1 })
	p.enqueue(t.messages("a1", "b1", "c1")...)
	t.wait("it publishes", gate.reached)
	stopped := make(chan error, 1)
	go func() { stopped <- proc.Stop(t.ctx) }()
	t.until("it is being stopped", func() bool { return proc.Health(t.ctx) != nil })
	gate.open()
	t.ok(<-stopped, "stop")
	published.awaitCount(1)
	if n := len(published.batches()); n != 1 {
		t.Fatalf("%d calls were published after the stop began", n-1)
	}
	first := published.awaitCount(1)[0]
	if stats := p.outboxStats(); stats.Depth != 2 {
		t.Fatalf("%s was published, and the outbox has %+v, want the 2 others", runtimeText(first), stats)
	}
	p.claimAll("b1", "c1")
}

// runtimeDrainBroken stops a processor that has no time to finish.
func runtimeDrainBroken(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	gate := newGate()
	published.before = func(ctx context.Context, _ []*es.Message) error { return gate.pass(ctx) }
	proc := p.process(published.publishTo)
	p.enqueue(t.messages("a1", "a2")...)
	t.wait("it publishes", gate.reached)
	p.stopNow(proc)
	p.claimAll("a1", "a2")
}

func runtimeStats(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", errBoom)
	before := time.Now()
	proc := p.process(published.publishTo, attempts(1_000_000))
	p.enqueue(t.messages("a1", "a2", "b1")...)
	published.awaitTries("a1", 3)
	published.awaitTexts("b1")
	var stats processor.Stats
	t.until("what is done is counted", func() (counted bool) {
		var err error
		stats, err = proc.Stats(t.ctx)
		t.ok(err, "statistics of the processor")
		return stats.Completed == 1 && stats.Retried >= 2
	})
	const clocks = time.Minute // by which the outbox's may differ from ours
	if o := stats.Outbox; o.Depth != 2 || o.Retrying != 1 || o.Failures < 2 || o.Oldest.Before(before.Add(-clocks)) {
		t.Fatalf("the outbox has %+v, want 2 entries, one of them retrying, and the failures", o)
	}
	if stats.Published != 1 || stats.Appended != 3 || stats.Dead != 0 {
		t.Fatalf("the processor counts %+v, want 3 appended and 1 published", stats)
	}
	published.refuse("", nil)
	published.awaitCount(3)
	p.awaitEmptyOutbox()
}
