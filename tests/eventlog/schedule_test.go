// Package eventlog_test holds consumer groups on a log to what they promise, over schedules of everything that can happen to them.
package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eventlog"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

const topic = "orders"

// TestSchedules lets the members of a group come, go, crash and lose touch with the store, in fake time, while messages are
// published, received and answered in every way. Every message is handled at least once, those of a key in order; what was
// acknowledged does not come again; attempts are what they should be, and First never changes; an answer of somebody who has
// lost a delivery is turned down.
func TestSchedules(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Behind an interface, because rapid asks a *testing.T for its deadline, which is none of fake time.
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) {
			s := newSchedule(t)
			defer s.close()
			t.Repeat(map[string]func(*rapid.T){
				"publish":     s.publish,
				"subscribe":   s.subscribe,
				"receive":     s.receive,
				"receive too": s.receive,
				"receive 3":   s.receive,
				"ack":         s.ack,
				"ack too":     s.ack,
				"nack":        s.nack,
				"release":     s.release,
				"extend":      s.extend,
				"leave":       s.leave,
				"crash":       s.crash,
				"isolate":     s.isolate,
				"wait":        s.wait,
			})
			s.drain(t)
		})
	})
}

// process is a program with a log.
type process struct {
	backend  *memory.Backend
	leases   *fragileLeases
	log      *eventlog.Log
	isolated bool // it may have lost its partitions
	dead     bool
	subs     []*member
}

// fragileLeases do not renew while they are cut off.
type fragileLeases struct {
	es.Leases
	cut atomic.Bool
}

func (l *fragileLeases) Renew(ctx context.Context, lease es.Lease, ttl time.Duration) (es.Lease, error) {
	if l.cut.Load() {
		return es.Lease{}, errors.New("the network is down")
	}
	return l.Leases.Renew(ctx, lease, ttl)
}

type fragileBackend struct {
	*memory.Backend
	leases *fragileLeases
}

func (b fragileBackend) Leases() es.Leases { return b.leases }

// member is a subscription.
type member struct {
	process *process
	sub     es.Subscription
	lease   time.Duration
	closed  bool
}

// tracked is a message, and what should be known of it.
type tracked struct {
	text    string
	number  int
	key     string
	acked   bool
	attempt int // of the next delivery
	slack   int // how many attempts more it may have, because nobody can tell who lost it when
	alone   bool
	first   time.Time
	before  time.Time // it does not come earlier

	lent    *member
	receipt uint64
	due     time.Time
	batch   int

	history []string // for the report of a failure
}

// notef keeps what happened to a message.
func (e *tracked) notef(format string, args ...any) {
	e.history = append(e.history, time.Now().Format("4:05.000 ")+fmt.Sprintf(format, args...))
}

type schedule struct {
	storage   *memory.Storage
	config    eventlog.Config
	processes []*process
	publisher *memory.Backend
	messages  []*tracked
	byID      map[uuid.UUID]*tracked
	lent      []lent
	batches   int
}

type lent struct {
	to *member
	d  es.Delivery
}

func newSchedule(t *rapid.T) *schedule {
	s := &schedule{storage: memory.NewStorage(), byID: map[uuid.UUID]*tracked{}}
	s.publisher = s.backend(t)
	s.config = eventlog.Config{
		Partitions: rapid.IntRange(1, 5).Draw(t, "partitions"),
		Window:     rapid.SampledFrom([]int{1, 2, 5, 256}).Draw(t, "window"),
		ReadAhead:  rapid.SampledFrom([]int{1, 3, 1024}).Draw(t, "read-ahead"),
		Lease:      3 * time.Second,
	}
	s.subscribe(t)
	return s
}

func (s *schedule) backend(t *rapid.T) *memory.Backend {
	b, err := memory.Open(memory.Config{Storage: s.storage})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *schedule) close() {
	for _, p := range s.processes {
		_ = p.log.Close()
	}
}

func (s *schedule) publish(t *rapid.T) {
	for range rapid.IntRange(1, 6).Draw(t, "messages") {
		key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key")
		text := fmt.Sprintf("%s%d", key, len(s.messages))
		m := es.NewMessage(topic+"-"+key, "Noted", []byte(text))
		// Noise, that no subscriber sees, and that makes gaps between positions.
		other := es.NewMessage("others-1", "Noted", nil)
		for _, e := range []*es.Message{other, m} {
			if _, err := s.publisher.Events().Append(context.Background(), es.AppendTo(e.Stream, es.Any, e)); err != nil {
				t.Fatal(err)
			}
		}
		tr := &tracked{text: text, number: len(s.messages), key: key, attempt: 1}
		s.messages = append(s.messages, tr)
		s.byID[m.ID] = tr
	}
}

