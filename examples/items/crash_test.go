package main_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

var (
	kills = flag.Int("kills", 20, "how often TestCrash kills the program")
	seed  = flag.Uint64("seed", 0, "what TestCrash draws its moments from; 0 takes another one each time")
)

// TestCrash lets clients send numbered items, and kills the program with kill -9 again and again meanwhile. In the end every item is
// stored and listed, in the order in which its client sent it: with an Idempotency-Key once, however often it was sent because no
// answer came; without one at most once for each time that it was sent.
func TestCrash(t *testing.T) {
	t.Parallel()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	c := &crash{
		T: t, dir: t.TempDir(), random: rand.New(rand.NewPCG(*seed, 0)),
		permits: make(chan struct{}, 1000), is: make(chan struct{}),
	}
	again := fmt.Sprintf("to draw the same moments: go test ./examples/items -run Crash -kills %d -seed %d", *kills, *seed)
	t.Log(again)
	defer func() {
		if t.Failed() {
			t.Logf("the program was killed %s; %s", strings.Join(c.moments, ", "), again)
		}
	}()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait() // also after a failure in the middle
	defer stop()
	end := sync.OnceFunc(func() { close(c.permits) })
	defer end()
	for i := range clients {
		client := &client{T: t, site: c.site, permits: c.permits, number: i}
		c.clients = append(c.clients, client)
		running.Go(func() { client.run(ctx) })
	}
	for range *kills {
		c.live()
	}
	s := c.start(nil, nil)
	end()
	running.Wait() // all is acknowledged
	c.finish(s)
	if got := s.Get("/dead/"); got != `{"letters":[]}` {
		t.Errorf("dead letters: %s", got)
	}
	s.Stop()
	c.check()
}

// crash is a program that is killed again and again, and its clients.
type crash struct {
	*testing.T

	dir     string
	random  *rand.Rand
	moments []string
	clients []*client
	listed  []item
	allowed int           // items that may be sent, in all
	permits chan struct{} // one for each of them

	mu    sync.Mutex
	url   string        // where the program listens, when it does
	is    chan struct{} // closed when it does
	acked *countdown    // of the program that runs
}

// item is what clients send.
type item struct {
	Client int `json:"client"`
	N      int `json:"n"`
}

// countdown says when something has happened so many times. Nobody waits for a nil one.
type countdown struct {
	left    atomic.Int64
	reached chan struct{}
}

