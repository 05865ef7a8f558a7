package processor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// ownerSuffix is what tells apart the owners of processors that have the same name: a hyphen and a UUID.
const ownerSuffix = 1 + 36

// engine is what all processors have in common: it claims entries, keeps their leases, has them handled, and stops in order.
type engine struct {
	config Config
	claim  es.ClaimOptions
	log    *slog.Logger
	// handle works on what is in hand and answers all of it. It is called by one goroutine.
	handle func(ctx context.Context, h *hand)

	mu    sync.Mutex
	state state
	err   error // why the work ended by itself
	done  chan struct{}

	// The goroutine that Start begins works under two contexts. No new work is begun after the end of waiting, which is the first
	// Stop; what is under way is broken off by the end of working, when Stop has lost its patience.
	waiting, working context.Context //nolint:containedctx // of a goroutine, not of a call
	wake, abandon    context.CancelFunc
	broken           atomic.Bool // something was broken off

	hand     hand
	counters counters
	claiming trouble // with the outbox itself
	moving   trouble // with what was claimed
}

type state int

const (
	stateNew state = iota
	stateRunning
	stateStopped
)

func (e *engine) init(c Config) {
	e.config = c
	e.claim = es.ClaimOptions{Owner: c.Name + "-" + uuid.NewString(), Lease: c.Lease}
	e.log = c.Logger.With("processor", c.Name)
	e.done = make(chan struct{})
	e.waiting, e.wake = context.WithCancel(context.Background())
	e.working, e.abandon = context.WithCancel(context.Background())
	// A failed message comes again after a delay; when it has not, nor any other, there is nothing left that fails.
	fresh := c.UnhealthyAfter + 2*c.Retry.Backoff.Ceiling(math.MaxInt)
	e.claiming.fresh, e.moving.fresh = fresh, fresh
	e.hand.init(e)
}

// Name returns the name of the processor.
func (e *engine) Name() string { return e.config.Name }

// Start begins to claim. It returns at once; starting a second time is [es.ErrInvalid].
func (e *engine) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start processor %s: %w", e.config.Name, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.state != stateNew {
		return fmt.Errorf("start processor %s: it was started or stopped before: %w", e.config.Name, es.ErrInvalid)
	}
	e.state = stateRunning
	go e.run() //nolint:contextcheck // ctx is for starting only; the work has contexts of its own
	return nil
}

// Stop claims nothing more and finishes what is in hand. When ctx ends before that, what is not finished is broken off and
// given back to the outbox, which is not counted as an attempt; then the error is that of ctx. An outbox that does not take it back
// within a second has it when its lease has ended. Another Stop meanwhile, whose ctx ends first, does the same to this one, whose
// error is then context.Canceled.
func (e *engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	if e.state == stateNew {
		close(e.done)
	}
	e.state = stateStopped
	e.mu.Unlock()
	e.wake()
	defer e.abandon()

	select {
	case <-e.done: // also when ctx has ended
		return nil
	default:
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		e.abandon()
		<-e.done
	}
	if !e.broken.Load() {
		return nil
	}
	return cmp.Or(ctx.Err(), context.Canceled) // it may be another Stop that had no patience
}

// Done is closed when the processor has stopped, or has ended by itself because the outbox, the event store or the publisher
// was closed, or because one of them has ended its goroutine.
func (e *engine) Done() <-chan struct{} { return e.done }

// Err says why the processor ended by itself; nil while it runs and after Stop.
func (e *engine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// end ends the work by itself, after what is in hand.
func (e *engine) end(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil && e.state == stateRunning {
		e.err = err
		e.log.Error("processor ends", "error", err)
	}
	e.wake()
}

func (e *engine) run() {
	defer close(e.done)
	defer func() {
		if e.waiting.Err() == nil {
			e.end(errors.New("its goroutine has ended in the middle, by runtime.Goexit or a panic in one of its roles or in Topic"))
		}
	}()
	failures, vain := 0, 0 // of the outbox, and of its hints, in a row
	for e.waiting.Err() == nil {
		n, err := e.config.Outbox.Claim(e.working, e.hand.room, e.claim)
		switch {
		case err != nil:
			failures++
			e.outboxFailed("claim", err, e.config.Retry.Backoff.Delay(failures))
		case n == 0:
			e.claiming.clear()
			failures, vain = e.idle(failures, vain)
		default:
			e.claiming.clear()
			failures, vain = 0, 0
			e.work(n)
		}
	}
}

// work has a claim of n entries handled.
func (e *engine) work(n int) {
	ctx, cancel := context.WithCancel(e.working)
	defer cancel()
	h := &e.hand
	h.begin(cancel, n)
	defer h.end()
	if e.waiting.Err() != nil { // stopped while it claimed
		h.release(ctx, h.every())
		return
	}
	e.handle(ctx, h)
}

// idle waits for something to claim. It returns how often in a row the outbox has failed, and has hinted at something.
func (e *engine) idle(failures, vain int) (int, int) {
	// An outbox may hint at entries that are in others' hands for as long as they are. That must not make this loop spin.
	const hints, longest = 3, 10 * time.Millisecond
	if vain > hints {
		e.pause(min(time.Millisecond<<min(vain-hints, 4), longest, e.config.PollInterval))
	}
	ctx, cancel := context.WithTimeout(e.waiting, e.config.PollInterval)
	defer cancel()
	err := e.config.Outbox.Wait(ctx)
	switch {
	case err == nil:
		return 0, vain + 1
	case ctx.Err() != nil:
		return 0, 0
	}
	failures++ // it is only hints that are missing, so that there is no reason to look less often
	e.outboxFailed("wait for", err, min(e.config.Retry.Backoff.Delay(failures), e.config.PollInterval))
	return failures, 0
}

// outboxFailed deals with an outbox that cannot even be claimed from, or waited for.
func (e *engine) outboxFailed(what string, err error, delay time.Duration) {
	switch {
	case e.working.Err() != nil:
	case errors.Is(err, es.ErrClosed):
		e.end(fmt.Errorf("%s entries of the outbox: %w", what, err))
	default:
		e.claiming.note(fmt.Errorf("%s entries of the outbox: %w", what, err))
		e.log.Warn("outbox fails", "doing", what, "error", err, "retry_in", delay)
		e.pause(delay)
	}
}

// pause waits for a while, unless the processor is to stop.
func (e *engine) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.waiting.Done():
	}
}
