package projection

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/middleware"
)

// The defaults of [Config].
const (
	DefaultBatchSize      = 1000
	DefaultBatchTime      = time.Second
	DefaultCacheSize      = 10_000
	DefaultLeaseTTL       = 15 * time.Second
	DefaultMaxParked      = 1000
	DefaultUnhealthyAfter = 10 * time.Second
)

// maxNameBytes is the longest name of a projection: those of its lease, of its parked streams and of a rebuild are longer.
const maxNameBytes = 200

// Config says what a projection is. Name, Events and Models are required, and Types where there are handlers by Go type; for everything
// else the zero value means the default.
type Config struct {
	// Name is the name of the checkpoint, of the lease, and, unless Writes says otherwise, of the model that the handlers write; 200
	// bytes at the most. All copies of a projection have the same one.
	Name string
	// Events is the store to read.
	Events es.EventStore
	// Models is where checkpoint and documents are kept.
	Models es.ReadModels
	// Target is where effects go that are not documents; see [Tables]. Nil: documents are all there is.
	Target Target
	// Writes are the names of the models that the handlers write; the one of the projection's own name by default. They are the
	// projection's: nobody else writes them.
	Writes []string
	// Types decodes the events for the handlers made by [On].
	Types *es.Types
	// Unknown says what becomes of an event whose name Types does not know, and no handler made by [OnMessage] names. By default it
	// fails, so that an event is not passed over because somebody forgot to register it. Events that are registered and have no
	// handler are passed over.
	Unknown es.Unknown

	// Category, Names, Tags and Any choose the events, as those of [es.Query] do; by default all of them.
	Category    string
	Names, Tags []string
	Any         []es.Criterion

	// BatchSize is the largest number of events in one commit; 1,000 by default. With the size of the events it bounds the memory.
	BatchSize int
	// BatchTime is how long a batch is gathered and handled before it is committed, full or not; 1 second by default.
	BatchTime time.Duration
	// Interval is the shortest time from one commit to the next when the projection has caught up. By default it is 0: what comes is
	// committed at once. A longer one makes fewer and larger commits of a trickle.
	Interval time.Duration
	// CacheSize is how many documents are kept in memory from one batch to the next, so that they need not be loaded again; 10,000 by
	// default, and none if it is negative. They cannot be stale: each commit says that nobody else has moved the checkpoint since.
	CacheSize int
	// Parallel is how many streams are handled beside each other, for handlers to whom the order of events across streams does not
	// matter; 1 by default. The events of one stream stay in order.
	Parallel int

	// OnError says what becomes of an event that its handler cannot handle; [Stop] by default.
	OnError Policy
	// Attempts is how often an event is tried before OnError decides; 1 by default. An error that is [es.Permanent] is not tried again.
	Attempts int
	// MaxParked is the largest number of parked streams; 1,000 by default. At this bound the projection stops as [Stop] does.
	MaxParked int
	// Backoff is how long to wait before an event is tried again, and a store that does not answer.
	Backoff middleware.Backoff

	// Leases lets one of many copies do the work while the others stand by. It must be of the same backend as Models, so that lease,
	// checkpoint and effects are one commit. Nil: no lease; then several copies do the same work, and still every event has its effect
	// once.
	Leases es.Leases
	// LeaseTTL is how long the lease lasts without a sign of life, and so how long the others wait after a crash; 15 seconds by default.
	LeaseTTL time.Duration
	// Owner is what this copy is called where operators look, and is its own: one that comes back under the same name has its lease at
	// once. The default is the name of the host, the number of the process and something random.
	Owner string

	// UnhealthyAfter is how long nothing must have worked until Health says so; 10 seconds by default.
	UnhealthyAfter time.Duration
	// MaxLag makes Health fail while the oldest event that is not handled was recorded longer ago than that. The default, 0, does not
	// look.
	MaxLag time.Duration
	// Logger is told of events that fail, of leases that come and go, and of trouble with the stores. The default discards.
	Logger *slog.Logger
}

// Policy says what becomes of an event that its handler cannot handle.
type Policy int

const (
	// Stop commits what came before the event and ends the projection there. The next one that is started tries that event first.
	Stop Policy = iota
	// Skip goes on without the event. It is logged and counted, and its effects are none.
	Skip
	// Park sets the stream of the event aside, with the event and with all that comes after it in that stream, and goes on with the other
	// streams. [Projection.Retry] handles what is parked, in order, and [Projection.Discard] gives it up.
	Park
)

func (p Policy) String() string {
	switch p {
	case Stop:
		return "stop"
	case Skip:
		return "skip"
	case Park:
		return "park"
	}
	return "unknown"
}

