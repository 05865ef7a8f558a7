package router

import (
	"context"
	"errors"
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
	rt, err := r.control(topic, name)
	if err != nil {
		return fmt.Errorf("pause: %w", err)
	}
	r.mu.Lock()
	was, l := rt.state, rt.lane
	if was == Waiting || was == Running {
		rt.state = Paused
	}
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
// ([Router.StartRoute] starts it), and [es.ErrClosed] when the router was.
func (r *Router) Resume(ctx context.Context, topic, name string) error {
	rt, err := r.control(topic, name)
	if err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	if err := r.launch(ctx, rt, Paused); err != nil {
		return fmt.Errorf("resume: %w", err)
	}
	return nil
}

// StopRoute stops one route, as [Router.Stop] does all of them: in two phases, with the grace period of the router, or for as long as
// ctx lasts. The others go on, and so does the router when there are none. [Router.StartRoute] starts it again. A route that was
// stopped, is paused or was never started is stopped.
//
// The error is nil when every handler finished, and otherwise that of ctx, or context.DeadlineExceeded when it was the grace period
// that was over; [es.ErrNotFound] for a route that there is not.
func (r *Router) StopRoute(ctx context.Context, topic, name string) error {
	rt, err := r.control(topic, name)
	if errors.Is(err, es.ErrClosed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	r.mu.Lock()
	was, l := rt.state, rt.lane
	rt.state = Stopped
	r.mu.Unlock()
	if was != Stopped {
		rt.log.Info("the route is stopped")
	}
	if l == nil {
		return nil
	}
	patience, cancel := context.WithTimeout(ctx, max(r.config.Grace, 0))
	defer cancel()
	l.stop()
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
// ([Router.Resume] is for that), and [es.ErrClosed] when the router was stopped.
func (r *Router) StartRoute(ctx context.Context, topic, name string) error {
	rt, err := r.control(topic, name)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := r.launch(ctx, rt, Stopped); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// control returns a route that is to be told something. A router that is being started is waited for.
func (r *Router) control(topic, name string) (*route, error) {
	r.mu.Lock()
	for r.state == starting {
		r.mu.Unlock()
		<-r.started
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	rt := r.find(topic, name)
	switch {
	case rt == nil:
		return nil, r.unknown(topic, name)
	case r.state == ending || r.state == ended:
		return nil, r.isOver()
	}
	return rt, nil
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
