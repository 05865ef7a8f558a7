//go:build unix

package sqlite_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// processVariable is the environment variable that makes the test binary a process with a job.
const processVariable = "SQLITE_PROCESS_JOB"

// processJob is what a process is to do with a file. It does so until its input ends, tells what it has done line by line, and dies with
// the test.
type processJob struct {
	What string `json:"what"`
	Path string `json:"path"`
	// Turns says whether it takes turns with other processes.
	Turns bool `json:"turns"`
}

func (j processJob) config() sqlite.Config {
	c := sqlite.Config{Path: j.Path, BusyTimeout: 5 * time.Second}
	if !j.Turns {
		c = sqlite.OnDisk(c, "unix") // which is the default one, by its name
	}
	return c
}

// storeProcess is the whole life of such a process. It returns at once where there is none.
func storeProcess() {
	text, ok := os.LookupEnv(processVariable)
	if !ok {
		return
	}
	var job processJob
	err := json.Unmarshal([]byte(text), &job)
	if err == nil {
		ctx, cancel := context.WithCancel(context.Background())
		orders := make(chan string)
		go func() {
			defer cancel()
			for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
				orders <- lines.Text()
			}
		}()
		switch job.What {
		case "everything":
			err = everythingAndAppends(ctx, job, orders, noHarm)
		case "everything, and read the files":
			err = everythingAndAppends(ctx, job, orders, readTheFiles)
		case "append together":
			err = appendTogether(ctx, job)
		case "append alone":
			err = appendAlone(ctx, job)
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "process:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// process is such a process, seen from the test.
type process struct {
	command *exec.Cmd
	orders  io.WriteCloser
	lines   chan string // what it tells; closed when it has ended
}

func startProcess(t *testing.T, job processJob) *process {
	t.Helper()
	text, err := json.Marshal(job)
	must(t, err)
	binary, err := os.Executable()
	must(t, err)
	p := &process{command: exec.Command(binary, "-test.run=^$"), lines: make(chan string, 1<<16)}
	p.command.Env = append(os.Environ(), processVariable+"="+string(text))
	p.command.Stderr = os.Stderr
	p.orders, err = p.command.StdinPipe()
	must(t, err)
	output, err := p.command.StdoutPipe()
	must(t, err)
	must(t, p.command.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill() // it may have ended
		<-read
		_ = p.command.Wait() // and this tells how
	})
	return p
}

// next returns the next line that begins with a word, without it.
func (p *process) next(t *testing.T, word string) string {
	t.Helper()
	for line := range p.lines {
		if rest, ok := strings.CutPrefix(line, word); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("the process has ended before it said %q", word)
	return ""
}

func (p *process) order(t *testing.T, what string) {
	t.Helper()
	_, err := fmt.Fprintln(p.orders, what)
	must(t, err)
}

// kill kills the process as kill -9 does, and waits for its end.
func (p *process) kill(t *testing.T) {
	t.Helper()
	must(t, p.command.Process.Kill())
	for range p.lines { // until the end of what it has said
		continue
	}
}

func noHarm(string) error { return nil }

// readTheFiles is what a program must never do that has the file open, such as a backup by copying files: it takes away all its locks.
func readTheFiles(path string) (err error) {
	for _, end := range []string{"", "-wal", "-shm"} {
		_, read := os.ReadFile(path + end)
		err = errors.Join(err, read)
	}
	return err
}

// everythingAndAppends does everything that the package can with a file, and appends when it is told to.
func everythingAndAppends(ctx context.Context, job processJob, orders <-chan string, harm func(path string) error) error {
	db, err := sqlite.Open(job.config())
	if err != nil {
		return err
	}
	if err := everythingWith(ctx, db, job.config()); err != nil {
		return err
	}
	if err := harm(job.Path); err != nil {
		return err
	}
	fmt.Println("ready")
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-orders:
		}
		for range 100 {
			n++
			if _, err := db.Events().Append(ctx, es.AppendTo("order-1", es.Any, event("order-1", n))); err != nil {
				return err
			}
		}
		fmt.Println("appended", n)
	}
}

// everythingWith does what may open the file: another handle that is closed, one in another namespace, one that cannot be opened, checks,
// backups, forks and the like that are refused.
func everythingWith(ctx context.Context, db *sqlite.DB, c sqlite.Config) error {
	beside := c
	beside.Namespace = "other"
	network := sqlite.OnNetwork(c, "NFS")
	brief := c
	brief.BusyTimeout = time.Millisecond
	folder, err := os.MkdirTemp(filepath.Dir(c.Path), "copies")
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	for _, config := range []sqlite.Config{c, beside} {
		other, err := sqlite.Open(config)
		if err != nil {
			return err
		}
		_, appended := other.Events().Append(ctx, es.AppendTo("beside-1", es.Any, event("beside-1", 1)))
		if err := errors.Join(appended, other.Close()); err != nil {
			return err
		}
	}
	at, err := db.Events().Head(ctx)
	if err != nil {
		return err
	}
	_, waited := db.Events().Wait(waiting, at)
	_, refused := sqlite.Open(network)
	_, checked := sqlite.Check(ctx, c)
	for what, is := range map[string]bool{
		"wait":    errors.Is(waited, context.DeadlineExceeded),
		"open":    errors.Is(refused, sqlite.ErrNetwork),
		"check":   checked == nil,
		"fork":    errors.Is(sqlite.Fork(ctx, brief), sqlite.ErrBusy),
		"reindex": errors.Is(sqlite.Reindex(ctx, brief), sqlite.ErrBusy),
		"backup":  db.Backup(ctx, filepath.Join(folder, "copy.db")) == nil,
		"no backup": errors.Is(db.Backup(ctx, c.Path), es.ErrInvalid) && errors.Is(db.Backup(ctx, c.Path+"-wal"), es.ErrInvalid) &&
			errors.Is(db.Backup(ctx, c.Path+"-shm"), es.ErrInvalid),
		"update": db.Update(ctx, func(tx *sqlite.Tx) error { return tx.Exec("CREATE TABLE mine (n)") }) == nil,
	} {
		if !is {
			return fmt.Errorf("%s: unexpected outcome", what)
		}
	}
	return nil
}