// subscribe opens a subscription, in a new process or in one that runs.
func (s *schedule) subscribe(t *rapid.T) {
	var running []*process
	for _, p := range s.processes {
		if !p.dead {
			running = append(running, p)
		}
	}
	var p *process
	switch {
	case len(running) == 0, len(running) < 3 && rapid.Bool().Draw(t, "new process"):
		p = s.start(t)
	default:
		p = running[rapid.IntRange(0, len(running)-1).Draw(t, "process")]
		if len(p.subs) > 2 {
			t.Skip("enough")
		}
	}
	lease := rapid.SampledFrom([]time.Duration{500 * time.Millisecond, 5 * time.Second, time.Minute}).Draw(t, "lease")
	sub, err := p.log.Subscribe(context.Background(), topic, es.SubscribeOptions{Group: "g", Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	p.subs = append(p.subs, &member{process: p, sub: sub, lease: lease})
}

func (s *schedule) start(t *rapid.T) *process {
	backend := s.backend(t)
	p := &process{backend: backend, leases: &fragileLeases{Leases: backend.Leases()}}
	log, err := eventlog.New(fragileBackend{backend, p.leases}, s.config)
	if err != nil {
		t.Fatal(err)
	}
	p.log = log
	s.processes = append(s.processes, p)
	return p
}

func (s *schedule) members() []*member {
	var all []*member
	for _, p := range s.processes {
		if !p.dead {
			all = append(all, p.subs...)
		}
	}
	return all
}

// seldom lets disasters come less often than work.
func (s *schedule) seldom(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "luck") > 0 {
		t.Skip("not this time")
	}
}

func (s *schedule) member(t *rapid.T) *member {
	all := s.members()
	if len(all) == 0 {
		s.subscribe(t)
		all = s.members()
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(t, "member")]
}

func (s *schedule) receive(t *rapid.T) {
	s.receiveBy(t, s.member(t), rapid.IntRange(1, 8).Draw(t, "most"), time.Nanosecond)
}

func (s *schedule) receiveBy(t *rapid.T, m *member, most int, patience time.Duration) []es.Delivery {
	synctest.Wait() // until the reader has brought what there is
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dst := make([]es.Delivery, most)
	n, err := m.sub.Receive(ctx, dst)
	if err != nil && (n != 0 || !errors.Is(err, context.DeadlineExceeded)) {
		t.Fatalf("Receive: %d, %v", n, err)
	}
	s.expire()
	s.batches++
	for _, d := range dst[:n] {
		s.delivered(t, m, d, n)
	}
	for _, d := range dst[:n] {
		s.lent = append(s.lent, lent{m, d})
	}
	return dst[:n]
}

// delivered judges a delivery.
func (s *schedule) delivered(t *rapid.T, m *member, d es.Delivery, n int) {
	now := time.Now()
	e := s.byID[d.ID]
	if e == nil || string(d.Data) != e.text {
		t.Fatalf("%s came, which nobody has published", d.Data)
	}
	if e.lent != nil && e.lent.process.isolated { // it was taken over
		e.notef("taken over")
		e.slack += 2
	}
	switch {
	case e.acked:
		t.Fatalf("%s was acknowledged, and came again", e.text)
	case e.lent != nil && !e.lent.process.isolated:
		t.Fatalf("%s came while somebody had it", e.text)
	case d.Attempt < e.attempt || d.Attempt > e.attempt+e.slack:
		t.Fatalf("%s came as attempt %d, want %d, or up to %d more; %q", e.text, d.Attempt, e.attempt, e.slack, e.history)
	case e.alone && e.slack == 0 && n > 1:
		t.Fatalf("%s, which may have brought down its receiver, came with %d others", e.text, n-1)
	case e.slack == 0 && now.Before(e.before):
		t.Fatalf("%s came %v too early", e.text, e.before.Sub(now))
	case !e.first.IsZero() && !d.First.Equal(e.first):
		t.Fatalf("%s came first at %v, and says %v", e.text, e.first, d.First)
	case !d.Deadline.Equal(now.Add(m.lease)):
		t.Fatalf("%s has the deadline %v", e.text, d.Deadline)
	}
	for _, earlier := range s.messages[:e.number] {
		if earlier.key == e.key && !earlier.acked && earlier.batch != s.batches {
			t.Fatalf("%s came before %s was handled; %q, %q", e.text, earlier.text, e.history, earlier.history)
		}
	}
	e.notef("came as %d to %p of %p", d.Attempt, m, m.process)
	e.attempt, e.slack, e.first, e.alone, e.before = d.Attempt, 0, d.First, false, time.Time{}
	e.lent, e.receipt, e.due, e.batch = m, d.Receipt, d.Deadline, s.batches
}

// expire ends leases of deliveries, one moment after the other.
func (s *schedule) expire() {
	for now := time.Now(); ; {
		var over []*tracked // at the earliest moment
		for _, e := range s.messages {
			switch {
			case e.lent == nil || e.due.After(now) || len(over) > 0 && e.due.After(over[0].due):
			case len(over) > 0 && e.due.Before(over[0].due):
				over = []*tracked{e}
			default:
				over = append(over, e)
			}
		}
		if len(over) == 0 {
			return
		}
		for _, e := range over {
			e.notef("overdue")
			e.attempt++
			e.alone = true
		}
		for _, e := range over {
			for _, other := range s.followers(e) {
				if !slices.Contains(over, other) {
					other.slack++ // the store gets to know it a little later, and a crash may come before
				}
			}
			s.back(e)
		}
	}
}

// followers are those that follow a message in its batch and its key, the message included.
func (s *schedule) followers(e *tracked) []*tracked {
	var all []*tracked
	for _, other := range s.messages[e.number:] {
		if e.lent != nil && other.lent == e.lent && other.batch == e.batch && other.key == e.key {
			all = append(all, other)
		}
	}
	return all
}

// back takes a message from who has it, with those that follow it in the batch.
func (s *schedule) back(e *tracked) {
	for _, other := range s.followers(e) {
		if other.lent.process.isolated {
			other.slack += 2
		}
		other.notef("given back")
		if other != e {
			other.lent, other.batch = nil, 0
		}
	}
	e.lent, e.batch = nil, 0
}

// answer answers some of what somebody has got, and perhaps has answered before, or has lost.
func (s *schedule) answer(t *rapid.T, ask func(es.Subscription, []es.Delivery) error, answered func(*tracked)) {
	if len(s.lent) == 0 {
		t.Skip("nothing was received")
	}
	recent := s.lent[max(len(s.lent)-20, 0):]
	m := recent[rapid.IntRange(0, len(recent)-1).Draw(t, "of")].to
	var ds []es.Delivery
	for _, l := range recent {
		if l.to == m && rapid.Bool().Draw(t, "this one") {
			ds = append(ds, l.d)
		}
	}
	if rapid.Bool().Draw(t, "backwards") {
		slices.Reverse(ds)
	}
	s.answerAll(t, m, ds, ask, answered)
}

func (s *schedule) answerAll(t *rapid.T, m *member, ds []es.Delivery, ask func(es.Subscription, []es.Delivery) error,
	answered func(*tracked),
) {
	s.expire()
	var mine []*tracked
	has := make([]bool, len(ds))
	for i, d := range ds {
		e := s.byID[d.ID]
		if has[i] = e.lent == m && e.receipt == d.Receipt && !m.closed && !m.process.dead; has[i] {
			mine = append(mine, e)
		}
	}
	err := ask(m.sub, ds)
	n := 0
	for i := range ds {
		e := es.Of(err, i)
		switch {
		case has[i] && e == nil:
			answered(mine[n])
		case has[i] && (!m.process.isolated || !errors.Is(e, es.ErrLeaseLost)):
			t.Fatalf("answer to %s: %v", ds[i].Data, e)
		case !has[i] && e == nil:
			t.Fatalf("answer to %s, which was lost or answered before, was taken", ds[i].Data)
		case !has[i] && !m.process.dead && !errors.Is(e, es.ErrLeaseLost):
			t.Fatalf("answer to %s, which is lost: %v", ds[i].Data, e)
		}
		if has[i] {
			if e != nil { // it was taken over
				mine[n].notef("lost: %v", e)
				mine[n].slack += 2
				mine[n].lent, mine[n].batch = nil, 0
			}
			n++
		}
	}
}

func (s *schedule) ack(t *rapid.T) {
	s.answer(t, func(sub es.Subscription, ds []es.Delivery) error { return sub.Ack(context.Background(), ds) }, s.acknowledge)
}

func (s *schedule) acknowledge(e *tracked) {
	e.acked, e.lent = true, nil
}

func (s *schedule) nack(t *rapid.T) {
	delay := rapid.SampledFrom([]time.Duration{0, 7 * time.Millisecond, 700 * time.Millisecond, 10 * time.Second}).Draw(t, "delay")
	s.answer(t, func(sub es.Subscription, ds []es.Delivery) error { return sub.Nack(context.Background(), ds, delay) },
		func(e *tracked) {
			e.notef("nacked for %v", delay)
			e.attempt++
			e.before = time.Now().Add(delay).Truncate(time.Microsecond)
			if e.lent != nil {
				s.back(e)
			}
		})
}

func (s *schedule) release(t *rapid.T) {
	s.answer(t, func(sub es.Subscription, ds []es.Delivery) error { return sub.Release(context.Background(), ds) },
		func(e *tracked) {
			if e.lent != nil {
				s.back(e)
			}
		})
}

// extend prolongs leases. One who has lost touch with the store may believe that he has what was taken over meanwhile.
func (s *schedule) extend(t *rapid.T) {
	if len(s.lent) == 0 {
		t.Skip("nothing was received")
	}
	recent := s.lent[max(len(s.lent)-20, 0):]
	l := recent[rapid.IntRange(0, len(recent)-1).Draw(t, "of")]
	s.expire()
	e := s.byID[l.d.ID]
	has := e.lent == l.to && e.receipt == l.d.Receipt
	ds := []es.Delivery{l.d}
	err := es.Of(l.to.sub.Extend(context.Background(), ds), 0)
	switch fragile := l.to.process.dead || l.to.process.isolated; {
	case err != nil && !errors.Is(err, es.ErrLeaseLost), has && err != nil && !fragile, !has && err == nil && !fragile:
		t.Fatalf("Extend of %s, which it has: %v, gives %v", e.text, has, err)
	case has && err == nil:
		e.due = ds[0].Deadline
	case has:
		e.slack += 2
		e.lent, e.batch = nil, 0
	}
}

// leave closes a subscription; its process ends with the last one.
func (s *schedule) leave(t *rapid.T) {
	s.seldom(t)
	s.close1(t, s.member(t))
}

func (s *schedule) close1(t *rapid.T, m *member) {
	s.expire()
	if err := m.sub.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	m.closed = true
	for _, e := range s.messages {
		if e.lent == m {
			s.back(e)
		}
	}
	p := m.process
	p.subs = slices.DeleteFunc(p.subs, func(other *member) bool { return other == m })
}

// crash kills a process: what it has is one attempt further, and comes alone.
func (s *schedule) crash(t *rapid.T) {
	s.seldom(t)
	m := s.member(t)
	s.expire()
	p := m.process
	if err := p.backend.Close(); err != nil {
		t.Fatal(err)
	}
	p.dead = true
	for _, e := range s.messages {
		if e.lent != nil && e.lent.process == p {
			e.notef("crashed")
			e.attempt++
			e.alone = true
			if p.isolated {
				e.slack += 2
			}
			e.lent, e.batch = nil, 0
		}
	}
}

// isolate cuts a process off from its leases, so that it may lose its partitions without knowing, or lets it find back.
func (s *schedule) isolate(t *rapid.T) {
	s.seldom(t)
	p := s.member(t).process
	p.isolated = true // for good: what it has may be lost at any time
	p.leases.cut.Store(!p.leases.cut.Load())
}

func (s *schedule) wait(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{
		time.Millisecond, 20 * time.Millisecond, time.Second, 2 * time.Second, 7 * time.Second,
	}).Draw(t, "time"))
	synctest.Wait()
}

