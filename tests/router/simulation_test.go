package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/middleware"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// act is what a handler does with a message, once.
type act int

const (
	succeed act = iota
	skip
	fail
	retry
	busy
	dead
	panics
	goexit
	slow     // and succeeds; it does not care about its context
	obedient // slow, and ends with its context
	outputs  // returns two messages
	acts
)

// plan is a simulation: what happens, all of it drawn beforehand. Rapid prints the one that fails, as small as it could make it,
// with the seed; go test -rapid.seed=N, or -rapid.failfile=F, runs it again.
type plan struct {
	Workers, Batch, MaxAttempts int
	Dedupe, Retry               bool
	FailPercent                 int // of the calls to the broker and of what is sent
	Seed                        uint64
	Grace                       time.Duration
	Keys                        []int   // of each message
	Acts                        [][]act // of each message, one after the other; then it succeeds
	Runs                        []stop  // all but the last router are stopped
}

type stop struct {
	After  time.Duration
	HangUp bool // the broker does it
}

func drawPlan(t *rapid.T) plan {
	n := rapid.IntRange(1, 40).Draw(t, "messages")
	p := plan{
		Workers:     rapid.IntRange(1, 5).Draw(t, "workers"),
		Batch:       rapid.IntRange(1, 12).Draw(t, "batch"),
		MaxAttempts: rapid.IntRange(1, 4).Draw(t, "attempts"),
		Dedupe:      rapid.Bool().Draw(t, "dedupe"),
		Retry:       rapid.Bool().Draw(t, "retry"),
		FailPercent: rapid.SampledFrom([]int{0, 0, 5, 20}).Draw(t, "fail percent"),
		Seed:        rapid.Uint64().Draw(t, "seed"),
		Grace:       time.Duration(rapid.IntRange(0, 5).Draw(t, "grace")) * time.Second,
		Keys:        rapid.SliceOfN(rapid.IntRange(0, 5), n, n).Draw(t, "keys"),
	}
	one := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act { return act(rapid.IntRange(0, int(acts)-1).Draw(t, "act")) }), 0, 4)
	p.Acts = rapid.SliceOfN(one, n, n).Draw(t, "acts")
	p.Runs = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) stop {
		return stop{
			// Half a step off everything else, so that a stop never coincides with the end of a handler.
			After:  time.Duration(rapid.IntRange(0, 300).Draw(t, "after"))*100*time.Millisecond + 2500*time.Microsecond,
			HangUp: rapid.IntRange(0, 4).Draw(t, "hang up") == 0,
		}
	}), 0, 4).Draw(t, "runs")
	return p
}

const (
	lease  = 9 * time.Second
	pace   = 20 * time.Second // of a slow handler
	group  = "sim"
	enough = 6 * time.Hour
)

// source is what the messages of a simulation come from.
type source interface {
	es.Subscriber
	publish(m *es.Message)
	// hangUp ends all subscriptions.
	hangUp()
	// left is how many messages are not acknowledged.
	left() int
	// acks is how often a message was acknowledged, by its place among those that were published.
	acks(i int) int
	// checkStopped notes what is out although nobody has a subscription any more.
	checkStopped()
	// noted returns what the router has done that it may not.
	noted() []string
}

// simulation is what is known while a plan is carried out.
type simulation struct {
	plan   plan
	broker source
	store  *memory.Backend
	ids    []uuid.UUID
	index  map[uuid.UUID]int

	mu       sync.Mutex
	random   *rand.Rand
	calls    []int // of the handler
	attempt  []int // that the next delivery must have
	running  map[int]int
	begun    map[int]int // by key: the last message that was begun
	emitted  map[uuid.UUID]int
	letters  map[int]int
	handled  []bool
	refused  []bool // the handler said that it is for the dead stream
	hungUp   bool
	breaches []string
}

func newSimulation(p plan, open func(fails func() bool) source) *simulation {
	s := &simulation{
		plan: p, index: map[uuid.UUID]int{}, random: rand.New(rand.NewPCG(p.Seed, 1)),
		calls: make([]int, len(p.Keys)), attempt: make([]int, len(p.Keys)), handled: make([]bool, len(p.Keys)),
		refused: make([]bool, len(p.Keys)), running: map[int]int{}, begun: map[int]int{}, emitted: map[uuid.UUID]int{},
		letters: map[int]int{}, store: memory.New(),
	}
	faults := rand.New(rand.NewPCG(p.Seed, 2))
	s.broker = open(func() bool { return faults.IntN(100) < p.FailPercent })
	for i, key := range p.Keys {
		m := es.NewMessage(fmt.Sprintf("order-%d", key), fmt.Sprintf("%03d", i), nil)
		s.ids = append(s.ids, m.ID)
		s.index[m.ID] = i
		s.attempt[i] = 1
		s.broker.publish(m)
	}
	return s
}

