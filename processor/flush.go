package processor

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// flushReady passes on what is ready, in rounds: a batch does not begin before the one in front of it in its stream is done.
func (p *Batch) flushReady(ctx context.Context, h *hand) {
	for left := p.ready; len(left) > 0; {
		left = p.nextRound(h, left)
		if len(p.round) > 0 {
			p.flushRound(ctx, h)
		}
	}
}

// nextRound takes the next batch of each stream, and returns those that are left.
func (p *Batch) nextRound(h *hand, batches [][]int) [][]int {
	p.round = p.round[:0]
	left, last := batches[:0], -1
	for _, items := range batches {
		s := p.desk.items[items[0]].stream
		switch {
		case s == last:
			left = append(left, items)
			continue
		case p.desk.streams[s].blocked:
			p.settle(items, fateHeld)
		case p.ours(h, items):
			p.round = append(p.round, items)
		}
		last = s
	}
	return left
}

// ours tells whether a batch is still in hand, as far as is known. When some of it is not, none of it is moved.
func (p *Batch) ours(h *hand, items []int) bool {
	for _, i := range items {
		if !h.keeper.ours(i) {
			p.settle(items, fateHeld)
			return false
		}
	}
	return true
}

// settle gives all items of a batch one fate. When they were not passed on, nothing of their stream overtakes them.
func (p *Batch) settle(items []int, f fate) {
	for _, i := range items {
		p.desk.items[i].fate = f
	}
	p.desk.streams[p.desk.items[items[0]].stream].blocked = f != fateDone
}

// flushRound does all the steps for some batches of different streams.
func (p *Batch) flushRound(ctx context.Context, h *hand) {
	for j, o := range p.desk.append(ctx, h, p.round) {
		items := p.round[j]
		if o.Err != nil {
			p.failed(ctx, h, items, fmt.Errorf("append: %w", o.Err))
			continue
		}
		p.desk.place(items, o.Appended)
		p.counters.appended.Add(int64(len(items) - o.Existing))
	}
	if p.config.Publisher != nil {
		p.desk.sort()
		p.desk.load(ctx, h)
	}
	for _, items := range p.round {
		switch {
		case p.desk.items[items[0]].fate != fateStored:
		case p.config.Publisher == nil:
			p.settle(items, fateDone)
		case p.ours(h, items):
			p.publish(ctx, h, items)
		}
	}
	p.complete(ctx, h)
}

// complete answers for what was passed on, so that the next round begins with that behind it.
func (p *Batch) complete(ctx context.Context, h *hand) {
	if h.complete(ctx, p.desk.with(fateDone)) > 0 {
		p.moving.clear()
	}
	for _, i := range h.taken {
		p.desk.items[i].fate = fateSettled
	}
	for _, i := range p.desk.with(fateDone) { // it comes again, and what is behind it must not be done before
		p.desk.items[i].fate = fateSettled
		p.desk.streams[p.desk.items[i].stream].blocked = true
	}
}

// publish tells others of a batch, in one call.
func (p *Batch) publish(ctx context.Context, h *hand, items []int) {
	d := &p.desk
	d.pubs = d.pubs[:0]
	for _, i := range items {
		if err := d.items[i].err; err != nil {
			p.failed(ctx, h, items, err)
			return
		}
		topic, err := d.topic(d.items[i].stored)
		if err != nil { // asking again does not help
			p.bury(ctx, h, items, err)
			return
		}
		d.pubs = append(d.pubs, es.Publication{Topic: topic, Message: d.items[i].stored})
	}
	err := p.config.Publisher.Publish(ctx, d.pubs...)
	var cause error // of the first message that was tried
	for j := range items {
		itemErr := es.Of(err, j)
		if itemErr == nil {
			p.counters.published.Add(1)
			continue
		}
		if cause == nil || errors.Is(cause, es.ErrHeldBack) {
			cause = fmt.Errorf("publish to topic %q: %w", d.pubs[j].Topic, itemErr)
		}
	}
	if cause != nil {
		p.failed(ctx, h, items, cause)
		return
	}
	p.passed(h, items)
	p.settle(items, fateDone)
}

// passed forgets what went wrong with the messages of a batch before, and counts it.
func (p *Batch) passed(h *hand, items []int) {
	for _, i := range items {
		p.failures.drop(h.entries[i].ID)
		p.held.drop(h.entries[i].ID)
	}
	p.counters.batches.Add(1)
}

