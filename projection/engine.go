package projection

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

const (
	// settleDelay is how long it takes until it is written how far was read, when nothing was for the projection.
	settleDelay = 500 * time.Millisecond
	// forever is for what has no end.
	forever = time.Duration(math.MaxInt64)
	// freezePause is how long to wait until it is looked again whether a rebuild has taken the place of what is read.
	freezePause = 5 * time.Millisecond
	// longestStreak is a number of failures after which the pause between them grows no more.
	longestStreak = 64
)

// work is the goroutine of the projection.
func (p *Projection) work() {
	defer close(p.done)
	defer func() {
		p.journal.enter(StateStopped)
		if p.soft.Err() == nil {
			p.end(errVanished)
		}
		if p.Err() != nil {
			p.journal.enter(StateFailed)
		}
	}()
	failures := 0
	for p.soft.Err() == nil {
		err := p.serve()
		switch {
		case p.soft.Err() != nil:
			return
		case errors.Is(err, es.ErrLeaseLost):
			p.log.Warn("projection has lost its lease", "error", err)
			p.journal.note(err)
			failures = 0
			p.pause(p.hard, p.config.Backoff.Delay(1))
		case lasting(err):
			p.end(err)
			return
		default:
			failures++
			p.fails(err, failures)
		}
	}
}

// serve takes the lease, if there is one to be taken, and does the work until that is lost, or until it is told to stop. It returns why
// it has ended.
func (p *Projection) serve() error {
	o, err := p.takeOffice()
	if err != nil {
		return err
	}
	defer o.leave()
	defer p.idle()
	p.run.fence = o.fence()
	failures := 0
	for p.soft.Err() == nil && o.ctx.Err() == nil {
		before := p.journal.successes()
		err := p.follow(o)
		if !p.waits(err) {
			p.idle()
		}
		if p.journal.successes() > before {
			failures = 0
		}
		switch {
		case err == nil || errors.Is(err, errQuit) || p.soft.Err() != nil:
		case o.ctx.Err() != nil:
			return o.lost(err)
		case p.pauses(o.ctx, err): // before what a handler may have in its own error
		case p.final(err):
			p.end(err)
			return nil
		case errors.Is(err, es.ErrLeaseLost):
			return err
		case errors.Is(err, es.ErrConflict):
			failures++
			p.overtaken(o.ctx, err, failures)
		default:
			failures++
			p.fails(err, failures)
		}
	}
	if p.soft.Err() == nil {
		return o.lost(nil)
	}
	return nil
}

// final tells whether an error ends the projection: an event that cannot be handled, or what trying again cannot help.
func (*Projection) final(err error) bool {
	_, event := errors.AsType[*EventError](err)
	return event || lasting(err)
}

// waits tells whether an event is to be tried again after a while. All that is in memory is right until then.
func (*Projection) waits(err error) bool {
	_, is := errors.AsType[*pauseError](err)
	return is
}

// pauses waits if an event is to be tried again after a while.
func (p *Projection) pauses(ctx context.Context, err error) bool {
	again, is := errors.AsType[*pauseError](err)
	if !is {
		return false
	}
	p.journal.note(again.event)
	p.log.Warn("event is tried again", "error", again.event, "retry_in", again.delay)
	p.pause(ctx, again.delay)
	return true
}

// overtaken deals with a commit that was turned down because somebody else has made one: what is in memory is of no use, and what is
// committed is where to go on. Who is overtaken again and again waits a little, so that it does not work for nothing all the time.
func (p *Projection) overtaken(ctx context.Context, err error, times int) {
	p.log.Info("projection was overtaken and goes on from what is committed", "error", err)
	p.journal.overtaken.Add(1)
	if times > 1 {
		p.pause(ctx, min(p.config.Backoff.Delay(times-1), settleDelay))
	}
}

// fails deals with a store that does not answer.
func (p *Projection) fails(err error, times int) {
	delay := p.config.Backoff.Delay(min(times, longestStreak))
	if p.hard.Err() != nil {
		p.broken.Store(true)
		return
	}
	p.journal.trouble(err)
	p.log.Warn("projection has trouble with a store", "error", err, "retry_in", delay)
	p.pause(p.hard, delay)
}

// idle notes that the work is not under way any more: what the run has in memory may not be what is committed.
func (p *Projection) idle() {
	p.run.turn.Lock()
	defer p.run.turn.Unlock()
	p.run.works = false
	p.waiters.still()
}