func (s *simulation) breachf(format string, args ...any) {
	s.breaches = append(s.breaches, fmt.Sprintf(format, args...))
}

// begin notes that a message is being handled, and returns what is to be done with it.
func (s *simulation) begin(d *es.Delivery) (int, act) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index[d.ID]
	key := s.plan.Keys[i]
	if d.Attempt != s.attempt[i] && !s.hungUp {
		s.breachf("message %d is at attempt %d, and should be at %d", i, d.Attempt, s.attempt[i])
	}
	if d.Attempt > s.plan.MaxAttempts {
		s.breachf("message %d is handled at attempt %d", i, d.Attempt)
	}
	if s.running[key]++; s.running[key] > 1 {
		s.breachf("two messages of key %d are handled at once", key)
	}
	if last, ok := s.begun[key]; ok && i < last && !s.hungUp {
		s.breachf("message %d was begun after message %d of the same key", i, last)
	}
	s.begun[key] = i
	s.calls[i]++
	if n := s.calls[i] - 1; n < len(s.plan.Acts[i]) {
		return i, s.plan.Acts[i][n]
	}
	return i, succeed
}

// end notes how a call ended: whether that was an attempt which has failed.
func (s *simulation) end(ctx context.Context, i int, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[s.plan.Keys[i]]--
	if failed && ctx.Err() == nil {
		s.attempt[i]++
	}
}

func (s *simulation) handle(ctx context.Context, d *es.Delivery) (out []*es.Message, err error) {
	if got, ok := es.DeliveryFrom(ctx); !ok || got.Message != d.Message {
		s.mu.Lock()
		s.breachf("the context of message %s carries another delivery", d.Name)
		s.mu.Unlock()
	}
	i, what := s.begin(d)
	failed := false
	defer func() { s.end(ctx, i, failed) }()
	time.Sleep(time.Duration(i + 1)) // a little time of its own, so that nothing ends at the very time of a stop
	boom := fmt.Errorf("message %d, call %d", i, s.calls[i])
	switch what {
	case skip:
		return nil, es.Skip(boom)
	case busy:
		return nil, es.Busy(300*time.Millisecond, boom)
	case fail:
		failed = true
		return nil, boom
	case retry:
		failed = true
		return nil, es.RetryAfter(700*time.Millisecond, boom)
	case panics:
		failed = true
		panic(boom)
	case goexit:
		failed = true
		if s.plan.Dedupe || s.plan.Retry { // is covered without; Goexit unwinds middleware, which then cannot tell
			return nil, boom
		}
		runtime.Goexit()
	case dead:
		s.mu.Lock()
		s.refused[i] = s.refused[i] || ctx.Err() == nil
		s.mu.Unlock()
		return nil, es.DeadLetter(boom)
	case slow:
		time.Sleep(pace)
	case obedient:
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	case outputs:
		out = []*es.Message{es.NewMessage("out-1", "A", nil), es.NewMessage("out-2", "B", nil)}
	case succeed, acts:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handled[i] = true
	return out, nil
}

// emit sends outputs and dead letters, and fails now and then, which is a failed attempt.
func (s *simulation) emit(ctx context.Context, msgs []*es.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cause, err := uuid.Parse(msgs[0].CausationID)
	if err != nil {
		s.breachf("%s has no causation", msgs[0].Name)
		return err
	}
	i := s.index[cause]
	if s.random.IntN(100) < s.plan.FailPercent {
		if ctx.Err() == nil {
			s.attempt[i]++
		}
		return errDown
	}
	if msgs[0].Name == es.DeadLetterName {
		s.letters[i]++
		if ctx.Err() != nil {
			s.breachf("message %d became a dead letter after the stop", i)
		}
		var record es.DeadLetterRecord
		if err := json.Unmarshal(msgs[0].Data, &record); err != nil || record.Original.ID != cause || record.Error == "" {
			s.breachf("the dead letter of message %d is %+v, %v", i, record, err)
		}
		return nil
	}
	for n, m := range msgs {
		if m.ID != es.DeriveID(cause, group, n) {
			s.breachf("output %d of message %d has the ID %s", n, i, m.ID)
		}
		s.emitted[m.ID]++
	}
	return nil
}

func (s *simulation) start(ctx context.Context) (*router.Router, error) {
	most := func() float64 { return 1 }
	backoff := middleware.Backoff{Random: most}
	r, err := router.New(router.Config{
		Subscriber: s.broker, Emit: s.emit, MaxAttempts: s.plan.MaxAttempts, Backoff: backoff, Grace: max(s.plan.Grace, 1),
	})
	if err != nil {
		return nil, err
	}
	var chain []es.Middleware
	if s.plan.Retry {
		chain = append(chain, middleware.Retry(middleware.RetryConfig{Attempts: s.plan.MaxAttempts, Backoff: backoff}))
	}
	if s.plan.Dedupe {
		chain = append(chain, middleware.Dedupe(s.store.Dedupe(), middleware.DedupeConfig{}))
	}
	return r, errors.Join(
		r.Use(chain...),
		r.Route("order", es.HandlerFunc(s.handle), router.Options{
			Name: group, Concurrency: s.plan.Workers, Batch: s.plan.Batch, Lease: lease,
		}),
		r.Start(ctx))
}

// run carries the plan out.
func (s *simulation) run(ctx context.Context) error {
	for _, stop := range s.plan.Runs {
		r, err := s.start(ctx)
		if err != nil {
			return err
		}
		time.Sleep(stop.After)
		if stop.HangUp {
			s.mu.Lock()
			s.hungUp = true // what is handled meanwhile is handled again, which cannot be told beforehand
			s.mu.Unlock()
			s.broker.hangUp()
			<-r.Done()
			if err := r.Err(); !errors.Is(err, es.ErrClosed) {
				s.breachf("the router ended with %v", err)
			}
		}
		began := time.Now()
		if err := r.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			s.breachf("stop: %v", err)
		}
		if took := time.Since(began); took > s.plan.Grace+pace+10*time.Second {
			s.breachf("stop took %v", took)
		}
		s.checkStopped(r)
	}
	r, err := s.start(ctx)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(enough); s.broker.left() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Minute)
	}
	if err := r.Stop(ctx); err != nil {
		s.breachf("the last stop: %v", err)
	}
	s.checkStopped(r)
	s.checkEnd()
	return s.store.Close()
}

