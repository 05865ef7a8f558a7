package middleware

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// BreakerConfig is how a [Breaker] works.
type BreakerConfig struct {
	// Failures is after how many failures in a row the circuit opens; 5 by default, and negative or, with a Ratio, 0 for never.
	Failures int
	// Ratio is the share of failures at which the circuit opens, of all calls of the last Window, when these were Least at least;
	// 0.5 is half of them. The default is to look at failures in a row only.
	Ratio float64
	// Window is the time that Ratio looks at; 1 minute by default.
	Window time.Duration
	// Least is how many calls Window must have for Ratio to count; 20 by default.
	Least int
	// Pause is how long the circuit stays open before it is probed; 10 seconds by default.
	Pause time.Duration
	// Probes is how many messages are let through to probe the circuit, at most as many at a time, and how many have to succeed for
	// it to close; 1 by default. The first failure opens it again.
	Probes int
	// Wait is the longest that a worker waits for the circuit before it puts its message back; 100 milliseconds by default. So a
	// backlog does not go round and round at full speed, and the first message after the pause is there in time. Negative: not to
	// wait.
	Wait time.Duration
	// Failure tells which errors count as failures; by default those that [CountsAsFailure].
	Failure func(err error) bool
	// OnChange is told of each change of the state, in their order, one call at a time. It may ask the breaker for its state, and
	// should return soon: a message waits for it.
	OnChange func(BreakerChange)
}

// BreakerState is a state of a [Breaker].
type BreakerState int

// The states of a breaker.
const (
	// BreakerClosed: all messages are let through.
	BreakerClosed BreakerState = iota
	// BreakerOpen: none is.
	BreakerOpen
	// BreakerHalfOpen: some are, to see whether the circuit can be closed.
	BreakerHalfOpen
)

func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerOpen:
		return "open"
	case BreakerHalfOpen:
		return "half-open"
	}
	return "unknown"
}

// BreakerChange is a change of the state of a [Breaker].
type BreakerChange struct {
	From, To BreakerState
	// Route is where the message came from that brought it about.
	Route Labels
	// Err is the failure that opened the circuit; nil for other changes.
	Err error
}

// CountsAsFailure tells whether an error says that what a handler relies on does not work: a plain error, or one by
// [es.RetryAfter]. An error that is the message's own does not: [es.Skip], [es.DeadLetter], [es.Busy], and what is [es.Permanent].
func CountsAsFailure(err error) bool {
	switch verdict, _ := es.Judge(err); verdict {
	case es.VerdictFailed:
		return !es.Permanent(err)
	case es.VerdictRetry:
		return true
	case es.VerdictDone, es.VerdictSkip, es.VerdictBusy, es.VerdictDead:
	}
	return false
}

// CircuitBreaker spares what a handler relies on while that does not work, and the messages their attempts. While the circuit is
// closed messages are let through, and their failures counted. When there are too many it opens, and messages are put back
// ([es.Busy]), which is not an attempt. After a pause it is half-open: a few messages are let through, and by their outcome it closes
// or opens again.
//
// A success is a call without an error. An error that is no failure by [BreakerConfig].Failure, and whatever is returned after the end
// of the context, which is a stop, says nothing about the circuit. A panic that goes through, and runtime.Goexit, are failures. What
// began before the last change of the state does not count any more.
//
// Each route that it is applied to has a circuit of its own. Routes that rely on the same share a [Breaker]. It belongs inside
// [Retry], which respects that a message is busy, and outside of [Timeout] and [Recover], whose errors it counts.
func CircuitBreaker(c BreakerConfig) es.Middleware {
	return func(next es.Handler) es.Handler { return NewBreaker(c).Middleware()(next) }
}

// Breaker is a circuit that several routes share, and whose state can be asked for; see [CircuitBreaker].
type Breaker struct {
	config BreakerConfig

	mu      sync.Mutex
	state   BreakerState
	period  uint64 // how often the state has changed
	changed chan struct{}
	until   time.Time // when an open circuit is probed

	inARow int    // failures, while it is closed
	window window // calls, while it is closed and there is a ratio
	probes int    // that are under way, while it is half-open
	passed int    // probes that have succeeded

	changes  []BreakerChange // that nobody has been told of
	speaking bool
}

// NewBreaker makes a closed circuit. Fields that make no sense have their defaults.
func NewBreaker(c BreakerConfig) *Breaker {
	if c.Failures == 0 && c.Ratio <= 0 {
		c.Failures = 5
	}
	if c.Window <= 0 {
		c.Window = time.Minute
	}
	if c.Least <= 0 {
		c.Least = 20
	}
	if c.Pause <= 0 {
		c.Pause = 10 * time.Second
	}
	if c.Probes <= 0 {
		c.Probes = 1
	}
	if c.Wait == 0 {
		c.Wait = 100 * time.Millisecond
	}
	if c.Failure == nil {
		c.Failure = CountsAsFailure
	}
	return &Breaker{config: c, changed: make(chan struct{}), window: window{slice: max(c.Window/windowSlices, 1)}}
}

// State tells the state of the circuit. It is half-open when the pause is over, also before the first message has come.
func (b *Breaker) State() BreakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == BreakerOpen && !time.Now().Before(b.until) {
		return BreakerHalfOpen
	}
	return b.state
}

