package estest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func TestPubSubMutants(t *testing.T) {
	t.Parallel()
	var mutants []mutant[estest.Harness[estest.PubSub]]
	for _, m := range slices.Concat(pubsubMessageMutants(), pubsubSharingMutants(), pubsubOrderMutants(),
		pubsubAnswerMutants(), pubsubBoundMutants(), pubsubLagMutants(), pubsubLifetimeMutants()) {
		mutants = append(mutants, mutant[estest.Harness[estest.PubSub]]{m.line, m.name, pubsubMutantHarness{breakage: m.breakage}})
	}
	hunt(t, estest.PubSubLines(), mutants)
}

// TestPubSubUnbroken holds the harness of the mutants, without a mutant in it, to the lines with as little patience as the
// mutants get: what fails a mutant is what it does wrong, and not that there was too little time.
func TestPubSubUnbroken(t *testing.T) {
	t.Parallel()
	for _, line := range estest.PubSubLines() {
		t.Run(line.Name, func(t *testing.T) {
			t.Parallel()
			var verdict *standIn
			for range 5 { // one run that passes shows that there is time enough; a busy machine may spoil others
				verdict = try(t, line, estest.Harness[estest.PubSub](pubsubMutantHarness{}))
				if !verdict.failed {
					return
				}
			}
			t.Fatal(verdict.log())
		})
	}
}

type pubsubMutant struct {
	line, name string
	breakage
}

// breakage is what a mutant does instead of what memory does. What is nil is not broken.
type breakage struct {
	history, durable bool // what it claims

	namespace   func(string) string
	bounds      func(estest.Bounds) estest.Bounds
	evicted     func(int64) int64
	publish     func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error
	subscribe   func(ctx context.Context, t testing.TB, ps *memory.PubSub, topic string, opts es.SubscribeOptions) (es.Subscription, error)
	options     func(*es.SubscribeOptions)
	closePubSub func(ps *memory.PubSub) error

	receive     func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error)
	ack         func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error
	nack        func(ctx context.Context, s *brokenSubscription, ds []es.Delivery, delay time.Duration) error
	release     func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error
	extend      func(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error
	closeSub    func(s *brokenSubscription) error
	answerError func(error) error
	lag         func(ctx context.Context, s *brokenSubscription) (es.Lag, error)
}

type pubsubMutantHarness struct {
	estest.Minimal
	breakage
}

func (pubsubMutantHarness) Namespaces() bool { return true }
func (pubsubMutantHarness) Handles() bool    { return true }
func (pubsubMutantHarness) Groups() bool     { return true }
func (pubsubMutantHarness) Bounded() bool    { return true }
func (h pubsubMutantHarness) History() bool  { return h.history }
func (h pubsubMutantHarness) Durable() bool  { return h.durable }

func (h pubsubMutantHarness) New(t testing.TB) estest.Storage[estest.PubSub] {
	t.Helper()
	return &pubsubMutantStorage{breakage: h.breakage, whole: openMemoryPubSub(t, memory.PubSubConfig{})}
}

func openMemoryPubSub(t testing.TB, c memory.PubSubConfig) *memory.PubSub {
	t.Helper()
	ps, err := memory.NewPubSub(c)
	if err != nil {
		t.Fatalf("NewPubSub: %v", err)
	}
	t.Cleanup(func() { _ = ps.Close() })
	return ps
}

type pubsubMutantStorage struct {
	breakage
	whole *memory.PubSub
}

func (s *pubsubMutantStorage) Open(t testing.TB, namespace string) estest.PubSub {
	t.Helper()
	if s.namespace != nil {
		namespace = s.namespace(namespace)
	}
	view, err := s.whole.Namespace(namespace)
	if err != nil {
		t.Fatalf("Namespace: %v", err)
	}
	return &brokenPubSub{breakage: s.breakage, t: t, ps: view}
}

func (s *pubsubMutantStorage) OpenBounded(t testing.TB, namespace string, b estest.Bounds) estest.PubSub {
	t.Helper()
	if s.bounds != nil {
		b = s.bounds(b)
	}
	overflow := map[estest.Overflow]memory.Overflow{
		estest.OverflowBlock:       memory.OverflowBlock,
		estest.OverflowEvictOldest: memory.OverflowEvictOldest,
		estest.OverflowFail:        memory.OverflowFail,
	}
	c := memory.PubSubConfig{Namespace: namespace, Buffer: b.Buffer, BacklogLimit: b.Backlog, Overflow: overflow[b.Overflow]}
	return &brokenPubSub{breakage: s.breakage, t: t, ps: openMemoryPubSub(t, c)}
}

// memoryOf returns the pub/sub in memory behind one that a mutant storage has opened.
func memoryOf(role estest.PubSub) *memory.PubSub {
	return role.(*brokenPubSub).ps //nolint:errcheck // the storage opens no other
}

func (s *pubsubMutantStorage) Evicted(_ testing.TB, role estest.PubSub, topic string) int64 {
	var n int64
	for _, stats := range memoryOf(role).Stats() {
		if stats.Topic == topic {
			n = stats.Evicted
		}
	}
	if s.evicted != nil {
		n = s.evicted(n)
	}
	return n
}

