package processor_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

var (
	seeds  = flag.Int("sim.seeds", 600, "how many seeds each simulation has")
	replay = flag.Uint64("sim.seed", 0, "the only seed to simulate; 0 means all")
)

// attempts is how often an AtLeastOnce tries to publish here before it gives up.
const attempts = 4

// kind is a kind of processor, or several beside each other.
type kind struct {
	// make makes the processor with a number.
	make func(number int, c processor.Config) (es.Component, error)
	// check looks for what is promised.
	check func(s *simulation)
	// whole says that streams keep their order when they are published to several topics.
	whole bool
}

func atLeastOnce(_ int, c processor.Config) (es.Component, error) {
	c.Retry.Attempts = attempts
	return processor.NewAtLeastOnce(c)
}

func atMostOnce(_ int, c processor.Config) (es.Component, error) { return processor.NewAtMostOnce(c) }

func batch(_ int, c processor.Config) (es.Component, error) {
	return processor.NewBatch(c, processor.Flush{Size: 3, Interval: 2 * time.Second})
}

func either(number int, c processor.Config) (es.Component, error) {
	if number%2 == 0 {
		return batch(number, c)
	}
	return atLeastOnce(number, c)
}

// allKinds takes turns among all kinds, so that those beside each other are of different ones.
func allKinds(number int, c processor.Config) (es.Component, error) {
	return []func(int, processor.Config) (es.Component, error){atLeastOnce, atMostOnce, batch}[number%3](number, c)
}

// simulation is a run of processors that come and go, on a world with troubles.
type simulation struct {
	*testing.T
	*world

	kind      kind
	seed      uint64
	random    *rand.Rand
	gentle    bool // there is no trouble but slow calls, and nobody crashes
	patient   bool // who is stopped has all the time it needs
	solo      bool // there is one processor at a time
	streams   int
	topic     func(*es.Message) string
	messages  []*es.Message
	processes []*process
	running   []es.Component
	all       []es.Component
	stopping  sync.WaitGroup
}

// TestSimulation lets processors of each kind work on an outbox, an event store and a publisher that fail before and after they
// have done something, are slow, hold back and answer in part; processors that are stopped at any moment, stand still for longer
// than their leases, crash, and wake up again; and an outbox whose clock is wrong. What is promised must hold all the same.
func TestSimulation(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]kind{
		"at_least_once": {atLeastOnce, (*simulation).checkAtLeastOnce, true},
		"at_most_once":  {atMostOnce, (*simulation).checkAtMostOnce, true},
		"batch":         {batch, (*simulation).checkBatch, false},
		"either":        {either, (*simulation).checkBatch, false},
		"all_kinds":     {allKinds, (*simulation).checkAllKinds, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, last := uint64(1), uint64(*seeds)
			if *replay != 0 {
				first, last = *replay, *replay
			}
			for seed := first; seed <= last; seed++ { // until one fails
				synctest.Test(t, func(t *testing.T) {
					defer func() {
						if t.Failed() {
							t.Logf("to replay it: go test ./processor -run 'TestSimulation/%s' -sim.seed=%d", name, seed)
						}
					}()
					simulate(t, k, seed)
				})
			}
		})
	}
}

func simulate(t *testing.T, k kind, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	s := &simulation{
		T: t, kind: k, seed: seed, random: random,
		gentle: random.IntN(4) == 0, patient: random.IntN(3) == 0, solo: random.IntN(3) == 0, streams: 1 + random.IntN(6),
	}
	some := troubles{slow: random.IntN(200), slowest: 900 * time.Millisecond} // an answer gets a second when its processor is stopped
	if !s.gentle {
		some = troubles{
			crash: random.IntN(10), freeze: random.IntN(20), slow: random.IntN(200), slowest: 2 * lease, failBefore: random.IntN(150),
			failAfter: random.IntN(100), part: random.IntN(200), heldBack: random.IntN(100),
		}
	}
	s.world = newWorld(some)
	if random.IntN(3) == 0 {
		s.skew = time.Duration(random.IntN(7)-3) * 20 * time.Minute
	}
	if random.IntN(3) == 0 {
		s.topic = func(m *es.Message) string { return []string{"even", "odd"}[m.Version%2] }
	}
	s.live()
	s.end()
	s.kind.check(s)
}

