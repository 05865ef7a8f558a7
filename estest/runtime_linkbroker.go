package estest

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// linkedPubSub is a broker at the other end of a link.
type linkedPubSub struct {
	PubSub

	link *link
}

func (b linkedPubSub) Publish(ctx context.Context, pubs ...es.Publication) error {
	return b.link.try("Publish", func() error { return b.PubSub.Publish(ctx, pubs...) })
}

func (b linkedPubSub) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	sub, err := across(b.link, "Subscribe", func() (es.Subscription, error) { return b.PubSub.Subscribe(ctx, topic, opts) })
	if err != nil {
		return nil, err
	}
	linked := linkedSubscription{sub, b.link}
	if lagger, ok := sub.(es.Lagger); ok {
		return linkedLagger{linked, lagger}, nil
	}
	return linked, nil
}

type linkedSubscription struct {
	es.Subscription

	link *link
}

// linkedLagger is a subscription that knows how far it is behind.
type linkedLagger struct {
	linkedSubscription
	es.Lagger
}

// Receive ends with the program: a dead one takes nothing from others.
func (s linkedSubscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.link.dead, cancel)()
	return across(s.link, "Receive", func() (int, error) { return s.Subscription.Receive(ctx, dst) })
}

func (s linkedSubscription) Ack(ctx context.Context, ds []es.Delivery) error {
	return s.link.try("Ack", func() error { return s.Subscription.Ack(ctx, ds) })
}

func (s linkedSubscription) Nack(ctx context.Context, ds []es.Delivery, delay time.Duration) error {
	return s.link.try("Nack", func() error { return s.Subscription.Nack(ctx, ds, delay) })
}

func (s linkedSubscription) Release(ctx context.Context, ds []es.Delivery) error {
	return s.link.try("Release", func() error { return s.Subscription.Release(ctx, ds) })
}

func (s linkedSubscription) Extend(ctx context.Context, ds []es.Delivery) error {
	return s.link.try("Extend", func() error { return s.Subscription.Extend(ctx, ds) })
}

// Close of a dead program gives nothing back: it closes nothing, and what it had is lost until its lease ends.
func (s linkedSubscription) Close() error {
	return s.link.try("Close", s.Subscription.Close)
}
