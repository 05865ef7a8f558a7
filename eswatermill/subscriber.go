package eswatermill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// SubscriberConfig is how a Watermill subscriber stands in for ours. One of Subscriber and ForGroup is required.
type SubscriberConfig struct {
	// Subscriber is where messages come from. It is subscribed to once for each topic and group, and once for each subscription
	// without a group. It is for brokers on which each subscription sees everything, such as Watermill's GoChannel.
	Subscriber message.Subscriber
	// ForGroup returns the subscriber for a consumer group; the empty group is that of subscriptions without one. Most of Watermill's
	// brokers take the group when a subscriber is made, and share the messages of a group among processes by it. It is called
	// once for each topic and group, and what it returns is closed with the subscription.
	ForGroup func(group string) (message.Subscriber, error)
	// Marshaler turns Watermill's messages into ours; [Headers] by default.
	Marshaler Marshaler
}

// Subscriber is a Watermill subscriber as an [es.Subscriber]. Make one with [NewSubscriber].
//
// Watermill knows neither attempts, leases, delays nor the order of keys. These are this subscriber's own: it keeps what was
// received in memory until it is acknowledged, and acknowledges to Watermill what was acknowledged here. What is not, is refused
// (Nack) when the last subscription of a group is closed, so that the broker delivers it again: nothing is lost, and attempts count
// from 1 then.
//
// Most of Watermill's brokers send the next message, of a partition or of all, when the last one was acknowledged. A message that
// waits for its retry holds them up there, whatever its key.
//
// A new group starts where the Watermill subscriber starts: a Start other than [es.StartDefault] is [es.ErrUnsupported].
type Subscriber struct {
	config SubscriberConfig
	broker *memory.PubSub // what was received, and the rules by which it is handed out

	mu     sync.Mutex
	closed bool
	groups map[feedKey]*feed
	alone  int // how many subscriptions without a group there were
}

var _ es.Subscriber = (*Subscriber)(nil)

type feedKey struct{ topic, group string }

// NewSubscriber makes a subscriber. The error is [es.ErrInvalid] and says what is wrong with the configuration.
func NewSubscriber(c SubscriberConfig) (*Subscriber, error) {
	switch {
	case c.Subscriber == nil && c.ForGroup == nil:
		return nil, es.Invalidf("subscriber", "has neither a Subscriber nor ForGroup; it takes one of them")
	case c.Subscriber != nil && c.ForGroup != nil:
		return nil, es.Invalidf("subscriber", "has both a Subscriber and ForGroup; it takes one of them")
	}
	if c.Marshaler == nil {
		c.Marshaler = Headers{}
	}
	broker, err := memory.NewPubSub(memory.PubSubConfig{})
	if err != nil {
		return nil, err
	}
	return &Subscriber{config: c, broker: broker, groups: map[feedKey]*feed{}}, nil
}

// Subscribe opens a subscription. Those of one group share the messages.
func (s *Subscriber) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	if err := es.ValidateName("topic", topic); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if opts.Start.Kind != es.StartDefault {
		return nil, fmt.Errorf("subscribe to %q: a Watermill subscriber starts where it is configured to: %w", topic, es.ErrUnsupported)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, es.ErrClosed
	}
	key := feedKey{topic: topic, group: opts.Group}
	if opts.Group == "" {
		s.alone++
		key.group = fmt.Sprintf("\x00%d", s.alone) // no name of a group
	}
	f := s.groups[key]
	if f == nil {
		f = &feed{
			subscriber: s, key: key, topic: "feed " + es.NewID().String(),
			members: map[*subscription]struct{}{}, open: map[uuid.UUID][]*message.Message{},
		}
	}
	sub := &subscription{feed: f, topic: topic, group: opts.Group}
	opts.Group = feedGroup
	inner, err := s.broker.Subscribe(ctx, f.topic, opts)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
	}
	sub.Subscription = inner
	if len(f.members) == 0 {
		if err := f.start(ctx, topic, sub.group); err != nil {
			return nil, errors.Join(fmt.Errorf("subscribe to %q: %w", topic, err), inner.Close(), s.broker.DropGroup(f.topic, feedGroup))
		}
		s.groups[key] = f
	}
	f.members[sub] = struct{}{}
	return sub, nil
}

// feedGroup is the group that all members of a feed are in: a feed has a topic of its own.
const feedGroup = "feed"

// Close ends all subscriptions, and closes the Watermill subscriber when there is one for all. Closing twice is fine.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	feeds := s.groups
	s.groups = nil
	s.mu.Unlock()
	errs := []error{s.broker.Close()} // who receives is told at once
	for _, f := range feeds {
		errs = append(errs, f.stop())
	}
	if s.config.Subscriber != nil {
		errs = append(errs, s.config.Subscriber.Close())
	}
	return errors.Join(errs...)
}

// leave takes a subscription out of its feed, and returns whether it was the last one.
func (s *Subscriber) leave(sub *subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := sub.feed
	if _, member := f.members[sub]; !member {
		return false
	}
	delete(f.members, sub)
	if len(f.members) > 0 || s.groups[f.key] != f {
		return false
	}
	delete(s.groups, f.key)
	return true
}

// abandon takes a feed that has ended by itself out of the groups, and returns those who were subscribed.
func (s *Subscriber) abandon(f *feed) []*subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups[f.key] != f {
		return nil
	}
	delete(s.groups, f.key)
	return slices.Collect(maps.Keys(f.members))
}

