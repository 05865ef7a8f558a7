package memory

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The defaults of [PubSubConfig].
const (
	defaultBuffer  = 1024
	defaultBacklog = 1000
	defaultTopics  = 1000
	defaultLease   = 30 * time.Second
)

// mostBuffered is the largest buffer or backlog: a group has no more parcels than two of both, and all of them have numbers.
const mostBuffered = 1 << (parcelBits - 2)

// Overflow says what becomes of a message for which a buffer has no room.
type Overflow int

// The ways to deal with a full buffer.
const (
	// OverflowBlock: the publisher waits for room, until its context ends or the pub/sub is closed. A handler that publishes to
	// the topic it consumes is not kept waiting, see [PubSub.Publish].
	OverflowBlock Overflow = iota
	// OverflowEvictOldest: the oldest message that waits in the buffer is dropped. It is counted and logged.
	OverflowEvictOldest
	// OverflowFail: the publication fails with [es.ErrFull].
	OverflowFail
)

// PubSubConfig is how to open a pub/sub. The zero value is ready to use.
type PubSubConfig struct {
	// Namespace keeps programs apart that share a pub/sub; "default" by default. See [PubSub.Namespace].
	Namespace string
	// Buffer is how many messages may wait for a group, or for a subscription without a group; 1,024 by default. As many more
	// may be in its hands, received and not yet answered: when they are, Receive waits for an answer. So twice as many messages
	// is what a slow consumer costs at most.
	Buffer int
	// Overflow is what a full buffer does; by default the publisher waits.
	Overflow Overflow
	// BacklogLimit is how many messages a topic keeps that nobody has subscribed to, and how many a group collects that has no
	// subscription; 1,000 by default, and none when it is negative. Then the oldest is dropped, counted and logged, whatever
	// Overflow says: there is nobody who could make room.
	BacklogLimit int
	// BacklogTopics is how many topics of a namespace may have nothing but a backlog, because nobody has subscribed to them or
	// has stayed; 1,000 by default, and none when it is negative. Then the topic that has been without anybody for longest is
	// dropped with its backlog, and that is logged: a program that publishes to ever new names does not fill the memory. A topic
	// with a group is not counted, also when the group has no subscription.
	BacklogTopics int
	// Lease is how long a delivery may stay unanswered, where a subscription does not say; 30 seconds by default.
	Lease time.Duration
	// Limits are the largest sizes to take; see [es.Limits] for the defaults.
	Limits es.Limits
	// Logger is told of messages that were dropped; nothing by default.
	Logger *slog.Logger
}

func (c PubSubConfig) withDefaults() PubSubConfig {
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	if c.Buffer == 0 {
		c.Buffer = defaultBuffer
	}
	if c.BacklogLimit == 0 {
		c.BacklogLimit = defaultBacklog
	}
	c.BacklogLimit = max(c.BacklogLimit, 0)
	if c.BacklogTopics == 0 {
		c.BacklogTopics = defaultTopics
	}
	c.BacklogTopics = max(c.BacklogTopics, 0)
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	c.Limits = c.Limits.WithDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c PubSubConfig) validate() error {
	if err := es.ValidateName("namespace", c.Namespace); err != nil {
		return err
	}
	switch {
	case c.Buffer < 1 || c.Buffer > mostBuffered:
		return es.Invalidf("buffer", "is %d messages; it takes 1 to %d", c.Buffer, mostBuffered)
	case c.BacklogLimit > mostBuffered:
		return es.Invalidf("backlog limit", "is %d messages; it takes %d at the most", c.BacklogLimit, mostBuffered)
	case c.Overflow < OverflowBlock || c.Overflow > OverflowFail:
		return es.Invalidf("overflow", "is %d; it takes OverflowBlock, OverflowEvictOldest or OverflowFail", c.Overflow)
	case c.Lease < 0:
		return es.Invalidf("lease", "is %v; it takes a duration above 0", c.Lease)
	}
	return nil
}

// PubSub is an [es.Publisher] and [es.Subscriber] in memory. Its methods may be called by several goroutines.
//
// A topic that nobody is subscribed to keeps a backlog of bounded size, which goes to the first who subscribes; there is a bound
// to how many such topics there are, too. A group lives as
// long as the pub/sub: while it has no subscription it goes on collecting, within the same bound, until [PubSub.DropGroup]. A
// subscription without a group ends with its Close. When it was the last one of its topic, what it had not acknowledged is the
// topic's backlog again.
//
// A delivery that is not answered within its lease is delivered again with Attempt raised, and in a batch of its own: should
// it be what brought the consumer down, it takes no others with it.
//
// Messages are copied once, when they are published, in blocks that are shared by all who receive them. A message that is kept
// for long keeps its block: up to 76 messages of together about 256 KiB.
type PubSub struct {
	broker *broker
	space  *topicSpace
	parent *PubSub       // whose view it is; nil for the one that NewPubSub returned
	done   chan struct{} // closed by Close

	mu     sync.Mutex
	closed bool
	subs   map[*subscription]struct{}
	views  map[*PubSub]struct{}
}