// live lets messages be enqueued, and processors come and go.
func (s *simulation) live() {
	for range 10 + s.random.IntN(40) {
		time.Sleep(time.Duration(s.random.Int64N(int64(3 * time.Second))))
		switch s.random.IntN(5) {
		case 0, 1:
			s.enqueue(1 + s.random.IntN(8))
		case 2, 3:
			if most := 3; len(s.running) == 0 || !s.solo && len(s.running) < most {
				s.begin()
			}
		case 4:
			s.stopOne()
		}
	}
}

func (s *simulation) enqueue(n int) {
	msgs := make([]*es.Message, n)
	for i := range msgs {
		name := strconv.Itoa(len(s.messages))
		if !s.gentle {
			switch s.random.IntN(30) {
			case 0:
				name = unstorable
			case 1:
				name = unsendable
			}
		}
		msgs[i] = es.NewMessage(fmt.Sprint("s-", s.random.IntN(s.streams)), name, nil)
		s.messages = append(s.messages, msgs[i])
	}
	if err := s.backend.Outbox().Enqueue(s.Context(), msgs...); err != nil {
		s.Fatal(err)
	}
}

// begin starts another processor.
func (s *simulation) begin() {
	number := len(s.processes) + 1
	life := s.process(s.seed, uint64(number))
	c, err := s.kind.make(number, processor.Config{
		Outbox: outbox{s.backend.Outbox(), life}, Events: events{s.backend.Events(), life}, Publisher: publisher{life}, Topic: s.topic,
		InHand: 4 + s.random.IntN(20), Lease: lease, PollInterval: 10 * time.Minute,
		Retry: processor.Retry{Backoff: middleware.Backoff{Max: 10 * time.Second, Random: life.float}},
	})
	if err != nil {
		s.Fatal(err)
	}
	if err := c.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.processes = append(s.processes, life)
	s.running, s.all = append(s.running, c), append(s.all, c)
}

func (p *process) float() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.Float64()
}

// stopOne stops one of the processors, with or without patience.
func (s *simulation) stopOne() {
	if len(s.running) == 0 {
		return
	}
	i := s.random.IntN(len(s.running))
	c := s.running[i]
	s.running = slices.Delete(s.running, i, i+1)
	patience := time.Duration(s.random.IntN(3)) * time.Second
	ctx, cancel := s.Context(), context.CancelFunc(func() {})
	if !s.patient && s.random.IntN(3) > 0 {
		ctx, cancel = context.WithTimeout(ctx, patience)
	}
	s.stopping.Go(func() {
		defer cancel()
		_ = c.Stop(ctx) // that it broke something off is no fault
	})
	if s.solo && s.gentle { // otherwise it may be dead, and stop in the end only
		s.stopping.Wait()
	}
}

// end ends the trouble and lets what is left be done, first by others and then by those that had crashed.
func (s *simulation) end() {
	s.settle()
	s.begin()
	for range 120 {
		time.Sleep(time.Minute)
		if s.outboxStats().Depth == 0 {
			break
		}
	}
	for _, life := range s.processes {
		close(life.awake)
	}
	time.Sleep(10 * time.Minute)
	for _, c := range s.all {
		if err := c.Err(); err != nil {
			s.Errorf("%s has ended: %v", c.Name(), err)
		}
		if err := c.Stop(s.Context()); err != nil {
			s.Errorf("stop: %v", err)
		}
	}
	s.stopping.Wait()
	if stats := s.outboxStats(); stats.Depth != 0 {
		s.Errorf("the outbox still has %+v", stats)
	}
	if s.gentle && (s.attempts > 1 || s.outboxStats().Failures != 0 || s.outboxStats().Dead != 0) {
		s.Errorf("there were only stops, and attempts rose to %d, the outbox has %+v", s.attempts, s.outboxStats())
	}
}

func (s *simulation) outboxStats() es.OutboxStats {
	stats, err := s.backend.Outbox().Stats(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return stats
}
