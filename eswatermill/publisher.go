package eswatermill

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Publisher is a Watermill publisher as an [es.Publisher]. Make one with [NewPublisher].
type Publisher struct {
	publisher message.Publisher
	marshaler Marshaler

	mu     sync.RWMutex // held for reading while something is published
	closed bool
}

var _ es.Publisher = (*Publisher)(nil)

// NewPublisher makes a publisher of a Watermill publisher. A marshaler of nil is [Headers]. Closing it closes the other.
func NewPublisher(publisher message.Publisher, marshaler Marshaler) (*Publisher, error) {
	if publisher == nil {
		return nil, es.Invalidf("publisher", "is nil; it takes a Watermill publisher")
	}
	if marshaler == nil {
		marshaler = Headers{}
	}
	return &Publisher{publisher: publisher, marshaler: marshaler}, nil
}

// Publish publishes the messages of one topic that stand beside each other in one call of the Watermill publisher. When that
// fails, all of the call count as failed, because Watermill does not say which were published, and so do later ones of the topic: those
// that are published again keep their order, and some may be there twice. The context reaches the publisher with each message.
func (p *Publisher) Publish(ctx context.Context, pubs ...es.Publication) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return es.ErrClosed
	}
	msgs, err := p.marshal(ctx, pubs)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	errs := make([]error, len(pubs))
	broken := map[string]error{} // topics, and what happened to them
	for from := 0; from < len(pubs); {
		topic, to := pubs[from].Topic, from+1
		for to < len(pubs) && pubs[to].Topic == topic {
			to++
		}
		if broken[topic] == nil {
			if err := p.publisher.Publish(topic, msgs[from:to]...); err != nil {
				broken[topic] = fmt.Errorf("topic %q: %w", topic, err)
			}
		}
		for i := from; i < to; i++ {
			errs[i] = broken[topic]
		}
		from = to
	}
	return es.BatchErr(errs)
}

// marshal checks and converts all publications, before anything is published.
func (p *Publisher) marshal(ctx context.Context, pubs []es.Publication) ([]*message.Message, error) {
	msgs := make([]*message.Message, len(pubs))
	for i, pub := range pubs {
		if err := es.ValidateName("topic", pub.Topic); err != nil {
			return nil, err
		}
		if err := pub.Message.Validate(es.Limits{}); err != nil {
			return nil, err
		}
		w, err := p.marshaler.Marshal(pub.Topic, pub.Message)
		if err != nil {
			return nil, errors.Join(es.Invalidf("publication", "%d cannot be made a Watermill message", i), err)
		}
		w.SetContext(ctx)
		msgs[i] = w
	}
	return msgs, nil
}

// Close waits for what is being published and closes the Watermill publisher. Closing twice is fine.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return p.publisher.Close()
}
