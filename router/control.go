package router

import (
	"context"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Pause has a route begin with no more messages. It returns at once: those that are in hand and not begun, and busy ones that wait, are
// given back, so that other processes of the group get them, running handlers finish, and the route leaves its group. [Stats] tells
// when nothing is in flight any more. Other routes go on, the router stays healthy, and [Router.Resume] ends it.
//
// A route that is paused stays so; before the start of the router it is as [Options].Paused. [es.ErrNotFound] for a route that there
// is not, [es.ErrInvalid] for one that was stopped, and [es.ErrClosed] when the router was. As everywhere, an empty name is that of
// the topic.
func (r *Router) Pause(topic, name string) error {
	rt, err := r.lockRoute(context.Background(), topic, name)
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	if r.state == ending || r.state == ended {
		r.mu.Unlock()
		return fmt.Errorf("pause: %w", r.isOver())
	}
	was, l := rt.state, rt.lane
	if was == Waiting || was == Running {
		rt.state = Paused
	}
	rt.halts++
	r.mu.Unlock()
	switch was {
	case Stopped:
		return fmt.Errorf("pause: %w", rt.isIn(Stopped))
	case Running:
		rt.log.Info("the route is paused")
	case Waiting, Paused:
	}
	if l != nil {
		l.stop()
	}
	return nil
}

// Resume ends a pause: the route subscribes, and handles messages again. Handlers that are still running from before the pause are
// waited for, until ctx ends, so that there are never more than [Options].Concurrency. When it fails the route stays paused.
//
// A route that is not paused goes on. [es.ErrNotFound] for a route that there is not, [es.ErrInvalid] for one that was stopped
// ([Router.StartRoute] starts it), when a Pause or StopRoute came meanwhile, and for a handler of the route from before the pause, which
// would wait for itself; [es.ErrClosed] when the router was stopped.
func (r *Router) Resume(ctx context.Context, topic, name string) error {
	if err := r.launch(ctx, topic, name, Paused); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// StopRoute stops one route, as [Router.Stop] does all of them: in two phases, with the grace period of the router, or for as long as
// ctx lasts. The others go on, and so does the router when there are none. [Router.StartRoute] starts it again. A route that was
// stopped, is paused or was never started is stopped.
//
// The error is nil when every handler finished, and otherwise that of ctx, or context.DeadlineExceeded when it was the grace period
// that was over; [es.ErrNotFound] for a route that there is not. A handler of the route that calls it with its own context is not
// waited for, which would never end: the route begins with nothing more, nothing is broken off, and the error is [es.ErrInvalid].
func (r *Router) StopRoute(ctx context.Context, topic, name string) error {
	rt, err := r.lockRoute(ctx, topic, name)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	was, l := rt.state, rt.lane
	rt.state = Stopped
	rt.halts++
	r.mu.Unlock()
	if was != Stopped {
		rt.log.Info("the route is stopped")
	}
	if l == nil {
		return nil
	}
	l.stop()
	if l == laneOf(ctx) {
		return fmt.Errorf("stop: %w", rt.isWithin())
	}
	patience, cancel := context.WithTimeout(ctx, max(r.config.Grace, 0))
	defer cancel()
	l.end(patience.Done())
	if broken := l.broken(); broken > 0 {
		return fmt.Errorf("stop route %q of topic %q: %w", rt.name, rt.topic, brokenOff(ctx, broken))
	}
	return nil
}

// StartRoute starts a route again that was stopped. Handlers that are still running from before are waited for, until ctx ends. When
// it fails the route stays stopped. Before the start of the router it takes back a StopRoute.
//
// A route that runs goes on. [es.ErrNotFound] for a route that there is not, [es.ErrInvalid] for one that is paused
// ([Router.Resume] is for that), when a StopRoute came meanwhile, and for a handler of the route from before, which would wait for
// itself; [es.ErrClosed] when the router was stopped.
func (r *Router) StartRoute(ctx context.Context, topic, name string) error {
	if err := r.launch(ctx, topic, name, Stopped); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// lockRoute takes the mutex and returns a route that is to be told something. With an error the mutex is not held.
func (r *Router) lockRoute(ctx context.Context, topic, name string) (*route, error) {
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	rt := r.find(topic, name)
	if rt == nil {
		r.mu.Unlock()
		return nil, r.unknown(topic, name)
	}
	return rt, nil
}

// lock takes the mutex of a router that is not being started: that is waited for, until ctx ends. With an error it is not held.
func (r *Router) lock(ctx context.Context) error {
	r.mu.Lock()
	if r.state != starting {
		return nil
	}
	r.mu.Unlock()
	select {
	case <-r.started:
	case <-ctx.Done():
		return fmt.Errorf("router %q is being started: %w", r.config.Name, ctx.Err())
	}
	r.mu.Lock()
	return nil
}

func (r *Router) isOver() error {
	return fmt.Errorf("router %q was stopped: %w", r.config.Name, es.ErrClosed)
}

// isIn says that a route is in a state in which it cannot be done what was asked for.
func (rt *route) isIn(s State) error {
	way := "StartRoute starts it"
	if s == Paused {
		way = "Resume ends that"
	}
	return es.Invalidf("route", "%q of topic %q is %s; %s", rt.name, rt.topic, s, way)
}

// isWithin says that a handler cannot wait for the end of its own route.
func (s *spec) isWithin() error {
	return es.Invalidf("call", "was made by a handler of route %q of topic %q, which cannot wait for its own end", s.name, s.topic)
}

func (rt *route) isThere() error {
	return es.Invalidf("route", "%q of topic %q is there already; two routes of a topic take two names", rt.name, rt.topic)
}

// brokenOff says that handlers were broken off, and whose patience was at its end: that of ctx, or the grace period.
func brokenOff(ctx context.Context, handlers int) error {
	reason := ctx.Err()
	if reason == nil {
		reason = context.DeadlineExceeded
	}
	return fmt.Errorf("%d handlers were broken off, their messages will be delivered again: %w", handlers, reason)
}