func (s *simulation) checkStopped(r *router.Router) {
	s.broker.checkStopped()
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, n := range s.running {
		if n != 0 {
			s.breachf("a message of key %d is being handled after Stop", key)
		}
	}
	if stats := r.Stats()[0]; stats.InFlight != 0 || stats.Parked != 0 {
		s.breachf("stats after Stop are %+v", stats)
	}
}

// checkEnd holds what came out against what went in.
func (s *simulation) checkEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ids {
		acks := s.broker.acks(i)
		died := s.letters[i] > 0
		skipped := s.calls[i] > 0 && s.calls[i] <= len(s.plan.Acts[i]) && s.plan.Acts[i][s.calls[i]-1] == skip
		usedUp := s.attempt[i] > s.plan.MaxAttempts
		switch {
		case acks == 0:
			s.breachf("message %d was never acknowledged, at attempt %d after %d calls", i, s.attempt[i], s.calls[i])
		case s.hungUp:
			if !died && !skipped && !s.handled[i] {
				s.breachf("message %d was lost", i)
			}
		case died && !s.refused[i] && !usedUp:
			s.breachf("message %d became a dead letter at attempt %d of %d", i, s.attempt[i], s.plan.MaxAttempts)
		case !died && !skipped && !s.handled[i]:
			s.breachf("message %d was lost after %d calls", i, s.calls[i])
		case s.letters[i] > 1:
			s.breachf("message %d became %d dead letters", i, s.letters[i])
		}
		if acks > 1 {
			s.breachf("message %d was acknowledged %d times", i, acks)
		}
	}
	s.breaches = append(s.breaches, s.broker.noted()...)
}

// TestSimulation carries out random plans in fake time: failures of every kind, slow handlers, a broker that fails and hangs up, and
// stops with and without patience. Nothing is lost, nothing overtakes within its key, and only what failed was an attempt.
func TestSimulation(t *testing.T) {
	simulate(t, func(fails func() bool) source { return newBroker(lease, fails) })
}

// TestSimulationOnMemory is the same with the pub/sub in memory, whose answers fail now and then.
func TestSimulationOnMemory(t *testing.T) {
	simulate(t, func(fails func() bool) source { return newFaulty(fails) })
}

func simulate(t *testing.T, open func(fails func() bool) source) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var breaches []string
		synctest.Test(t, func(t *testing.T) {
			s := newSimulation(p, open)
			if err := s.run(context.WithoutCancel(t.Context())); err != nil {
				s.breachf("%v", err)
			}
			breaches = s.breaches
		})
		if len(breaches) > 0 {
			rt.Fatalf("plan %+v:\n%s", p, strings.Join(breaches, "\n"))
		}
	})
}