// drain ends all processes but a new one, which has to get everything that is not handled.
func (s *schedule) drain(t *rapid.T) {
	for _, m := range s.members() {
		s.close1(t, m)
	}
	p := s.start(t)
	sub, err := p.log.Subscribe(context.Background(), topic, es.SubscribeOptions{Group: "g", Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{process: p, sub: sub, lease: time.Minute}
	p.subs = append(p.subs, m)
	left := 0
	for _, e := range s.messages {
		if !e.acked {
			left++
		}
	}
	for left > 0 {
		ds := s.receiveBy(t, m, 8, time.Minute)
		if len(ds) == 0 {
			var missing []string
			for _, e := range s.messages {
				if !e.acked {
					missing = append(missing, e.text)
				}
			}
			t.Fatalf("%v did not come", missing)
		}
		s.answerAll(t, m, ds, func(sub es.Subscription, ds []es.Delivery) error { return sub.Ack(context.Background(), ds) },
			s.acknowledge)
		left -= len(ds)
	}
	head, err := s.publisher.Events().Head(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.log.WaitFor(ctx, topic, "g", head); err != nil {
		t.Fatalf("WaitFor the head when everything is handled: %v", err)
	}
	info, err := p.log.Group(ctx, topic, "g")
	if err != nil || info.Lag != (es.Lag{}) {
		t.Fatalf("when everything is handled, the group stands at %+v, %v", info, err)
	}
}
