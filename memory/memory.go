// Package memory plays every role of the toolkit in memory: for tests, for trying things out, and for programs whose events may
// go when the process does. It keeps every promise that does not need a disk.
package memory

import (
	"log/slog"
	"sync"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Storage is where backends keep their things. Backends opened on one storage share it, as processes share a database; it
// lives as long as somebody holds it.
type Storage struct {
	mu     sync.Mutex
	spaces map[string]*space
}

// space is what one namespace has.
type space struct {
	events    *eventLog
	outbox    *outboxQueue
	models    *modelTables
	dedupe    *dedupeTables
	leases    *leaseTable
	snapshots *snapshotTable
}

// NewStorage returns an empty storage.
func NewStorage() *Storage { return &Storage{spaces: map[string]*space{}} }

// space returns what a namespace has, and makes it when it is new. The limits of the first who opens it are those of dedupe.
func (s *Storage) space(c Config) *space {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.spaces[c.Namespace]
	if sp == nil {
		leases := newLeaseTable()
		events := newEventLog()
		sp = &space{
			events:    events,
			outbox:    newOutboxQueue(events),
			models:    newModelTables(leases),
			dedupe:    newDedupeTables(c.DedupeEntries, c.DedupeTTL),
			leases:    leases,
			snapshots: newSnapshotTable(),
		}
		s.spaces[c.Namespace] = sp
	}
	return sp
}

// Config is how to open a backend. The zero value opens a new, empty one.
type Config struct {
	// Storage is where to open it; nil means a new one.
	Storage *Storage
	// Namespace keeps programs apart that share a storage; "default" by default.
	Namespace string
	// Limits are the largest sizes to take; see [es.Limits] for the defaults.
	Limits es.Limits
	// DedupeEntries is how many handled messages dedupe remembers in each group, 64,000 by default; then the oldest goes.
	DedupeEntries int
	// DedupeTTL is for how long it remembers them; 24 hours by default.
	DedupeTTL time.Duration
	// Logger is told what somebody should know of; nothing by default.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Storage == nil {
		c.Storage = NewStorage()
	}
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	c.Limits = c.Limits.WithDefaults()
	if c.DedupeEntries == 0 {
		c.DedupeEntries = 64_000
	}
	if c.DedupeTTL == 0 {
		c.DedupeTTL = 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if err := es.ValidateName("namespace", c.Namespace); err != nil {
		return err
	}
	if c.DedupeEntries < 1 {
		return es.Invalidf("dedupe bound", "is %d entries; it takes 1 or more", c.DedupeEntries)
	}
	if l := c.Limits; min(l.EventBytes, l.EventsPerAppend, l.MetadataBytes, l.TagsPerEvent) < 0 {
		return es.Invalidf("limits", "are %+v; each is 0 for its default, or more", l)
	}
	if c.DedupeTTL < 0 {
		return es.Invalidf("dedupe expiry", "is %v; it takes a duration above 0", c.DedupeTTL)
	}
	return nil
}

// Backend is every role in memory. It is an [es.Backend].
type Backend struct {
	handle    *handle
	limits    es.Limits
	events    *EventStore
	outbox    *Outbox
	models    *ReadModels
	dedupe    *Dedupe
	leases    *Leases
	snapshots *Snapshots
}

var _ es.Backend = (*Backend)(nil)

// Open opens a backend. The error is [es.ErrInvalid] when the configuration breaks a rule.
func Open(c Config) (*Backend, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	sp := c.Storage.space(c)
	h := &handle{done: make(chan struct{})}
	return &Backend{
		handle:    h,
		limits:    c.Limits,
		events:    &EventStore{handle: h, log: sp.events, limits: c.Limits},
		outbox:    &Outbox{handle: h, queue: sp.outbox, limits: c.Limits},
		models:    &ReadModels{handle: h, tables: sp.models},
		dedupe:    &Dedupe{tables: sp.dedupe},
		leases:    &Leases{handle: h, table: sp.leases},
		snapshots: &Snapshots{handle: h, table: sp.snapshots},
	}, nil
}

// New opens a backend on a storage of its own, with the defaults.
func New() *Backend {
	b, err := Open(Config{})
	if err != nil {
		panic(err) // the zero configuration is valid
	}
	return b
}

// Events returns the event store.
func (b *Backend) Events() es.EventStore { return b.events }

// Outbox returns the outbox. It is an [es.Forwarder] too.
func (b *Backend) Outbox() es.Outbox { return b.outbox }

// ReadModels returns the read models.
func (b *Backend) ReadModels() es.ReadModels { return b.models }

// Dedupe returns the memory of handled messages.
func (b *Backend) Dedupe() es.Dedupe { return b.dedupe }

// Leases returns the leases.
func (b *Backend) Leases() es.Leases { return b.leases }

// Snapshots returns the snapshots.
func (b *Backend) Snapshots() es.Snapshots { return b.snapshots }

// Capabilities says what memory can do: everything but outlive the process.
func (b *Backend) Capabilities() es.Capabilities {
	return es.Capabilities{Name: "memory", Edits: true, Limits: b.limits}
}

// Close waits for the writes that are under way. What is in the storage stays there, for others that have it open.
func (b *Backend) Close() error {
	b.handle.close()
	b.dedupe.close()
	return nil
}

// handle is a backend's hold on its storage. Every call passes through it, those of dedupe apart, so that Close can wait for those under
// way.
type handle struct {
	calls  sync.RWMutex // held for reading by a call that writes
	once   sync.Once
	closed bool
	done   chan struct{} // closed by close: for calls that wait
}

// enter begins a call, and must be followed by leave unless it fails. A call that waits does not hold it meanwhile.
func (h *handle) enter() error {
	h.calls.RLock()
	if h.closed {
		h.calls.RUnlock()
		return es.ErrClosed
	}
	return nil
}

func (h *handle) leave() { h.calls.RUnlock() }

func (h *handle) close() {
	h.once.Do(func() {
		close(h.done)
		h.calls.Lock()
		h.closed = true
		h.calls.Unlock()
	})
}
