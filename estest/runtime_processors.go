package estest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

func runtimeProcessorLines() []Line[Harness[es.Backend]] {
	return []Line[Harness[es.Backend]]{
		runtimeLine("O5/completed_before_published", runtimeCompletedFirst),
		runtimeLine("O5/what_fails_is_dropped_and_counted", runtimeDropped),
		runtimeLine("O6/a_batch_is_flushed_when_it_is_full", runtimeFullBatch),
		runtimeLine("O6/a_batch_is_flushed_when_its_time_has_come", runtimeDueBatch),
		runtimeLine("O6/a_batch_that_fails_goes_to_the_dead_stream_whole", runtimeFailedBatch),
		runtimeLine("O7/wakes_up_when_something_is_enqueued", runtimeWakesUp),
		runtimeLine("O7/throughput_does_not_depend_on_polling", runtimeThroughput),
		runtimeLine("O7/wakes_up_for_another_handle", runtimeWokenFromElsewhere),
	}
}

// runtimeCompletedFirst looks into the outbox while a message is being published at most once.
func runtimeCompletedFirst(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	depth := make(chan int, 16)
	published.before = func(ctx context.Context, _ []*es.Message) error {
		stats, err := p.handle.Outbox().Stats(ctx)
		depth <- stats.Depth
		return err
	}
	p.processBy(t.parts.AtMostOnce, published.publishTo)
	p.enqueue(t.messages("a1", "b1")...)
	published.awaitCount(2)
	if n := <-depth; n != 0 {
		t.Fatalf("%d entries were not completed when they were published", n)
	}
}

func runtimeDropped(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a1", errBoom)
	proc := p.processBy(t.parts.AtMostOnce, published.publishTo)
	p.enqueue(t.messages("a1", "b1")...)
	published.awaitTexts("b1")
	t.until("the drop is counted", func() bool {
		stats, err := proc.Stats(t.ctx)
		t.ok(err, "statistics of the processor")
		return stats.Dropped == 1
	})
	p.enqueue(t.messages("a2")...)
	published.awaitTexts("b1", "a2")
	if n := published.tries("a1"); n != 1 {
		t.Errorf("a message to be published at most once was tried %d times", n)
	}
	if stats := p.outboxStats(); stats.Depth != 0 || stats.Dead != 0 {
		t.Errorf("the outbox has %+v, want nothing", stats)
	}
	p.wantLetters()
}

// batch runs a processor that publishes in batches.
func (p *program) batch(f processor.Flush, edit ...func(c *processor.Config)) Processor {
	p.Helper()
	return p.processBy(func(c processor.Config) (Processor, error) { return p.parts.Batch(c, f) }, edit...)
}

func runtimeFullBatch(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	proc := p.batch(processor.Flush{Size: 3, Interval: time.Hour}, published.publishTo)
	p.enqueue(t.messages("a1", "a2", "a3", "a4", "a5", "a6", "a7", "b1")...)
	published.awaitCount(6)
	batches := published.batches()
	if len(batches) > 2 || !slices.Equal(slices.Concat(batches...), []string{"a1", "a2", "a3", "a4", "a5", "a6"}) {
		t.Fatalf("published were the batches %v, want a1 to a6 by threes", batches)
	}
	stats, err := proc.Stats(t.ctx)
	t.ok(err, "statistics of the processor")
	if stats.Outbox.Depth < 2 {
		t.Fatalf("of 8 messages %d are left, want the 2 that make no batch", stats.Outbox.Depth)
	}
}

func runtimeDueBatch(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	p.batch(processor.Flush{Size: 100, Interval: 30 * time.Millisecond}, published.publishTo)
	p.enqueue(t.messages("a1", "a2", "a3")...)
	published.awaitTexts("a1", "a2", "a3")
	p.awaitEmptyOutbox()
}

// runtimeFailedBatch turns down one message of a batch: all of it becomes dead letters, and other streams do not.
func runtimeFailedBatch(t *runtimeTest) {
	p := t.open()
	published := newShelf(t)
	published.refuse("a2", errBoom)
	p.batch(processor.Flush{Size: 3, Interval: time.Hour}, published.publishTo)
	p.enqueue(t.messages("a1", "b1", "a2", "b2", "a3", "b3")...)
	p.wantLetters("a1", "a2", "a3")
	published.await("the other stream was published", func(taken []*es.Message) bool {
		return slices.ContainsFunc(taken, func(m *es.Message) bool { return runtimeText(m) == "b3" })
	})
	t.until("the entries are dead letters of the outbox", func() bool { s := p.outboxStats(); return s.Dead == 3 && s.Depth == 0 })
	if n := published.tries("a2"); n != 1 {
		t.Errorf("the batch was tried %d times, want 1", n)
	}
}

// idle returns a signal that the program has begun to wait for its outbox.
func (p *program) idle() <-chan struct{} {
	waiting := make(chan struct{}, 1)
	p.link.obey(func(call string, done bool) error {
		if call == "Outbox.Wait" && !done {
			select {
			case waiting <- struct{}{}:
			default:
			}
		}
		return nil
	})
	return waiting
}

// runtimeWakesUp enqueues when the processor has gone to sleep, which it does for an hour if nothing wakes it.
func runtimeWakesUp(t *runtimeTest) {
	p := t.open()
	waiting := p.idle()
	published := newShelf(t)
	p.process(published.publishTo)
	var texts []string
	for i := range 5 {
		t.wait("the processor sleeps", waiting)
		texts = append(texts, fmt.Sprint("a", i))
		p.enqueue(t.messages(texts[i])...)
		published.awaitTexts(texts...)
	}
}

func runtimeWokenFromElsewhere(t *runtimeTest) {
	t.needsHandles()
	p, other := t.open(), t.open()
	waiting := p.idle()
	published := newShelf(t)
	p.process(published.publishTo)
	t.wait("the processor sleeps", waiting)
	other.enqueue(t.messages("a1")...)
	published.awaitTexts("a1")
}

// runtimeThroughput has far more than one claim takes, and polls once an hour.
func runtimeThroughput(t *runtimeTest) {
	const messages, streams = 60, 7
	p := t.open()
	published := newShelf(t)
	p.process(published.publishTo, func(c *processor.Config) { c.InHand = 4 })
	var msgs []*es.Message
	for i := range messages {
		msgs = append(msgs, t.message(strconv.Itoa(i%streams), strconv.Itoa(i)))
	}
	p.enqueue(msgs...)
	published.awaitCount(messages)
	p.awaitEmptyOutbox()
}
