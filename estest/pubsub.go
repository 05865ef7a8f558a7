package estest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// PubSub is a publisher and subscriber in one, as [RunPubSub] tests it. Subscribing has to reach what is published by the
// same or another handle to the same storage and namespace.
//
// The suite publishes messages of streams such as "orders-1" to the topic that their category names, "orders", so that an event
// log, whose topics are categories, can play the role too.
type PubSub interface {
	es.Publisher
	es.Subscriber
	Close() error
}

// PubSubStorage is a storage whose pub/sub can be opened with a small buffer. The storage of a harness that is
// [Capabilities].Bounded has it.
type PubSubStorage interface {
	Storage[PubSub]
	// OpenBounded opens a pub/sub as Open does, with bounds of its own. It is the only one open in its storage.
	OpenBounded(t testing.TB, namespace string, b Bounds) PubSub
	// Evicted tells how many messages a topic lost because there was no room: those of its groups, its subscriptions and its
	// backlog together.
	Evicted(t testing.TB, role PubSub, topic string) int64
}

// UndecodableStorage is a storage that can bring a message into a topic that no subscriber can decode. A pub/sub whose storage
// has no such way is not tested for what it does with one.
type UndecodableStorage interface {
	// PublishUndecodable publishes bytes as they are; raw does not decode.
	PublishUndecodable(t testing.TB, role PubSub, topic string, raw []byte)
}

// Bounds are the bounds that a [PubSubStorage] opens a pub/sub with.
type Bounds struct {
	// Buffer is how many messages may wait for a group or a subscription without a group. An implementation may hold a few
	// times as many where it counts in another way, but not more than that.
	Buffer int
	// Backlog is how many messages a topic keeps that nobody has subscribed to.
	Backlog int
	// Overflow is what a full buffer does.
	Overflow Overflow
}

// Overflow says what becomes of a message for which there is no room.
type Overflow int

// The ways to deal with a full buffer.
const (
	// OverflowBlock: the publisher waits until there is room.
	OverflowBlock Overflow = iota
	// OverflowEvictOldest: the oldest message that waits makes room.
	OverflowEvictOldest
	// OverflowFail: the publication fails with [es.ErrFull].
	OverflowFail
)

// RunPubSub holds a publisher and subscriber to what the role promises: P1 to P8, and what M2, M3 and M5 say of messages that
// go through it.
func RunPubSub(t *testing.T, h Harness[PubSub]) {
	t.Helper()
	run(t, h, PubSubLines())
}

// PubSubLines returns the lines of the suite, for those who test the suite itself.
func PubSubLines() []Line[Harness[PubSub]] {
	return slices.Concat(
		pubsubMessageLines(),
		pubsubSharingLines(),
		pubsubOrderLines(),
		pubsubAnswerLines(),
		pubsubLeaseLines(),
		pubsubBoundLines(),
		pubsubLagLines(),
		pubsubLifetimeLines(),
	)
}

func pubsubLine(name string, run func(p *pubsubTest)) Line[Harness[PubSub]] {
	id, _, _ := strings.Cut(name, "/")
	return Line[Harness[PubSub]]{ID: id, Name: name, Run: func(t testing.TB, h Harness[PubSub]) {
		t.Helper()
		run(&pubsubTest{TB: t, h: h, ctx: patient(t)})
	}}
}

// The topic of most lines, and the place of its streams.
const pubsubTopic = "orders"

// pubsubTest is one line at work: a test, and a storage that is opened when it is needed first.
type pubsubTest struct {
	testing.TB

	h       Harness[PubSub]
	ctx     context.Context // it lives as long as the test
	storage Storage[PubSub]
}

// needs skips the line unless the harness has what it takes.
func (p *pubsubTest) needs(capability func() bool, name string) {
	p.Helper()
	if !capability() {
		p.Skipf("this pub/sub does not have: %s", name)
	}
}

// open opens a handle in the namespace of the suites.
func (p *pubsubTest) open() PubSub {
	p.Helper()
	return p.openIn(Namespace)
}

func (p *pubsubTest) openIn(namespace string) PubSub {
	p.Helper()
	if p.storage == nil {
		p.storage = p.h.New(p.TB)
	}
	return p.storage.Open(p.TB, namespace)
}

// openBounded opens a pub/sub with a small buffer, or skips the line.
func (p *pubsubTest) openBounded(b Bounds) (PubSub, PubSubStorage) {
	p.Helper()
	p.needs(p.h.Bounded, "bounded buffers")
	p.storage = p.h.New(p.TB)
	storage, ok := p.storage.(PubSubStorage)
	if !ok {
		p.Fatalf("the harness is Bounded, and its storage %T is no PubSubStorage", p.storage)
	}
	return storage.OpenBounded(p.TB, Namespace, b), storage
}

// close closes a handle in order.
func (p *pubsubTest) close(ps PubSub) {
	p.Helper()
	if err := p.storage.Close(p.TB, ps); err != nil {
		p.Fatalf("Close: %v", err)
	}
}

// message makes a message of stream "orders-<key>" whose data is text.
func (p *pubsubTest) message(key, text string) *es.Message {
	return es.NewMessage(pubsubTopic+"-"+key, "Noted", fmt.Appendf(nil, "%q", text))
}

// messages makes a message for each text, in the stream that its first letter names: "a1" is in "orders-a".
func (p *pubsubTest) messages(texts ...string) []*es.Message {
	msgs := make([]*es.Message, len(texts))
	for i, text := range texts {
		msgs[i] = p.message(text[:1], text)
	}
	return msgs
}