func (s *pubsubMutantStorage) PublishUndecodable(t testing.TB, role estest.PubSub, topic string, raw []byte) {
	t.Helper()
	m := &es.Message{Stream: topic}
	if err := memoryOf(role).PublishRaw(t.Context(), topic, m, raw, errors.New("no message")); err != nil {
		t.Fatalf("PublishRaw: %v", err)
	}
}

func (s *pubsubMutantStorage) Close(_ testing.TB, role estest.PubSub) error { return role.Close() }
func (s *pubsubMutantStorage) Crash(testing.TB, estest.PubSub)              {}
func (s *pubsubMutantStorage) Address() string                              { return "" }

// brokenPubSub is a pub/sub in memory that does some things wrong.
type brokenPubSub struct {
	breakage
	t  testing.TB
	ps *memory.PubSub
}

func (b *brokenPubSub) Publish(ctx context.Context, pubs ...es.Publication) error {
	if b.publish != nil {
		return b.publish(ctx, b.ps, pubs)
	}
	return b.ps.Publish(ctx, pubs...)
}

func (b *brokenPubSub) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	if b.options != nil {
		b.options(&opts)
	}
	var sub es.Subscription
	var err error
	if b.subscribe != nil {
		sub, err = b.subscribe(ctx, b.t, b.ps, topic, opts)
	} else {
		sub, err = b.ps.Subscribe(ctx, topic, opts)
	}
	if err != nil {
		return nil, err
	}
	return &brokenSubscription{breakage: b.breakage, of: b, sub: sub}, nil
}

func (b *brokenPubSub) Close() error {
	if b.closePubSub != nil {
		return b.closePubSub(b.ps)
	}
	return b.ps.Close()
}

// brokenSubscription is a subscription that does some things wrong. It knows what it has handed out.
type brokenSubscription struct {
	breakage
	of  *brokenPubSub
	sub es.Subscription

	mu   sync.Mutex
	out  []es.Delivery
	turn chan struct{}
}

func (s *brokenSubscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	receive := func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
		return s.sub.Receive(ctx, dst)
	}
	if s.receive != nil {
		receive = s.receive
	}
	n, err := receive(ctx, s, dst)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = append(s.out, dst[:min(n, len(dst))]...)
	return n, err
}

func (s *brokenSubscription) answered(err error) error {
	if s.answerError != nil {
		return s.answerError(err)
	}
	return err
}

func (s *brokenSubscription) Ack(ctx context.Context, ds []es.Delivery) error {
	if s.ack != nil {
		return s.ack(ctx, s, ds)
	}
	return s.answered(s.sub.Ack(ctx, ds))
}

func (s *brokenSubscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	if s.nack != nil {
		return s.nack(ctx, s, ds, delay)
	}
	return s.answered(s.sub.Nack(ctx, ds, delay))
}

func (s *brokenSubscription) Release(ctx context.Context, ds []es.Delivery) error {
	if s.release != nil {
		return s.release(ctx, s, ds)
	}
	return s.answered(s.sub.Release(ctx, ds))
}

func (s *brokenSubscription) Extend(ctx context.Context, ds []es.Delivery) error {
	if s.extend != nil {
		return s.extend(ctx, s, ds)
	}
	return s.answered(s.sub.Extend(ctx, ds))
}

func (s *brokenSubscription) Close() error {
	if s.closeSub != nil {
		return s.closeSub(s)
	}
	return s.sub.Close()
}

// changed publishes copies of messages that were changed.
func changed(change func(m *es.Message)) func(context.Context, *memory.PubSub, []es.Publication) error {
	return func(ctx context.Context, ps *memory.PubSub, pubs []es.Publication) error {
		pubs = slices.Clone(pubs)
		for i := range pubs {
			if pubs[i].Message != nil {
				pubs[i].Message = pubs[i].Message.Clone()
				change(pubs[i].Message)
			}
		}
		return ps.Publish(ctx, pubs...)
	}
}

// received changes the deliveries that come.
func received(change func(ds []es.Delivery)) func(context.Context, *brokenSubscription, []es.Delivery) (int, error) {
	return func(ctx context.Context, s *brokenSubscription, dst []es.Delivery) (int, error) {
		n, err := s.sub.Receive(ctx, dst)
		change(dst[:n])
		return n, err
	}
}

func republish(ctx context.Context, s *brokenSubscription, ds []es.Delivery) error {
	if err := s.sub.Ack(ctx, ds); err != nil {
		return err
	}
	for _, d := range slices.Backward(ds) {
		if err := s.of.ps.Publish(ctx, es.Publication{Topic: d.Topic, Message: d.Message}); err != nil {
			return err
		}
	}
	return nil
}

// forget acknowledges all that the subscription has handed out, and closes it.
func forget(s *brokenSubscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.sub.Ack(context.Background(), s.out)
	return s.sub.Close()
}

// endsWith is a subscription that ends with a context.
type endsWith struct {
	es.Subscription
	ctx context.Context // that is what is wrong with it
}

func (s endsWith) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	if s.ctx.Err() != nil {
		return 0, es.ErrClosed
	}
	return s.Subscription.Receive(ctx, dst)
}

func swallow(error) error { return nil }

func keyByID(opts *es.SubscribeOptions) {
	opts.Key = func(m *es.Message) string { return m.ID.String() }
}

func firstAttempt(ds []es.Delivery) {
	for i := range ds {
		ds[i].Attempt = 1
	}
}
