package eventsourcing

import (
	"context"
	"time"
)

// Publication is a message and the topic to publish it to.
type Publication struct {
	Topic   string
	Message *Message
}

// ToCategory makes publications of messages, each to the topic that its stream's category names.
func ToCategory(msgs ...*Message) []Publication {
	pubs := make([]Publication, len(msgs))
	for i, m := range msgs {
		pubs[i] = Publication{Topic: m.Category(), Message: m}
	}
	return pubs
}

// Publisher tells others.
type Publisher interface {
	// Publish hands over messages, in order. It returns when all are taken: from then on each reaches every group and every
	// subscription that the topic has, at least once.
	//
	// A topic or message that breaks a rule is [ErrInvalid], and nothing of the call is published. When some could not be
	// published the error is a [*BatchError] that says which; what follows a failed one of the same topic and stream in the call
	// fails too, so that order is kept. After close it is [ErrClosed].
	Publish(ctx context.Context, pubs ...Publication) error
}

// Subscriber lets messages be received.
type Subscriber interface {
	// Subscribe opens a subscription to a topic. It is in force when Subscribe returns: what is published afterwards reaches
	// it. The context is for this call only; [Subscription.Close] ends the subscription.
	Subscribe(ctx context.Context, topic string, opts SubscribeOptions) (Subscription, error)
}

// SubscribeOptions say how to subscribe. The zero value is a subscription of its own, without a group.
type SubscribeOptions struct {
	// Group is the consumer group. Subscriptions of one group share the messages; each group, and each subscription without
	// a group, sees all of them. A group keeps its place while it has no subscription, for as long as its backend keeps it.
	Group string
	// Start is where a group begins that the backend does not know yet. The default is [StartDefault].
	Start Start
	// Lease is how long a delivery may stay unanswered before it is delivered again; 30 seconds by default. A negative one is
	// [ErrInvalid]. [Subscription.Extend] prolongs it.
	Lease time.Duration
	// Key gives a message's ordering key; the message's stream by default. It must not change for a message, and must be the
	// same function in all subscriptions of a group.
	Key func(*Message) string
}

// StartKind is a kind of place to start at.
type StartKind int

// The places where a new group can start.
const (
	// StartDefault: on a log, at its end; on a broker in memory, with the backlog of the topic.
	StartDefault StartKind = iota
	// StartBeginning: with the oldest message that is kept.
	StartBeginning
	// StartEnd: with what is published from now on.
	StartEnd
	// StartPosition: after Start.Position.
	StartPosition
	// StartTime: with the first message recorded at Start.Time or later.
	StartTime
)

// Start is where a new group begins. A backend without history gives [ErrUnsupported] for what it cannot do.
type Start struct {
	Kind     StartKind
	Position int64
	Time     time.Time
}

// Subscription receives the messages of a topic: pulled, in batches, into the caller's slice.
//
// Messages of one ordering key come in the order in which they were published, also after a nack. A key is with one batch at
// a time: until every delivery of that batch with this key is acknowledged, nacked, released or overdue, no other batch, of
// this subscription or of another of its group, holds a message with this key. Within a batch a key may have several
// messages, in order. A Nack or Release of one of them also releases those of its key that follow it in the batch, are not
// answered yet and are not in the same call: they come again after it.
//
// A message whose lease ended without an answer comes again with Attempt raised, in a batch of its own: it may be what its
// receiver died of, and the others must not suffer for it.
//
// Every delivery is answered by exactly one of Ack, Nack and Release. These take deliveries in any order, of any batches, and
// answer all of the call that can be answered; the others are in the [*BatchError], [ErrLeaseLost] for one that was answered
// before, is overdue or belongs to a subscription that was closed.
type Subscription interface {
	// Receive fills dst with what is there, without waiting for more, and returns how many it gave. When there is nothing it
	// waits for the first. The error is that of ctx, [ErrClosed] after Close or when the broker closed, or [ErrInvalid] for a
	// dst without room; with an error the number is 0.
	Receive(ctx context.Context, dst []Delivery) (int, error)
	// Ack says that the messages are handled; they do not come again.
	Ack(ctx context.Context, ds []Delivery) error
	// Nack asks for the messages again, after a delay, with Attempt raised.
	Nack(ctx context.Context, ds []Delivery, delay time.Duration) error
	// Release gives the messages back; they come again, here or elsewhere in the group, with the same Attempt.
	Release(ctx context.Context, ds []Delivery) error
	// Extend starts the lease of the deliveries anew, and sets their Deadline.
	Extend(ctx context.Context, ds []Delivery) error
	// Close gives back what was not answered, as Release does, and ends the subscription. A Receive that waits gets
	// [ErrClosed]. Closing twice is fine.
	Close() error
}

// Lagger is a [Subscription] that knows how far behind it is. It is optional.
type Lagger interface {
	// Lag tells what the group of the subscription, or the subscription without one, has still to handle. After Close it is
	// [ErrClosed].
	Lag(ctx context.Context) (Lag, error)
}

// Lag is how far a group is behind what was published.
type Lag struct {
	// Messages is how many wait or are being handled. On a log it counts positions and not messages that match, so that it is
	// the most that there can be.
	Messages int64
	// Oldest is when the oldest of them was published; zero when there are none, and where the subscription does not know.
	Oldest time.Time
}
