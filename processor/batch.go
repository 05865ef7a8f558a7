package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// batch is a claim in the processor's hands. Its slices are used again for the next one.
type batch struct {
	engine  *engine
	room    []es.Entry // what Claim fills
	entries []es.Entry // what it has filled
	keeper  keeper

	answers []es.Entry // of the call that answers, and where they stand in entries
	indexes []int
}

func (b *batch) init(e *engine) {
	b.engine = e
	b.room = make([]es.Entry, e.config.Batch)
	b.keeper = keeper{
		extend: e.config.Outbox.Extend,
		every:  max(e.config.Lease/3, time.Millisecond/2),
		failed: func(err error) { e.log.Warn("leases could not be extended", "error", err) },
		lost: func(entry *es.Entry) {
			e.counters.lost.Add(1)
			e.log.Warn("lease lost", "id", entry.ID, "stream", entry.Stream)
		},
	}
}

// begin takes the first n entries of the room in hand. When all of their leases are lost it calls loose.
func (b *batch) begin(loose context.CancelFunc, n int) {
	b.entries = b.room[:n]
	b.keeper.begin(loose, b.entries)
}

// end lets go of what was not answered: it comes back when its lease has ended. No message is held on to.
func (b *batch) end() {
	b.keeper.end()
	clear(b.entries)
	clear(b.answers[:cap(b.answers)])
}

// complete answers entries that are done.
func (b *batch) complete(ctx context.Context, which []int) {
	n := b.answer(ctx, "complete", which, b.engine.config.Outbox.Complete)
	b.engine.counters.completed.Add(int64(n))
	if n > 0 {
		b.engine.moving.clear()
	}
}

// release gives entries back without an attempt.
func (b *batch) release(ctx context.Context, which []int) {
	if len(which) > 0 && b.engine.working.Err() != nil {
		b.engine.broken.Store(true)
	}
	n := b.answer(ctx, "release", which, b.engine.config.Outbox.Release)
	b.engine.counters.released.Add(int64(n))
}

func (b *batch) releaseAll(ctx context.Context) {
	all := make([]int, len(b.entries))
	for i := range all {
		all[i] = i
	}
	b.release(ctx, all)
}

// fail gives entries back after a failed attempt and returns how many were taken back.
func (b *batch) fail(ctx context.Context, which []int, f es.Failure) int {
	return b.answer(ctx, "fail", which, func(ctx context.Context, entries []es.Entry) error {
		return b.engine.config.Outbox.Fail(ctx, entries, f)
	})
}

// answer answers entries by a call of the outbox, and returns how many were answered. It tries again for a while when it
// cannot: what is done should not be done again. What it gives up comes back when its lease has ended. The context's end does
// not keep it from answering, for a moment.
func (b *batch) answer(
	ctx context.Context, what string, which []int, call func(context.Context, []es.Entry) error,
) (answered int) {
	b.pick(which)
	const attempts = 5
	for attempt := 1; len(b.answers) > 0; attempt++ {
		last := attempt >= attempts || ctx.Err() != nil
		err := b.call(ctx, call)
		answered += b.sort(err, attempt)
		switch {
		case len(b.answers) == 0:
		case errors.Is(err, es.ErrClosed):
			b.engine.end(fmt.Errorf("%s entries of the outbox: %w", what, err))
			return answered
		case last:
			if b.engine.working.Err() != nil {
				b.engine.broken.Store(true)
			}
			b.engine.moving.note(fmt.Errorf("%s entries of the outbox: %w", what, err))
			b.engine.log.Error("outbox takes no answer; the entries come back after their leases",
				"doing", what, "entries", len(b.answers), "error", err)
			return answered
		case ctx.Err() == nil: // otherwise it is the end of ctx that made the call fail, and the next one is the last
			b.engine.pause(b.engine.config.Retry.delay(attempt))
		}
	}
	return answered
}

// pick puts those entries that are still in hand into b.answers.
func (b *batch) pick(which []int) {
	b.answers, b.indexes = b.answers[:0], b.indexes[:0]
	for _, i := range which {
		if b.keeper.answering(i) {
			b.answers = append(b.answers, b.entries[i])
			b.indexes = append(b.indexes, i)
		}
	}
}

// call makes a call of the outbox, for a moment also after the end of ctx.
func (b *batch) call(ctx context.Context, call func(context.Context, []es.Entry) error) error {
	if ctx.Err() != nil {
		const moment = time.Second
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), moment)
		defer cancel()
	}
	return call(ctx, b.answers)
}

// sort takes out of b.answers what was answered or lost, and returns how many were answered.
func (b *batch) sort(err error, attempt int) (answered int) {
	rest := 0
	for j, i := range b.indexes {
		itemErr := es.Of(err, j)
		switch {
		case itemErr == nil:
			b.keeper.answered(i)
			answered++
		case !errors.Is(itemErr, es.ErrLeaseLost):
			b.answers[rest], b.indexes[rest] = b.answers[j], i
			rest++
		case attempt > 1: // it may have been answered by the call before, whose outcome did not get here
			b.keeper.answered(i)
		default:
			b.keeper.answered(i)
			b.keeper.lost(&b.entries[i])
		}
	}
	b.answers, b.indexes = b.answers[:rest], b.indexes[:rest]
	return answered
}