var (
	_ es.Publisher  = (*PubSub)(nil)
	_ es.Subscriber = (*PubSub)(nil)
)

// broker is what the views of a pub/sub have in common.
type broker struct {
	config PubSubConfig
	began  time.Time // what the clock of the topics counts from

	mu     sync.Mutex
	spaces map[string]*topicSpace
}

// NewPubSub opens a pub/sub. The error is [es.ErrInvalid] when the configuration breaks a rule.
func NewPubSub(c PubSubConfig) (*PubSub, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("open pub/sub: %w", err)
	}
	b := &broker{config: c, began: time.Now(), spaces: map[string]*topicSpace{}}
	return newView(b, nil, c.Namespace), nil
}

func newView(b *broker, parent *PubSub, namespace string) *PubSub {
	return &PubSub{
		broker: b,
		space:  b.space(namespace),
		parent: parent,
		done:   make(chan struct{}),
		subs:   map[*subscription]struct{}{},
		views:  map[*PubSub]struct{}{},
	}
}

func (b *broker) space(namespace string) *topicSpace {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.spaces[namespace]
	if s == nil {
		s = newTopicSpace(b)
		b.spaces[namespace] = s
	}
	return s
}

// Namespace returns a view of the pub/sub: its topics and groups are those of the namespace, and nobody in another namespace
// sees anything of them. Two views of one namespace see the same. Closing a view closes the subscriptions that were opened
// with it and leaves other views alone; closing the pub/sub that it was made of closes it too.
//
// The error is [es.ErrInvalid] for a name that breaks the rules, or [es.ErrClosed].
func (p *PubSub) Namespace(name string) (*PubSub, error) {
	if err := es.ValidateName("namespace", name); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, es.ErrClosed
	}
	view := newView(p.broker, p, name)
	p.views[view] = struct{}{}
	return view, nil
}

// Subscribe opens a subscription; see [es.Subscriber]. There is no history: [es.StartPosition] and [es.StartTime] are
// [es.ErrUnsupported], and [es.StartBeginning] is with the backlog, which is all that is kept. A subscription that starts at the
// end leaves the backlog for the next who does not.
//
// The ordering key of a group is that of the subscription that is its first, or comes when it has no other. The function is
// called with locks held, so it is to be quick and must not call the pub/sub.
func (p *PubSub) Subscribe(ctx context.Context, topicName string, opts es.SubscribeOptions) (es.Subscription, error) {
	if err := validateSubscribe(topicName, opts); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if opts.Lease == 0 {
		opts.Lease = p.broker.config.Lease
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, es.ErrClosed
	}
	t := p.space.lockTopic(topicName)
	defer t.unlock()
	s := t.join(p, opts)
	p.subs[s] = struct{}{}
	return s, nil
}

func validateSubscribe(topicName string, opts es.SubscribeOptions) error {
	if err := es.ValidateName("topic", topicName); err != nil {
		return err
	}
	if opts.Group != "" {
		if err := es.ValidateName("group", opts.Group); err != nil {
			return err
		}
	}
	if opts.Lease < 0 {
		return es.Invalidf("lease", "is %v; it takes a duration above 0, or 0 for the default", opts.Lease)
	}
	switch opts.Start.Kind {
	case es.StartDefault, es.StartBeginning, es.StartEnd:
		return nil
	case es.StartPosition, es.StartTime:
		return fmt.Errorf("start at a position or time: a pub/sub in memory keeps no history: %w", es.ErrUnsupported)
	}
	return es.Invalidf("start", "is of kind %d, which there is not", opts.Start.Kind)
}

// DropGroup removes a group, and with it what it has collected. It is [es.ErrNotFound] when the topic has no such group, and
// [es.ErrInvalid] while the group has a subscription.
func (p *PubSub) DropGroup(topicName, group string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return es.ErrClosed
	}
	t := p.space.lockKnownTopic(topicName)
	if t == nil {
		return fmt.Errorf("drop group %q of topic %q: %w", group, topicName, es.ErrNotFound)
	}
	err := t.dropGroup(group)
	t.unlock()
	p.space.forget(t)
	if err != nil {
		return fmt.Errorf("drop group %q of topic %q: %w", group, topicName, err)
	}
	return nil
}

// Close ends the pub/sub, its views and their subscriptions. Publishers that wait and Receives that wait get [es.ErrClosed],
// as does every call that comes later. Closing twice is fine.
func (p *PubSub) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.done)
	subs, views := p.subs, p.views
	p.subs, p.views = nil, nil
	p.mu.Unlock()

	for view := range views {
		_ = view.Close() // it is always nil
	}
	for s := range subs {
		s.end()
	}
	if p.parent != nil {
		p.parent.mu.Lock()
		delete(p.parent.views, p)
		p.parent.mu.Unlock()
	}
	return nil
}

// forget takes a subscription that was closed out of those that Close has to end.
func (p *PubSub) forget(s *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subs, s)
}
