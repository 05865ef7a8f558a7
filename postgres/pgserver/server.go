package pgserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a server that [Start] has started. Its methods may be called by many goroutines, and come one after the other.
type Server struct {
	config  Config
	program Installation
	account account
	home    home

	mu      sync.Mutex
	guard   *guard // of the last run, also when that has ended; nil when the server was stopped for good
	running bool
	frozen  []int // the children that Pause has frozen with the server
	logged  int64 // how long the log was when the run began
}

// Start starts a server, and waits until it takes connections. The folder of Config.Dir may be one whose server was killed; when
// the program that had it was killed a moment ago, Start waits until its server has gone, 30 seconds at most.
//
// The errors are [ErrNotInstalled], [ErrInUse] and [ErrOtherVersion], that of ctx, and others, with the end of the server's log.
// The server goes on when ctx ends after Start has returned; [Server.Stop] stops it, and so does the end of the program.
func Start(ctx context.Context, c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.Bin = cmp.Or(c.Bin, os.Getenv("ES_POSTGRES_BIN"))
	program, err := locate(ctx, c)
	if err != nil {
		return nil, err
	}
	a, err := accountFor(c) // after the installation, which may have made it
	if err != nil {
		return nil, err
	}
	s := &Server{config: c, program: program, account: a}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.discard())
	}
	return s, nil
}

// locate returns the programs for the data that there is, or for new data.
func locate(ctx context.Context, c Config) (Installation, error) {
	major := 0
	if c.Dir != "" {
		var err error
		if major, err = (&home{dir: c.Dir}).major(); err != nil {
			return Installation{}, err
		}
	}
	program, err := locator{find: Installed, install: newInstaller(c.logger()).install}.locate(ctx, c, major)
	if err != nil && major != 0 {
		return Installation{}, fmt.Errorf("the data in %s is of PostgreSQL %d: %w", c.Dir, major, err)
	}
	return program, err
}

func (s *Server) begin(ctx context.Context) error {
	if err := s.makeTemporary(ctx); err != nil {
		return err
	}
	if err := s.home.open(ctx, s.config.Dir, s.account); err != nil {
		return err
	}
	major, err := s.home.major()
	if err != nil {
		return err
	}
	switch major {
	case s.program.Major:
		return s.launch(ctx)
	case 0:
		if err := s.initialize(ctx); err != nil {
			return err
		}
		return s.launch(ctx)
	}
	return fmt.Errorf("pgserver: %s cannot be opened with PostgreSQL %s: %w, %d; take that, or bring the data over with "+
		"pg_upgrade or pg_dump, or remove the folder", s.home.dir, s.program.Version, ErrOtherVersion, major)
}

// makeTemporary has the first guard make the temporary folder, so that there is no moment at which it is there unguarded.
func (s *Server) makeTemporary(ctx context.Context) error {
	name, err := temporaryName(s.account)
	if err != nil {
		return err
	}
	if s.guard, err = startGuard(ctx, s.account, nil, name, []string{"mkdir", "-m", "700", name}); err != nil {
		return err
	}
	status, err := s.guard.wait(ctx)
	if err == nil && status != 0 {
		err = fmt.Errorf("pgserver: the user %s cannot make the folder %s", s.account.name, name)
	}
	s.home.temporary = name
	return err
}

// initialize makes the data. It has its name only when it is whole, so that a program that is killed leaves nothing by halves.
func (s *Server) initialize(ctx context.Context) error {
	if err := os.RemoveAll(s.home.unfinished()); err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	command := []string{
		s.program.program("initdb"), "--pgdata=" + s.home.unfinished(), "--username=" + superuser, "--auth=trust",
		"--encoding=UTF8", "--no-locale",
	}
	if s.config.NoSync {
		command = append(command, "--no-sync")
	}
	if err := s.run(ctx, command); err != nil {
		return err
	}
	status, err := s.guard.wait(ctx)
	if err != nil {
		return err // initdb cleans up after itself, so it is the guard that ends it
	}
	s.running = false
	if status != 0 {
		return s.failure(fmt.Sprintf("initdb ended with status %d", status))
	}
	return s.home.finish()
}

// run runs a command on the data, in the place of the last.
func (s *Server) run(ctx context.Context, command []string) error {
	size, err := s.home.log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("pgserver: %w", err)
	}
	g, err := startGuard(ctx, s.account, s.home.log, s.home.temporary, command)
	if err != nil {
		return err
	}
	// From here on there are two guards, and no moment at which there is none.
	last := s.guard
	s.guard, s.running, s.logged = g, true, size
	return last.leave()
}