// afterAll is how many events are there of those that a process has appended, which has done everything before, when another one has
// opened and closed the file meanwhile, and the first was killed.
func afterAll(t *testing.T, what string) (there, acknowledged int) {
	t.Helper()
	path := tempFile(t)
	p := startProcess(t, processJob{What: what, Path: path, Turns: true})
	p.next(t, "ready")
	p.order(t, "append")
	p.next(t, "appended")
	must(t, openStore(t, sqlite.Config{Path: path}).Close())
	p.order(t, "append")
	acknowledged, err := strconv.Atoi(p.next(t, "appended"))
	must(t, err)
	p.kill(t)
	db := openStore(t, sqlite.Config{Path: path})
	for m, err := range db.Events().Read(t.Context(), es.Query{Stream: "order-1"}) {
		must(t, err)
		there = int(m.Version)
	}
	return there, acknowledged
}

// A process loses its locks on a file when it closes any descriptor of it. The package never opens the file, or those of SQLite beside
// it, other than through SQLite.
func TestNothingInThePackageTakesTheLocksAway(t *testing.T) {
	t.Parallel()
	if there, acknowledged := afterAll(t, "everything"); there != acknowledged || acknowledged != 200 {
		t.Errorf("there are %d events of %d", there, acknowledged)
	}
}

// This is what would happen otherwise.
func TestWithoutItsLocksAProcessLosesWhatItHasAppended(t *testing.T) {
	t.Parallel()
	if there, acknowledged := afterAll(t, "everything, and read the files"); there == acknowledged {
		t.Errorf("nothing was lost of %d events; does this system keep the locks?", acknowledged)
	}
}

// appendTogether appends at full speed, from many goroutines, and tells how long the longest append took, in microseconds.
func appendTogether(ctx context.Context, job processJob) error {
	db, err := sqlite.Open(job.config())
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var wait sync.WaitGroup
	var mu sync.Mutex
	var first error
	var longest time.Duration
	for g := range 64 {
		wait.Go(func() {
			stream := fmt.Sprintf("together-%d", g)
			for ctx.Err() == nil {
				begun := time.Now()
				_, err := db.Events().Append(ctx, es.AppendTo(stream, es.Any, event(stream, 1)))
				took := time.Since(begun)
				mu.Lock()
				if took > longest && ctx.Err() == nil {
					longest = took
					fmt.Println("took", took.Microseconds())
				}
				if err != nil && ctx.Err() == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return errors.Join(first, db.Close())
}

// appendAlone does one append after the other, and tells how long each took, in microseconds.
func appendAlone(ctx context.Context, job processJob) error {
	db, err := sqlite.Open(job.config())
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		begun := time.Now()
		if _, err := db.Events().Append(ctx, es.AppendTo("alone-1", es.Any, event("alone-1", 1))); err != nil {
			return err
		}
		fmt.Println("took", time.Since(begun).Microseconds())
	}
}

// took returns what a line says that an append took.
func took(line string) time.Duration {
	us, _ := strconv.Atoi(strings.TrimPrefix(line, "took ")) // another line is none
	return time.Duration(us) * time.Microsecond
}

// Beside a process that has the next transaction ready at the end of every one, another gets its turn all the same.
func TestABusyProcessLeavesRoomForOthers(t *testing.T) {
	const enough = 400
	path := tempFile(t)
	busy := startProcess(t, processJob{What: "append together", Path: path, Turns: true})
	busy.next(t, "took")
	alone := startProcess(t, processJob{What: "append alone", Path: path, Turns: true})
	alone.next(t, "ready")
	var times []time.Duration
	for over := time.After(20 * time.Second); len(times) < enough; {
		select {
		case line := <-alone.lines:
			times = append(times, took(line))
		case <-over:
			t.Fatalf("a process has done %d appends in 20 s beside a busy one", len(times))
		}
	}
	slices.Sort(times)
	if p99 := times[enough*99/100]; p99 > 250*time.Millisecond {
		t.Errorf("99 of 100 appends took up to %v beside a busy process", p99)
	}
	t.Logf("the appends took %v in the middle, and up to %v", times[enough/2], times[enough-1])
}

// longestWait has three processes append at full speed for a while, and returns how long the append took that took longest.
func longestWait(t *testing.T, turns bool) (longest time.Duration) {
	t.Helper()
	path := tempFile(t)
	var all []*process
	for range 3 {
		p := startProcess(t, processJob{What: "append together", Path: path, Turns: turns})
		p.next(t, "ready")
		all = append(all, p)
	}
	<-time.After(2 * time.Second)
	for _, p := range all {
		must(t, p.command.Process.Kill())
		for line := range p.lines {
			longest = max(longest, took(line))
		}
	}
	return longest
}

// This is what turns are for: without them, somebody waits for long whenever others are busy.
func TestWithoutTurnsSomebodyWaitsForLong(t *testing.T) {
	for range 5 {
		with, without := longestWait(t, true), longestWait(t, false)
		t.Logf("with turns, nobody has waited for longer than %v, and without, somebody for %v", with, without)
		if without > 2*with {
			return
		}
	}
	t.Error("nobody has waited for long without turns; are they of any use?")
}
