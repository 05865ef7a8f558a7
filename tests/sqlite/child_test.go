package sqlite_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	kills = flag.Int("kills", 20, "how many processes each of the crash tests kills")
	seed  = flag.Uint64("seed", 0, "what the crash tests draw their moments from; 0 takes another one each time")
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// lease is that of everything that child processes have in hand. What one had that was killed waits for its end.
const lease = 500 * time.Millisecond

// jobVariable is the environment variable that makes the test binary a child process with a job.
const jobVariable = "TESTS_SQLITE_JOB"

// job is what a child process does.
type job struct {
	Kind   string        `json:"kind"` // one of those of jobs
	Path   string        `json:"path"` // of the file
	Child  int           `json:"child"`
	First  int           `json:"first"`  // number of the first message that it adds to each of its streams
	Last   int           `json:"last"`   // and of the last one
	Moment moment        `json:"moment"` // when it dies
	Random uint64        `json:"random"` // what it draws from
	Lease  time.Duration `json:"lease"`
}

// moment is when a process dies: when it passes a point for the n-th time, or so long after. A process without a moment lives on.
type moment struct {
	Point string        `json:"point"`
	Nth   int           `json:"nth"`
	Delay time.Duration `json:"delay"` // for points inside of a call, where there is nothing to count
}

func (m moment) String() string {
	switch {
	case m.Point == "":
		return "not at all"
	case m.Delay > 0:
		return fmt.Sprintf("%v %s no. %d", m.Delay, m.Point, m.Nth)
	}
	return fmt.Sprintf("%s no. %d", m.Point, m.Nth)
}

// exitFailed is the exit code of a child process whose job has failed.
const exitFailed = 3

// beChild does the job of a child process, and returns at once in any other.
func beChild() {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		return
	}
	w := &worker{passed: make(chan struct{}, 1)}
	err := json.Unmarshal([]byte(text), &w.job)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test may have died
		defer cancel()
		err = map[string]func(context.Context, *worker) error{
			"process": processMessages, "forward": forwardMessages, "handle": handleEvents, "poison": handlePoison, "claim": claimEntries,
			"wait": waitForEvents,
		}[w.Kind](ctx, w)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "child process %d (%s): %v\n", w.Child, w.Kind, err)
		os.Exit(exitFailed) //nolint:gocritic // the process ends
	}
	w.tell("done")
	os.Exit(0)
}

// worker is a child process at its job.
type worker struct {
	job

	mu     sync.Mutex
	times  int           // it has passed the point of its moment
	passed chan struct{} // has a signal when a call has ended
}

// tell tells the test something, in a line. What was told is told, whatever becomes of the process.
func (*worker) tell(words ...any) { fmt.Println(words...) }

// pass dies here if this is the moment.
func (w *worker) pass(point string) {
	if w.due(point) {
		die()
	}
}

// around makes a call, and dies before it, in the middle of it or after it if that is the moment.
func (w *worker) around(call string, do func()) {
	w.pass("before " + call)
	if w.due("in " + call) {
		go func() {
			<-time.After(w.Moment.Delay)
			die()
		}()
	}
	do()
	w.pass("after " + call)
	select {
	case w.passed <- struct{}{}:
	default:
	}
}

func (w *worker) due(point string) bool {
	if point != w.Moment.Point {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.times++
	return w.times == w.Moment.Nth
}

// die ends the process as kill -9 does.
func die() {
	if self, err := os.FindProcess(os.Getpid()); err != nil || self.Kill() != nil {
		os.Exit(exitFailed)
	}
	select {} // the signal is on its way
}

// crash is a file that processes work on which are killed, and the test of it.
type crash struct {
	*testing.T

	path   string
	random *rand.Rand
	killed int
	lives  []string
	told   []string // by all of them
}

// newCrash begins a test that kills processes. When it fails, it tells how they died.
func newCrash(t *testing.T, path string) *crash {
	t.Helper()
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	c := &crash{T: t, path: path, random: rand.New(rand.NewPCG(from, 0))}
	t.Cleanup(func() {
		again := fmt.Sprintf("go test ./tests/sqlite -run %s -kills %d -seed %d", t.Name(), *kills, from)
		if t.Failed() {
			t.Logf("processes died %s", strings.Join(c.lives, "; "))
		}
		t.Logf("%d processes were killed; to draw the same moments: %s", c.killed, again)
	})
	return c
}

// draw draws a moment: one of the calls, and when.
func (c *crash) draw(calls ...string) moment {
	m := moment{Nth: 1 + c.random.IntN(4)}
	switch call := calls[c.random.IntN(len(calls))]; c.random.IntN(3) {
	case 0:
		m.Point = "before " + call
	case 1:
		m.Point, m.Delay = "in "+call, time.Duration(1+c.random.IntN(1000))*time.Microsecond
	default:
		m.Point = "after " + call
	}
	return m
}

// report is what a child process has told, and how it has ended.
type report struct {
	lines  []string
	killed bool
}

// run has a child process do a job, and returns when it has ended.
func (c *crash) run(j job) report {
	r, err := startJob(c.Context(), j)
	if err != nil {
		c.Errorf("%v, child %d dies %v: %v", j.Kind, j.Child, j.Moment, err)
	}
	return r
}

// runBeside has several child processes do jobs beside each other.
func (c *crash) runBeside(jobs ...job) []report {
	c.Helper()
	reports := make([]report, len(jobs))
	var running sync.WaitGroup
	for i, j := range jobs {
		j.Child, j.Path, j.Lease, j.Random = i, c.path, lease, c.random.Uint64()
		c.lives = append(c.lives, j.Moment.String())
		running.Go(func() { reports[i] = c.run(j) })
	}
	running.Wait()
	if c.Failed() {
		c.FailNow()
	}
	for _, r := range reports {
		c.told = append(c.told, r.lines...)
		if r.killed {
			c.killed++
		}
	}
	return reports
}

// startJob starts the test binary as a child process, and returns when that has ended.
func startJob(ctx context.Context, j job) (report, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	text, err := json.Marshal(j)
	if err != nil {
		return report{}, err
	}
	command := exec.CommandContext(ctx, os.Args[0])
	command.Env = append(os.Environ(), jobVariable+"="+string(text))
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGQUIT) } // it tells where it hangs
	command.WaitDelay = patience
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.StdoutPipe()
	if err != nil {
		return report{}, err
	}
	if err := command.Start(); err != nil {
		return report{}, err
	}
	var r report
	for lines := bufio.NewScanner(out); lines.Scan(); {
		r.lines = append(r.lines, lines.Text())
	}
	err = command.Wait()
	if done := len(r.lines) > 0 && r.lines[len(r.lines)-1] == "done"; done {
		r.lines = r.lines[:len(r.lines)-1]
	} else {
		r.killed = true
	}
	if ctx.Err() == nil && (err == nil && !r.killed || r.killed && stderr.Len() == 0) {
		return r, nil
	}
	return r, errors.Join(err, errors.New(stderr.String()))
}
