package processor_test

import (
	"context"
	"errors"
	"iter"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// process is what a processor that is going to crash works with. At the chosen step it dies: the call does not return, before
// or after it has taken effect, and no other call does anything from then on. When the test ends it wakes up again, as a
// process does that was paused for too long, and goes on as if nothing had happened.
type process struct {
	step  string
	awake chan struct{}

	mu   sync.Mutex
	dead bool
}

// at is called where the process may die.
func (p *process) at(step string) {
	p.mu.Lock()
	if step == p.step {
		p.dead = true
	}
	dead := p.dead
	p.mu.Unlock()
	if dead {
		<-p.awake
	}
}

type mortalOutbox struct {
	es.Outbox
	*process
}

func (o mortalOutbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	o.at("")
	n, err := o.Outbox.Claim(ctx, dst, opts)
	if n > 0 {
		o.at("after claim")
	}
	return n, err
}

func (o mortalOutbox) Complete(ctx context.Context, entries []es.Entry) error {
	if len(entries) > 0 {
		o.at("before complete")
		defer o.at("after complete")
	}
	return o.Outbox.Complete(ctx, entries)
}

func (o mortalOutbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	o.at("before fail")
	defer o.at("after fail")
	return o.Outbox.Fail(ctx, entries, f)
}

func (o mortalOutbox) Release(ctx context.Context, entries []es.Entry) error {
	o.at("before release")
	defer o.at("after release")
	return o.Outbox.Release(ctx, entries)
}

func (o mortalOutbox) Extend(ctx context.Context, entries []es.Entry) error {
	o.at("")
	return o.Outbox.Extend(ctx, entries)
}

type mortalEvents struct {
	es.EventStore
	*process
}

func (e mortalEvents) AppendEach(ctx context.Context, as []es.Append) []es.Outcome {
	e.at("before append")
	defer e.at("after append")
	return e.EventStore.AppendEach(ctx, as)
}

func (e mortalEvents) Append(ctx context.Context, a es.Append) (es.Appended, error) {
	if a.Streams[0].Stream == "dead" {
		e.at("before dead letter")
		defer e.at("after dead letter")
	}
	return e.EventStore.Append(ctx, a)
}

func (e mortalEvents) Read(ctx context.Context, q es.Query) iter.Seq2[*es.Message, error] {
	e.at("before read")
	return e.EventStore.Read(ctx, q)
}

type mortalPublisher struct {
	es.Publisher
	*process
}

func (p mortalPublisher) Publish(ctx context.Context, pubs ...es.Publication) error {
	p.at("before publish")
	defer p.at("after publish")
	return p.Publisher.Publish(ctx, pubs...)
}

// TestACrashBetweenAnyTwoStepsLosesNothing lets a processor crash at each step while it moves two streams. One message fails once
// and one can never be appended, so that every step there is comes up. Another processor takes over after the lease, and at
// last the first one wakes up and tries to go on.
func TestACrashBetweenAnyTwoStepsLosesNothing(t *testing.T) {
	t.Parallel()
	for _, step := range []string{
		"after claim", "before append", "after append", "before dead letter", "after dead letter", "before fail", "after fail",
		"before read", "before publish", "after publish", "before complete", "after complete", "before release", "after release",
	} {
		t.Run(step, func(t *testing.T) { inBubble(t, func(b *bench) { testCrash(b, step) }) })
	}
}

func testCrash(b *bench, step string) {
	taken := message("other-1/1")
	_, err := b.backend.Events().Append(b.Context(), es.AppendTo("other-1", es.Any, taken))
	b.ok(err)
	bad := message("a-1/bad")
	bad.ID = taken.ID
	failed := false
	b.publisher.fail = func(m *es.Message) error {
		if label(m) == "b-1/2" && !failed {
			failed = true
			return errDown
		}
		return nil
	}
	b.ok(b.outbox.Enqueue(b.Context(), message("a-1/1"), bad, message("a-1/2"), message("b-1/1"), message("b-1/2"), message("b-1/3")))

	first := &process{step: step, awake: make(chan struct{})}
	mortal := b.config
	mortal.Outbox = mortalOutbox{b.outbox, first}
	mortal.Events = mortalEvents{b.events, first}
	mortal.Publisher = mortalPublisher{b.publisher, first}
	crashed := b.running(mortal)
	time.Sleep(time.Second)
	synctest.Wait()
	if !first.dead {
		b.Fatal("the step did not come up")
	}
	heir := b.running(b.config)
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	b.check("after the crash")

	close(first.awake) // and what it still has in mind to do must do no harm
	time.Sleep(5 * time.Minute)
	synctest.Wait()
	b.check("after the first one woke up")
	b.ok(errors.Join(crashed.Stop(b.Context()), heir.Stop(b.Context())))
}

// check looks for everything that testCrash has sent: stored once, published at least once and in order, with the same ID.
func (b *bench) check(when string) {
	b.Helper()
	stored := b.stored()
	b.same("stored in a-1 "+when, of("a-1", stored), numbered("a-1", 2))
	b.same("stored in b-1 "+when, of("b-1", stored), numbered("b-1", 3))
	ids := map[string]es.Place{}
	b.publisher.mu.Lock()
	for _, pub := range b.publisher.taken {
		place := es.Place{Version: pub.Message.Version, Position: pub.Message.Position}
		if earlier, again := ids[label(pub.Message)]; again && earlier != place {
			b.Errorf("%s %s is published at %v and at %v", label(pub.Message), when, earlier, place)
		}
		ids[label(pub.Message)] = place
	}
	b.publisher.mu.Unlock()
	if len(ids) != 5 {
		b.Errorf("published %s: %v, want all 5", when, ids)
	}
	for _, stream := range []string{"a-1", "b-1"} {
		high := 0
		for _, l := range of(stream, b.publisher.published()) {
			n := int(l[len(l)-1] - '0')
			if n > high+1 {
				b.Errorf("%s is published %s before the one that comes before it", l, when)
			}
			high = max(high, n)
		}
	}
	if s := b.stats(); s.Depth != 0 || s.Dead != 1 {
		b.Errorf("outbox %s: %+v", when, s)
	}
	if dead := b.dead(); len(dead) != 1 || dead[0].Original.Name != "bad" { // one, whoever put it on record how often
		b.Errorf("dead letters %s: %+v", when, dead)
	}
}

var _ es.Component = (*processor.AtLeastOnce)(nil)
