package estest

import (
	"cmp"
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

	mu      sync.Mutex
	fail    []error // what the next calls return
	failed  int     // how many have
	refused error   // the last error about a message
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
		if err := cmp.Or(es.ValidateName("topic", pub.Topic), pub.Message.Validate(es.Limits{})); err != nil {
			return p.refuse(err)
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
	if err != nil {
		p.failed++
	}
	return err
}

func (p *FakePublisher) refuse(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = err
	return err
}

// Published returns what was published so far, in order.
func (p *FakePublisher) Published() []es.Publication { return p.published.all() }

// Await returns what was published as soon as there are n messages, or more; for an n of 0 that is at once, and says nothing about what is
// still to come. When it takes longer than [Patience], the test fails with those that there are.
func (p *FakePublisher) Await(t testing.TB, n int) []es.Publication {
	t.Helper()
	pubs, ok := p.published.await(patient(t), func(pubs []es.Publication) bool { return len(pubs) >= n })
	if !ok {
		t.Fatalf("waited in vain for %s\n%s", count(n, "publication"), p.describe(pubs))
	}
	return pubs
}

// describe writes publications, the last of many, and what is still to fail.
func (p *FakePublisher) describe(pubs []es.Publication) string {
	var b strings.Builder
	fmt.Fprintf(&b, "published %s\n", count(len(pubs), "message"))
	describeLast(&b, len(pubs), func(i int) string { return describeMessage(pubs[i].Message, pubs[i].Topic) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed > 0 {
		fmt.Fprintf(&b, "%s failed because of FailNext\n", count(p.failed, "call"))
	}
	if p.refused != nil {
		fmt.Fprintf(&b, "refused last: %v\n", p.refused)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Reset forgets what was published so far.
func (p *FakePublisher) Reset() { p.published.reset() }