// Middleware puts the circuit around a handler.
func (b *Breaker) Middleware() es.Middleware {
	return func(next es.Handler) es.Handler { return &breaking{next: next, breaker: b} }
}

type breaking struct {
	next    es.Handler
	breaker *Breaker
}

func (h *breaking) Handle(ctx context.Context, d *es.Delivery) (outputs []*es.Message, err error) {
	period, err := h.breaker.enter(ctx, d)
	if err != nil {
		return nil, err
	}
	result := callFailed // unless it returns
	err = errNotReturned
	defer func() { h.breaker.leave(d, period, result, err) }()
	outputs, err = h.next.Handle(ctx, d)
	result = h.breaker.judge(ctx, err)
	return outputs, err
}

// callResult is what a call says about the circuit.
type callResult int

const (
	callPassed callResult = iota
	callFailed
	callNeutral
)

var (
	errNotReturned = errors.New("the handler did not return")
	errOpen        = errors.New("the circuit is open")
)

func (b *Breaker) judge(ctx context.Context, err error) callResult {
	switch {
	case err == nil:
		return callPassed
	case ctx.Err() == nil && b.config.Failure(err):
		return callFailed
	}
	return callNeutral
}

// enter lets a message through and returns in which period, or returns an error that puts it back.
func (b *Breaker) enter(ctx context.Context, d *es.Delivery) (uint64, error) {
	var end time.Time // of its patience
	for {
		period, changed, delay := b.tryEnter(d)
		if delay == 0 {
			return period, nil
		}
		if end.IsZero() {
			end = time.Now().Add(b.config.Wait)
		}
		wait := time.Until(end)
		if wait <= 0 {
			return 0, es.Busy(delay, errOpen)
		}
		timer := time.NewTimer(min(wait, delay))
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return 0, fmt.Errorf("message %s was stopped while it waited for an open circuit: %w", d.ID, context.Cause(ctx))
		}
	}
}

// probing is for how long a message is put back while others probe the circuit.
const probing = time.Second

// tryEnter lets a message through when the delay is 0. Otherwise the delay is how long it has to wait, unless the state changes.
func (b *Breaker) tryEnter(d *es.Delivery) (period uint64, changed <-chan struct{}, delay time.Duration) {
	b.mu.Lock()
	defer b.speak() // it unlocks
	if b.state == BreakerOpen {
		if delay := time.Until(b.until); delay > 0 {
			return 0, b.changed, delay
		}
		b.change(BreakerHalfOpen, d, nil)
	}
	if b.state == BreakerHalfOpen {
		if b.probes+b.passed >= b.config.Probes {
			return 0, b.changed, min(probing, b.config.Pause)
		}
		b.probes++
	}
	return b.period, nil, 0
}

// leave takes in what a call of a period says.
func (b *Breaker) leave(d *es.Delivery, period uint64, result callResult, err error) {
	b.mu.Lock()
	defer b.speak() // it unlocks
	switch {
	case period != b.period: // it tells of a state that is gone
	case b.state == BreakerHalfOpen:
		b.probed(d, result, err)
	case b.state == BreakerClosed && result != callNeutral:
		if b.tooMany(result == callFailed) {
			b.open(d, err)
		}
	}
}

// probed takes in what a probe says.
func (b *Breaker) probed(d *es.Delivery, result callResult, err error) {
	b.probes--
	switch result {
	case callFailed:
		b.open(d, err)
	case callPassed:
		if b.passed++; b.passed >= b.config.Probes {
			b.change(BreakerClosed, d, nil)
		}
	case callNeutral: // another may try
		b.wake()
	}
}

// tooMany counts a call while the circuit is closed, and tells whether it is to open.
func (b *Breaker) tooMany(failed bool) bool {
	if failed {
		b.inARow++
	} else {
		b.inARow = 0
	}
	tooMany := b.config.Failures > 0 && b.inARow >= b.config.Failures
	if b.config.Ratio > 0 {
		calls, failures := b.window.add(time.Now(), failed)
		tooMany = tooMany || failed && calls >= b.config.Least && float64(failures) >= b.config.Ratio*float64(calls)
	}
	return tooMany
}

func (b *Breaker) open(d *es.Delivery, err error) {
	b.until = time.Now().Add(b.config.Pause)
	b.change(BreakerOpen, d, err)
}

// change begins a period.
func (b *Breaker) change(to BreakerState, d *es.Delivery, err error) {
	if b.config.OnChange != nil {
		b.changes = append(b.changes, BreakerChange{From: b.state, To: to, Route: Labels{Topic: d.Topic, Group: d.Group}, Err: err})
	}
	b.state = to
	b.period++
	b.inARow, b.probes, b.passed = 0, 0, 0
	b.window.clear()
	b.wake()
}

// wake has those that wait look again.
func (b *Breaker) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// speak unlocks the mutex and tells of the changes, unless somebody else is at it, who then tells of these as well.
func (b *Breaker) speak() {
	defer b.mu.Unlock()
	if b.speaking {
		return
	}
	for len(b.changes) > 0 {
		change := b.changes[0]
		b.changes = b.changes[1:]
		b.tell(change)
	}
}

// tell calls OnChange without the mutex.
func (b *Breaker) tell(change BreakerChange) {
	b.speaking = true
	b.mu.Unlock()
	defer func() { // also when it panics
		b.mu.Lock()
		b.speaking = false
	}()
	b.config.OnChange(change)
}
