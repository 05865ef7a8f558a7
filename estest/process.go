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
	jobObey  jobKind = "obey"  // make the appends that come in, one after the other
	jobCount jobKind = "count" // append numbered events until killed
	jobWrite jobKind = "write" // make appends of every kind
)

// job is what a child process is told by its environment.
type job struct {
	Kind      jobKind `json:"kind"`
	Address   string  `json:"address"`
	Namespace string  `json:"namespace"`
	Seed      int     `json:"seed"`
	Count     int     `json:"count"`
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

// reply is a line that a child writes: that it is ready, what became of an append, how far it has counted, or an event that it
// wrote.
type reply struct {
	Ready    bool   `json:"ready,omitempty"`
	Conflict bool   `json:"conflict,omitempty"`
	Err      string `json:"err,omitempty"`
	Counted  int    `json:"counted,omitempty"`
	Acks     []ack  `json:"acks,omitempty"`
}

// work does a job. Its input ending means that nobody wants it any more.
func work(text string, open func(address, namespace string) (es.Backend, error), in io.Reader, out io.Writer) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return fmt.Errorf("read the job %q: %w", text, err)
	}
	backend, err := open(j.Address, j.Namespace)
	if err != nil {
		return fmt.Errorf("open %q in namespace %q: %w", j.Address, j.Namespace, err)
	}
	store := backend.Events()
	replies, orders := json.NewEncoder(out), json.NewDecoder(in)
	if err := replies.Encode(reply{Ready: true}); err != nil {
		return err
	}
	switch j.Kind {
	case jobObey:
		err = obey(store, orders, replies)
	case jobCount:
		err = count(store, j.Count, replies)
	case jobWrite:
		var start struct{}
		if err = orders.Decode(&start); err == nil {
			err = replies.Encode(reply{Acks: writeAtRandom(context.Background(), store, j.Seed, j.Count)})
		}
	default:
		err = fmt.Errorf("there is no job %q", j.Kind)
	}
	return errors.Join(err, backend.Close())
}

func obey(store es.EventStore, orders *json.Decoder, replies *json.Encoder) error {
	for {
		var a es.Append
		err := orders.Decode(&a) //nolint:musttag // both ends are this package
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read an append: %w", err)
		}
		var r reply
		if _, err := store.Append(context.Background(), a); err != nil {
			r = reply{Err: err.Error(), Conflict: errors.Is(err, es.ErrConflict)}
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}

// countStream is where children count, and countName the name of the event at an index.
const countStream = "count-1"

func countName(index int) string { return fmt.Sprintf("Number%d", index+1) }

// count appends numbered events, several at a time, from where the stream ends on, and tells of each append as soon as it was
// acknowledged. It ends by being killed, or when nobody reads what it tells.
func count(store es.EventStore, perAppend int, replies *json.Encoder) error {
	ctx := context.Background()
	there, err := readAll(ctx, store, es.Query{Stream: countStream})
	if err != nil {
		return fmt.Errorf("read what was counted before: %w", err)
	}
	for n := len(there); ; n += perAppend {
		events := make([]*es.Message, perAppend)
		for i := range events {
			events[i] = made(countStream, countName(n+i))
		}
		if _, err := store.Append(ctx, es.AppendTo(countStream, es.Exactly(int64(n)), events...)); err != nil {
			return fmt.Errorf("count on from %d: %w", n, err)
		}
		if err := replies.Encode(reply{Counted: n/perAppend + 1}); err != nil {
			return err
		}
	}
}

// child is a child process, seen from the test that started it.
type child struct {
	command *exec.Cmd
	orders  io.WriteCloser
	replies chan reply // closed when the process has said all it had to say
	stop    func()     // kills the process and waits for it
}

// children starts child processes on the bench's storage, and waits until they have opened it. They are killed, if they did
// not end before, when the test ends.
func (b *eventBench) children(n int, j job) []*child {
	b.Helper()
	j.Address, j.Namespace = b.storage.Address(), Namespace
	list := make([]*child, n)
	for i := range list {
		j.Seed = i
		c, err := startChild(b.TB, j)
		if err != nil {
			b.Fatalf("start a child process: %v", err)
		}
		list[i] = c
	}
	for _, c := range list {
		if r, err := c.next(b.ctx); err != nil || !r.Ready {
			b.Fatalf("a child process is not ready: %v (does TestMain call estest.Main, or estest.Child?)", err)
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

// ask gives an order and returns the reply to it.
func (c *child) ask(ctx context.Context, order any) (reply, error) {
	if err := json.NewEncoder(c.orders).Encode(order); err != nil {
		return reply{}, fmt.Errorf("write to the child process: %w", err)
	}
	return c.next(ctx)
}

// append has an obeying child make an append, and returns its error.
func (c *child) append(ctx context.Context, a es.Append) error {
	r, err := c.ask(ctx, a)
	switch {
	case err != nil:
		return err
	case r.Conflict:
		return fmt.Errorf("in another process: %s: %w", r.Err, es.ErrConflict)
	case r.Err != "":
		return errors.New("in another process: " + r.Err)
	}
	return nil
}

// write has a writing child begin, and returns what it was told is appended.
func (c *child) write(ctx context.Context) []ack {
	r, err := c.ask(ctx, struct{}{})
	if err != nil {
		return []ack{{Err: err.Error()}}
	}
	return r.Acks
}

// counted returns how many appends a counting child was told are there.
func (c *child) counted(ctx context.Context) (int, error) {
	r, err := c.next(ctx)
	return r.Counted, err
}

// kill kills the process as kill -9 does, and returns the largest count that it still told of.
func (c *child) kill() int {
	last := 0
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		c.stop()
	}()
	for r := range c.replies {
		last = max(last, r.Counted)
	}
	<-killed
	return last
}
