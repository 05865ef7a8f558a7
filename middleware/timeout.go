package middleware

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DefaultTimeout is how long a handler has under [Timeout] unless it says otherwise.
const DefaultTimeout = 30 * time.Second

// ErrTimeout says that a handler did not succeed within the time that a [Timeout] gives it. It is the cause of the end of its context
// ([context.Cause]) and part of the error that the middleware returns.
var ErrTimeout = errors.New("the handler took too long")

// TimeoutConfig is how [Timeout] works.
type TimeoutConfig struct {
	// Limit is how long one call of the handler may take, the sending of its outputs included; [DefaultTimeout] by default.
	Limit time.Duration
}

// Timeout bounds each call of the handler by a deadline in its context. When a handler fails after that, its error becomes an
// [ErrTimeout] as well; it is an ordinary failure, which is tried again. Control errors of the handler pass as they are, and who
// succeeds late has succeeded. A stop of the router is no timeout: the context then ends with the cause that the router gives, and
// the error passes as it is. Nor is the end of the lease, which the router prolongs for as long as the handler runs.
//
// A handler that does not look at its context is not abandoned: Timeout waits until it returns, because a goroutine left behind
// would do its work beside the next attempt. So it has to hand its context to all that it waits for.
//
// It belongs inside [Retry], which takes the end of the context that it is called with for a stop.
//
// No goroutine and, for a handler that does not wait for the end of its context, no timer is started.
func Timeout(c TimeoutConfig) es.Middleware {
	if c.Limit <= 0 {
		c.Limit = DefaultTimeout
	}
	return func(next es.Handler) es.Handler {
		return &timeout{next: next, limit: c.Limit, unused: sync.Pool{New: func() any { return new([]deadline) }}}
	}
}

type timeout struct {
	next   es.Handler
	limit  time.Duration
	unused sync.Pool // of *[]deadline
}

func (h *timeout) Handle(ctx context.Context, d *es.Delivery) ([]*es.Message, error) {
	bounded := h.bound(ctx)
	defer bounded.finish()
	outputs, err := h.next.Handle(bounded, d) //nolint:contextcheck // it is made of ctx
	if err == nil {
		return outputs, nil
	}
	if verdict, _ := es.Judge(err); verdict != es.VerdictFailed || ctx.Err() != nil || !bounded.over() {
		return outputs, err
	}
	return outputs, fmt.Errorf("%w: more than %v: %w", ErrTimeout, h.limit, err)
}

// deadlinesAtOnce is how many contexts are made at a time. Each is used once: a goroutine that outlives its handler must not find
// itself in the context of another.
const deadlinesAtOnce = 64

// bound returns a context that ends when the time of the handler is up.
func (h *timeout) bound(ctx context.Context) *deadline {
	unused := h.unused.Get().(*[]deadline) //nolint:forcetypeassert,errcheck // nothing else is put there
	if len(*unused) == 0 {
		*unused = make([]deadline, deadlinesAtOnce)
	}
	bounded := &(*unused)[0]
	*unused = (*unused)[1:]
	h.unused.Put(unused)
	bounded.parent, bounded.end = ctx, time.Now().Add(h.limit)
	return bounded
}

// deadline is a context with a deadline that starts its timer when somebody first waits for its end. Until then it tells by the clock
// whether it has ended. Most handlers never wait, and a timer is most of what context.WithDeadline costs.
type deadline struct {
	parent context.Context //nolint:containedctx // it is one itself
	end    time.Time

	mu       sync.Mutex
	actual   context.Context //nolint:containedctx // what it is by now, if somebody has waited for it or it has ended
	cancel   context.CancelFunc
	finished bool // the handler has returned
}

func (c *deadline) Deadline() (time.Time, bool) {
	if end, ok := c.parent.Deadline(); ok && end.Before(c.end) {
		return end, true
	}
	return c.end, true
}

func (c *deadline) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.become().Done()
}

func (c *deadline) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.actual == nil && !c.finished && c.parent.Err() == nil && time.Now().Before(c.end) {
		return nil
	}
	return c.become().Err() // it has ended, and stays so
}

// Value lets the standard library find the real context once there is one, so that contexts made of this one need no goroutine.
func (c *deadline) Value(key any) any {
	c.mu.Lock()
	actual := c.actual
	c.mu.Unlock()
	if actual == nil {
		return c.parent.Value(key)
	}
	return actual.Value(key)
}

// become makes the context real. The mutex is held.
func (c *deadline) become() context.Context {
	if c.actual == nil {
		c.actual, c.cancel = context.WithDeadlineCause(c.parent, c.end, ErrTimeout)
		if c.finished {
			c.cancel()
		}
	}
	return c.actual
}

// over tells whether the time of the handler is up.
func (c *deadline) over() bool { return !time.Now().Before(c.end) }

// finish ends the context when its handler has returned, for those that it has left behind.
func (c *deadline) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = true
	if c.cancel != nil {
		c.cancel()
	}
}
