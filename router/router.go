package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Router runs routes. It is an [es.Component]. Make one with [New], add middleware and routes, and start it once. All of its methods
// may be called by several goroutines.
type Router struct {
	config Config

	mu         sync.Mutex // is not held when that of a lane is taken
	state      phase
	middleware []es.Middleware
	routes     []*route
	err        error
	brokenOff  int            // how many handlers were broken off; known when done is closed
	opening    sync.WaitGroup // those who subscribe a route while the router runs

	base     context.Context    //nolint:containedctx // that of Start, without its end; set when the router runs
	life     context.Context    //nolint:containedctx // ends when the router is to end
	endLife  context.CancelFunc // ends it
	patience context.Context    //nolint:containedctx // ends when running handlers are to be broken off
	hurry    context.CancelFunc // ends it
	started  chan struct{}      // closed when Start has returned
	done     chan struct{}
}

var _ es.Component = (*Router)(nil)

type phase int

const (
	building phase = iota
	starting
	runs
	ending
	ended
)

// New makes a router. The error is [es.ErrInvalid] and says which field of the configuration is wrong.
func New(c Config) (*Router, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	r := &Router{config: c, started: make(chan struct{}), done: make(chan struct{})}
	r.life, r.endLife = context.WithCancel(context.Background())
	r.patience, r.hurry = context.WithCancel(context.Background())
	return r, nil
}

// Name returns the router's name.
func (r *Router) Name() string { return r.config.Name }

// Use adds middleware around the handlers of all routes, those added before as well; the first is outermost. After the start
// it is [es.ErrInvalid].
func (r *Router) Use(middleware ...es.Middleware) error {
	if err := validateMiddleware(middleware); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != building {
		return es.Invalidf("middleware", "was added after the start of router %q; call Use before", r.config.Name)
	}
	r.middleware = append(r.middleware, middleware...)
	return nil
}

// Route adds a route: the messages of a topic go to a handler, which is an [es.Handler] of any kind or made by [On] or [Switch].
// Several routes may share a topic if their names differ; each sees all of its messages. [es.ErrInvalid] for a name that is taken,
// an option that breaks a rule, and after the start, when it is [Router.AddRoute].
func (r *Router) Route(topic string, handler es.Handler, o Options) error {
	rt, err := r.newRoute(topic, handler, o)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != building {
		return es.Invalidf("route", "%q of topic %q was added after the start of router %q; call Route before, or AddRoute",
			rt.name, topic, r.config.Name)
	}
	return r.add(rt)
}

