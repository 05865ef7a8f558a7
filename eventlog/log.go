package eventlog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Log is a broker made of an event store, its leases and its read models. It is an [es.Publisher] and an [es.Subscriber], whose
// topics are the categories of the store. Its methods may be called by several goroutines.
//
// A message is there for good: a new group may start anywhere in the history, and nobody is slowed by somebody who lags behind.
// Subscriptions of one group that are opened on one log share what it reads, and are one member of the group; each other log, in
// this process or in another, is another member, and has partitions of its own.
//
// A group that is new begins where [es.SubscribeOptions].Start says, at the end by default, and its place is stored before
// Subscribe returns: it sees what is published afterwards, whatever becomes of the process. A subscription without a group has
// no state in the store, and begins where its own Start says.
type Log struct {
	config Config
	events es.EventStore
	leases es.Leases
	models es.ReadModels
	limits es.Limits

	mu     sync.Mutex
	closed bool
	groups map[groupID]*group
	subs   map[*subscription]struct{}
}

var (
	_ es.Publisher  = (*Log)(nil)
	_ es.Subscriber = (*Log)(nil)
)

type groupID struct{ topic, name string }

// New makes a log of a backend. A backend without events, leases or read models is [es.ErrUnsupported]; a configuration that breaks
// a rule is [es.ErrInvalid]. The log does not close the backend, and has to be closed before it.
func New(backend es.Backend, c Config) (*Log, error) {
	if backend == nil {
		return nil, fmt.Errorf("open log: %w", es.Invalidf("backend", "is nil; it takes one with events, leases and read models"))
	}
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{
		config: c, events: backend.Events(), leases: backend.Leases(), models: backend.ReadModels(),
		limits: backend.Capabilities().Limits.WithDefaults(),
		groups: map[groupID]*group{}, subs: map[*subscription]struct{}{},
	}
	var missing []string
	if l.events == nil {
		missing = append(missing, "events")
	}
	if l.leases == nil {
		missing = append(missing, "leases")
	}
	if l.models == nil {
		missing = append(missing, "read models")
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("open log: backend %q has no %s: %w",
			backend.Capabilities().Name, strings.Join(missing, ", no "), es.ErrUnsupported)
	}
	return l, nil
}

// subscribeOptions are those of [es.SubscribeOptions], with what a view restricts.
type subscribeOptions struct {
	es.SubscribeOptions

	only []es.Criterion
}

// Subscribe opens a subscription to the streams of a category; see [es.Subscriber]. A position to start at that the store has not
// given out, and a group that belongs to another incarnation of the store, is a [*es.CheckpointError]. All subscriptions of a group
// must have the same Key, for as long as the group lives: it says which partition a message is in, and members that disagree lose
// messages. That some have a Key and others have none is [es.ErrInvalid]; two functions cannot be told apart.
//
// A member has its share of the partitions for as long as it has a subscription, also when nobody receives from it: what is not to
// receive for a while should be closed, so that others get its messages.
func (l *Log) Subscribe(ctx context.Context, topic string, opts es.SubscribeOptions) (es.Subscription, error) {
	return l.subscribe(ctx, topic, subscribeOptions{SubscribeOptions: opts})
}

