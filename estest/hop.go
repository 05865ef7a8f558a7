package estest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// EventHop makes the harness of an event store one of a hop, for [RunMessage]: messages are appended to their streams, and
// read in the global order.
func EventHop(h Harness[es.EventStore]) Harness[Hop] {
	return hopHarness[es.EventStore]{h, h, func(store es.EventStore) Hop { return &eventHop{store: store} }}
}

// OutboxHop makes the harness of an outbox one of a hop, for [RunMessage]: messages are enqueued, claimed and completed.
func OutboxHop(h Harness[es.Outbox]) Harness[Hop] {
	return hopHarness[es.Outbox]{h, h, func(outbox es.Outbox) Hop { return &outboxHop{outbox: outbox} }}
}

// hopHarness is the harness of a role, seen as that of a hop.
type hopHarness[R any] struct {
	Capabilities
	role Harness[R]
	over func(R) Hop
}

func (h hopHarness[R]) New(t testing.TB) Storage[Hop] {
	return &hopStorage[R]{h.role.New(t), h.over, map[Hop]R{}}
}

// hopStorage is the storage of a role, seen as that of a hop. The role's own cleanups close what is open.
type hopStorage[R any] struct {
	role  Storage[R]
	over  func(R) Hop
	roles map[Hop]R
}

func (s *hopStorage[R]) Open(t testing.TB, namespace string) Hop {
	role := s.role.Open(t, namespace)
	hop := s.over(role)
	s.roles[hop] = role
	return hop
}

func (s *hopStorage[R]) Close(t testing.TB, hop Hop) error { return s.role.Close(t, s.roles[hop]) }
func (s *hopStorage[R]) Crash(t testing.TB, hop Hop)       { s.role.Crash(t, s.roles[hop]) }
func (s *hopStorage[R]) Address() string                   { return s.role.Address() }

type eventHop struct {
	store es.EventStore
	taken es.Checkpoint
}

func (h *eventHop) Put(ctx context.Context, msgs ...*es.Message) error {
	var a es.Append
	for _, m := range msgs {
		i := slices.IndexFunc(a.Streams, func(s es.StreamAppend) bool { return s.Stream == m.Stream })
		if i < 0 {
			i = len(a.Streams)
			a.Streams = append(a.Streams, es.StreamAppend{Stream: m.Stream})
		}
		a.Streams[i].Events = append(a.Streams[i].Events, m)
	}
	_, err := h.store.Append(ctx, a)
	return err
}

func (h *eventHop) Take(ctx context.Context, n int) ([]*es.Message, error) {
	var taken []*es.Message
	for len(taken) < n {
		head, err := h.store.Wait(ctx, h.taken)
		if err != nil {
			return taken, fmt.Errorf("wait for more than %d messages: %w", len(taken), err)
		}
		q := es.Query{UpTo: head.Position, Limit: n - len(taken)}
		found, err := readAll(ctx, h.store, q.Resume(h.taken))
		if err != nil {
			return taken, err
		}
		taken = append(taken, found...)
		h.taken = head
		if len(found) > 0 && len(found) == q.Limit {
			h.taken.Position = found[len(found)-1].Position
		}
	}
	return taken, nil
}

type outboxHop struct {
	outbox es.Outbox
}

func (h *outboxHop) Put(ctx context.Context, msgs ...*es.Message) error {
	return h.outbox.Enqueue(ctx, msgs...)
}

func (h *outboxHop) Take(ctx context.Context, n int) ([]*es.Message, error) {
	var taken []*es.Message
	seen := map[uuid.UUID]bool{}
	for len(taken) < n {
		if err := h.outbox.Wait(ctx); err != nil {
			return taken, fmt.Errorf("wait for more than %d messages: %w", len(taken), err)
		}
		entries := make([]es.Entry, n-len(taken))
		claimed, err := h.outbox.Claim(ctx, entries, es.ClaimOptions{Owner: "estest"})
		if err != nil {
			return taken, err
		}
		for _, e := range entries[:claimed] {
			if seen[e.ID] {
				return taken, fmt.Errorf("message %s comes twice", e.ID)
			}
			seen[e.ID] = true
			taken = append(taken, e.Message)
		}
		if err := h.outbox.Complete(ctx, entries[:claimed]); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// PubSubHop makes the harness of a publisher and subscriber one of a hop, for [RunMessage]: messages are published to one topic,
// received by one subscription and acknowledged.
func PubSubHop(h Harness[PubSub]) Harness[Hop] {
	return hopHarness[PubSub]{h, h, func(pubsub PubSub) Hop { return &pubsubHop{pubsub: pubsub} }}
}

type pubsubHop struct {
	pubsub       PubSub
	subscription es.Subscription
}

func (h *pubsubHop) Put(ctx context.Context, msgs ...*es.Message) error {
	const topic = "hop"
	if h.subscription == nil {
		s, err := h.pubsub.Subscribe(ctx, topic, es.SubscribeOptions{})
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		h.subscription = s
	}
	pubs := make([]es.Publication, len(msgs))
	for i, m := range msgs {
		pubs[i] = es.Publication{Topic: topic, Message: m}
	}
	return h.pubsub.Publish(ctx, pubs...)
}

func (h *pubsubHop) Take(ctx context.Context, n int) ([]*es.Message, error) {
	var taken []*es.Message
	for len(taken) < n {
		room := make([]es.Delivery, n-len(taken))
		received, err := h.subscription.Receive(ctx, room)
		if err != nil {
			return taken, fmt.Errorf("receive more than %d messages: %w", len(taken), err)
		}
		for _, d := range room[:received] {
			if d.Err != nil {
				return taken, fmt.Errorf("message %s could not be decoded: %w", d.ID, d.Err)
			}
			taken = append(taken, d.Message)
		}
		if err := h.subscription.Ack(ctx, room[:received]); err != nil {
			return taken, err
		}
	}
	return taken, nil
}