// Start subscribes every route, in the order in which they were added, and begins to handle messages. The context is for that
// only, but for its values, which handlers see. A route that is paused is subscribed for a moment, so that its group is known and
// collects what is published. When a subscription fails, those before it are closed and the router has ended. [es.ErrInvalid] for
// a router that has no route or was started before.
func (r *Router) Start(ctx context.Context) error {
	r.mu.Lock()
	if r.state != building {
		r.mu.Unlock()
		return fmt.Errorf("start router %q: it was started or stopped before: %w", r.config.Name, es.ErrInvalid)
	}
	if len(r.routes) == 0 {
		r.mu.Unlock()
		return es.Invalidf("router", "%q has no route; add one before the start", r.config.Name)
	}
	r.state = starting
	r.mu.Unlock()
	defer close(r.started)
	lanes := make([]*lane, len(r.routes))
	defer r.abandon(lanes)
	if err := r.subscribe(ctx, lanes); err != nil {
		return fmt.Errorf("start router %q: %w", r.config.Name, err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = runs
	r.base = context.WithoutCancel(ctx)
	for i, l := range lanes {
		if l != nil {
			r.run(r.routes[i], l)
		}
	}
	go r.untilEnd() //nolint:contextcheck // it lives until the router is stopped, and ctx is for starting
	return nil
}

// abandon ends a router whose start failed, if only by a panic.
func (r *Router) abandon(lanes []*lane) {
	r.mu.Lock()
	failed := r.state == starting
	r.mu.Unlock()
	if !failed {
		return
	}
	for _, l := range lanes {
		if l != nil {
			l.close()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended()
}

// subscribe makes a lane for each route that is to work, for as long as ctx lasts and who stops the router has patience.
func (r *Router) subscribe(ctx context.Context, lanes []*lane) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.patience, cancel)() //nolint:contextcheck // the patience of Stop is no part of what the caller gives
	for i, rt := range r.routes {
		err := rt.link(r.middleware)
		if err == nil && rt.state != Stopped {
			lanes[i], err = rt.open(ctx, r.fail)
		}
		if err != nil {
			return fmt.Errorf("route %q of topic %q: %w", rt.name, rt.topic, err)
		}
		if rt.state == Paused {
			lanes[i].close()
			lanes[i] = nil
		}
	}
	return nil
}

// run has a lane work for a route. The mutex is held.
func (r *Router) run(rt *route, l *lane) {
	rt.lane, rt.state = l, Running
	l.run(r.base, func(l *lane) { r.gone(rt, l) })
}

// gone notes that a lane has ended.
func (r *Router) gone(rt *route, l *lane) {
	done := l.snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	rt.past.add(done)
	rt.lane = nil
}

// untilEnd waits until the router is to end, and ends it: all lanes at once, with one grace period.
func (r *Router) untilEnd() {
	<-r.life.Done()
	r.opening.Wait() // nothing new is opened any more
	r.mu.Lock()
	var lanes []*lane
	for _, rt := range r.routes {
		rt.state = Stopped
		if rt.lane != nil {
			lanes = append(lanes, rt.lane)
		}
	}
	r.mu.Unlock()
	patience, cancel := context.WithTimeout(r.patience, max(r.config.Grace, 0))
	defer cancel()
	for _, l := range lanes {
		l.stop()
	}
	var ends sync.WaitGroup
	for _, l := range lanes {
		ends.Go(func() { l.end(patience.Done()) })
	}
	ends.Wait()

	broken := 0
	for _, l := range lanes {
		broken += l.broken()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.brokenOff = broken
	r.ended()
}

// ended notes that nothing works any more. The mutex is held.
func (r *Router) ended() {
	r.state = ended
	for _, rt := range r.routes {
		rt.state = Stopped
	}
	r.endLife()
	r.hurry()
	close(r.done)
}

// fail ends the router because of an error.
func (r *Router) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != runs {
		return
	}
	r.err = err
	r.state = ending
	r.endLife()
}

// Stop ends the work in two phases. First no more messages are received, those that no handler has begun with are given back,
// and running handlers finish. When the grace period or ctx has ended before that, their contexts are ended, with the cause
// [ErrStopped]; what returns an error then is given back, which is neither an attempt nor ever a dead letter, and what succeeds
// is acknowledged. Stop waits for every handler, also for one that does not care about its context: there is no way to end it.
//
// A start that is under way is waited for, and broken off when ctx ends. A handler of the router that calls Stop with its own context
// is not waited for, which would never end: its route begins with nothing more, the stop is set off, and the error is [es.ErrInvalid].
//
// The error is nil when every handler finished, and otherwise that of ctx, or context.DeadlineExceeded when it was the grace
// period that was over.
func (r *Router) Stop(ctx context.Context) error {
	r.requestEnd(ctx)
	if l := r.handles(ctx); l != nil {
		l.stop()
		return fmt.Errorf("stop router %q: %w", r.config.Name, l.isWithin())
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		r.hurry()
		<-r.done
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.brokenOff == 0 {
		return nil
	}
	return fmt.Errorf("stop router %q: %w", r.config.Name, brokenOff(ctx, r.brokenOff))
}

// requestEnd sets off the end of a router that runs. One that is being started is waited for, and hurried when ctx ends.
func (r *Router) requestEnd(ctx context.Context) {
	if err := r.lock(ctx); err != nil {
		r.hurry()
		<-r.started
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	switch r.state {
	case building:
		r.ended()
	case runs:
		r.state = ending
		r.endLife()
	case starting, ending, ended:
	}
}

// handles returns the lane whose handler asks, by its context; nil when it is none of this router.
func (r *Router) handles(ctx context.Context) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rt := range r.routes {
		if rt.lane != nil && rt.lane == laneOf(ctx) {
			return rt.lane
		}
	}
	return nil
}

// Run starts the router, waits until ctx has ended or the router has, and stops it gracefully: running handlers have the grace
// period. The error is nil when ctx had ended and everything was finished.
func (r *Router) Run(ctx context.Context) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-r.done:
	}
	return errors.Join(r.Stop(context.WithoutCancel(ctx)), r.Err())
}

// Done is closed when the router has ended: by Stop, or by itself because a subscription was closed.
func (r *Router) Done() <-chan struct{} { return r.done }

// Err says why the router ended by itself; nil while it runs and after a Stop that came first.
func (r *Router) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != ended {
		return nil
	}
	return r.err
}

// Health is nil while the router runs and each of its routes that runs receives, answers, gets rid of its dead letters, and lags less
// than its bound ([Options].MaxLag and MaxAge). Otherwise it says what is wrong, until that succeeds or has not shown
// again for a minute. A route that was paused or stopped is as somebody wants it, and does not make the router unhealthy.
func (r *Router) Health(ctx context.Context) error {
	r.mu.Lock()
	state, err := r.state, r.err
	r.mu.Unlock()
	if state != runs {
		return errors.Join(fmt.Errorf("router %q is not running", r.config.Name), err)
	}
	var errs []error
	for _, l := range r.working() {
		if err := l.health(ctx); err != nil && r.works(l) { // it may have been paused or stopped meanwhile
			errs = append(errs, fmt.Errorf("route %q of topic %q: %w", l.name, l.topic, err))
		}
	}
	return errors.Join(errs...)
}

// works tells whether a lane is still that of a route that runs.
func (r *Router) works(l *lane) bool { return slices.Contains(r.working(), l) }

// working returns the lanes of the routes that run.
func (r *Router) working() []*lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lanes []*lane
	for _, rt := range r.routes {
		if rt.state == Running && rt.lane != nil {
			lanes = append(lanes, rt.lane)
		}
	}
	return lanes
}
