package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Router runs routes. It is an [es.Component]. Make one with [New], add middleware and routes, and start it once.
type Router struct {
	config Config

	mu         sync.Mutex
	state      phase
	middleware []es.Middleware
	routes     []*route
	err        error
	brokenOff  int // how many handlers were broken off; known when done is closed

	started   chan struct{} // closed when Start has returned
	end       chan struct{} // closed when the work is to end
	hurry     chan struct{} // closed when running handlers are to be broken off
	hurryOnce sync.Once
	done      chan struct{}
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
	return &Router{
		config: c, started: make(chan struct{}), end: make(chan struct{}), hurry: make(chan struct{}), done: make(chan struct{}),
	}, nil
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

// Route adds a route: the messages of a topic go to a handler. Several routes may share a topic if their names differ; each sees
// all of its messages. [es.ErrInvalid] for a name that is taken, an option that breaks a rule, and after the start.
func (r *Router) Route(topic string, handler es.Handler, o Options) error {
	if err := es.ValidateName("topic", topic); err != nil {
		return err
	}
	if handler == nil {
		return es.Invalidf("handler", "of topic %q is nil", topic)
	}
	o = o.withDefaults(topic, r.config)
	if err := o.validate(); err != nil {
		return err
	}
	o.Middleware = slices.Clone(o.Middleware)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != building {
		return es.Invalidf("route", "%q of topic %q was added after the start of router %q; call Route before", o.Name, topic, r.config.Name)
	}
	for _, other := range r.routes {
		if other.topic == topic && other.name == o.Name {
			return es.Invalidf("route", "%q of topic %q is there already; two routes of a topic take two names", o.Name, topic)
		}
	}
	r.routes = append(r.routes, &route{
		topic: topic, name: o.Name, config: r.config, opts: o, handler: handler, onClosed: r.fail,
		log:    r.config.Logger.With("router", r.config.Name, "topic", topic, "group", o.Name),
		toDead: topic == r.config.DeadStream || topic == es.Category(r.config.DeadStream),
	})
	return nil
}

// Start subscribes every route, in the order in which they were added, and begins to handle messages. The context is for that
// only, but for its values, which handlers see. When a subscription fails, those before it are closed and the router has ended.
// [es.ErrInvalid] for a router that has no route or was started before.
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
	err := r.subscribe(ctx)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.state = ended
		close(r.done)
		return fmt.Errorf("start router %q: %w", r.config.Name, err)
	}
	r.state = runs
	r.run(context.WithoutCancel(ctx))
	return nil
}

func (r *Router) subscribe(ctx context.Context) error {
	for i, rt := range r.routes {
		if err := rt.start(ctx, r.config.Subscriber, r.middleware); err != nil {
			errs := []error{fmt.Errorf("route %q of topic %q: %w", rt.name, rt.topic, err)}
			for _, before := range r.routes[:i] {
				errs = append(errs, before.sub.Close())
			}
			return errors.Join(errs...)
		}
	}
	return nil
}

// run starts all goroutines. The last of them to end is that of finish, which closes done.
func (r *Router) run(ctx context.Context) {
	receiving, stopReceiving := context.WithCancel(ctx)
	handlers, breakOff := context.WithCancelCause(ctx)
	answers, giveUp := context.WithCancel(ctx)
	var goroutines sync.WaitGroup
	for _, rt := range r.routes {
		rt.run(receiving, handlers, answers, goroutines.Go)
	}
	idle := make(chan struct{})
	go func() {
		goroutines.Wait()
		close(idle)
	}()
	go func() {
		<-r.end
		for _, rt := range r.routes {
			rt.stop()
		}
		stopReceiving()
		r.await(idle, breakOff, giveUp)
		breakOff(ErrStopped)
		giveUp()
		r.finish()
	}()
}

// answerPatience is how long the subscription has to take the last answers when the grace period is over and the last handler has
// returned.
const answerPatience = 5 * time.Second

// await waits until every goroutine of the routes has ended: by itself within the grace period, and with its context ended
// after that.
func (r *Router) await(idle <-chan struct{}, breakOff context.CancelCauseFunc, giveUp context.CancelFunc) {
	grace := time.NewTimer(max(r.config.Grace, 0))
	defer grace.Stop()
	select {
	case <-idle:
		return
	case <-grace.C:
	case <-r.hurry:
	}
	breakOff(ErrStopped)
	for _, rt := range r.routes {
		<-rt.quiet // however long that takes: what its handler did is to be acknowledged, and its lease to be held until then
	}
	patience := time.NewTimer(answerPatience)
	defer patience.Stop()
	select {
	case <-idle:
		return
	case <-patience.C:
	}
	r.config.Logger.Warn("the subscription does not take the last answers; giving up", "router", r.config.Name)
	giveUp()
	<-idle
}

func (r *Router) finish() {
	broken := 0
	for _, rt := range r.routes {
		rt.mu.Lock()
		broken += rt.brokenOff
		rt.mu.Unlock()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = ended
	r.brokenOff = broken
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
	close(r.end)
}

// Stop ends the work in two phases. First no more messages are received, those that no handler has begun with are given back,
// and running handlers finish. When the grace period or ctx has ended before that, their contexts are ended, with the cause
// [ErrStopped]; what returns an error then is given back, which is neither an attempt nor ever a dead letter, and what succeeds
// is acknowledged. Stop waits for every handler, also for one that does not care about its context: there is no way to end it.
//
// The error is nil when every handler finished, and otherwise that of ctx, or context.DeadlineExceeded when it was the grace
// period that was over.
func (r *Router) Stop(ctx context.Context) error {
	r.requestEnd()
	select {
	case <-r.done:
	case <-ctx.Done():
		r.hurryOnce.Do(func() { close(r.hurry) })
		<-r.done
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.brokenOff == 0 {
		return nil
	}
	reason := ctx.Err()
	if reason == nil {
		reason = context.DeadlineExceeded
	}
	return fmt.Errorf("stop router %q: %d handlers were broken off, their messages will be delivered again: %w",
		r.config.Name, r.brokenOff, reason)
}

// requestEnd sets off the end of a router that runs. One that is being started is waited for.
func (r *Router) requestEnd() {
	r.mu.Lock()
	for r.state == starting {
		r.mu.Unlock()
		<-r.started
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	switch r.state {
	case building:
		r.state = ended
		close(r.done)
	case runs:
		r.state = ending
		close(r.end)
	case starting, ending, ended:
	}
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

// Health is nil while the router runs and each route receives, answers, and gets rid of its dead letters. Otherwise it says what
// is wrong.
func (r *Router) Health(context.Context) error {
	r.mu.Lock()
	state, err, routes := r.state, r.err, r.routes
	r.mu.Unlock()
	if state != runs {
		return errors.Join(fmt.Errorf("router %q is not running", r.config.Name), err)
	}
	var errs []error
	for _, rt := range routes {
		if err := rt.health(); err != nil {
			errs = append(errs, fmt.Errorf("route %q of topic %q: %w", rt.name, rt.topic, err))
		}
	}
	return errors.Join(errs...)
}

func (rt *route) health() error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return errors.Join(rt.receiveErr, rt.answerErr, rt.deadErr)
}
