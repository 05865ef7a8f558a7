package eshttp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Config is what to run. Handler is required; for everything else the zero value means the default.
type Config struct {
	// Addr is where to listen; "127.0.0.1:8000" by default. Port 0 takes a free one; see OnListen.
	Addr string
	// Handler answers the requests. An *http.ServeMux is wrapped by [Problems], and everything by [Recover].
	Handler http.Handler
	// Components start before the server listens, in this order, and stop after it has drained, in reverse.
	Components []es.Component
	// Grace is how long stopping may take; 25 seconds by default, which fits into the 30 seconds that orchestrators leave.
	// Requests under way have the first half of it, and the components have what is left then.
	Grace time.Duration
	// Announce is how long the server goes on taking requests when it is told to stop, while /readyz is 503, so that those who
	// send it requests can hear of it; by default it stops taking them at once. It comes before the grace period.
	Announce time.Duration
	// ReadHeaderTimeout is how long the header of a request may take; 5 seconds by default.
	ReadHeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take to come in; 30 seconds by default.
	ReadTimeout time.Duration
	// WriteTimeout is how long a request may take from its header to the end of the answer; 60 seconds by default. A handler
	// that needs longer, or for ever, sets its own with http.ResponseController.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection is kept between requests; 2 minutes by default.
	IdleTimeout time.Duration
	// MaxHeaderBytes is the largest header of a request; 64 KiB by default.
	MaxHeaderBytes int
	// MaxBodyBytes is the largest body of any request; 1 MiB by default. Beyond it reading the body fails with an
	// *http.MaxBytesError, which [Error] makes a 413. [MaxBody] sets another limit for a part of the handler.
	MaxBodyBytes int64
	// MaxConnections is the largest number of connections at a time; 10,000 by default. Those beyond it wait to be taken until
	// others end, in the queue of the operating system. Connections that are kept between requests count, until IdleTimeout.
	MaxConnections int
	// Signals are those that stop the program; SIGINT and SIGTERM by default, none when it is empty and not nil.
	Signals []os.Signal
	// OnListen is called when the server listens, with its address.
	OnListen func(net.Addr)
	// Logger is told about start and stop, and is given to requests; see [Error]. The default discards.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Addr == "" {
		c.Addr = "127.0.0.1:8000"
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Grace, 25 * time.Second},
		{&c.ReadHeaderTimeout, 5 * time.Second},
		{&c.ReadTimeout, 30 * time.Second},
		{&c.WriteTimeout, time.Minute},
		{&c.IdleTimeout, 2 * time.Minute},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = 64 << 10
	}
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 1 << 20
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 10_000
	}
	if c.Signals == nil {
		c.Signals = []os.Signal{os.Interrupt, syscall.SIGTERM}
	}
	if c.OnListen == nil {
		c.OnListen = func(net.Addr) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate joins an error for each field that is wrong.
func (c Config) validate() error {
	var errs []error
	if c.Handler == nil {
		errs = append(errs, es.Invalidf("server", "has no Handler"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"grace", c.Grace}, {"announce time", c.Announce}, {"read header timeout", c.ReadHeaderTimeout}, {"read timeout", c.ReadTimeout},
		{"write timeout", c.WriteTimeout}, {"idle timeout", c.IdleTimeout},
	} {
		if d.value < 0 {
			errs = append(errs, es.Invalidf(d.name, "is %v; it takes a duration above 0", d.value))
		}
	}
	for i, part := range c.Components {
		if part == nil {
			errs = append(errs, es.Invalidf("components", "have nil at index %d", i))
		}
	}
	if c.MaxHeaderBytes < 0 {
		errs = append(errs, es.Invalidf("header limit", "is %d; it takes a number of bytes above 0", c.MaxHeaderBytes))
	}
	if c.MaxBodyBytes < 0 {
		errs = append(errs, es.Invalidf("body limit", "is %d; it takes a number of bytes above 0", c.MaxBodyBytes))
	}
	if c.MaxConnections < 0 {
		errs = append(errs, es.Invalidf("connection limit", "is %d; it takes a number above 0", c.MaxConnections))
	}
	return errors.Join(errs...)
}

// Run runs a program that has a web server: it starts the components, listens, and serves until ctx ends, a signal comes, or a
// component or the server ends by itself. Then it stops in order: no new requests first, those under way finish, and after
// them the components stop, in reverse. What has not finished when the grace period is over is broken off, by the end of
// its context, and so is everything at a second signal; a third one kills the process.
//
// The error is nil after ctx or a signal, when everything was finished. Otherwise it joins why the program ended by itself and
// what could not be stopped in order. A component that cannot start, or an address that cannot be listened on, stops what was
// started before.
func Run(ctx context.Context, c Config) error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return err
	}
	stopping, breaking, release := stopSignals(ctx, c.Signals, c.Logger)
	defer release()

	group := es.NewGroup("components", c.Components...)
	if err := start(stopping, breaking, group); err != nil {
		if told := stopping.Err(); told != nil && only(err, told) {
			c.Logger.Info("stopped before everything had started")
			return nil
		}
		return err
	}
	s := newServer(ctx, c)
	cause := s.listen(stopping)
	if cause == nil {
		select {
		case <-stopping.Done():
			c.Logger.Info("stopping", "grace", c.Grace)
			s.announce(breaking, group)
		case <-group.Done():
			c.Logger.Error("stopping, because a component has ended", "error", group.Err())
		case <-s.ended:
			cause = s.err
			c.Logger.Error("stopping, because the server has ended", "error", cause)
		}
	}

	graceful, cancel := context.WithTimeout(breaking, c.Grace)
	defer cancel()
	drained := s.drain(graceful)
	stopped := group.Stop(graceful)
	ended := group.Err() // by itself, also while the requests were finished
	c.Logger.Info("stopped")
	return errors.Join(cause, ended, drained, stopped)
}

// start starts the components. When that has to be undone, the end of breaking breaks it off.
func start(ctx, breaking context.Context, group *es.Group) error {
	brokenOff := make(chan error, 1)
	unwatch := context.AfterFunc(breaking, func() { brokenOff <- group.Stop(breaking) })
	err := group.Start(ctx)
	if unwatch() {
		return err
	}
	if stopped := <-brokenOff; err == nil {
		return stopped // it came when everything had just started
	}
	return err
}

// only tells whether an error is nothing but a target: of errors that are joined, each one.
func only(err, target error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return errors.Is(err, target)
	}
	for _, each := range joined.Unwrap() {
		if !only(each, target) {
			return false
		}
	}
	return true
}

// stopSignals returns a context that ends with ctx or the first signal, and one that ends with the second.
func stopSignals(ctx context.Context, signals []os.Signal, log *slog.Logger) (stopping, breaking context.Context, release func()) {
	stopping, stop := context.WithCancel(ctx)
	breaking, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	received := make(chan os.Signal, 2) // one for each context; further ones find the default action
	if len(signals) > 0 {
		signal.Notify(received, signals...)
	}
	quit := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for _, end := range []context.CancelFunc{stop, breakOff} {
			select {
			case s := <-received:
				log.Info("signal", "signal", s.String())
				end()
			case <-quit:
				return
			}
		}
		signal.Stop(received)
	})
	return stopping, breaking, func() {
		close(quit)
		watch.Wait()
		signal.Stop(received)
		stop()
		breakOff()
	}
}