// feed brings the messages of one Watermill subscription to the subscriptions of a group.
type feed struct {
	subscriber *Subscriber
	key        feedKey
	topic      string                     // of the broker in memory
	members    map[*subscription]struct{} // guarded by the mutex of the subscriber

	source message.Subscriber // its own, to be closed; nil when it is everybody's
	cancel context.CancelFunc
	pumped sync.WaitGroup

	mu   sync.Mutex
	open map[uuid.UUID][]*message.Message // received and not acknowledged, in order
}

func (f *feed) start(ctx context.Context, topic, group string) error {
	source := f.subscriber.config.Subscriber
	if source == nil {
		var err error
		if source, err = f.subscriber.config.ForGroup(group); err != nil {
			return err
		}
		f.source = source
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	messages, err := source.Subscribe(life, topic)
	if err != nil {
		cancel()
		if f.source != nil {
			err = errors.Join(err, f.source.Close())
		}
		return err
	}
	f.cancel = cancel
	f.pumped.Go(func() { f.pump(life, topic, messages) })
	return nil
}

// pump takes what comes until the feed is stopped. When Watermill ends the subscription by itself, those who receive are told so.
func (f *feed) pump(ctx context.Context, topic string, messages <-chan *message.Message) {
	for w := range messages {
		if err := f.take(ctx, topic, w); err != nil {
			w.Nack()
		}
	}
	if ctx.Err() == nil {
		f.ended()
	}
}

// take keeps a message, and gives it to the broker in memory, which waits while its buffer is full.
func (f *feed) take(ctx context.Context, topic string, w *message.Message) error {
	m, broken := f.subscriber.config.Marshaler.Unmarshal(topic, w)
	if broken == nil {
		broken = m.Validate(es.Limits{})
	}
	if m == nil || m.ID == uuid.Nil {
		m = &es.Message{ID: idOf(topic, w), Stream: topic}
	}
	f.mu.Lock()
	f.open[m.ID] = append(f.open[m.ID], w)
	f.mu.Unlock()
	var err error
	if broken != nil {
		err = f.subscriber.broker.PublishRaw(ctx, f.topic, m, w.Payload, broken)
	} else {
		err = f.subscriber.broker.Publish(ctx, es.Publication{Topic: f.topic, Message: m})
	}
	if err != nil {
		f.settled(m.ID)
	}
	return err
}

// settled returns the oldest message of an ID that is open, and forgets it; nil when there is none.
func (f *feed) settled(id uuid.UUID) *message.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	open := f.open[id]
	if len(open) == 0 {
		return nil
	}
	if len(open) == 1 {
		delete(f.open, id)
	} else {
		f.open[id] = open[1:]
	}
	return open[0]
}

// stop ends the Watermill subscription. What is open goes back to it.
func (f *feed) stop() error {
	f.cancel() // first: what is refused now is for others
	f.refuse()
	f.pumped.Wait()
	return f.clear()
}

// refuse gives everything back that is open.
func (f *feed) refuse() {
	f.mu.Lock()
	open := f.open
	f.open = map[uuid.UUID][]*message.Message{}
	f.mu.Unlock()
	for _, messages := range open {
		for _, w := range messages {
			w.Nack()
		}
	}
}

// clear removes what a feed leaves behind. Nothing comes any more, and nobody is subscribed.
func (f *feed) clear() error {
	f.refuse() // what came while it was stopping
	err := f.subscriber.broker.DropGroup(f.topic, feedGroup)
	if errors.Is(err, es.ErrClosed) || errors.Is(err, es.ErrNotFound) {
		err = nil
	}
	if f.source != nil {
		err = errors.Join(err, f.source.Close())
	}
	return err
}

// ended deals with a Watermill subscription that has ended by itself: to those who receive, the broker was closed.
func (f *feed) ended() {
	members := f.subscriber.abandon(f)
	if members == nil {
		return // it is being stopped
	}
	f.cancel()
	for _, sub := range members {
		_ = sub.Subscription.Close() // it is always nil
	}
	_ = f.clear() // there is nobody to be told
}

// subscription is one of the broker in memory whose acknowledgements go on to Watermill.
type subscription struct {
	es.Subscription

	feed         *feed
	topic, group string
	once         sync.Once
	err          error // of the Close
}

func (s *subscription) Receive(ctx context.Context, dst []es.Delivery) (int, error) {
	n, err := s.Subscription.Receive(ctx, dst)
	for i := range dst[:n] {
		dst[i].Topic, dst[i].Group = s.topic, s.group
	}
	return n, err
}

// Ack acknowledges to Watermill what was acknowledged here.
func (s *subscription) Ack(ctx context.Context, ds []es.Delivery) error {
	err := s.Subscription.Ack(ctx, ds)
	for i := range ds {
		if es.Of(err, i) != nil {
			continue
		}
		if w := s.feed.settled(ds[i].ID); w != nil {
			w.Ack()
		}
	}
	return err
}

// Lag tells how many messages were received from Watermill and are not acknowledged. What the broker has still to send is not known.
func (s *subscription) Lag(ctx context.Context) (es.Lag, error) {
	inner, ok := s.Subscription.(es.Lagger)
	if !ok {
		return es.Lag{}, fmt.Errorf("lag: %w", es.ErrUnsupported)
	}
	return inner.Lag(ctx)
}

// Close gives back what was not answered. The last subscription of a group ends that of Watermill.
func (s *subscription) Close() error {
	s.once.Do(func() {
		s.err = s.Subscription.Close()
		if s.feed.subscriber.leave(s) {
			s.err = errors.Join(s.err, s.feed.stop())
		}
	})
	return s.err
}
