package projection_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
	"github.com/eventsourcing-go/eventsourcing/projection"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

var (
	kills = flag.Int("kills", 8, "how many processes each of the crash tests kills")
	seed  = flag.Uint64("seed", 0, "what the crash tests draw their moments from; 0 takes another one each time")
)

const (
	// patience is how long a test waits for what must happen.
	patience = time.Minute
	// leaseTime is the lease of a projection in a child process. Who comes after one that was killed waits for its end.
	leaseTime = 300 * time.Millisecond
	// jobVariable is the environment variable that makes the test binary a child process.
	jobVariable = "TESTS_PROJECTION_JOB"
	// exitFailed is the exit code of a child process that has failed, and was not killed.
	exitFailed = 3
)

// job is what a child process does: it runs the projection until it dies.
type job struct {
	Path  string `json:"path"` // of the file of SQLite, or
	URL   string `json:"url"`  // of the database of PostgreSQL
	Lease bool   `json:"lease"`
	// Moment is when it kills itself: at the n-th commit, before, in or after it, or at the n-th event.
	Moment string        `json:"moment"`
	Nth    int64         `json:"nth"`
	Delay  time.Duration `json:"delay"` // into the commit
}

func (j job) open(ctx context.Context) (es.Backend, error) {
	if j.URL != "" {
		return postgres.Open(ctx, postgres.Config{URL: j.URL})
	}
	return sqlite.Open(sqlite.Config{Path: j.Path})
}

// beChild runs the projection in a child process, and returns at once in any other.
func beChild() {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		return
	}
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = j.run()
	}
	fmt.Fprintf(os.Stderr, "child process: %v\n", err)
	os.Exit(exitFailed)
}

func (j job) run() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test may have died
	defer cancel()
	backend, err := j.open(ctx)
	if err != nil {
		return err
	}
	c := projection.Config{
		Events: backend.Events(), Models: &dying{ReadModels: backend.ReadModels(), job: j}, BatchSize: 10,
		Owner: fmt.Sprint("process ", os.Getpid()), LeaseTTL: leaseTime,
	}
	if j.Lease {
		c.Leases = backend.Leases()
	}
	p, err := counting(c)
	if err != nil {
		return err
	}
	if err := p.Start(ctx); err != nil {
		return err
	}
	select {
	case <-p.Done():
		return p.Err()
	case <-ctx.Done():
		return errors.New("it was not killed")
	}
}

// dying are read models that kill the process.
type dying struct {
	es.ReadModels

	job     job
	commits atomic.Int64
}

func (d *dying) Commit(ctx context.Context, c es.Commit) error {
	if len(c.Writes) == 0 || d.commits.Add(1) != d.job.Nth {
		return d.ReadModels.Commit(ctx, c)
	}
	switch d.job.Moment {
	case "before":
		die()
	case "in":
		go func() {
			<-time.After(d.job.Delay)
			die()
		}()
	}
	err := d.ReadModels.Commit(ctx, c)
	if d.job.Moment == "after" {
		die()
	}
	return err
}

// die ends the process as kill -9 does.
func die() {
	if self, err := os.FindProcess(os.Getpid()); err != nil || self.Kill() != nil {
		os.Exit(exitFailed)
	}
	select {} // the signal is on its way
}

// live runs a child process until it has killed itself, or is killed from outside.
func (j job) live(ctx context.Context, longest time.Duration) error {
	return j.liveAs(ctx, jobVariable, longest)
}

// liveAs runs a child process that a variable stands for.
func (j job) liveAs(ctx context.Context, variable string, longest time.Duration) error {
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	command := exec.CommandContext(ctx, os.Args[0]) // killed by SIGKILL when ctx ends
	command.Env = append(os.Environ(), variable+"="+string(text))
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	if exited, ok := errors.AsType[*exec.ExitError](err); ok {
		if status, ok := exited.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	return fmt.Errorf("the child process %+v was not killed: %w\n%s", j, err, out.String())
}

// draw draws how a child process dies.
func draw(j job, random *rand.Rand) (dies job, longest time.Duration) {
	j.Moment = []string{"before", "in", "after"}[random.IntN(3)]
	j.Nth = 1 + random.Int64N(12)
	j.Delay = time.Duration(random.Int64N(int64(2 * time.Millisecond)))
	if random.IntN(4) == 0 { // anywhere, also while it starts
		return j, time.Duration(random.Int64N(int64(400 * time.Millisecond)))
	}
	return j, 2 * time.Second // as one that stands by may never come to its moment
}

// TestCrash appends events, while two copies of a projection run beside each other that are killed with kill -9 again and again. In the end
// every event was counted once.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, lease := range []bool{false, true} {
		how := map[bool]string{false: "by mistake", true: "under a lease"}[lease]
		t.Run("SQLite, two copies "+how, func(t *testing.T) {
			t.Parallel()
			crash(t, job{Path: filepath.Join(t.TempDir(), "events.db"), Lease: lease})
		})
		t.Run("PostgreSQL, two copies "+how, func(t *testing.T) {
			t.Parallel()
			crash(t, job{URL: pgserver.Database(t), Lease: lease})
		})
	}
}

func crash(t *testing.T, j job) {
	t.Helper()
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("to draw the same moments: go test ./tests/projection -run Crash -kills %d -seed %d", *kills, from)
	backend, err := j.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	s := newSource(backend.Events(), rand.New(rand.NewPCG(from, 0)))

	ended := make(chan struct{})
	var lives sync.WaitGroup
	for seat := range uint64(2) {
		random := rand.New(rand.NewPCG(from, 1+seat))
		lives.Go(func() {
			for i := int(seat); i < *kills; i += 2 {
				dies, longest := draw(j, random)
				if err := dies.live(t.Context(), longest); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() {
		defer close(ended)
		lives.Wait()
	}()
	feed(t, s, ended)
	if t.Failed() {
		return
	}

	p, err := counting(projection.Config{Events: backend.Events(), Models: backend.ReadModels(), Leases: leasesOf(backend, j)})
	if err != nil {
		t.Fatal(err)
	}
	finish(t, s, p)
	s.check(t, backend.ReadModels())
}

func leasesOf(backend es.Backend, j job) es.Leases {
	if j.Lease {
		return backend.Leases()
	}
	return nil
}

// feed appends events until something has ended.
func feed(t *testing.T, s *source, ended <-chan struct{}) {
	t.Helper()
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for {
		if err := s.append(t.Context()); err != nil {
			t.Error(err)
			<-ended
			return
		}
		select {
		case <-pace.C:
		case <-ended:
			return
		}
	}
}

// finish starts a projection, waits until it has come to the last event, and stops it.
func finish(t *testing.T, s *source, p *projection.Projection) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
	waited := p.WaitFor(ctx, s.last)
	if err := errors.Join(waited, p.Err(), p.Stop(ctx)); err != nil {
		t.Fatal(err)
	}
}
