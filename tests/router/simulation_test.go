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
	// stall makes every call fail for a time.
	stall(d time.Duration)
	// left is how many messages are not acknowledged.
	left() int
	// acks is how often a message was acknowledged.
	acks(id uuid.UUID) int
	// checkStopped notes what is out although nobody has a subscription any more.
	checkStopped()
	// noted returns what the routers have done that they may not.
	noted() []string
}

// simulation is what is known while a plan is carried out.
type simulation struct {
	plan     plan
	broker   source
	store    *memory.Backend
	routers  []*router.Router
	index    map[uuid.UUID]int
	messages []*subject

	mu       sync.Mutex
	random   *rand.Rand
	keys     map[int]*order
	replayed map[int]*order // the same for replays, which are no part of the order of the others
	workings map[*router.Router]*working
	letters  map[uuid.UUID]bool
	replays  int
	// loose: the broker has taken deliveries back that were being handled. Their handlers go on beside those that get them anew, which
	// cannot be told beforehand: only that nothing is lost can.
	loose    bool
	breaches []string
}

// subject is what is known of a message.
type subject struct {
	id       uuid.UUID
	calls    int  // of the handler
	attempt  int  // that the next delivery must have
	refused  bool // the handler said that it is for the dead stream
	handled  bool
	skipped  bool
	dead     bool // its last letter is not replayed
	lives    int  // how often it was replayed
	sequence int  // of its last replay among all
}

// order is what is known of a key.
type order struct {
	running int
	begun   int // the last one that was begun
}

// working is what a router is at.
type working struct {
	running int
	keys    map[int]int
	resting bool // it was paused or stopped, and may begin nothing
}

func newSimulation(p plan, open func(fails func() bool) source) *simulation {
	s := &simulation{
		plan: p, index: map[uuid.UUID]int{}, random: rand.New(rand.NewPCG(p.Seed, 1)), keys: map[int]*order{}, replayed: map[int]*order{},
		workings: map[*router.Router]*working{}, letters: map[uuid.UUID]bool{}, store: memory.New(),
	}
	faults := rand.New(rand.NewPCG(p.Seed, 2))
	s.broker = open(func() bool { return faults.IntN(100) < p.FailPercent })
	for i, key := range p.Keys {
		m := es.NewMessage(fmt.Sprintf("order-%d", key), fmt.Sprintf("%03d", i), nil)
		s.messages = append(s.messages, &subject{id: m.ID, attempt: 1})
		s.index[m.ID] = i
		s.keys[key], s.replayed[key] = &order{begun: -1}, &order{begun: -1}
		s.broker.publish(m)
	}
	return s
}

func (s *simulation) breachf(format string, args ...any) {
	s.breaches = append(s.breaches, fmt.Sprintf(format, args...))
}

// call is one call of the handler.
type call struct {
	i     int
	what  act
	order *order
	by    *working
	life  int
}

// begin notes that a message is being handled, and returns what is to be done with it.
func (s *simulation) begin(by *working, d *es.Delivery) call {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index[d.ID]
	m, key := s.messages[i], s.plan.Keys[i]
	c := call{i: i, order: s.keys[key], by: by, life: m.lives}
	place := i
	if m.lives > 0 {
		c.order, place = s.replayed[key], m.sequence
	}
	if d.Topic != "order" || d.Group != group {
		s.breachf("message %d came from topic %q for group %q", i, d.Topic, d.Group)
	}
	if d.Attempt > s.plan.MaxAttempts {
		s.breachf("message %d is handled at attempt %d", i, d.Attempt)
	}
	if by.resting {
		s.breachf("message %d was begun by a route that was paused or stopped", i)
	}
	if by.running++; by.running > s.plan.Workers {
		s.breachf("%d messages are handled at once by %d workers", by.running, s.plan.Workers)
	}
	if by.keys[key]++; by.keys[key] > 1 && !s.loose {
		s.breachf("two messages of key %d are handled at once by one router", key)
	}
	if c.order.running++; c.order.running > 1 && !s.loose {
		s.breachf("two messages of key %d are handled at once", key)
	}
	if d.Attempt != m.attempt && !s.loose {
		s.breachf("message %d is at attempt %d in life %d, and should be at %d", i, d.Attempt, m.lives, m.attempt)
	}
	if place < c.order.begun && !s.loose {
		s.breachf("message %d was begun after message %d of the same key, in life %d", i, c.order.begun, m.lives)
	}
	c.order.begun = place
	m.calls++
	m.skipped = false
	if n := m.calls - 1; n < len(s.plan.Acts[i]) {
		c.what = s.plan.Acts[i][n]
	}
	return c
}

