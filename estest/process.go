package estest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// jobVariable is the environment variable that makes a test binary a child process with a job.
const jobVariable = "ESTEST_JOB"

// jobKind is a kind of work that a child process does.
type jobKind string

const (
	jobCall    jobKind = "call"    // make the calls that are ordered, one after the other
	jobCount   jobKind = "count"   // append numbered events until killed
	jobWrite   jobKind = "write"   // make appends of every kind
	jobEnqueue jobKind = "enqueue" // enqueue numbered messages until killed
	jobProject jobKind = "project" // apply numbered events to a read model, as far as is ordered
)

// jobs are what child processes can do.
func jobs() map[jobKind]func(w *worker) error {
	return map[jobKind]func(w *worker) error{
		jobCall:    makeCalls,
		jobCount:   countEvents,
		jobWrite:   writeEvents,
		jobEnqueue: enqueueNumbers,
		jobProject: projectNumbers,
	}
}

// job is what a child process is told by its environment.
type job struct {
	Kind      jobKind `json:"kind"`
	Address   string  `json:"address"`
	Namespace string  `json:"namespace"`
	Seed      int     `json:"seed"` // counts the children that are started together, from 0
	Count     int     `json:"count"`
	Stream    string  `json:"stream,omitempty"`
}

// Main runs the tests of a package whose harness has several processes. Call it from TestMain:
//
//	func TestMain(m *testing.M) { estest.Main(m, open) }
//
// The suites start the test binary again, as a child process, with a job in its environment. There Main opens the backend by
// open, with the address that [Storage].Address gave and a namespace, does the job and exits; no test runs. It does not return.
func Main(m *testing.M, open func(address, namespace string) (es.Backend, error)) {
	Child(open)
	os.Exit(m.Run()) //nolint:forbidigo // this is the main of a test binary
}

// Child is the part of [Main] for child processes: it does the job and exits, and returns at once where there is none. It is for
// a TestMain that has more to do:
//
//	func TestMain(m *testing.M) {
//		estest.Child(open)
//		goleak.VerifyTestMain(m)
//	}
func Child(open func(address, namespace string) (es.Backend, error)) {
	text, ok := os.LookupEnv(jobVariable)
	if !ok {
		return
	}
	code := 0
	if err := work(text, open, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "child process: %v\n", err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // this is the main of a child process
}

// worker is a child process at its job.
type worker struct {
	job

	ctx     context.Context // ends when nobody wants the process any more
	backend es.Backend
	orders  <-chan json.RawMessage
	replies *json.Encoder
}

// reply is a line that a child writes: that it is ready, what it tells, or what went wrong.
type reply struct {
	Ready bool            `json:"ready,omitempty"`
	Tells json.RawMessage `json:"tells,omitempty"`
	Err   *foreignError   `json:"err,omitempty"`
}

// work does a job.
func work(text string, open func(address, namespace string) (es.Backend, error), in io.Reader, out io.Writer) error {
	w := worker{replies: json.NewEncoder(out)}
	if err := json.Unmarshal([]byte(text), &w.job); err != nil {
		return fmt.Errorf("read the job %q: %w", text, err)
	}
	do, ok := jobs()[w.Kind]
	if !ok {
		return fmt.Errorf("there is no job %q", w.Kind)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	orders := make(chan json.RawMessage)
	w.ctx, w.orders = ctx, orders
	go func() { // it goes with the process
		defer close(orders)
		defer cancel() // the input ends when the test does, whatever it died of
		for decoder := json.NewDecoder(in); ; {
			var order json.RawMessage
			if decoder.Decode(&order) != nil {
				return
			}
			select {
			case orders <- order:
			case <-ctx.Done():
				return
			}
		}
	}()
	backend, err := open(w.Address, w.Namespace)
	if err != nil {
		return fmt.Errorf("open %q in namespace %q: %w", w.Address, w.Namespace, err)
	}
	w.backend = backend
	if err = w.replies.Encode(reply{Ready: true}); err == nil {
		err = do(&w)
	}
	if ctx.Err() != nil {
		err = nil // nobody wants to know
	}
	return errors.Join(err, backend.Close())
}

// order waits for the next order. The error is [io.EOF] when there is no other.
func (w *worker) order(into any) error {
	text, ok := <-w.orders
	if !ok {
		return io.EOF
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the order %q: %w", text, err)
	}
	return nil
}

// tell tells the test something.
func (w *worker) tell(what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return w.replies.Encode(reply{Tells: text})
}

// child is a child process, seen from the test that started it.
type child struct {
	command *exec.Cmd
	orders  io.WriteCloser
	replies chan reply // closed when the process has said all it had to say
	stop    func()     // kills the process and waits for it
}

// children starts child processes on the bench's storage; see [startChildren].
func (b *bench[R]) children(n int, j job) []*child {
	b.Helper()
	return startChildren(b.ctx, b.TB, b.h, b.storage, n, j)
}

// startChildren starts child processes on a storage, and waits until they have opened it. They are killed, if they did not end
// before, when the test ends. The test is skipped where the storage is not for several processes.
func startChildren[R any](ctx context.Context, t testing.TB, h Harness[R], storage Storage[R], n int, j job) []*child {
	t.Helper()
	if !h.Processes() {
		t.Skip("needs Processes")
	}
	j.Address, j.Namespace = storage.Address(), Namespace
	list := make([]*child, n)
	for i := range list {
		j.Seed = i
		c, err := startChild(t, j)
		if err != nil {
			t.Fatalf("start a child process: %v", err)
		}
		list[i] = c
	}
	for _, c := range list {
		if r, err := c.next(ctx); err != nil || !r.Ready {
			t.Fatalf("a child process is not ready: %v (does TestMain call estest.Main, or estest.Child?)", err)
		}
	}
	return list
}

func startChild(t testing.TB, j job) (*child, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.Command(binary, "-test.run=^$") //nolint:noctx // it is killed by stop; without Main it runs no test
	command.Env = append(os.Environ(), jobVariable+"="+string(text))
	command.Stderr = os.Stderr
	orders, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	c := &child{command: command, orders: orders, replies: make(chan reply, 1024)}
	abandoned := make(chan struct{})
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(c.replies)
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var r reply
			if json.Unmarshal(lines.Bytes(), &r) != nil {
				continue // half a line, cut off by the kill, or what a test binary prints of its own
			}
			select {
			case c.replies <- r:
			case <-abandoned:
			}
		}
	}()
	var once sync.Once
	c.stop = func() {
		once.Do(func() {
			_ = command.Process.Kill() // it may have ended by itself
			<-read                     // the pipe has to be read before Wait closes it
			_ = command.Wait()
		})
	}
	t.Cleanup(func() {
		close(abandoned)
		c.stop()
	})
	return c, nil
}

