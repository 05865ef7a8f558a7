package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// hand is what a claim has put into the processor's hands. Its slices are used again for the next one.
type hand struct {
	engine  *engine
	room    []es.Entry // what Claim fills
	entries []es.Entry // what it has filled
	keeper  keeper

	// silent says that the outbox has let the moment go by that it has for an answer when the work is broken off. It is asked no more.
	silent bool

	// Of the last call that answered. Answers are the entries that the outbox has not answered for, and indexes where they stand
	// in entries. Those that it took back are in taken, and in unsure those that it no longer knew after a call whose outcome
	// did not get here: it may have taken them back then, or somebody else has them. err is that of the last try, and tries is how
	// many there were.
	answers []es.Entry
	indexes []int
	taken   []int
	unsure  []int
	err     error
	tries   int

	all []int // a list of all entries
}

func (h *hand) init(e *engine) {
	h.engine = e
	h.room = make([]es.Entry, e.config.InHand)
	h.keeper = keeper{
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
func (h *hand) begin(loose context.CancelFunc, n int) {
	h.entries = h.room[:n]
	h.keeper.begin(loose, h.entries)
}

// end lets go of what was not answered: it comes back when its lease has ended. No message is held on to.
func (h *hand) end() {
	h.keeper.end()
	clear(h.entries)
	clear(h.answers[:cap(h.answers)])
}

// complete answers entries that are done, and returns how many were taken.
func (h *hand) complete(ctx context.Context, which []int) int {
	n := h.answer(ctx, "complete", which, h.engine.config.Outbox.Complete)
	h.engine.counters.completed.Add(int64(n))
	return n
}

// release gives entries back without an attempt.
func (h *hand) release(ctx context.Context, which []int) {
	if len(which) > 0 && h.engine.working.Err() != nil {
		h.engine.broken.Store(true)
	}
	n := h.answer(ctx, "release", which, h.engine.config.Outbox.Release)
	h.engine.counters.released.Add(int64(n))
}

// every lists all entries.
func (h *hand) every() []int {
	for len(h.all) < len(h.entries) {
		h.all = append(h.all, len(h.all))
	}
	return h.all[:len(h.entries)]
}

// fail gives entries back after a failed attempt and returns how many were taken back.
func (h *hand) fail(ctx context.Context, which []int, f es.Failure) int {
	return h.answer(ctx, "fail", which, func(ctx context.Context, entries []es.Entry) error {
		return h.engine.config.Outbox.Fail(ctx, entries, f)
	})
}

// answer answers entries by a call of the outbox, and returns how many were answered. It tries again for a while when it
// cannot: what is done should not be done again. What it gives up comes back when its lease has ended. The context's end does
// not keep it from answering, for a moment.
func (h *hand) answer(
	ctx context.Context, what string, which []int, call func(context.Context, []es.Entry) error,
) (answered int) {
	h.pick(which)
	h.taken, h.unsure, h.err = h.taken[:0], h.unsure[:0], nil
	const attempts = 5
	for attempt := 1; len(h.answers) > 0; attempt++ {
		h.tries = attempt
		last := attempt >= attempts || ctx.Err() != nil
		err := h.call(ctx, call)
		h.err = err
		answered += h.sort(err, attempt)
		switch {
		case len(h.answers) == 0:
		case errors.Is(err, es.ErrClosed):
			h.engine.end(fmt.Errorf("%s entries of the outbox: %w", what, err))
			return answered
		case last:
			if h.engine.working.Err() != nil {
				h.engine.broken.Store(true)
			}
			h.engine.moving.note(fmt.Errorf("%s entries of the outbox: %w", what, err))
			h.engine.log.Error("outbox takes no answer; the entries come back after their leases",
				"doing", what, "entries", len(h.answers), "error", err)
			return answered
		case ctx.Err() == nil: // otherwise it is the end of ctx that made the call fail, and the next one is the last
			h.engine.pause(h.engine.config.Retry.Backoff.Delay(attempt))
		}
	}
	return answered
}

// pick puts those entries that are still in hand into h.answers.
func (h *hand) pick(which []int) {
	h.answers, h.indexes = h.answers[:0], h.indexes[:0]
	for _, i := range which {
		if h.keeper.answering(i) {
			h.answers = append(h.answers, h.entries[i])
			h.indexes = append(h.indexes, i)
		}
	}
}

// call makes a call of the outbox, for a moment also after the end of ctx. An outbox that lets that go by is not called again: who
// stops has not got a moment for each of many answers.
func (h *hand) call(ctx context.Context, call func(context.Context, []es.Entry) error) error {
	switch {
	case ctx.Err() == nil:
		return call(ctx, h.answers)
	case h.silent:
		return context.DeadlineExceeded
	}
	const moment = time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	err := call(ctx, h.answers)
	h.silent = ctx.Err() != nil
	return err
}

// sort takes out of h.answers what was answered or lost, and returns how many were answered.
func (h *hand) sort(err error, attempt int) (answered int) {
	rest := 0
	for j, i := range h.indexes {
		itemErr := es.Of(err, j)
		switch {
		case itemErr == nil:
			h.keeper.answered(i)
			h.taken = append(h.taken, i)
			answered++
		case !errors.Is(itemErr, es.ErrLeaseLost):
			h.answers[rest], h.indexes[rest] = h.answers[j], i
			rest++
		case attempt > 1: // it may have been answered by the call before, whose outcome did not get here
			h.keeper.answered(i)
			h.unsure = append(h.unsure, i)
		default:
			h.keeper.answered(i)
			h.keeper.lost(&h.entries[i])
		}
	}
	h.answers, h.indexes = h.answers[:rest], h.indexes[:rest]
	return answered
}