// failed decides what becomes of a batch that could not be passed on.
func (p *Batch) failed(ctx context.Context, h *hand, items []int, err error) {
	switch {
	case ctx.Err() != nil:
		p.settle(items, fateHeld)
	case errors.Is(err, es.ErrClosed):
		p.settle(items, fateHeld)
		p.end(err)
	case errors.Is(err, es.ErrHeldBack):
		const atOnce = 3
		f := fateHeld
		if p.count(p.held, h, items) > atOnce {
			f = fateFailed
		}
		p.fail(items, f, err)
	case es.Permanent(err):
		p.bury(ctx, h, items, err)
	case p.count(p.failures, h, items) >= p.config.Retry.Attempts:
		if p.config.Retry.Attempts > 1 {
			err = fmt.Errorf("%w: %w", es.ErrAttemptsExhausted, err)
		}
		p.bury(ctx, h, items, err)
	default:
		p.fail(items, fateFailed, err)
	}
}

// count counts a failure of a batch, and returns how many there were of the message that has the most.
func (p *Batch) count(t tally, h *hand, items []int) int {
	most := 0
	for _, i := range items {
		most = max(most, t.add(h.entries[i].ID))
	}
	return most
}

func (p *Batch) fail(items []int, f fate, err error) {
	p.settle(items, f)
	for _, i := range items {
		p.desk.items[i].err = err
	}
}

// bury makes a batch dead letters, on record in the dead stream before the outbox hears of it.
func (p *Batch) bury(ctx context.Context, h *hand, items []int, cause error) {
	if !p.ours(h, items) {
		return
	}
	if err := p.record(ctx, h, items, cause); err != nil {
		if ctx.Err() != nil {
			p.settle(items, fateHeld)
			return
		}
		err = notOnRecord(p.config.DeadStream, err, cause)
		if errors.Is(err, es.ErrClosed) {
			p.settle(items, fateHeld)
			p.end(err)
			return
		}
		p.fail(items, fateFailed, err)
		return
	}
	p.settle(items, fateSettled)
	park := p.config.AfterDeadLetter == Park
	n := h.fail(ctx, items, es.Failure{Err: cause, Dead: true, Park: park})
	p.desk.streams[p.desk.items[items[0]].stream].blocked = park || n < len(items)
	if n == 0 {
		return
	}
	p.gaveUp(cause)
	p.passed(h, items)
	p.counters.dead.Add(int64(n))
	first := &h.entries[items[0]]
	p.log.Error("batch given up", "stream", first.Stream, "messages", len(items), "first", first.ID, "attempt", first.Attempt,
		"dead_stream", p.config.DeadStream, "error", cause)
}

// record appends the dead letters of a batch, all of them in one append. Where that cannot be, because some are on record since an
// earlier attempt or because they are too many for one, it appends each by itself.
func (p *Batch) record(ctx context.Context, h *hand, items []int, cause error) error {
	letters := make([]*es.Message, len(items))
	for j, i := range items {
		letter, err := es.NewDeadEntry(p.config.DeadStream, p.config.Name, &h.entries[i], cause)
		if err != nil {
			return err
		}
		letters[j] = letter
	}
	_, err := p.config.Events.Append(ctx, es.AppendTo(p.config.DeadStream, es.Any, letters...))
	if !es.Permanent(err) {
		return err
	}
	for _, letter := range letters {
		_, err := p.config.Events.Append(ctx, es.AppendTo(letter.Stream, es.Any, letter))
		if err != nil && !errors.Is(err, es.ErrDuplicate) { // a duplicate is the record of an earlier attempt
			return err
		}
	}
	return nil
}

// answer gives back what is left: batches that failed, each in one call, and what was not moved.
func (p *Batch) answer(ctx context.Context, h *hand) {
	for _, items := range p.failedBatches() {
		first := &h.entries[items[0]]
		err, attempt := p.desk.items[items[0]].err, first.Attempt
		delay := p.config.Retry.Backoff.Delay(attempt)
		p.log.Warn("batch is tried again", "stream", first.Stream, "messages", len(items), "first", first.ID, "attempt", attempt,
			"retry_in", delay, "error", err)
		n := h.fail(ctx, items, es.Failure{Err: err, Delay: delay})
		p.counters.retried.Add(int64(n))
		p.moving.note(err)
	}
	h.release(ctx, p.desk.with(fateHeld))
	if looked := p.desk.with(fatePending); p.working.Err() != nil {
		h.release(ctx, looked)
	} else {
		h.answer(ctx, "look behind", looked, p.config.Outbox.Release)
	}
}

// failedBatches lists the batches that are to be tried again: a stream has at most one, and nothing behind it was moved.
func (p *Batch) failedBatches() [][]int {
	p.round = p.round[:0]
	for s := range p.desk.streams {
		items := p.desk.of(s)
		from := 0
		for from < len(items) && p.desk.items[items[from]].fate != fateFailed {
			from++
		}
		to := from
		for to < len(items) && p.desk.items[items[to]].fate == fateFailed {
			to++
		}
		if from < to {
			p.round = append(p.round, items[from:to])
		}
	}
	return p.round
}
