package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
// given back to the outbox, which is not counted as an attempt; then the error is that of ctx.
func (e *engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	started := e.state == stateRunning
	if e.state == stateNew {
		close(e.done)
	}
	e.state = stateStopped
	e.mu.Unlock()
	e.wake()
	defer e.abandon()

	select {
	case <-e.done:
	case <-ctx.Done():
		e.abandon()
		<-e.done
	}
	if started && e.broken.Load() {
		return ctx.Err()
	}
	return nil
}

// Done is closed when the processor has stopped, or has ended by itself because the outbox, the event store or the publisher
// was closed.
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
	failures, fruitless := 0, 0
	for e.waiting.Err() == nil {
		n, err := e.config.Outbox.Claim(e.working, e.hand.room, e.claim)
		switch {
		case err != nil:
			failures++
			e.outboxFailed("claim", err, failures)
		case n == 0:
			e.claiming.clear()
			fruitless++
			failures = e.idle(fruitless, failures)
		default:
			e.claiming.clear()
			failures, fruitless = 0, 0
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

// idle waits for something to claim and returns the number of failures of the outbox in a row.
func (e *engine) idle(fruitless, failures int) int {
	// An outbox may hint at entries that are in others' hands for as long as they are. That must not make this loop spin.
	const hints, longest = 3, 10 * time.Millisecond
	if fruitless > hints {
		e.pause(min(time.Millisecond<<min(fruitless-hints, 4), longest, e.config.PollInterval))
	}
	ctx, cancel := context.WithTimeout(e.waiting, e.config.PollInterval)
	defer cancel()
	if err := e.config.Outbox.Wait(ctx); err != nil && ctx.Err() == nil {
		failures++
		e.outboxFailed("wait for", err, failures)
		return failures
	}
	return 0
}

// outboxFailed deals with an outbox that cannot even be claimed from.
func (e *engine) outboxFailed(what string, err error, failures int) {
	switch {
	case e.working.Err() != nil:
	case errors.Is(err, es.ErrClosed):
		e.end(fmt.Errorf("%s entries of the outbox: %w", what, err))
	default:
		delay := e.config.Retry.Backoff.Delay(failures)
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