func (c Config) withDefaults() Config {
	for _, n := range []struct {
		field *int
		value int
	}{
		{&c.BatchSize, DefaultBatchSize},
		{&c.CacheSize, DefaultCacheSize},
		{&c.Parallel, 1},
		{&c.Attempts, 1},
		{&c.MaxParked, DefaultMaxParked},
	} {
		if *n.field == 0 {
			*n.field = n.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.BatchTime, DefaultBatchTime},
		{&c.LeaseTTL, DefaultLeaseTTL},
		{&c.UnhealthyAfter, DefaultUnhealthyAfter},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if len(c.Writes) == 0 {
		c.Writes = []string{c.Name}
	}
	if c.Owner == "" {
		c.Owner = processName()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Writes, c.Names, c.Tags, c.Any = slices.Clone(c.Writes), slices.Clone(c.Names), slices.Clone(c.Tags), slices.Clone(c.Any)
	return c
}

// processName tells operators which process it is, and tells two projections of one process apart.
func processName() string {
	host, err := os.Hostname()
	if err != nil || es.ValidateName("host", host) != nil {
		host = "unknown"
	}
	const room = 150 // for a name that is too long, and what is behind it
	return fmt.Sprintf("%.*s:%d:%s", room, host, os.Getpid(), uuid.NewString())
}

func (c Config) validate() error {
	switch {
	case c.Events == nil:
		return es.Invalidf("projection", "has no Events; it reads an event store")
	case c.Models == nil:
		return es.Invalidf("projection", "has no Models; its checkpoint is kept there")
	}
	if err := es.ValidateName("projection name", c.Name); err != nil {
		return err
	}
	if len(c.Name) > maxNameBytes {
		return es.Invalidf("projection name", "has %d bytes; at most %d are allowed, because other names begin with it", len(c.Name),
			maxNameBytes)
	}
	if err := es.ValidateName("owner", c.Owner); err != nil {
		return err
	}
	if err := c.validateModels(); err != nil {
		return err
	}
	if err := c.query().Validate(); err != nil {
		return err
	}
	if err := c.Unknown.Validate(); err != nil {
		return err
	}
	return c.validateNumbers()
}

func (c Config) validateModels() error {
	for i, model := range c.Writes {
		if err := es.ValidateName("model", model); err != nil {
			return err
		}
		switch {
		case len(model) > maxNameBytes:
			return es.Invalidf("model", "%q has %d bytes; at most %d are allowed in a projection", model, len(model), maxNameBytes)
		case slices.Contains(c.Writes[:i], model):
			return es.Invalidf("models of a projection", "have %q twice", model)
		case model == parkedModel(c.Name):
			return es.Invalidf("model", "%q is where the projection keeps its parked streams; choose another name", model)
		}
	}
	return nil
}

func (c Config) validateNumbers() error {
	base, longest := cmp.Or(c.Backoff.Base, middleware.DefaultBackoffBase), c.Backoff.Max
	switch {
	case base < 0:
		return es.Invalidf("retry base", "is %v; it takes a duration above 0", base)
	case longest < 0 || longest > 0 && longest < base:
		return es.Invalidf("retry maximum", "is %v; it takes the base of %v or more", longest, base)
	case c.BatchSize < 1:
		return es.Invalidf("batch size", "is %d events; it takes 1 or more", c.BatchSize)
	case c.BatchTime < 0:
		return es.Invalidf("batch time", "is %v; it takes a duration above 0", c.BatchTime)
	case c.Interval < 0:
		return es.Invalidf("interval", "is %v; it takes 0 for none, or more", c.Interval)
	case c.Parallel < 1:
		return es.Invalidf("parallel", "is %d streams; it takes 1 or more", c.Parallel)
	case c.OnError < Stop || c.OnError > Park:
		return es.Invalidf("policy for errors", "is %d; it takes Stop, Skip or Park", c.OnError)
	case c.Attempts < 1:
		return es.Invalidf("attempts", "are %d; it takes 1 or more", c.Attempts)
	case c.MaxParked < 1:
		return es.Invalidf("largest number of parked streams", "is %d; it takes 1 or more", c.MaxParked)
	case c.LeaseTTL < time.Millisecond:
		return es.Invalidf("lease", "is %v; it takes 1ms or more", c.LeaseTTL)
	case c.UnhealthyAfter < 0:
		return es.Invalidf("unhealthy after", "is %v; it takes a duration above 0", c.UnhealthyAfter)
	case c.MaxLag < 0:
		return es.Invalidf("maximal lag", "is %v; it takes 0 for none, or more", c.MaxLag)
	}
	return nil
}

// query selects the events of the projection.
func (c Config) query() es.Query {
	return es.Query{Category: c.Category, Names: c.Names, Tags: c.Tags, Any: c.Any}
}
