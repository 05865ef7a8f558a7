package sqlite

import (
	"log/slog"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Synchronous says when what was written is on the disk.
type Synchronous int

const (
	// Full syncs before it acknowledges: what was acknowledged survives loss of power.
	Full Synchronous = iota
	// Normal leaves it to checkpoints to sync: what was acknowledged survives kill -9, and the newest of it may go with loss of
	// power. The file stays whole. After the system has stopped while the file was open, the store has a new incarnation, because
	// positions that were handed out may be given again: checkpoints that are kept elsewhere are [es.ErrCheckpoint]
	// then, and so are groups of the package eventlog; projections of the same file go on. It takes a system that tells whether it
	// was started anew, which are Linux and macOS; on others it is [es.ErrInvalid].
	Normal
)

func (s Synchronous) String() string {
	switch s {
	case Full:
		return "FULL"
	case Normal:
		return "NORMAL"
	}
	return "unknown"
}

// Config is how to open a file. Only Path is required.
type Config struct {
	// Path is the file; it is made when it is not there. Its folder must be there. SQLite keeps two files beside it while it is
	// open (-wal and -shm), and the toolkit three more that are empty, for taking turns between processes (-turn, -next and -index).
	Path string
	// Namespace keeps programs apart that share a file; "default" by default.
	Namespace string
	// Limits are the largest sizes to take; see [es.Limits] for the defaults.
	Limits es.Limits
	// Synchronous is [Full] by default.
	Synchronous Synchronous
	// BusyTimeout is how long to wait for others who write to the file before giving up with [ErrBusy]; 10 seconds by default.
	BusyTimeout time.Duration
	// Readers is how many connections for reading there are at most; 4 by default.
	Readers int
	// PollInterval is how often to look for what other processes have written, while somebody waits for it; 15 milliseconds by
	// default. What this process writes wakes at once.
	PollInterval time.Duration
	// CheckpointPages is how many pages of 4 KiB the write-ahead log holds, roughly, before they are brought into the file; 4,000
	// by default.
	CheckpointPages int
	// IndexCache is how many bytes of the index to keep in memory; 32 MiB by default.
	IndexCache int
	// DedupeEntries is how many handled messages dedupe remembers in each group, 1,000,000 by default; then the oldest goes.
	DedupeEntries int
	// DedupeTTL is for how long it remembers them; 7 days by default.
	DedupeTTL time.Duration
	// Logger is told what somebody should know of; nothing by default.
	Logger *slog.Logger

	vfs string // another file system than the default one, for tests
	// runEvents is how many events a run of the index has, for tests, which have few; 0: as many as are worth it.
	runEvents int64
	boot      func() (name string, known bool)            // by what the system names the time since it was started
	network   func(path string) (name string, known bool) // what network file system a path is on; that of the system by default
}

func (c Config) withDefaults() Config {
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	c.Limits = c.Limits.WithDefaults()
	if c.BusyTimeout == 0 {
		c.BusyTimeout = 10 * time.Second
	}
	if c.Readers == 0 {
		c.Readers = 4
	}
	if c.PollInterval == 0 {
		c.PollInterval = 15 * time.Millisecond
	}
	if c.CheckpointPages == 0 {
		c.CheckpointPages = 4000
	}
	if c.IndexCache == 0 {
		c.IndexCache = 32 << 20
	}
	if c.DedupeEntries == 0 {
		c.DedupeEntries = 1_000_000
	}
	if c.DedupeTTL == 0 {
		c.DedupeTTL = 7 * 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	switch c.Path {
	case "":
		return es.Invalidf("path", "is empty; it names the file, such as items.db")
	case ":memory:":
		return es.Invalidf("path", "is :memory:; events that need no file are kept by the package memory")
	}
	if err := es.ValidateName("namespace", c.Namespace); err != nil {
		return err
	}
	if l := c.Limits; min(l.EventBytes, l.EventsPerAppend, l.MetadataBytes, l.TagsPerEvent) < 0 {
		return es.Invalidf("limits", "are %+v; each is 0 for its default, or more", l)
	}
	if c.Synchronous != Full && c.Synchronous != Normal {
		return es.Invalidf("synchronous", "is %d; there are Full and Normal", c.Synchronous)
	}
	for _, d := range []struct {
		what string
		d    time.Duration
	}{{"busy timeout", c.BusyTimeout}, {"poll interval", c.PollInterval}, {"dedupe expiry", c.DedupeTTL}} {
		if d.d < time.Millisecond {
			return es.Invalidf(d.what, "is %v; it takes a millisecond or more", d.d)
		}
	}
	for _, n := range []struct {
		what string
		n    int
	}{
		{"number of readers", c.Readers},
		{"number of checkpoint pages", c.CheckpointPages},
		{"size of the index cache", c.IndexCache},
		{"dedupe bound", c.DedupeEntries},
	} {
		if n.n < 1 {
			return es.Invalidf(n.what, "is %d; it takes 1 or more", n.n)
		}
	}
	return nil
}