func (l *Log) subscribe(ctx context.Context, topic string, o subscribeOptions) (es.Subscription, error) {
	if err := validateSubscribe(topic, o); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if o.Lease == 0 {
		o.Lease = l.config.DeliveryLease
	}
	for {
		g, fresh, err := l.group(ctx, topic, o)
		if err != nil {
			return nil, err
		}
		if fresh {
			err = g.open(ctx, o.Start)
			if err != nil {
				g.mu.Lock()
				g.err, g.ending = err, true
				g.mu.Unlock()
				l.remove(g)
				g.cancel()
				close(g.left)
			}
			close(g.opened)
			if err != nil {
				return nil, fmt.Errorf("subscribe to %q: %w", topic, err)
			}
		}
		s, err := l.attach(ctx, g, o)
		if s != nil || err != nil {
			return s, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// group returns the group to subscribe to. A fresh one is the caller's to open; others are ready, or were left.
func (l *Log) group(ctx context.Context, topic string, o subscribeOptions) (g *group, fresh bool, _ error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, false, es.ErrClosed
	}
	if o.Group == "" {
		l.mu.Unlock()
		return newGroup(l, topic, "", o), true, nil
	}
	id := groupID{topic, o.Group}
	g = l.groups[id]
	if g == nil {
		g = newGroup(l, topic, o.Group, o)
		l.groups[id] = g
		l.mu.Unlock()
		return g, true, nil
	}
	l.mu.Unlock()
	select {
	case <-g.opened:
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	g.mu.Lock()
	ending := g.ending
	g.mu.Unlock()
	if ending {
		select {
		case <-g.left:
			l.remove(g)
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	return g, false, nil
}

// attach makes a subscription to a group. It returns none when the group is ending, or has just failed to begin.
func (l *Log) attach(ctx context.Context, g *group, o subscribeOptions) (es.Subscription, error) {
	l.mu.Lock()
	g.mu.Lock()
	closed, ending := l.closed, g.ending
	var differs error
	if g.shared() && !ending {
		differs = g.sameOptions(o)
	}
	if closed || ending || differs != nil {
		first := !ending && len(g.subs) == 0
		if first {
			g.ending = true
		}
		g.mu.Unlock()
		l.mu.Unlock()
		if first {
			_ = g.end(context.WithoutCancel(ctx))
			l.remove(g)
		}
		switch {
		case closed:
			return nil, es.ErrClosed
		case differs != nil:
			return nil, fmt.Errorf("subscribe to %q: %w", g.topic, differs)
		}
		return nil, nil //nolint:nilnil // the caller tries again
	}
	s := &subscription{group: g, lease: o.Lease, ended: make(chan struct{})}
	g.subs = append(g.subs, s)
	l.subs[s] = struct{}{}
	g.mu.Unlock()
	l.mu.Unlock()
	return s, nil
}

// sameOptions is an error when a subscription takes other messages than those that the group has here, or orders them by another key.
func (g *group) sameOptions(o subscribeOptions) error {
	same := slices.EqualFunc(g.only, o.only, func(a, b es.Criterion) bool {
		return slices.Equal(a.Names, b.Names) && slices.Equal(a.Tags, b.Tags)
	})
	if !same {
		return es.Invalidf("view", "restricts group %q to other messages than its other subscriptions here; they have to be the same", g.name)
	}
	if orderOf(o.Key) != orderOf(g.keyOf) {
		return es.Invalidf("key", "orders group %q by something else than its other subscriptions here; they have to be the same", g.name)
	}
	return nil
}

// remove forgets a group that has ended.
func (l *Log) remove(g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id := (groupID{g.topic, g.name}); l.groups[id] == g {
		delete(l.groups, id)
	}
}

// forget takes a subscription that was closed out of those that Close has to end.
func (l *Log) forget(s *subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.subs, s)
}

func validateSubscribe(topic string, o subscribeOptions) error {
	if err := validateTopic(topic); err != nil {
		return err
	}
	if o.Group != "" {
		if err := es.ValidateName("group", o.Group); err != nil {
			return err
		}
	}
	if o.Lease < 0 {
		return es.Invalidf("lease", "is %v; it takes a duration above 0, or 0 for the default", o.Lease)
	}
	return validateStart(o.Start)
}

// validateTopic checks a topic, which is a category.
func validateTopic(topic string) error {
	if err := es.ValidateName("topic", topic); err != nil {
		return err
	}
	if category := es.Category(topic); category != topic {
		return es.Invalidf("topic", "is %q, which is a stream of the category %q; the topics of a log are categories", topic, category)
	}
	return nil
}

// Close closes the subscriptions, gives the partitions to others, and ends what the log does in the background. Receives that wait
// get [es.ErrClosed], as does every call that comes later. Closing twice is fine.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	subs := make([]*subscription, 0, len(l.subs))
	for s := range l.subs {
		subs = append(subs, s)
	}
	l.mu.Unlock()
	errs := make([]error, len(subs))
	var closing sync.WaitGroup
	for i, s := range subs {
		closing.Go(func() { errs[i] = s.Close() })
	}
	closing.Wait()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("close log: %w", err)
		}
	}
	return nil
}
