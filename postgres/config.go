package postgres

import (
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Migration says what Open does about the schema.
type Migration int

const (
	// Migrate makes the schema, or brings it up to date.
	Migrate Migration = iota
	// Verify fails with [ErrOutdated] unless the schema is up to date; see [MigrationSQL] for those who apply it themselves.
	Verify
)

// Ordering is a way to give positions to events so that no reader misses one.
type Ordering int

const (
	// Fence draws positions from a sequence, and appends of several connections overlap; readers find out by the locks of the sequence up
	// to where nothing can appear any more. A new namespace is made so on PostgreSQL.
	Fence Ordering = iota + 1
	// Serial draws positions from a row that one append at a time has until it is committed. It works on engines that do not have the
	// locks of PostgreSQL, and appends wait for each other.
	Serial
)

// Config is how to open a store. One of URL and Pool is required.
type Config struct {
	// URL is the connection string, as of libpq: "postgres://user:password@host:5432/database".
	URL string
	// Pool is one that the program has already; it is not closed by the store.
	Pool *pgxpool.Pool
	// DirectURL is a connection string past a pooler that shares connections between transactions, for those that are not of the pool: the
	// one that reads the end of the log and listens, and the Lanes; that of the pool by default.
	DirectURL string
	// Schema is the PostgreSQL schema for the tables; "eventsourcing" by default. Lower case letters, digits and underscores.
	Schema string
	// Namespace keeps programs apart that share a schema; "default" by default.
	Namespace string
	// Migration is [Migrate] by default.
	Migration Migration
	// Ordering is how positions are given. All who open a namespace have the same one, that with which it was made: 0 takes that one, or for
	// a new namespace [Fence] where the engine has what it takes, and [Serial] elsewhere. Another one than that of the namespace is
	// [es.ErrInvalid].
	Ordering Ordering
	// Limits are the largest sizes to take; see [es.Limits] for the defaults.
	Limits es.Limits
	// Lanes is how many connections appends travel on that wait at the same moment; 2 by default.
	Lanes int
	// PollInterval is how often to look for what others have written, while somebody waits for it and no notification has come; 15
	// milliseconds by default.
	PollInterval time.Duration
	// DedupeEntries is how many handled messages dedupe remembers in each group, 1,000,000 by default, or somewhat
	// more; then the oldest go.
	DedupeEntries int
	// DedupeTTL is for how long it remembers them; 7 days by default.
	DedupeTTL time.Duration
	// Logger is told what somebody should know of; nothing by default.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = "eventsourcing"
	}
	if c.Namespace == "" {
		c.Namespace = "default"
	}
	c.Limits = c.Limits.WithDefaults()
	if c.Lanes == 0 {
		c.Lanes = 2
	}
	if c.PollInterval == 0 {
		c.PollInterval = 15 * time.Millisecond
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

// schemaName is what a schema may be called: it needs no quotes, and room is left for the numbers of namespaces behind the names of
// tables and indexes, which have 63 bytes.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

func (c Config) validate() error {
	switch {
	case c.URL == "" && c.Pool == nil:
		return es.Invalidf("url", "is empty; it is a connection string such as postgres://user@host/database")
	case c.URL != "" && c.Pool != nil:
		return es.Invalidf("configuration", "has both a URL and a pool; one of them says where the database is")
	case !schemaName.MatchString(c.Schema):
		return es.Invalidf("schema", "is %q; it takes up to 48 lower case letters, digits and underscores, the first no digit", c.Schema)
	case c.Migration != Migrate && c.Migration != Verify:
		return es.Invalidf("migration", "is %d; there are Migrate and Verify", c.Migration)
	case c.Ordering < 0 || c.Ordering > Serial:
		return es.Invalidf("ordering", "is %d; there are Fence and Serial, and 0 for that of the namespace", c.Ordering)
	case c.Lanes < 1:
		return es.Invalidf("number of lanes", "is %d; it takes 1 or more", c.Lanes)
	case c.DedupeEntries < 1:
		return es.Invalidf("dedupe bound", "is %d; it takes 1 or more", c.DedupeEntries)
	}
	if err := es.ValidateName("namespace", c.Namespace); err != nil {
		return err
	}
	if l := c.Limits; min(l.EventBytes, l.EventsPerAppend, l.MetadataBytes, l.TagsPerEvent) < 0 {
		return es.Invalidf("limits", "are %+v; each is 0 for its default, or more", l)
	}
	for _, d := range []struct {
		what string
		d    time.Duration
	}{{"poll interval", c.PollInterval}, {"dedupe expiry", c.DedupeTTL}} {
		if d.d < time.Millisecond {
			return es.Invalidf(d.what, "is %v; it takes a millisecond or more", d.d)
		}
	}
	return nil
}
