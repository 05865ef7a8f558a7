package eshttp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// server is an http.Server and the requests that it has under way.
type server struct {
	config   Config
	http     *http.Server
	requests requests
	breakOff context.CancelFunc // of the context of every request
	stopping chan struct{}      // closed when it is told to stop
	draining context.Context    //nolint:containedctx // it ends when the server takes no more requests, and has no other use
	drainNow context.CancelFunc // ends draining
	serving  bool
	ended    chan struct{} // closed when the server has ended, with err
	err      error
}

func newServer(ctx context.Context, c Config) *server {
	base, breakOff := context.WithCancel(WithLogger(context.WithoutCancel(ctx), c.Logger))
	draining, drainNow := context.WithCancel(context.WithoutCancel(ctx))
	s := &server{
		config: c, breakOff: breakOff, draining: draining, drainNow: drainNow,
		stopping: make(chan struct{}), ended: make(chan struct{}),
	}
	base = context.WithValue(base, serverKey{}, s)
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: c.ReadHeaderTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      c.WriteTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    c.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	return s
}

func (s *server) handler() http.Handler {
	h := s.config.Handler
	if mux, ok := h.(*http.ServeMux); ok {
		h = Problems(mux)
	}
	h = MaxBody(s.config.MaxBodyBytes, Recover(h))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.begin()
		defer s.requests.end()
		h.ServeHTTP(w, r)
	})
}

// listen begins to serve.
func (s *server) listen(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was told to stop while the components started
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.config.Addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop before it had begun
		}
		return fmt.Errorf("listen on %s: %w", s.config.Addr, err)
	}
	s.serving = true
	go func() {
		defer close(s.ended)
		s.err = s.http.Serve(limitListener(listener, s.config.MaxConnections))
	}()
	s.config.Logger.Info("listening", "addr", listener.Addr().String())
	s.config.OnListen(listener.Addr())
	return nil
}

// announce lets those who ask for its readiness hear that the server is stopping, while it still takes requests.
func (s *server) announce(breaking context.Context, group *es.Group) {
	close(s.stopping)
	if s.config.Announce == 0 || !s.serving {
		return
	}
	heard := time.NewTimer(s.config.Announce)
	defer heard.Stop()
	select {
	case <-heard.C:
	case <-breaking.Done():
	case <-group.Done():
	case <-s.ended:
	}
}

// serverKey is the context key under which a request has the server that it came to.
type serverKey struct{}

// Stopping returns a channel that is closed when the server of a request begins to wait for those under way: as soon as [Run] is told
// to stop, or when its Announce time is over. A handler that answers for a long time, a stream of events for example, ends its
// answer then, so that nobody has to wait for it. Without [Run] it is nil, which is never closed.
func Stopping(ctx context.Context) <-chan struct{} {
	if s, ok := ctx.Value(serverKey{}).(*server); ok {
		return s.draining.Done()
	}
	return nil
}

// told tells whether the server of a request was told to stop.
func told(ctx context.Context) bool {
	s, ok := ctx.Value(serverKey{}).(*server)
	if !ok {
		return false
	}
	select {
	case <-s.stopping:
	case <-s.draining.Done():
	default:
		return false
	}
	return true
}

// drain takes no more requests and waits for those under way, for half of the grace period. What is left is broken off.
func (s *server) drain(ctx context.Context) error {
	defer s.breakOff()
	s.drainNow()
	if !s.serving {
		return nil
	}
	first, cancel := context.WithTimeout(ctx, s.config.Grace/2)
	defer cancel()
	err := s.http.Shutdown(first)
	late := s.requests.any()
	s.breakOff() // also for those that have taken their connection over, which Shutdown does not wait for

	// A handler that does not care for its context cannot be ended; the components are not made to wait for it. One that reads
	// from its connection, or writes to it, ends with that.
	idle := s.waitForRequests()
	if err != nil {
		_ = s.http.Close() // there is nobody left to be told
		err = fmt.Errorf("requests were broken off: %w", err)
	}
	if !late { // it has waited for connections on which nothing was asked
		err = nil
	}
	if !idle && !s.waitForRequests() {
		s.config.Logger.Warn("a request goes on although it was broken off")
	}
	<-s.ended
	return err
}

// waitForRequests waits for a moment until no request is under way, and tells whether that is so.
func (s *server) waitForRequests() bool {
	const moment = time.Second
	patience := time.NewTimer(moment)
	defer patience.Stop()
	select {
	case <-s.requests.idle():
		return true
	case <-patience.C:
		return false
	}
}

// requests counts those that are under way.
type requests struct {
	mu    sync.Mutex
	count int
	none  chan struct{} // not nil while somebody waits; closed when there are none
}

func (r *requests) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
}

func (r *requests) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count--
	if r.count == 0 && r.none != nil {
		close(r.none)
		r.none = nil
	}
}

// any tells whether there are requests.
func (r *requests) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count > 0
}

// idle returns a channel that is closed when there are no requests, at once or later.
func (r *requests) idle() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	none := make(chan struct{})
	if r.count == 0 {
		close(none)
	} else {
		r.none = none
	}
	return none
}
