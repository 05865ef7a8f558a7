package router

import (
	"log/slog"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// The defaults of [Config] and [Options].
const (
	DefaultName        = "router"
	DefaultDeadStream  = "dead"
	DefaultMaxAttempts = 20
	DefaultGrace       = 25 * time.Second
	DefaultBatch       = 256
	DefaultLease       = 30 * time.Second
)

// Config is how a router works. Only Subscriber is required; a zero field means its default.
type Config struct {
	// Subscriber is where messages come from.
	Subscriber es.Subscriber
	// Name is for logs and health reports; [DefaultName] by default.
	Name string
	// Emit sends what handlers return; see [ToOutbox] and [ToPublisher]. Without it a handler that returns messages has failed.
	Emit Emitter
	// DeadLetter sends dead letters; Emit by default. Without either, what would be a dead letter is tried again without end.
	DeadLetter Emitter
	// DeadStream is the stream of the dead letters; [DefaultDeadStream] by default.
	DeadStream string
	// MaxAttempts is how often a message is tried by any route before it is a dead letter; [DefaultMaxAttempts] by default,
	// negative for no bound. It is the outer bound: [middleware.Retry] can end the attempts earlier, not later.
	//
	// The default is finite because a message that kills the process has no other end than this one. With the default Backoff
	// it is reached after 5 minutes on average and 11 at most: time enough for a database to come back, and the later messages
	// of the key do not wait for days behind one that never succeeds.
	MaxAttempts int
	// Backoff is how long a message waits after an error that says nothing about it, or when its dead letter could not be sent;
	// by default 100 milliseconds at most after the first attempt, and 1 minute at most after any.
	Backoff middleware.Backoff
	// Grace is how long running handlers have to finish when the router is stopped, unless the context of Stop ends earlier;
	// [DefaultGrace] by default, which fits into the 30 seconds that orchestrators leave. Negative for none.
	Grace time.Duration
	// NoReplays switches off, for all routes, that dead letters come back to them; see [Options].NoReplays.
	NoReplays bool
	// Logger is told what somebody should know of; nothing by default. What becomes of each message is for [middleware.Logging].
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.DeadLetter == nil {
		c.DeadLetter = c.Emit
	}
	if c.DeadStream == "" {
		c.DeadStream = DefaultDeadStream
	}
	if c.MaxAttempts == 0 {
		c.MaxAttempts = DefaultMaxAttempts
	}
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if c.Subscriber == nil {
		return es.Invalidf("router config", "has no Subscriber; messages have to come from somewhere")
	}
	if err := es.ValidateName("router name", c.Name); err != nil {
		return err
	}
	return es.ValidateName("dead stream", c.DeadStream)
}

// Options are how a route works. A zero field means its default.
type Options struct {
	// Name is the route's name and its consumer group; the topic by default. Routes of one topic each have a name of their own.
	// The IDs of outputs depend on it: a route that is given another name is a new group and sends its outputs anew, and dead letters
	// of the old name do not come back to it.
	Name string
	// Concurrency is how many messages are handled at once, of different ordering keys, those that are replayed among the rest; 1 by
	// default.
	Concurrency int
	// Middleware goes around the handler, inside the router's own; the first is outermost.
	Middleware []es.Middleware
	// Key gives a message's ordering key; the message's stream by default. Messages of one key are handled one after the
	// other, in order. It must not change for a message.
	Key func(*es.Message) string
	// Batch is how many messages are received at a time; [DefaultBatch] by default. What one process has received another
	// does not get: with slow handlers and many processes a small one spreads the work better.
	Batch int
	// Lease is how long the subscription waits for an answer before it delivers again; [DefaultLease] by default. The route
	// prolongs the lease of what it has in hand, so that handlers may take longer.
	Lease time.Duration
	// Start is where a new group begins.
	Start es.Start
	// Paused adds the route as one that is paused: its group collects messages, and none is handled before [Router.Resume].
	Paused bool
	// NoReplays switches off that dead letters come back. By default a route that can make dead letters also subscribes to its
	// [es.ReplayTopic], with its own name as the group: what is replayed goes through the same chain to the same handler, as the
	// message that it was. That takes a Subscriber which can open any topic.
	NoReplays bool
	// MaxLag and MaxAge bound how far the route may be behind, in messages and by when the oldest of them was published; beyond one
	// of them [Router.Health] says so. 0, the default, is no bound. They need a subscription that is an [es.Lagger]: without, the
	// start fails with [es.ErrUnsupported].
	MaxLag int64
	MaxAge time.Duration
	// MaxAttempts is how often a message is tried before it is a dead letter; that of the [Config] by default, negative for no
	// bound.
	MaxAttempts int
}

func (o Options) withDefaults(topic string, c Config) Options {
	if o.Name == "" {
		o.Name = topic
	}
	if o.Concurrency == 0 {
		o.Concurrency = 1
	}
	if o.Batch == 0 {
		o.Batch = DefaultBatch
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.MaxAttempts == 0 {
		o.MaxAttempts = c.MaxAttempts
	}
	return o
}

func (o Options) validate() error {
	if err := es.ValidateName("route name", o.Name); err != nil {
		return err
	}
	switch {
	case o.Concurrency < 0:
		return es.Invalidf("route concurrency", "is %d; it takes 1 or more", o.Concurrency)
	case o.Batch < 0:
		return es.Invalidf("route batch", "is %d messages; it takes 1 or more", o.Batch)
	case o.Lease < 0:
		return es.Invalidf("route lease", "is %v; it takes a duration above 0", o.Lease)
	case o.MaxLag < 0:
		return es.Invalidf("route lag", "is bounded by %d messages; it takes 1 or more, or 0 for no bound", o.MaxLag)
	case o.MaxAge < 0:
		return es.Invalidf("route lag", "is bounded by an age of %v; it takes a duration above 0, or 0 for no bound", o.MaxAge)
	}
	return validateMiddleware(o.Middleware)
}

func validateMiddleware(middleware []es.Middleware) error {
	for i, m := range middleware {
		if m == nil {
			return es.Invalidf("middleware", "is nil at index %d", i)
		}
	}
	return nil
}
