package router

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// AddRoute adds a route to a router that runs, and starts it, inside the middleware that the router has. The errors are those of
// [Router.Route] and of subscribing, and there is no such route then; [es.ErrInvalid] before the start, when it is [Router.Route],
// and [es.ErrClosed] when the router was stopped.
func (r *Router) AddRoute(ctx context.Context, topic string, handler es.Handler, o Options) error {
	rt, err := r.newRoute(topic, handler, o)
	if err != nil {
		return err
	}
	if err := r.admit(rt); err != nil {
		return err
	}
	defer r.opening.Done()
	if err := rt.link(r.middleware); err != nil { // which does not change any more
		return fmt.Errorf("route %q of topic %q: %w", rt.name, rt.topic, err)
	}
	l, err := r.open(ctx, rt)
	if err != nil {
		return err
	}
	if o.Paused {
		l.close()
		l = nil
	}
	if err := r.addRunning(rt, l); err != nil {
		if l != nil {
			l.close()
		}
		return err
	}
	rt.log.Info("the route was added", "paused", o.Paused)
	return nil
}

// admit lets somebody open a route that is to be added, unless it cannot be. The router waits for them when it ends.
func (r *Router) admit(rt *route) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.state {
	case building, starting:
		return es.Invalidf("route", "%q of topic %q is added to a router that does not run; call Route before the start", rt.name, rt.topic)
	case ending, ended:
		return r.isOver()
	case runs:
	}
	if r.find(rt.topic, rt.name) != nil {
		return rt.isThere()
	}
	r.opening.Add(1)
	return nil
}

func (r *Router) addRunning(rt *route, l *lane) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != runs {
		return r.isOver()
	}
	if err := r.add(rt); err != nil {
		return err
	}
	if l != nil {
		r.run(rt, l)
	}
	return nil
}

// launch starts a route that is in a certain state. Others who do that are waited for, and handlers from before.
func (r *Router) launch(ctx context.Context, topic, name string, from State) error {
	rt, err := r.lockRoute(ctx, topic, name)
	if err != nil {
		return err
	}
	r.mu.Unlock()
	select {
	case rt.turn <- struct{}{}:
		defer func() { <-rt.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	begun, err := r.beginLaunch(ctx, rt, from)
	if err != nil || !begun.needed {
		return err
	}
	defer r.opening.Done()
	if begun.before != nil {
		if err := r.awaitGone(ctx, begun.before); err != nil {
			return err
		}
	}
	l, err := r.open(ctx, rt)
	if err != nil {
		return err
	}
	if err := r.endLaunch(rt, begun, l); err != nil {
		l.close()
		return err
	}
	rt.log.Info("the route is running")
	return nil
}

// launching is how a route was found that is to be started.
type launching struct {
	needed bool  // it is to be started at all
	before *lane // what is left of the last time that it ran
	halts  int   // how often it had been halted
}

func (r *Router) beginLaunch(ctx context.Context, rt *route, from State) (launching, error) {
	if err := r.lock(ctx); err != nil {
		return launching{}, err
	}
	defer r.mu.Unlock()
	switch {
	case r.state == ending || r.state == ended:
		return launching{}, r.isOver()
	case rt.state == Running || rt.state == Waiting:
		return launching{}, nil
	case rt.state != from:
		return launching{}, rt.isIn(rt.state)
	case r.state == building:
		rt.state = Waiting
		return launching{}, nil
	}
	r.opening.Add(1)
	return launching{needed: true, before: rt.lane, halts: rt.halts}, nil
}

// endLaunch has a lane work, unless something else was asked for meanwhile.
func (r *Router) endLaunch(rt *route, begun launching, l *lane) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state != runs:
		return r.isOver()
	case rt.halts != begun.halts:
		return rt.isIn(rt.state)
	}
	r.run(rt, l)
	return nil
}

// awaitGone waits until a lane that was stopped has ended.
func (r *Router) awaitGone(ctx context.Context, l *lane) error {
	if l == laneOf(ctx) {
		return l.isWithin()
	}
	select {
	case <-l.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("handlers of route %q of topic %q that ran before are still running: %w", l.name, l.topic, ctx.Err())
	case <-r.life.Done():
		return r.isOver()
	}
}

// open subscribes a route, for as long as ctx lasts and the router runs.
func (r *Router) open(ctx context.Context, rt *route) (*lane, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.life, cancel)() //nolint:contextcheck // the life of the router is no part of what the caller gives
	l, err := rt.open(ctx, r.fail)
	if err != nil {
		return nil, fmt.Errorf("route %q of topic %q: %w", rt.name, rt.topic, err)
	}
	return l, nil
}
