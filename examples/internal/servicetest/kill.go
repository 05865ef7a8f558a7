package servicetest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Killing says how to run programs that are killed.
type Killing struct {
	// Setups has one for each program that runs at a time; there are one or two.
	Setups []Setup
	// Kills is how often one of them is killed, in all.
	Kills int
	// Seed is what the moments are drawn from; 0 takes another one each time.
	Seed uint64
	// Clients is how many clients there are, each in a goroutine of its own, and Client what each of them does, at least until there is no
	// [Client.More] to do.
	Clients int
	Client  func(*Client)
}

// Kill runs programs and kills them with kill -9, again and again, at moments that are drawn, while clients use them; not at all without
// Kills. It returns when the clients have ended, with programs that run.
func (p *Program) Kill(t *testing.T, k Killing) []*Service {
	t.Helper()
	if k.Seed == 0 {
		k.Seed = rand.Uint64()
	}
	t.Logf("%d kills; to draw the same moments: -seed %d", k.Kills, k.Seed)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait() // also after a failure in the middle
	defer stop()
	seats := make([]*seat, len(k.Setups))
	for i := range seats {
		seats[i] = &seat{T: t, program: p, setup: k.Setups[i], changed: make(chan struct{})}
	}
	over := make(chan struct{})
	for i := range k.Clients {
		transport := &http.Transport{}
		client := &Client{
			Number: i, Random: rand.New(rand.NewPCG(k.Seed, uint64(i))),
			ctx: ctx, web: &http.Client{Transport: transport}, seats: seats, over: over,
		}
		clients.Go(func() {
			defer transport.CloseIdleConnections()
			k.Client(client)
		})
	}
	var lives sync.WaitGroup
	for i, s := range seats {
		random := rand.New(rand.NewPCG(^k.Seed, uint64(i))) // not what a client draws from
		lives.Go(func() { s.live((k.Kills+i)/len(seats), random) })
	}
	lives.Wait()
	close(over)
	clients.Wait()
	if t.Failed() {
		t.FailNow()
	}
	services := make([]*Service, len(seats))
	for i, s := range seats {
		services[i] = s.service
	}
	return services
}

// seat is where a program runs, and another one when it was killed.
type seat struct {
	*testing.T

	program *Program
	setup   Setup
	service *Service

	mu      sync.Mutex
	url     string        // where the program listens; empty when it does not
	changed chan struct{} // closed when that changes
	left    int           // answers until enough is closed
	enough  chan struct{}
}

// live runs programs until the last was killed; one more is left.
func (s *seat) live(kills int, random *rand.Rand) {
	for range kills {
		if random.IntN(8) == 0 { // while it starts; there is nothing to count there
			delay := time.Duration(random.Int64N(int64(60 * time.Millisecond)))
			program := s.program.Launch(s.T, s.setup)
			<-time.After(delay)
			program.Kill()
			continue
		}
		enough := s.start(1 + random.IntN(40))
		select {
		case <-enough:
		case <-time.After(Patience):
			s.Errorf("the moment to kill it does not come; its log is\n%s", s.service.Log)
			return
		}
		s.set("")
		s.service.Kill()
	}
	s.start(0)
}

// start starts a program, and returns what is closed when it has given so many answers.
func (s *seat) start(answers int) <-chan struct{} {
	s.service = s.program.Launch(s.T, s.setup)
	s.service.AwaitListening()
	enough := make(chan struct{})
	s.mu.Lock()
	s.left, s.enough = answers, enough
	s.mu.Unlock()
	s.set(s.service.URL)
	return enough
}

func (s *seat) set(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url = url
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *seat) look() (listens bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url != "", s.changed
}

func (s *seat) address() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// count counts an answer.
func (s *seat) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left--; s.left == 0 {
		close(s.enough)
	}
}
