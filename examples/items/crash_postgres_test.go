package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestCrashOfTwo lets clients send numbered items to two programs that share a database of PostgreSQL, and kills the programs with kill
// -9 again and again meanwhile, each at moments of its own. In the end every item is stored and listed: with an Idempotency-Key once,
// and in the order in which its client sent it; without one at most once for each time that it was sent.
func TestCrashOfTwo(t *testing.T) {
	t.Parallel()
	draws := *seed
	if draws == 0 {
		draws = rand.Uint64()
	}
	t.Logf("to draw the same moments: go test ./examples/items -run CrashOfTwo -kills %d -seed %d", *kills, draws)
	d := &duo{T: t, url: pgserver.Database(t), permits: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait() // also after a failure in the middle
	defer stop()
	for i := range clients {
		random := rand.New(rand.NewPCG(draws, uint64(i)))
		c := &client{T: t, permits: d.permits, number: i}
		c.site = func(ctx context.Context) (string, *countdown, bool) { return d.site(ctx, random.IntN(len(d.seats))) }
		d.clients = append(d.clients, c)
		running.Go(func() { c.run(ctx) })
	}
	var lives sync.WaitGroup
	for i := range d.seats {
		d.seats[i].is = make(chan struct{})
		random := rand.New(rand.NewPCG(draws, uint64(clients+i)))
		lives.Go(func() { d.lives(&d.seats[i], (*kills+i)/len(d.seats), random) })
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lives.Wait()
	}()
	d.feed(ended)
	close(d.permits)
	if t.Failed() {
		stop() // a program may not be there
	}
	running.Wait() // all is acknowledged
	if t.Failed() {
		return
	}
	d.finish()
	for i := range d.seats {
		d.seats[i].service.Stop()
	}
	d.check()
}

// duo are two programs on one database, and their clients.
type duo struct {
	*testing.T

	url     string // of the database
	clients []*client
	permits chan struct{} // one for each item that may be sent
	seats   [2]seat
	listed  []item
}

// seat is where a program runs, and another one when it was killed.
type seat struct {
	service *servicetest.Service

	mu    sync.Mutex
	url   string        // where the program listens, when it does
	is    chan struct{} // closed when it does
	acked *countdown    // of the program that runs
}

// lives starts a program, kills it at the n-th item that it has acknowledged, and so on. The last one stays.
func (d *duo) lives(s *seat, kills int, random *rand.Rand) {
	for range kills {
		if random.IntN(8) == 0 { // while it starts; there is nothing to count there
			delay := time.Duration(random.Int64N(int64(60 * time.Millisecond)))
			program := d.launch()
			<-time.After(delay)
			program.Kill()
			continue
		}
		acked := newCountdown(1 + random.IntN(60))
		d.start(s, acked)
		select {
		case <-acked.reached:
		case <-time.After(servicetest.Patience):
			d.Errorf("the moment to kill it does not come; its log is\n%s", s.service.Log)
		}
		s.mu.Lock()
		s.is = make(chan struct{})
		s.mu.Unlock()
		s.service.Kill()
	}
	d.start(s, nil)
}

// launch launches a program. What it had in hand when it was killed waits for the lease.
func (d *duo) launch() *servicetest.Service {
	return program.Launch(d.T, servicetest.Setup{Args: []string{"-lease", "300ms", "-store", d.url}})
}

// start launches a program, and tells the clients where it listens.
func (d *duo) start(s *seat, acked *countdown) {
	s.service = d.launch()
	s.service.AwaitListening()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url, s.acked = s.service.URL, acked
	close(s.is)
}

// site waits until a program listens, and says where: the one in a seat, or the other one when that is first.
func (d *duo) site(ctx context.Context, first int) (url string, acked *countdown, ok bool) {
	s, other := &d.seats[first], &d.seats[1-first]
	select {
	case <-s.listens():
	default:
		select {
		case <-s.listens():
		case <-other.listens():
			s = other
		case <-ctx.Done():
			return "", nil, false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url, s.acked, true
}

func (s *seat) listens() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.is
}

// feed lets clients send items, until no program will be killed any more.
func (d *duo) feed(ended <-chan struct{}) {
	for {
		select {
		case d.permits <- struct{}{}:
		case <-ended:
			return
		}
	}
}

// finish waits until everything is listed, by both: a last item in each stream, behind which nothing comes.
func (d *duo) finish() {
	d.Helper()
	for i := range streams {
		last := client{number: clients + i}
		service{d.seats[i%2].service}.post("name=ItemAdded&stream="+last.stream(), last.item(1))
	}
	for i := range d.seats {
		d.seats[i].service.Await("/items/", func(answer string) bool {
			var list struct {
				Items []item `json:"items"`
			}
			if err := json.Unmarshal([]byte(answer), &list); err != nil {
				d.Fatalf("%s: %v", answer, err)
			}
			d.listed = list.Items
			last := slices.DeleteFunc(slices.Clone(list.Items), func(i item) bool { return i.Client < clients })
			return len(last) == streams
		})
		if got := d.seats[i].service.Get("/dead/"); got != `{"letters":[]}` {
			d.Errorf("dead letters: %s", got)
		}
	}
}

// check looks at what is stored in the end.
func (d *duo) check() {
	db, err := postgres.Open(d.Context(), postgres.Config{URL: d.url})
	if err != nil {
		d.Fatal(err)
	}
	defer db.Close()
	var stored []item
	for m, err := range db.Events().Read(d.Context(), es.Query{Category: "items.events"}) {
		if err != nil {
			d.Fatal(err)
		}
		var i item
		if err := json.Unmarshal(m.Data, &i); err != nil || m.Stream != (&client{number: i.Client}).stream() {
			d.Fatalf("%s is stored in %s (%v)", m.Data, m.Stream, err)
		}
		stored = append(stored, i)
	}
	if !slices.Equal(stored, d.listed) {
		d.Errorf("stored is %v, and listed is %v", stored, d.listed)
	}
	if stats, err := db.Outbox().Stats(d.Context()); err != nil || stats.Depth != 0 || stats.Dead != 0 {
		d.Errorf("the outbox has %+v (%v)", stats, err)
	}
	again, twice := 0, 0
	for _, c := range d.clients {
		numbers := of(stored, c.number)
		if c.keyed() {
			c.check(numbers)
		} else {
			c.checkCopies(numbers)
		}
		for _, sent := range c.sent {
			again += sent - 1
		}
		twice += len(numbers) - len(c.sent)
	}
	d.Logf("%d kills: %d items stored and listed; %d were sent again, without a key %d of them were there twice", *kills, len(stored), again,
		twice)
}

// checkCopies looks at how often the client's items are stored. Of an item that was sent to a program that died meanwhile, and then to the
// other one, the first copy may be committed after the second one, and after items that followed: the server finds out by itself that the
// program has gone.
func (c *client) checkCopies(stored []int) {
	copies := map[int]int{}
	for _, n := range stored {
		copies[n]++
	}
	for i, sent := range c.sent {
		if got := copies[i+1]; got < 1 || got > sent {
			c.Errorf("item %d of client %d is stored %d times; it was sent %d times", i+1, c.number, got, sent)
		}
	}
	if len(copies) != len(c.sent) {
		c.Errorf("of client %d is stored %v, and it has sent %d items", c.number, fmt.Sprint(stored), len(c.sent))
	}
}