// launch starts the server, and waits for it.
func (s *Server) launch(ctx context.Context) error {
	command := append([]string{
		s.program.program("postgres"), "-D", s.home.data(),
		"-c", "listen_addresses=", "-c", "port=" + port, "-c", "logging_collector=off",
		"-c", "unix_socket_directories=" + s.home.temporary, "-c", "unix_socket_permissions=0700",
	}, s.config.arguments()...)
	if err := s.run(ctx, command); err != nil {
		return err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if conn, err := pgx.Connect(ctx, s.URL(superuser)); err == nil {
			return conn.Close(ctx)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("pgserver: wait for the server: %w", context.Cause(ctx))
		}
		ended, err := s.guard.endedWithin(pause)
		if err != nil {
			return err
		}
		if ended {
			s.running = false
			status, err := s.guard.wait(ctx)
			return errors.Join(s.failure(fmt.Sprintf("the server ended with status %d instead of starting", status)), err)
		}
	}
}

// failure is an error with what was logged in this run.
func (s *Server) failure(what string) error {
	text, err := os.ReadFile(s.home.log.Name())
	if err != nil {
		return fmt.Errorf("pgserver: %s; its log: %w", what, err)
	}
	return fmt.Errorf("pgserver: %s; its log:\n%s", what, tail(text[min(int(s.logged), len(text)):]))
}

const (
	superuser = "postgres" // and the name of the database that every server has
	port      = "5432"     // part of the name of the socket; nobody listens on a network
)

// URL is where to connect to a database of the server, as its superuser. It stays the same over [Server.Restart].
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(superuser), Path: "/" + database,
		RawQuery: url.Values{"host": {s.home.temporary}, "port": {port}}.Encode(),
	}
	return u.String()
}

// Version is the version of PostgreSQL that runs.
func (s *Server) Version() Installation { return s.program }

// LogFile is the file that the server writes its log to. It is in Config.Dir, where it grows; one in a temporary folder goes with
// the server.
func (s *Server) LogFile() string { return s.home.log.Name() }

// Stop stops the server for good, with a checkpoint, and removes what is temporary; open connections break. When ctx ends first, the
// server is killed, and the error is that of ctx. A server that is stopped already is not stopped again.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard == nil {
		return nil
	}
	return errors.Join(s.halt(ctx), s.discard())
}

// halt ends a run in an orderly way, or, when ctx ends first, in another.
func (s *Server) halt(ctx context.Context) error {
	if !s.running {
		return nil
	}
	if err := s.thaw(); err != nil {
		return err
	}
	if err := s.guard.shutdown(); err != nil {
		return err
	}
	_, err := s.guard.wait(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("pgserver: the server was killed, because it did not stop in time: %w", err),
			s.kill(context.WithoutCancel(ctx)))
	}
	s.running = false
	return nil
}

// discard gives back what the server has of the system, and what is temporary.
func (s *Server) discard() error {
	var err error
	if s.guard != nil {
		err = s.guard.close()
	}
	s.guard, s.running = nil, false
	return errors.Join(err, s.home.close())
}

// Kill ends the server and all of its processes as kill -9 or a fault in it would, and returns when they have gone. The data stays:
// [Server.Restart] starts the server on it, which recovers.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard == nil {
		return fmt.Errorf("pgserver: kill: %w", ErrStopped)
	}
	return s.kill(context.Background()) // nobody can defer SIGKILL, so there is nothing to give up
}

func (s *Server) kill(ctx context.Context) error {
	if !s.running {
		return nil
	}
	if err := s.guard.kill(); err != nil {
		return err
	}
	if _, err := s.guard.wait(ctx); err != nil {
		return err
	}
	s.running, s.frozen = false, nil
	return nil
}

// Restart starts the server again on the same data, under the same URL. One that runs is stopped first, as [Server.Stop] does; after
// [Server.Kill], or when the server has ended by itself, it recovers. When it fails, the server is down, and Restart may be tried
// again.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard == nil {
		return fmt.Errorf("pgserver: restart: %w", ErrStopped)
	}
	if err := s.halt(ctx); err != nil {
		return err
	}
	err := s.launch(ctx)
	if err != nil && s.running {
		return errors.Join(err, s.kill(context.WithoutCancel(ctx)))
	}
	return err
}

// Pause freezes the server and all of its processes: connections stay open and get no answer, as when its machine hangs.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard == nil {
		return fmt.Errorf("pgserver: pause: %w", ErrStopped)
	}
	if !s.running || s.frozen != nil {
		return nil
	}
	children, err := s.guard.freeze()
	s.frozen = append([]int{}, children...)
	return errors.Join(err, s.guard.freezeAll(children))
}

// Resume lets a server go on that [Server.Pause] has frozen.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guard == nil {
		return fmt.Errorf("pgserver: resume: %w", ErrStopped)
	}
	return s.thaw()
}

func (s *Server) thaw() error {
	if s.frozen == nil {
		return nil
	}
	children := s.frozen
	s.frozen = nil
	return s.guard.thaw(children)
}

func (i Installation) program(name string) string { return filepath.Join(i.Bin, name) }
