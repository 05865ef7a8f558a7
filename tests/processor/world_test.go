package processor_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// lease is short, so that simulated trouble often outlasts it.
const lease = 5 * time.Second

// errInjected is the error of a call that a simulation lets fail.
var errInjected = errors.New("injected")

// Names of messages that cannot be stored, and that cannot be published, whatever is tried.
const (
	unstorable = "unstorable"
	unsendable = "unsendable"
)

// troubles says how often a call has what kind of trouble, in thousandths.
type troubles struct {
	crash, freeze, slow, failBefore, failAfter, part, heldBack int
	slowest                                                    time.Duration
}

// world is what the processors of a simulation work on, and what is known of it.
type world struct {
	backend *memory.Backend
	troubles
	skew time.Duration // of the outbox's clock against that of the processors

	mu        sync.Mutex
	calm      bool // there is no trouble any more
	published []*es.Message
	failures  map[uuid.UUID]int // that the publisher was told to have, by message
	blamed    map[uuid.UUID]bool
	attempts  int // the highest that was claimed
}

func newWorld(t troubles) *world {
	return &world{backend: memory.New(), troubles: t, failures: map[uuid.UUID]int{}, blamed: map[uuid.UUID]bool{}}
}

// blame notes that a call with these messages was made to fail.
func (w *world) blame(msgs ...*es.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range msgs {
		w.blamed[m.ID] = true
	}
}

func (w *world) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calm = true
}

// process is one life of a processor. It can crash: a call does not return any more, and no other call does anything. In the end
// it wakes up, as a process does that was paused for too long, and goes on as if nothing had happened.
type process struct {
	*world

	awake chan struct{}

	mu     sync.Mutex
	random *rand.Rand
	dead   bool
	frozen time.Time // until when it does nothing
}

func (w *world) process(seed, number uint64) *process {
	return &process{world: w, awake: make(chan struct{}), random: rand.New(rand.NewPCG(seed, number))}
}

// draw says whether something happens that happens so many times in a thousand.
func (p *process) draw(times int) bool {
	p.world.mu.Lock()
	calm := p.calm
	p.world.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.random.IntN(1000) < times && !calm
}

func (p *process) within(d time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(p.random.Int64N(int64(d) + 1))
}

// gate is where a process dies, or stands still for a while.
func (p *process) gate() {
	if p.draw(p.crash) {
		p.mu.Lock()
		p.dead = true
		p.mu.Unlock()
	}
	if p.draw(p.freeze) {
		until := time.Now().Add(p.within(3 * lease))
		p.mu.Lock()
		p.frozen = until
		p.mu.Unlock()
	}
	p.mu.Lock()
	dead, frozen := p.dead, p.frozen
	p.mu.Unlock()
	if dead {
		<-p.awake
	}
	time.Sleep(time.Until(frozen))
}

