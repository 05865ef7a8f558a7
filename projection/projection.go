package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Projection brings events into read models. It is an [es.Component], an [es.Waiter] and an [es.Lagger], made by [New].
//
// Store trouble that may pass is tried again, with growing pauses, for as long as the projection runs; Health says so when it lasts. It
// ends by itself at an event that it cannot handle (see [Stop]), when the event store is not the one that the checkpoint belongs to
// ([es.ErrCheckpoint]), and when a store was closed or cannot do what it takes. Then Err says why, and another projection of that name
// goes on from the checkpoint.
type Projection struct {
	config   Config
	handlers handlers
	target   sink
	log      *slog.Logger
	run      *run

	mu    sync.Mutex
	state lifeState
	err   error // why the work ended by itself
	done  chan struct{}

	// The goroutine that Start begins works under two contexts. Nothing new is begun after the end of soft, which is the first Stop; what
	// is under way is broken off by the end of hard, when Stop has lost its patience.
	soft, hard    context.Context //nolint:containedctx // of a goroutine, not of a call
	wake, abandon context.CancelFunc
	broken        atomic.Bool // something was broken off

	rebuilding sync.Mutex // held by the call of Rebuild

	journal journal
	waiters waiters
	remote  es.Waiter
}

type lifeState int

const (
	lifeNew lifeState = iota
	lifeRunning
	lifeStopped
)

var (
	_ es.Component = (*Projection)(nil)
	_ es.Waiter    = (*Projection)(nil)
	_ es.Lagger    = (*Projection)(nil)
)

// New makes a projection of handlers. The error is [es.ErrInvalid], or an [*es.UnknownTypeError] for a handler of a type that is not
// registered.
func New(c Config, given ...Handler) (*Projection, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	h, err := newHandlers(c, given)
	if err != nil {
		return nil, err
	}
	p := &Projection{config: c, handlers: h, log: c.Logger.With("projection", c.Name), done: make(chan struct{})}
	p.target = documentSink{c.Models}
	if c.Target != nil {
		if err := c.Target.validate(&c); err != nil {
			return nil, err
		}
		p.target = c.Target.sink()
	}
	p.soft, p.wake = context.WithCancel(context.Background())
	p.hard, p.abandon = context.WithCancel(context.Background())
	p.remote = es.WaitForProgress(c.Models, c.Name)
	p.journal.init(c.UnhealthyAfter + 2*c.Backoff.Ceiling(longestStreak))
	p.run = newRun(p, c.Name, nil)
	p.run.quit = p.soft.Done()
	p.run.onMove = func() { p.waiters.move(p.run.incarnation, p.run.scanned) }
	p.run.onDone = p.tally
	return p, nil
}

// Name returns the name of the projection.
func (p *Projection) Name() string { return p.config.Name }

// Start begins the work, or with [Config].Leases to stand by for it. It returns at once; starting a second time is [es.ErrInvalid].
func (p *Projection) Start(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start projection %s: %w", p.config.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != lifeNew {
		return fmt.Errorf("start projection %s: it was started or stopped before: %w", p.config.Name, es.ErrInvalid)
	}
	p.state = lifeRunning
	go p.work() //nolint:contextcheck // ctx is for starting only; the work has contexts of its own
	return nil
}

// Stop begins no other batch, commits the one that is being handled, and gives the lease back. When ctx ends before that, the handler's
// context is canceled and the batch is not committed; the error is then that of ctx. Another Stop meanwhile, whose ctx ends first, does
// the same to this one, whose error is then context.Canceled.
func (p *Projection) Stop(ctx context.Context) error {
	p.mu.Lock()
	if p.state == lifeNew {
		close(p.done)
	}
	p.state = lifeStopped
	p.mu.Unlock()
	p.wake()
	defer p.abandon()

	select {
	case <-p.done: // also when ctx has ended
		return nil
	default:
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.abandon()
		<-p.done
	}
	if !p.broken.Load() {
		return nil
	}
	return cmp.Or(ctx.Err(), context.Canceled) // it may be another Stop that had no patience
}

// Done is closed when the projection was stopped, or has ended by itself.
func (p *Projection) Done() <-chan struct{} { return p.done }

// Err says why the projection ended by itself: an [*EventError] for an event; nil while it runs and after Stop.
func (p *Projection) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// end ends the work by itself.
func (p *Projection) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil && p.state == lifeRunning {
		p.err = err
		p.journal.note(err)
		p.log.Error("projection ends", "error", err)
	}
	p.wake()
}

// Health is nil while the projection runs and gets something done, or stands by for another copy that does. It fails when nothing has
// worked for [Config].UnhealthyAfter, and while it lags by more than [Config].MaxLag.
func (p *Projection) Health(ctx context.Context) error {
	p.mu.Lock()
	state, err := p.state, p.err
	p.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("projection %s has ended: %w", p.config.Name, err)
	case state != lifeRunning:
		return fmt.Errorf("projection %s is not running", p.config.Name)
	}
	if err := p.journal.lasting(p.config.UnhealthyAfter); err != nil {
		return fmt.Errorf("projection %s: %w", p.config.Name, err)
	}
	if p.config.MaxLag == 0 {
		return nil
	}
	status, err := p.Status(ctx)
	switch {
	case err != nil:
		return err
	case status.LagTime > p.config.MaxLag:
		return fmt.Errorf("projection %s: the oldest event that is not handled was recorded %v ago, at most %v is allowed", p.config.Name,
			status.LagTime, p.config.MaxLag)
	}
	return nil
}

var errVanished = errors.New("its goroutine has ended in the middle, by runtime.Goexit or a panic in one of its roles")