// follow does the work from the checkpoint on. It returns why it does not go on; nil when it was told to stop.
func (p *Projection) follow(o *office) error {
	r := p.run
	if err := p.begin(o); err != nil {
		return err
	}
	p.journal.enter(StateCatchingUp)
	for p.soft.Err() == nil {
		head, err := p.awaitHead(o)
		if err != nil {
			return err
		}
		if head.Position == 0 {
			break
		}
		if err := r.catchUp(o.ctx, head); err != nil {
			return p.settled(o, err)
		}
		p.journal.succeed()
		p.journal.enter(StateLive)
	}
	return p.settled(o, nil)
}

// settled commits how far was read before the way through the log ends, and returns why it does.
func (p *Projection) settled(o *office, cause error) error {
	_, event := errors.AsType[*EventError](cause)
	switch {
	case errors.Is(cause, errQuit):
		cause = nil
	case cause != nil && !event:
		if p.hard.Err() != nil {
			p.broken.Store(true)
		}
		return cause
	}
	if err := p.run.settle(o.ctx); err != nil {
		return err
	}
	if event {
		if err := p.run.verify(o.ctx); err != nil {
			return err
		}
	}
	return cause
}

// begin reads where the projection stands. Who has just taken the lease raises the epoch, so that whatever its last owner has still under
// way comes to nothing.
func (p *Projection) begin(o *office) error {
	r := p.run
	r.turn.Lock()
	defer r.turn.Unlock()
	for {
		if err := r.reload(o.ctx); err != nil {
			return err
		}
		until, err := p.frozen(o.ctx) // after the checkpoint: who changes that, tells
		if err != nil {
			return fmt.Errorf("look for a rebuild of projection %q: %w", p.config.Name, err)
		}
		left := time.Until(until)
		if left <= 0 {
			break
		}
		if !p.pause(o.ctx, min(left, freezePause)) {
			return errQuit
		}
	}
	if o.fresh {
		if err := r.move(o.ctx, r.anew()); err != nil {
			return o.explain(err)
		}
		o.fresh = false
	}
	r.works = true
	p.waiters.works(r.incarnation, r.scanned)
	return nil
}

// awaitHead waits until there is something beyond what was scanned, and commits meanwhile how far that is. It returns no head when the
// projection is to stop.
func (p *Projection) awaitHead(o *office) (es.Checkpoint, error) {
	r := p.run
	for p.soft.Err() == nil && o.ctx.Err() == nil {
		r.turn.Lock()
		after, left := es.Checkpoint{Incarnation: r.incarnation, Position: r.scanned}, r.unsettled()
		r.turn.Unlock()
		if left <= 0 {
			if err := r.settle(o.ctx); err != nil {
				return es.Checkpoint{}, err
			}
			continue
		}
		head, err := p.waitBeyond(o, after, left)
		switch {
		case err == nil:
			return p.gather(o, head)
		case p.soft.Err() != nil || o.ctx.Err() != nil:
		case left < forever && errors.Is(err, context.DeadlineExceeded):
		default:
			return es.Checkpoint{}, fmt.Errorf("wait for events: %w", err)
		}
	}
	return es.Checkpoint{}, nil
}

// waitBeyond waits for the head to be beyond a checkpoint, but only for a while when there is something to be committed then.
func (p *Projection) waitBeyond(o *office, after es.Checkpoint, left time.Duration) (es.Checkpoint, error) {
	if left == forever {
		return p.config.Events.Wait(o.soft, after)
	}
	ctx, cancel := context.WithTimeout(o.soft, left)
	defer cancel()
	return p.config.Events.Wait(ctx, after)
}

// gather waits until there may be another commit, and returns the head then.
func (p *Projection) gather(o *office, head es.Checkpoint) (es.Checkpoint, error) {
	left := p.config.Interval - time.Since(p.journal.committedAt())
	if left <= 0 {
		return head, nil
	}
	if !p.pause(o.ctx, left) {
		return es.Checkpoint{}, nil
	}
	head, err := p.config.Events.Head(o.ctx)
	if err != nil {
		return es.Checkpoint{}, fmt.Errorf("read the head: %w", err)
	}
	return head, nil
}

// pause waits for a while, and tells whether it was that long: it is not when ctx ends, or the projection is to stop.
func (p *Projection) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.soft.Done():
	case <-ctx.Done():
	}
	return false
}

// pause waits for a while, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
