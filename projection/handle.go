package projection

import (
	"context"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// handleFirst has the first n events handled, from the beginning.
func (r *run) handleFirst(ctx context.Context, n int) outcome {
	r.ledger.reset()
	clear(r.parking)
	r.batch.broken = nil
	if r.p.config.Parallel > 1 && n > 1 {
		return r.handleParallel(ctx, n)
	}
	return r.handle(ctx, n)
}

// handle has the first n events handled, one after the other.
func (r *run) handle(ctx context.Context, n int) outcome {
	begun := time.Now()
	for i, m := range r.page.messages[:n] {
		if r.settled(i) {
			continue
		}
		err := r.call(ctx, &r.batch, m)
		if err == nil {
			if time.Since(begun) >= r.p.config.BatchTime {
				return outcome{done: i + 1}
			}
			continue
		}
		if trouble := r.trouble(ctx, &r.batch, err); trouble != nil {
			return outcome{err: trouble}
		}
		o := r.judge(i, err)
		clean := !r.batch.touched && !r.target.entangled()
		switch {
		case o.stop == nil && clean:
			r.settled(i)
		case o.stop == nil:
			return outcome{again: i + 1}
		case clean:
			return outcome{done: i, stop: o.stop}
		default:
			return outcome{again: i, stop: o.stop}
		}
	}
	return outcome{done: n}
}

// settled tells whether the i-th event needs no handler: it was decided about before, or its stream is parked.
func (r *run) settled(i int) bool {
	m := r.page.messages[i]
	switch v := &r.page.verdicts[i]; v.fate {
	case fateSkip:
		return true
	case fatePark:
		r.park(m, v.err)
		return true
	case fateHandle:
	}
	if len(r.parked)+len(r.parking) == 0 || !r.isParked(m.Stream) {
		return false
	}
	r.park(m, nil)
	return true
}

// call calls the handlers of an event.
func (r *run) call(ctx context.Context, b *Batch, m *es.Message) (err error) {
	r.decoded, err = r.p.handlers.handle(ctx, b, m, r.decoded)
	if b.broken != nil { // a handler may have made nothing of it
		return b.broken
	}
	return err
}

// trouble returns why an event could not be handled if that is no fault of its own: the projection is told to stop, or the store does not
// answer.
func (r *run) trouble(ctx context.Context, b *Batch, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case b.broken != nil:
		return b.broken
	case r.target.ours(ctx, err):
		return err
	}
	return nil
}

// judge decides what becomes of the i-th event, which has failed. With a stop it is not passed.
func (r *run) judge(i int, cause error) outcome {
	c, m, v := &r.p.config, r.page.messages[i], &r.page.verdicts[i]
	failed := &EventError{Projection: c.Name, Message: m, Err: cause}
	verdict, delay := es.Judge(cause)
	if verdict == es.VerdictSkip {
		v.fate, v.err = fateSkip, cause
		return outcome{}
	}
	if r.trying != m.Position {
		r.trying, r.attempts = m.Position, 0
	}
	r.attempts++
	switch {
	case verdict == es.VerdictRetry || verdict == es.VerdictBusy:
		return outcome{stop: &pauseError{delay: delay, event: failed}}
	case r.attempts < c.Attempts && !es.Permanent(cause):
		return outcome{stop: &pauseError{delay: c.Backoff.Delay(r.attempts), event: failed}}
	case c.OnError == Skip:
		v.fate, v.err = fateSkip, cause
	case c.OnError == Park && r.parkedStreams() < c.MaxParked:
		v.fate, v.err = fatePark, cause
	case c.OnError == Park:
		failed.Err = fmt.Errorf("%d streams are parked, and no more may be; see to them first: %w", c.MaxParked, cause)
		return outcome{stop: failed}
	default:
		return outcome{stop: failed}
	}
	return outcome{}
}