func newCountdown(n int) *countdown {
	c := &countdown{reached: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *countdown) count() {
	if c != nil && c.left.Add(-1) == 0 {
		close(c.reached)
	}
}

// live starts the program, lets clients send items to it, and kills it at a moment that is drawn.
func (c *crash) live() {
	const enough = 100 // items that wait; more would only take time in the end
	what := c.random.IntN(8)
	if c.allowed-len(c.listed) > enough {
		what = 1
	}
	switch what {
	case 0: // while it opens the file; there is nothing to count there
		delay := time.Duration(c.random.Int64N(int64(30 * time.Millisecond)))
		c.momentf("%v after it was launched", delay)
		s := c.launch(nil)
		<-time.After(delay)
		s.Kill()
	case 1, 2, 3:
		n := 1 + c.random.IntN(40)
		c.momentf("at the %d. item that was handled", n)
		handled := newCountdown(n)
		s := c.start(nil, handled)
		c.allow(max(n-(c.allowed-len(c.listed)), 0) + c.random.IntN(10))
		c.kill(s, handled)
	default:
		n := 1 + c.random.IntN(60)
		c.momentf("at the %d. item that was acknowledged", n)
		acked := newCountdown(n)
		s := c.start(acked, nil)
		c.allow(n + c.random.IntN(10))
		c.kill(s, acked)
	}
}

func (c *crash) momentf(format string, args ...any) {
	c.moments = append(c.moments, fmt.Sprintf(format, args...))
}

// allow lets clients send some more items.
func (c *crash) allow(n int) {
	c.allowed += n
	for range n {
		c.permits <- struct{}{}
	}
}

// launch launches the program. What it had in hand when it was killed waits for the lease.
func (c *crash) launch(handled *countdown) *servicetest.Service {
	return program.Launch(c.T, servicetest.Setup{
		Dir: c.dir, Args: []string{"-lease", "300ms"}, Env: []string{"ES_LOG_LEVEL=debug"},
		Told: func(line string) {
			if strings.Contains(line, `msg="message handled"`) {
				handled.count()
			}
		},
	})
}

// start launches the program, looks whether it still lists what it listed before, and tells the clients where it listens.
func (c *crash) start(acked, handled *countdown) *servicetest.Service {
	c.Helper()
	s := c.launch(handled)
	s.AwaitListening()
	listed := c.list(s)
	for i := range c.clients {
		if before, now := of(c.listed, i), of(listed, i); len(now) < len(before) || !slices.Equal(before, now[:len(before)]) {
			c.Fatalf("of client %d it lists %v, and before it was killed it listed %v", i, now, before)
		}
	}
	c.listed = listed
	c.mu.Lock()
	defer c.mu.Unlock()
	c.url, c.acked = s.URL, acked
	close(c.is)
	return s
}

// site waits until the program listens, and says where.
func (c *crash) site(ctx context.Context) (url string, acked *countdown, ok bool) {
	c.mu.Lock()
	is := c.is
	c.mu.Unlock()
	select {
	case <-is:
	case <-ctx.Done():
		return "", nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.url, c.acked, true
}

// kill kills the program when a countdown has ended. What clients try from then on waits for the next start.
func (c *crash) kill(s *servicetest.Service, at *countdown) {
	c.Helper()
	select {
	case <-at.reached:
	case <-time.After(servicetest.Patience):
		c.Fatalf("the moment to kill it does not come; it lists %d of %d items, and its log is\n%s", len(c.list(s)), c.allowed, s.Log)
	}
	c.mu.Lock()
	c.is = make(chan struct{})
	c.mu.Unlock()
	s.Kill()
}

func (c *crash) list(s *servicetest.Service) []item {
	c.Helper()
	return c.decode(s.Get("/items/"))
}

func (c *crash) decode(answer string) []item {
	c.Helper()
	var list struct {
		Items []item `json:"items"`
	}
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		c.Fatalf("%s: %v", answer, err)
	}
	return list.Items
}

// of are the numbers of a client's items.
func of(items []item, client int) []int {
	var numbers []int
	for _, i := range items {
		if i.Client == client {
			numbers = append(numbers, i.N)
		}
	}
	return numbers
}

// finish waits until everything is listed: a last item in each stream, behind which nothing comes.
func (c *crash) finish(s *servicetest.Service) {
	c.Helper()
	for i := range streams {
		last := client{number: clients + i}
		service{s}.post("name=ItemAdded&stream="+last.stream(), last.item(1))
	}
	for deadline, before := time.Now().Add(servicetest.Patience), 0; time.Now().Before(deadline); {
		c.listed = c.list(s)
		ends := 0
		for _, i := range c.listed {
			if i.Client >= clients {
				ends++
			}
		}
		if ends == streams {
			return
		}
		if n := len(c.listed); n > before {
			deadline, before = time.Now().Add(servicetest.Patience), n
		}
	}
	c.Fatalf("it lists %d items and no more; clients have sent %d; dead letters are %s", len(c.listed), c.allowed, s.Get("/dead/"))
}

// check looks at what is stored in the end.
func (c *crash) check() {
	file := sqlite.Config{Path: filepath.Join(c.dir, "items.db")}
	report, err := sqlite.Check(c.Context(), file)
	if err != nil {
		c.Fatal(err)
	}
	if err := report.Err(); err != nil {
		c.Error(err)
	}
	db, err := sqlite.Open(file)
	if err != nil {
		c.Fatal(err)
	}
	defer db.Close()
	var stored []item
	for m, err := range db.Events().Read(c.Context(), es.Query{Category: "items.events"}) {
		if err != nil {
			c.Fatal(err)
		}
		var i item
		if err := json.Unmarshal(m.Data, &i); err != nil || m.Stream != (&client{number: i.Client}).stream() {
			c.Fatalf("%s is stored in %s (%v)", m.Data, m.Stream, err)
		}
		stored = append(stored, i)
	}
	if !slices.Equal(stored, c.listed) {
		c.Errorf("stored is %v, and listed is %v", stored, c.listed)
	}
	if stats, err := db.Outbox().Stats(c.Context()); err != nil || stats.Depth != 0 || stats.Dead != 0 {
		c.Errorf("the outbox has %+v (%v)", stats, err)
	}
	again, twice := 0, 0
	for _, client := range c.clients {
		client.check(of(stored, client.number))
		for _, sent := range client.sent {
			again += sent - 1
		}
		twice += len(of(stored, client.number)) - len(client.sent)
	}
	c.Logf("%d kills: %d items stored and listed; %d were sent again, without a key %d of them were there twice",
		*kills, len(stored), again, twice)
}

// There are two clients for each stream, and one of these sends keys.
const (
	streams = 4
	clients = 2 * streams
)

// client sends items, numbered from 1, each until it is acknowledged.
type client struct {
	*testing.T

	site    func(ctx context.Context) (url string, acked *countdown, ok bool) // waits until a program listens, and says where
	permits <-chan struct{}
	number  int
	sent    []int // how often each item was sent
}

func (c *client) stream() string { return fmt.Sprintf("items.events-%d", c.number%streams) }

func (c *client) keyed() bool { return c.number < streams }

func (c *client) item(n int) string { return fmt.Sprintf(`{"client":%d,"n":%d}`, c.number, n) }

func (c *client) run(ctx context.Context) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	web := &http.Client{Transport: transport, Timeout: servicetest.Patience}
	for range c.permits {
		c.sent = append(c.sent, 0)
		for acked := false; !acked && ctx.Err() == nil; {
			acked = c.send(ctx, web)
		}
	}
}

// send sends the last item, when the program listens, and tells whether it was acknowledged.
func (c *client) send(ctx context.Context, web *http.Client) bool {
	url, acked, ok := c.site(ctx)
	if !ok {
		return false
	}
	n := len(c.sent)
	body := c.item(n)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/items/?name=ItemAdded&stream="+c.stream(), strings.NewReader(body))
	if err != nil {
		c.Error(err)
		return false
	}
	r.Header.Set("Content-Type", "application/json")
	if c.keyed() {
		r.Header.Set("Idempotency-Key", fmt.Sprintf("%d/%d", c.number, n))
	}
	c.sent[n-1]++
	response, err := web.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return false
	}
	if response.StatusCode != http.StatusOK {
		c.Errorf("%s is answered by %d %s", body, response.StatusCode, answer)
	}
	acked.count()
	return true
}

// check looks at the numbers of the client's items that are stored.
func (c *client) check(stored []int) {
	var want []int
	for i, sent := range c.sent {
		copies := 0
		for _, n := range stored {
			if n == i+1 {
				copies++
			}
		}
		if copies < 1 || copies > 1 && (c.keyed() || copies > sent) {
			c.Errorf("item %d of client %d is stored %d times; it was sent %d times, with a key: %v", i+1, c.number, copies, sent, c.keyed())
		}
		want = append(want, slices.Repeat([]int{i + 1}, copies)...)
	}
	if !slices.Equal(stored, want) {
		c.Errorf("of client %d is stored %v", c.number, stored)
	}
}