// end notes how a call ended: whether that was an attempt which has failed.
func (s *simulation) end(ctx context.Context, c call, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.order.running--
	c.by.running--
	c.by.keys[s.plan.Keys[c.i]]--
	if failed && ctx.Err() == nil {
		s.messages[c.i].attempt++
	}
}

func (s *simulation) handle(ctx context.Context, by *working, d *es.Delivery) (out []*es.Message, err error) {
	if got, ok := es.DeliveryFrom(ctx); !ok || got.Message != d.Message {
		s.mu.Lock()
		s.breachf("the context of message %s carries another delivery", d.Name)
		s.mu.Unlock()
	}
	c := s.begin(by, d)
	failed := false
	defer func() { s.end(ctx, c, failed) }()
	time.Sleep(time.Duration(c.i+1) * time.Microsecond) // a little time of its own, so that nothing ends at the very time of a stop
	boom := fmt.Errorf("message %d, life %d", c.i, c.life)
	note := func(change func(m *subject)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		change(s.messages[c.i])
	}
	switch c.what {
	case skip:
		note(func(m *subject) { m.skipped = true })
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
		note(func(m *subject) { m.refused = m.refused || ctx.Err() == nil })
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
	note(func(m *subject) { m.handled = true })
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
	i, known := s.index[cause]
	if !known {
		s.breachf("%s was caused by %s, which is no message of ours", msgs[0].Name, cause)
		return nil
	}
	if s.random.IntN(100) < s.plan.FailPercent {
		if ctx.Err() == nil {
			s.messages[i].attempt++
		}
		return errDown
	}
	if msgs[0].Name == es.DeadLetterName {
		s.bury(ctx, i, msgs[0])
		return nil
	}
	for n, m := range msgs {
		if m.ID != es.DeriveID(cause, group, n) {
			s.breachf("output %d of message %d has the ID %s", n, i, m.ID)
		}
	}
	return nil
}

// bury takes a dead letter, and replays it if the plan says so.
func (s *simulation) bury(ctx context.Context, i int, letter *es.Message) {
	m := s.messages[i]
	if ctx.Err() != nil {
		s.breachf("message %d became a dead letter after the stop", i)
	}
	if s.letters[letter.ID] {
		if !s.loose {
			s.breachf("message %d has the same dead letter twice", i)
		}
		return // as a store would have it
	}
	s.letters[letter.ID] = true
	var record es.DeadLetterRecord
	if err := json.Unmarshal(letter.Data, &record); err != nil || record.Original.ID != m.id || record.Error == "" ||
		record.Topic != "order" || record.Group != group {
		s.breachf("the dead letter of message %d is %+v, %v", i, record, err)
	}
	if !m.refused && m.attempt <= s.plan.MaxAttempts && !s.loose {
		s.breachf("message %d became a dead letter at attempt %d of %d", i, m.attempt, s.plan.MaxAttempts)
	}
	if m.lives == s.plan.Replays[i] {
		m.dead = true
		return
	}
	s.replays++
	m.lives++
	m.attempt, m.refused, m.sequence = 1, false, s.replays
	m.handled = m.handled && s.loose // by an earlier delivery whose lease had ended
	replay, err := es.NewReplay(letter.ID, record)
	if err != nil {
		s.breachf("replay message %d: %v", i, err)
		return
	}
	s.broker.publish(replay)
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
	options := router.Options{Name: group, Concurrency: s.plan.Workers, Batch: s.plan.Batch, Lease: lease}
	if s.plan.OwnKey {
		options.Key = func(m *es.Message) string { return m.Stream }
	}
	by := &working{keys: map[int]int{}}
	s.mu.Lock()
	s.workings[r] = by
	s.mu.Unlock()
	handler := es.HandlerFunc(func(ctx context.Context, d *es.Delivery) ([]*es.Message, error) { return s.handle(ctx, by, d) })
	return r, errors.Join(r.Use(chain...), r.Route("order", handler, options), r.Start(ctx))
}

// run carries the plan out.
func (s *simulation) run(ctx context.Context) error {
	for range s.plan.Routers {
		r, err := s.start(ctx)
		if err != nil {
			return err
		}
		s.routers = append(s.routers, r)
	}
	for _, run := range s.plan.Runs {
		for _, step := range run.Steps {
			time.Sleep(step.After)
			s.take(ctx, s.routers[step.Router], step.What)
		}
		time.Sleep(run.After)
		places := []int{run.Router}
		if run.HangUp {
			s.hangUp()
			places = nil
			for i := range s.routers {
				places = append(places, i)
			}
		}
		for _, i := range places {
			s.stop(ctx, s.routers[i])
			r, err := s.start(ctx)
			if err != nil {
				return err
			}
			s.routers[i] = r
		}
	}
	for _, r := range s.routers {
		s.take(ctx, r, resume)
		s.take(ctx, r, startRoute)
	}
	for deadline := time.Now().Add(enough); s.broker.left() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Minute)
	}
	for _, r := range s.routers {
		s.stop(ctx, r)
	}
	s.broker.checkStopped()
	s.checkEnd()
	return s.store.Close()
}