// publish publishes messages to the topics of their categories, in one call.
func (p *pubsubTest) publish(ps PubSub, msgs ...*es.Message) {
	p.Helper()
	if err := ps.Publish(p.ctx, es.ToCategory(msgs...)...); err != nil {
		p.Fatalf("Publish of %d messages: %v", len(msgs), err)
	}
}

// subscribe opens a subscription that ends with the test.
func (p *pubsubTest) subscribe(ps PubSub, opts es.SubscribeOptions) es.Subscription {
	p.Helper()
	return p.subscribeTo(ps, pubsubTopic, opts)
}

func (p *pubsubTest) subscribeTo(ps PubSub, topic string, opts es.SubscribeOptions) es.Subscription {
	p.Helper()
	sub, err := ps.Subscribe(p.ctx, topic, opts)
	if err != nil {
		p.Fatalf("Subscribe to %q with %+v: %v", topic, opts, err)
	}
	p.Cleanup(func() { _ = sub.Close() }) // most lines have closed it, or its pub/sub, before
	return sub
}

// batch receives once.
func (p *pubsubTest) batch(sub es.Subscription, most int) []es.Delivery {
	p.Helper()
	dst := make([]es.Delivery, most)
	n, err := sub.Receive(p.ctx, dst)
	switch {
	case err != nil:
		p.Fatalf("Receive: %v", err)
	case n < 1 || n > most:
		p.Fatalf("Receive into %d gave %d", most, n)
	}
	for i := range dst[:n] {
		if dst[i].Message == nil {
			p.Fatalf("Receive: delivery %d of %d has no message", i, n)
		}
	}
	return dst[:n]
}

// receive receives, in as many batches as it takes, until it has n deliveries.
func (p *pubsubTest) receive(sub es.Subscription, n int) []es.Delivery {
	p.Helper()
	var all []es.Delivery
	for len(all) < n {
		all = append(all, p.batch(sub, n-len(all))...)
	}
	return all
}

// consume receives and acknowledges until it has n deliveries.
func (p *pubsubTest) consume(sub es.Subscription, n int) []es.Delivery {
	p.Helper()
	var all []es.Delivery
	for len(all) < n {
		ds := p.batch(sub, n-len(all))
		p.ack(sub, ds...)
		all = append(all, ds...)
	}
	return all
}

func (p *pubsubTest) ack(sub es.Subscription, ds ...es.Delivery) {
	p.Helper()
	if err := sub.Ack(p.ctx, ds); err != nil {
		p.Fatalf("Ack of %v: %v", pubsubTexts(ds), err)
	}
}

func (p *pubsubTest) nack(sub es.Subscription, delay time.Duration, ds ...es.Delivery) {
	p.Helper()
	if err := sub.Nack(p.ctx, ds, delay); err != nil {
		p.Fatalf("Nack of %v: %v", pubsubTexts(ds), err)
	}
}

func (p *pubsubTest) release(sub es.Subscription, ds ...es.Delivery) {
	p.Helper()
	if err := sub.Release(p.ctx, ds); err != nil {
		p.Fatalf("Release of %v: %v", pubsubTexts(ds), err)
	}
}

// closeSub ends a subscription.
func (p *pubsubTest) closeSub(sub es.Subscription) {
	p.Helper()
	if err := sub.Close(); err != nil {
		p.Fatalf("Close of a subscription: %v", err)
	}
}

// want fails unless the deliveries are those of the texts, in that order.
func (p *pubsubTest) want(ds []es.Delivery, texts ...string) {
	p.Helper()
	if got := pubsubTexts(ds); !slices.Equal(got, texts) {
		p.Fatalf("received %v, want %v", got, texts)
	}
}

// wantAttempt fails unless each delivery is the attempt of that number.
func (p *pubsubTest) wantAttempt(attempt int, ds ...es.Delivery) {
	p.Helper()
	for _, d := range ds {
		if d.Attempt != attempt {
			p.Fatalf("%s came as attempt %d, want %d", pubsubText(d), d.Attempt, attempt)
		}
	}
}

// wantError fails unless err is the target.
func (p *pubsubTest) wantError(what string, err, target error) {
	p.Helper()
	if !errors.Is(err, target) {
		p.Fatalf("%s: the error is %v, want %v", what, err, target)
	}
}

// wantLeaseLost fails unless the error of an answer says of each delivery that its lease is lost, in a batch error.
func (p *pubsubTest) wantLeaseLost(what string, err error, n int) {
	p.Helper()
	if _, ok := errors.AsType[*es.BatchError](err); !ok {
		p.Fatalf("%s: the error is %v, want a BatchError", what, err)
	}
	for i := range n {
		p.wantError(fmt.Sprintf("%s, delivery %d", what, i), es.Of(err, i), es.ErrLeaseLost)
	}
}

// wantNothingBefore publishes a marker in a stream of its own, and fails when something else comes before it. It stands for
// "nothing is there", which nobody can wait for.
func (p *pubsubTest) wantNothingBefore(ps PubSub, sub es.Subscription, marker string) {
	p.Helper()
	p.publish(ps, p.message("marker:"+marker, marker))
	ds := p.batch(sub, 64)
	p.want(ds, marker)
	p.ack(sub, ds...)
}

// pubsubText returns what the message of a delivery says, as [pubsubTest.message] made it.
func pubsubText(d es.Delivery) string { return string(bytes.Trim(d.Data, `"`)) }

func pubsubTexts(ds []es.Delivery) []string {
	texts := make([]string, len(ds))
	for i, d := range ds {
		texts[i] = pubsubText(d)
	}
	return texts
}
