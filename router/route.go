package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// spec is what a route is. It does not change once the route is there.
type spec struct {
	topic, name string
	config      Config
	opts        Options
	handler     es.Handler
	log         *slog.Logger
	toDead      bool // its topic is that of the dead letters
}

// route is a spec and what is done with it: it has a lane while it works.
type route struct {
	spec

	chain es.Handler    // made once, when the route starts for the first time
	turn  chan struct{} // held by who starts the route, one at a time

	// These are guarded by the mutex of the router.
	state State
	halts int   // how often it was paused or stopped
	lane  *lane // what works, or comes to its end; nil: nothing
	past  Stats // what earlier lanes did
}

// newRoute checks what a route is made of.
func (r *Router) newRoute(topic string, handler es.Handler, o Options) (*route, error) {
	if err := es.ValidateName("topic", topic); err != nil {
		return nil, err
	}
	if err := checkHandler(handler); err != nil {
		return nil, fmt.Errorf("route of topic %q: %w", topic, err)
	}
	o = o.withDefaults(topic, r.config)
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.Middleware = slices.Clone(o.Middleware)
	rt := &route{
		spec: spec{
			topic: topic, name: o.Name, config: r.config, opts: o, handler: handler,
			log:    r.config.Logger.With("router", r.config.Name, "topic", topic, "group", o.Name),
			toDead: topic == r.config.DeadStream || topic == es.Category(r.config.DeadStream),
		},
		turn: make(chan struct{}, 1), state: Waiting,
	}
	if o.Paused {
		rt.state = Paused
	}
	return rt, nil
}

// add puts a route among the others. The mutex of the router is held.
func (r *Router) add(rt *route) error {
	if r.find(rt.topic, rt.name) != nil {
		return rt.isThere()
	}
	r.routes = append(r.routes, rt)
	return nil
}

// find returns a route, or nil. The mutex of the router is held.
func (r *Router) find(topic, name string) *route {
	if name == "" {
		name = topic
	}
	for _, rt := range r.routes {
		if rt.topic == topic && rt.name == name {
			return rt
		}
	}
	return nil
}

// link wraps the handler: the router's middleware outermost, then the route's, then the sending of outputs.
func (rt *route) link(outer []es.Middleware) error {
	var chain es.Handler = &emitting{next: rt.handler, emit: rt.config.Emit, topic: rt.topic, route: rt.name}
	for _, middleware := range [][]es.Middleware{rt.opts.Middleware, outer} {
		for i, wrap := range slices.Backward(middleware) {
			if chain = wrap(chain); chain == nil {
				return es.Invalidf("middleware", "at index %d made a handler that is nil", i)
			}
		}
	}
	rt.chain = chain
	return nil
}

// open returns a lane of the route that is subscribed and does not work yet.
func (rt *route) open(ctx context.Context, onClosed func(error)) (*lane, error) {
	l := &lane{spec: rt.spec, chain: rt.chain, onClosed: onClosed}
	if err := l.open(ctx, rt.config.Subscriber); err != nil {
		return nil, err
	}
	return l, nil
}

// unknown says that there is no such route.
func (r *Router) unknown(topic, name string) error {
	return fmt.Errorf("router %q has no route %q of topic %q: %w", r.config.Name, name, topic, es.ErrNotFound)
}

// trouble is something that went wrong and is tried again. It is over when that succeeds, and when it should have failed again long ago
// and has not: what is waited for may never come, or may have gone to another process.
type trouble struct {
	err   error
	until time.Time
}

// troubleLasts is how long trouble is believed in after it should have shown again: longer than it takes a connection to fail.
const troubleLasts = time.Minute

// newTrouble is an error of something that is tried again after a delay.
func newTrouble(err error, delay time.Duration) trouble {
	return trouble{err: err, until: time.Now().Add(delay + troubleLasts)}
}

func (t trouble) at(now time.Time) error {
	if now.After(t.until) {
		return nil
	}
	return t.err
}

// health says what is wrong with a lane that works.
func (l *lane) health(ctx context.Context) error {
	l.mu.Lock()
	now := time.Now()
	errs := []error{l.answerErr.at(now), l.deadErr.at(now)}
	for _, in := range l.intakes {
		errs = append(errs, in.err.at(now))
	}
	l.mu.Unlock()
	return errors.Join(append(errs, l.tooFarBehind(ctx))...)
}