// take does something to a router that runs. Not everything can be done in every state.
func (s *simulation) take(ctx context.Context, r *router.Router, what control) {
	s.mu.Lock()
	by := s.workings[r]
	s.mu.Unlock()
	rest := func(resting bool) {
		s.mu.Lock()
		by.resting = resting
		s.mu.Unlock()
	}
	state := r.Stats()[0].State
	var err error
	switch what {
	case pause:
		err = r.Pause("order", group)
		rest(true)
	case resume, startRoute:
		if state == router.Paused && what == resume || state == router.Stopped && what == startRoute {
			rest(false)
		}
		patient, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if what == resume {
			err = r.Resume(patient, "order", group)
		} else {
			err = r.StartRoute(patient, "order", group)
		}
	case stopRoute:
		err = r.StopRoute(ctx, "order", group)
		rest(true)
		if errors.Is(err, context.DeadlineExceeded) { // handlers were broken off
			err = nil
		}
		s.checkStopped(r)
	case stall:
		s.mu.Lock()
		s.loose = true
		s.mu.Unlock()
		s.broker.stall(lease + lease/2)
	case controls:
	}
	if errors.Is(err, es.ErrInvalid) && (state == router.Paused || state == router.Stopped) {
		return
	}
	if err != nil {
		s.mu.Lock()
		s.breachf("control %d in state %s: %v", what, state, err)
		s.mu.Unlock()
	}
}

// hangUp has the broker end all subscriptions, and waits until the routers that have one have ended.
func (s *simulation) hangUp() {
	s.mu.Lock()
	s.loose = true
	s.mu.Unlock()
	s.broker.hangUp()
	for _, r := range s.routers {
		if r.Stats()[0].State != router.Running {
			continue
		}
		<-r.Done()
		if err := r.Err(); !errors.Is(err, es.ErrClosed) {
			s.breachf("the router ended with %v", err)
		}
	}
}

func (s *simulation) stop(ctx context.Context, r *router.Router) {
	began := time.Now()
	if err := r.Stop(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.breachf("stop: %v", err)
	}
	if took := time.Since(began); took > s.plan.Grace+pace+10*time.Second {
		s.breachf("stop took %v", took)
	}
	s.checkStopped(r)
}

func (s *simulation) checkStopped(r *router.Router) {
	stats := r.Stats()[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.workings[r].running; n != 0 {
		s.breachf("%d messages are being handled after a stop", n)
	}
	if stats.InFlight != 0 || stats.Parked != 0 || stats.Running != 0 || stats.State != router.Stopped {
		s.breachf("stats after a stop are %+v", stats)
	}
	if stats.Lost != 0 && !s.loose && s.plan.FailPercent == 0 {
		s.breachf("%d deliveries were lost", stats.Lost)
	}
}

// checkEnd holds what came out against what went in.
func (s *simulation) checkEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, m := range s.messages {
		switch acks := s.broker.acks(m.id); {
		case acks == 0:
			s.breachf("message %d was never acknowledged, at attempt %d after %d calls", i, m.attempt, m.calls)
		case acks > 1:
			s.breachf("message %d was acknowledged %d times", i, acks)
		case !m.dead && !m.skipped && !m.handled:
			s.breachf("message %d was lost after %d calls, in life %d", i, m.calls, m.lives)
		}
	}
	if n := s.broker.left(); n != 0 {
		s.breachf("%d messages were not acknowledged", n)
	}
	s.breaches = append(s.breaches, s.broker.noted()...)
}

// TestSimulation carries out random plans in fake time: failures of every kind, slow handlers, dead letters that are replayed, a broker
// that fails, hangs up and lets leases end while handlers run, several routers of one group, which are stopped with and without
// patience, and whose routes are paused, resumed, stopped and started. Nothing is lost, nothing overtakes within its key, and only what
// failed was an attempt.
func TestSimulation(t *testing.T) {
	simulate(t, func(fails func() bool) source { return newBroker(lease, fails) })
}

// TestSimulationOnMemory is the same with the pub/sub in memory, whose answers fail now and then.
func TestSimulationOnMemory(t *testing.T) {
	simulate(t, func(fails func() bool) source {
		broker, err := inMemory()
		return newFaulty(broker, err, fails)
	})
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
