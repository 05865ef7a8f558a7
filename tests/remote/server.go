package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// Server serves a storage in memory. Each connection is a backend of its own, opened on that storage.
type Server struct {
	storage   *memory.Storage
	change    func(es.Backend) es.Backend
	directory string
	listener  net.Listener
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

// Serve begins to serve a new storage on a socket of its own. What change makes of each backend is what is served; nil serves
// them as they are.
func Serve(change func(es.Backend) es.Backend) (*Server, error) {
	directory, err := os.MkdirTemp("", "remote") // the path of a socket has to be short
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "unix", filepath.Join(directory, "socket"))
	if err != nil {
		cancel()
		return nil, errors.Join(err, os.RemoveAll(directory))
	}
	if change == nil {
		change = func(b es.Backend) es.Backend { return b }
	}
	s := &Server{storage: memory.NewStorage(), change: change, directory: directory, listener: listener, cancel: cancel}
	s.running.Go(func() { s.accept(ctx) })
	return s, nil
}

// Address is what [Open] takes.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Close drops the connections, and waits until nothing runs any more.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.running.Wait()
	return errors.Join(err, os.RemoveAll(s.directory))
}

func (s *Server) accept(ctx context.Context) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() { s.serve(ctx, conn) })
	}
}

// session is a connection.
type session struct {
	*wire

	backend es.Backend
	mu      sync.Mutex
	calls   map[uint64]context.CancelFunc // those under way
}

// serve makes the calls of a connection until it ends. Those that wait end with it.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	session := &session{wire: newWire(conn), calls: map[uint64]context.CancelFunc{}}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for {
		f, err := session.receive()
		if err != nil {
			return
		}
		switch f.Name {
		case "":
			session.take(f.ID)()
		case "open":
			err := s.open(session, f.Body)
			if session.send(frame{ID: f.ID, Err: fail(err)}) != nil || err != nil {
				return
			}
		default:
			call, done := context.WithCancel(ctx)
			session.mu.Lock()
			session.calls[f.ID] = done
			session.mu.Unlock()
			running.Go(func() {
				defer func() { session.take(f.ID)() }()
				result, err := session.answer(call, f)
				_ = session.send(frame{ID: f.ID, Body: result, Err: fail(err)}) // nobody is there when it cannot
			})
		}
	}
}

func (s *Server) open(to *session, body []byte) error {
	var o opening
	if err := unpack(body, &o); err != nil {
		return err
	}
	b, err := memory.Open(memory.Config{
		Storage: s.storage, Namespace: o.Namespace, DedupeEntries: o.DedupeEntries, DedupeTTL: o.DedupeTTL,
	})
	if err != nil {
		return err
	}
	to.backend = s.change(b)
	return nil
}

// take takes a call from the list of those under way, and returns what cancels it.
func (s *session) take(id uint64) context.CancelFunc {
	s.mu.Lock()
	defer s.mu.Unlock()
	cancel, ok := s.calls[id]
	if !ok {
		return func() {}
	}
	delete(s.calls, id)
	return cancel
}

func (s *session) answer(ctx context.Context, f frame) ([]byte, error) {
	do, ok := served()[f.Name]
	if !ok || s.backend == nil {
		return nil, fmt.Errorf("there is no call %q, or the backend is not open", f.Name)
	}
	return do(ctx, s.backend, f.Body)
}

// call makes a call of a backend.
type call func(ctx context.Context, b es.Backend, body []byte) ([]byte, error)

// serving makes a call of a function. There may be a result beside an error.
func serving[In, Out any](do func(ctx context.Context, b es.Backend, in In) (Out, error)) call {
	return func(ctx context.Context, b es.Backend, body []byte) ([]byte, error) {
		var in one[In]
		if err := unpack(body, &in); err != nil {
			return nil, err
		}
		out, failed := do(ctx, b, in.V)
		result, err := pack(one[Out]{out})
		return result, errors.Join(failed, err)
	}
}

// serves is serving for what has no result.
func serves[In any](do func(ctx context.Context, b es.Backend, in In) error) call {
	return func(ctx context.Context, b es.Backend, body []byte) ([]byte, error) {
		var in one[In]
		if err := unpack(body, &in); err != nil {
			return nil, err
		}
		return nil, do(ctx, b, in.V)
	}
}