// next returns the next reply.
func (c *child) next(ctx context.Context) (reply, error) {
	select {
	case r, ok := <-c.replies:
		if !ok {
			return reply{}, errors.New("the child process has ended")
		}
		return r, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
}

// order gives an order.
func (c *child) order(order any) error {
	if err := json.NewEncoder(c.orders).Encode(order); err != nil {
		return fmt.Errorf("write to the child process: %w", err)
	}
	return nil
}

// hear returns the next thing that the child tells, or its error.
func (c *child) hear(ctx context.Context, into any) error {
	r, err := c.next(ctx)
	if err != nil {
		return err
	}
	return r.read(into)
}

// read reads what a reply tells. It reads it also when there is an error beside it.
func (r reply) read(into any) error {
	if r.Tells != nil {
		if err := json.Unmarshal(r.Tells, into); err != nil {
			return fmt.Errorf("read what the child process tells: %w", err)
		}
	}
	if r.Err != nil {
		return r.Err
	}
	return nil
}

// kill kills the process as kill -9 does, waits until it is gone, and returns what it still told.
func (c *child) kill() []reply {
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		c.stop()
	}()
	var last []reply
	for r := range c.replies {
		last = append(last, r)
	}
	<-killed
	return last
}

// killCounting kills a child that tells of numbers that rise, and returns the largest of them, or at least least.
func (c *child) killCounting(least int) int {
	for _, r := range c.kill() {
		n := 0
		if r.read(&n) == nil {
			least = max(least, n)
		}
	}
	return least
}

// countedTo waits until a child that tells of numbers that rise has come to one, and returns it.
func (c *child) countedTo(ctx context.Context, least int) (int, error) {
	for n := 0; ; {
		if n >= least {
			return n, nil
		}
		if err := c.hear(ctx, &n); err != nil {
			return n, err
		}
	}
}
