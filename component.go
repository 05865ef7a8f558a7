package eventsourcing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Component is a part of a program that runs: a router, a processor, a server.
type Component interface {
	// Name is for logs and for health reports.
	Name() string
	// Start begins the work and returns when it is under way. The context is for starting only; the work goes on until Stop.
	// A component is started once.
	Start(ctx context.Context) error
	// Stop ends the work: no new work first, then what is under way is finished. When ctx ends before that, what is left is
	// broken off, and Stop still waits for its goroutines to be gone. The error is nil when everything was finished, and that
	// of ctx when something was broken off. What was never started, or is stopped already, is stopped.
	Stop(ctx context.Context) error
	// Done is closed when the work has ended, by Stop or by itself.
	Done() <-chan struct{}
	// Err says why the work ended by itself; nil while it runs and after Stop.
	Err() error
	// Health is nil when the component works as it should, and says what is wrong otherwise.
	Health(ctx context.Context) error
}

// Group starts components in order and stops them in reverse, so that a part can rely on those before it for as long as it
// lives. It is a component itself: it ends when the first of its components does.
type Group struct {
	name       string
	components []Component

	mu       sync.Mutex
	started  int // how many of the components run
	state    groupState
	err      error
	giveUp   context.CancelFunc // ends the Start that is under way
	breakOff context.CancelFunc // ends the patience of who stops the components
	stopErr  error              // what came of stopping them
	done     chan struct{}
	stop     chan struct{} // closed when the components begin to be stopped
	stopped  chan struct{} // closed when all that was started is stopped
	watched  sync.WaitGroup
}

type groupState int

const (
	groupNew groupState = iota
	groupStarting
	groupRunning
	groupStopped
)

// NewGroup makes a group of components.
func NewGroup(name string, components ...Component) *Group {
	return &Group{
		name: name, components: components,
		done: make(chan struct{}), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
}

// Name returns the name of the group.
func (g *Group) Name() string { return g.name }

// Start starts the components in order. When one fails, those before it are stopped again, in reverse, within 10 seconds, and its
// error is returned. A Stop meanwhile ends the context of the component that is being started, and then everything is undone in the
// same way; Start returns [ErrClosed] with it. It is also undone before the panic of a component goes on.
func (g *Group) Start(ctx context.Context) (err error) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	const patience = 10 * time.Second // the context may be why the start failed
	undo, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer breakOff()
	g.mu.Lock()
	if g.state != groupNew {
		g.mu.Unlock()
		return fmt.Errorf("start %s: it was started before: %w", g.name, ErrInvalid)
	}
	g.state, g.giveUp, g.breakOff = groupStarting, giveUp, breakOff
	g.mu.Unlock()

	running := false
	defer func() {
		if running {
			return
		}
		undo, cancel := context.WithTimeout(undo, patience)
		defer cancel()
		err = g.abandon(undo, err)
	}()
	if err := g.startAll(ctx); err != nil {
		return err
	}
	running = g.run()
	return nil
}

func (g *Group) startAll(ctx context.Context) error {
	for _, c := range g.components {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("start %s: %w", c.Name(), err)
		}
		if err := c.Start(ctx); err != nil {
			return fmt.Errorf("start %s: %w", c.Name(), err)
		}
		g.started++
	}
	return nil
}

// run makes a group that was started one that runs, unless it was stopped meanwhile.
func (g *Group) run() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != groupStarting {
		return false
	}
	g.state = groupRunning
	for _, c := range g.components {
		g.watched.Go(func() { g.watch(c) })
	}
	return true
}

// abandon stops what was started, when another could not be, or when the group was stopped meanwhile.
func (g *Group) abandon(ctx context.Context, cause error) error {
	g.mu.Lock()
	if g.state == groupStopped {
		cause = errors.Join(cause, fmt.Errorf("start %s: it was stopped meanwhile: %w", g.name, ErrClosed))
	}
	g.state = groupStopped
	g.mu.Unlock()
	defer close(g.stopped)
	defer close(g.done)
	g.stopErr = g.stopStarted(ctx)
	return errors.Join(cause, g.stopErr)
}

func (g *Group) watch(c Component) {
	select {
	case <-g.stop:
	case <-c.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.state == groupRunning {
			g.ended(c)
		}
	}
}

// ended notes that a component has ended by itself, unless another did before it.
func (g *Group) ended(c Component) {
	if g.err != nil {
		return
	}
	g.err = fmt.Errorf("%s: %w", c.Name(), errEnded)
	if err := c.Err(); err != nil {
		g.err = fmt.Errorf("%s: %w", c.Name(), err)
	}
	close(g.done)
}

var errEnded = errors.New("ended by itself")

// Stop stops the components in reverse order. While another Stop is under way, or a Start that has to be undone, it waits for that
// one, and breaks it off when its own context ends first; both Stops then return the same. All are stopped before the panic of a
// component goes on.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	switch g.state {
	case groupNew:
		defer g.mu.Unlock()
		g.state = groupStopped
		close(g.done)
		close(g.stopped)
		return nil
	case groupStarting:
		g.state = groupStopped
		g.giveUp()
		g.mu.Unlock()
		return g.awaitStopped(ctx)
	case groupStopped:
		g.mu.Unlock()
		return g.awaitStopped(ctx)
	case groupRunning:
	}
	for _, c := range g.components { // what has ended before this may not have been noticed yet
		select {
		case <-c.Done():
			g.ended(c)
		default:
		}
	}
	g.state = groupStopped
	ctx, g.breakOff = context.WithCancel(ctx)
	defer g.breakOff()
	ended := g.err != nil // then done is closed already
	g.mu.Unlock()

	defer close(g.stopped)
	defer func() {
		if !ended {
			close(g.done)
		}
	}()
	close(g.stop)
	g.watched.Wait()
	g.stopErr = g.stopStarted(ctx)
	return g.stopErr
}

// awaitStopped waits until somebody else has stopped the components, if that is not so already.
func (g *Group) awaitStopped(ctx context.Context) error {
	select {
	case <-g.stopped:
		return nil
	default:
	}
	defer context.AfterFunc(ctx, g.breakOff)()
	<-g.stopped
	return g.stopErr
}

// stopStarted stops what was started, in reverse. A component that panics does not keep those before it from being stopped.
func (g *Group) stopStarted(ctx context.Context) (err error) {
	if g.started == 0 {
		return nil
	}
	g.started--
	c := g.components[g.started]
	defer func() { err = errors.Join(err, g.stopStarted(ctx)) }()
	if err := c.Stop(ctx); err != nil {
		return fmt.Errorf("stop %s: %w", c.Name(), err)
	}
	return nil
}

// Done is closed when the group was stopped, or the first of its components ended.
func (g *Group) Done() <-chan struct{} { return g.done }

// Err says which component ended by itself, and why; nil while all run and after a Stop that came first.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Health joins what is wrong with each of the components.
func (g *Group) Health(ctx context.Context) error {
	g.mu.Lock()
	state, err := g.state, g.err
	g.mu.Unlock()
	if state != groupRunning {
		return fmt.Errorf("%s is not running", g.name)
	}
	errs := []error{err}
	for _, c := range g.components {
		if err := c.Health(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name(), err))
		}
	}
	return errors.Join(errs...)
}