// served are the calls of the roles that are served.
func served() map[string]call {
	calls := map[string]call{
		"close": serves(func(_ context.Context, b es.Backend, _ bool) error { return b.Close() }),

		"enqueue": serves(func(ctx context.Context, b es.Backend, msgs []*es.Message) error {
			return b.Outbox().Enqueue(ctx, msgs...)
		}),
		"claim": serving(func(ctx context.Context, b es.Backend, c claiming) ([]es.Entry, error) {
			dst := make([]es.Entry, c.Most)
			n, err := b.Outbox().Claim(ctx, dst, c.Options)
			return dst[:n], err
		}),
		"complete": serves(func(ctx context.Context, b es.Backend, entries []es.Entry) error {
			return b.Outbox().Complete(ctx, entries)
		}),
		"fail": serves(func(ctx context.Context, b es.Backend, f failing) error {
			return b.Outbox().Fail(ctx, f.Entries, es.Failure{Err: f.Err.err(), Delay: f.Delay, Dead: f.Dead, Park: f.Park})
		}),
		"release": serves(func(ctx context.Context, b es.Backend, entries []es.Entry) error {
			return b.Outbox().Release(ctx, entries)
		}),
		"extend": serving(func(ctx context.Context, b es.Backend, entries []es.Entry) ([]es.Entry, error) {
			err := b.Outbox().Extend(ctx, entries)
			return entries, err
		}),
		"wait":  serves(func(ctx context.Context, b es.Backend, _ bool) error { return b.Outbox().Wait(ctx) }),
		"stats": serving(func(ctx context.Context, b es.Backend, _ bool) (es.OutboxStats, error) { return b.Outbox().Stats(ctx) }),
		"dead letters": serving(func(ctx context.Context, b es.Backend, _ bool) ([]es.DeadEntry, error) {
			var letters []es.DeadEntry
			for letter, err := range b.Outbox().DeadLetters(ctx) {
				if err != nil {
					return letters, err
				}
				letters = append(letters, letter)
			}
			return letters, nil
		}),
		"replay":  serves(func(ctx context.Context, b es.Backend, ids []uuid.UUID) error { return b.Outbox().Replay(ctx, ids...) }),
		"discard": serves(func(ctx context.Context, b es.Backend, ids []uuid.UUID) error { return b.Outbox().Discard(ctx, ids...) }),

		"reserve": serving(func(ctx context.Context, b es.Backend, r reserving) ([]es.Reservation, error) {
			err := b.Dedupe().Reserve(ctx, r.Group, r.Reservations, r.Lease)
			return r.Reservations, err
		}),
		"done": serves(func(ctx context.Context, b es.Backend, r reserving) error {
			return b.Dedupe().Complete(ctx, r.Group, r.Reservations)
		}),
		"prolong": serving(func(ctx context.Context, b es.Backend, r reserving) ([]es.Reservation, error) {
			err := b.Dedupe().Extend(ctx, r.Group, r.Reservations, r.Lease)
			return r.Reservations, err
		}),
		"give up": serves(func(ctx context.Context, b es.Backend, r reserving) error {
			return b.Dedupe().Release(ctx, r.Group, r.Reservations)
		}),

		"acquire": serving(func(ctx context.Context, b es.Backend, a acquiring) (es.Lease, error) {
			return b.Leases().Acquire(ctx, a.Name, a.Owner, a.TTL)
		}),
		"renew": serving(func(ctx context.Context, b es.Backend, a acquiring) (es.Lease, error) {
			return b.Leases().Renew(ctx, a.Lease, a.TTL)
		}),
		"end":   serves(func(ctx context.Context, b es.Backend, l es.Lease) error { return b.Leases().Release(ctx, l) }),
		"check": serves(func(ctx context.Context, b es.Backend, l es.Lease) error { return b.Leases().Check(ctx, l) }),

		"load": serving(func(ctx context.Context, b es.Backend, l loading) ([]es.Document, error) {
			return b.ReadModels().Load(ctx, l.Model, l.Keys...)
		}),
		"list": serving(func(ctx context.Context, b es.Backend, q es.ListQuery) ([]es.Document, error) {
			return b.ReadModels().List(ctx, q)
		}),
		"commit": serves(func(ctx context.Context, b es.Backend, c es.Commit) error { return b.ReadModels().Commit(ctx, c) }),
		"progress": serving(func(ctx context.Context, b es.Backend, projection string) (es.Progress, error) {
			return b.ReadModels().Progress(ctx, projection)
		}),
		"drop": serves(func(ctx context.Context, b es.Backend, model string) error { return b.ReadModels().Drop(ctx, model) }),
		"switch": serves(func(ctx context.Context, b es.Backend, rs []es.Replacement) error {
			return b.ReadModels().Switch(ctx, rs...)
		}),
	}
	maps.Copy(calls, servedEvents())
	return calls
}