// call makes a call with what trouble there may be before and after it.
func (p *process) call(ctx context.Context, do func() error) error {
	p.gate()
	if p.draw(p.slow) {
		select {
		case <-time.After(p.within(p.slowest)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if p.draw(p.failBefore) {
		return errInjected
	}
	err := do()
	p.gate()
	if err == nil && p.draw(p.failAfter) {
		return errInjected
	}
	return err
}

// outbox is the outbox as a process sees it.
type outbox struct {
	es.Outbox
	*process
}

func (o outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (n int, err error) {
	err = o.call(ctx, func() error {
		n, err = o.Outbox.Claim(ctx, dst, opts)
		return err
	})
	if err != nil {
		return 0, err
	}
	o.world.mu.Lock()
	defer o.world.mu.Unlock()
	for i := range dst[:n] {
		o.attempts = max(o.attempts, dst[i].Attempt)
		dst[i].Enqueued = dst[i].Enqueued.Add(o.skew)
	}
	return n, nil
}

// answer answers all entries, or some of them.
func (o outbox) answer(ctx context.Context, entries []es.Entry, do func([]es.Entry) error) error {
	return o.call(ctx, func() error {
		if len(entries) < 2 || !o.draw(o.part) {
			return do(entries)
		}
		half := len(entries) / 2
		err := do(entries[:half])
		errs := make([]error, len(entries))
		for i := range errs {
			errs[i] = errInjected
			if i < half {
				errs[i] = es.Of(err, i)
			}
		}
		return es.BatchErr(errs)
	})
}

func (o outbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.answer(ctx, entries, func(some []es.Entry) error { return o.Outbox.Complete(ctx, some) })
}

func (o outbox) Release(ctx context.Context, entries []es.Entry) error {
	return o.answer(ctx, entries, func(some []es.Entry) error { return o.Outbox.Release(ctx, some) })
}

func (o outbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	return o.answer(ctx, entries, func(some []es.Entry) error { return o.Outbox.Fail(ctx, some, f) })
}

func (o outbox) Extend(ctx context.Context, entries []es.Entry) error {
	return o.call(ctx, func() error { return o.Outbox.Extend(ctx, entries) })
}

func (o outbox) Wait(ctx context.Context) error {
	o.gate()
	return o.Outbox.Wait(ctx)
}

// events is the event store as a process sees it.
type events struct {
	es.EventStore
	*process
}

func (e events) Append(ctx context.Context, a es.Append) (appended es.Appended, err error) {
	msgs := a.Streams[0].Events
	err = e.call(ctx, func() error {
		for _, m := range msgs {
			if m.Name == unstorable {
				return es.Invalidf("message", "cannot be stored")
			}
		}
		appended, err = e.EventStore.Append(ctx, a)
		return err
	})
	if err != nil && ctx.Err() == nil {
		e.blame(msgs...)
	}
	return appended, err
}

func (e events) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	outcomes := make([]es.Outcome, len(as))
	for i, a := range as {
		outcomes[i].Appended, outcomes[i].Err = e.Append(ctx, a)
	}
	return outcomes
}

// Read fails as a whole or not at all. A batch that cannot be read back in part fails with all it has, so all of the streams that
// are read have a reason.
func (e events) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	err := e.call(ctx, func() error { return nil })
	if err == nil {
		return e.EventStore.Read(ctx, q)
	}
	ctx = context.WithoutCancel(ctx)
	for m, readErr := range e.EventStore.Read(ctx, q) {
		for other, otherErr := range e.EventStore.Read(ctx, es.Query{Stream: m.Stream}) {
			if err := errors.Join(readErr, otherErr); err != nil {
				panic(err) // what is in memory can be read
			}
			e.blame(other)
		}
	}
	return func(yield func(*es.Message, error) bool) { yield(nil, err) }
}

// publisher notes what it is given, and keeps to what is asked of a publisher: what follows a failed message of the same topic
// and stream fails too.
type publisher struct{ *process }

func (p publisher) Publish(ctx context.Context, pubs ...es.Publication) error {
	for _, pub := range pubs {
		if pub.Message.Name == unsendable {
			p.fault(pubs)
			return es.Invalidf("message", "cannot be published")
		}
	}
	if p.draw(p.heldBack) {
		return fmt.Errorf("not now: %w", es.ErrHeldBack)
	}
	err := p.call(ctx, func() error {
		if !p.draw(p.part) {
			p.take(pubs)
			return nil
		}
		return p.takePart(pubs)
	})
	if errors.Is(err, errInjected) {
		p.fault(pubs)
	}
	return err
}

func (p publisher) takePart(pubs []es.Publication) error {
	failed := map[string]error{}
	errs := make([]error, len(pubs))
	for i, pub := range pubs {
		key := pub.Topic + " " + pub.Message.Stream
		if failed[key] == nil && p.draw(300) {
			failed[key] = errInjected
		}
		errs[i] = failed[key]
		if errs[i] == nil || errors.Is(errs[i], errInjected) && p.draw(300) { // it was taken, and the answer got lost
			p.take(pubs[i : i+1])
		}
		if errs[i] != nil {
			failed[key] = es.ErrHeldBack
		}
	}
	return es.BatchErr(errs)
}

func (p publisher) take(pubs []es.Publication) {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	for _, pub := range pubs {
		p.published = append(p.published, pub.Message.Clone())
	}
}

func (p publisher) fault(pubs []es.Publication) {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	for _, pub := range pubs {
		p.failures[pub.Message.ID]++
		p.blamed[pub.Message.ID] = true
	}
}
