package estest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// FakePublisher records what is published, and publishes nothing. The zero value is ready, and any number of goroutines may use it at
// once. It must not be copied. It is for code that is given an [es.Publisher]; where messages should arrive, take that of package memory.
type FakePublisher struct {
	published noted[es.Publication]

	mu   sync.Mutex
	fail []error // what the next calls return
}

// Publish records publications; the messages are copied. A message that breaks a rule is [es.ErrInvalid], and nothing of the call is
// recorded. An error of [FakePublisher.FailNext] is returned instead.
func (p *FakePublisher) Publish(ctx context.Context, pubs ...es.Publication) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.nextFailure(); err != nil {
		return err
	}
	kept := make([]es.Publication, len(pubs))
	for i, pub := range pubs {
		if err := es.ValidateName("topic", pub.Topic); err != nil {
			return err
		}
		if err := pub.Message.Validate(es.Limits{}); err != nil {
			return err
		}
		kept[i] = es.Publication{Topic: pub.Topic, Message: pub.Message.Clone()}
	}
	p.published.add(kept...)
	return nil
}

// FailNext makes the next calls of Publish fail with these errors, one after the other; nil lets one through.
func (p *FakePublisher) FailNext(errs ...error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = append(p.fail, errs...)
}

func (p *FakePublisher) nextFailure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.fail) == 0 {
		return nil
	}
	err := p.fail[0]
	p.fail = p.fail[1:]
	return err
}

// Published returns what was published so far, in order.
func (p *FakePublisher) Published() []es.Publication { return p.published.all() }

// Await returns what was published as soon as there are n messages, or more. When that takes longer than [Patience], the test fails with
// those that there are.
func (p *FakePublisher) Await(t testing.TB, n int) []es.Publication {
	t.Helper()
	pubs, ok := p.published.await(patient(t), func(pubs []es.Publication) bool { return len(pubs) >= n })
	if !ok {
		var b strings.Builder
		for i, pub := range pubs {
			fmt.Fprintf(&b, "  %d %s of %s to %s\n", i+1, pub.Message.Name, pub.Message.Stream, pub.Topic)
		}
		t.Fatalf("waited in vain for %s to be published; so far there are %d\n%s", count(n, "message"), len(pubs), b.String())
	}
	return pubs
}

// Reset forgets what was published so far.
func (p *FakePublisher) Reset() { p.published.reset() }
