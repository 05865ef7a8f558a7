package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DB is a schema that is open, in one namespace. It plays every role, and is an [es.Backend].
type DB struct {
	config      Config
	handle      *handle
	pool        *pgxpool.Pool
	direct      *pgx.ConnConfig // of connections that are nobody else's; see Config.DirectURL
	names       names
	serial      bool // see Serial
	incarnation uuid.UUID

	watch                  *watch
	eventsBell, outboxBell bell

	edits editStatements

	events    *EventStore
	outbox    *Outbox
	models    *ReadModels
	dedupe    *Dedupe
	leases    *Leases
	snapshots *Snapshots
}

var _ es.Backend = (*DB)(nil)

// Open connects to a database, and makes the schema and the namespace when they are not there.
//
// Errors: [es.ErrInvalid] when the configuration breaks a rule; [ErrUnavailable], [ErrForbidden], [ErrForeign], [ErrNewer], [ErrOutdated],
// [ErrReadOnly]; that of ctx. Nothing was changed then.
func Open(ctx context.Context, c Config) (*DB, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	db := &DB{config: c, handle: &handle{done: make(chan struct{})}, names: names{schema: c.Schema}}
	if err := db.connect(ctx); err != nil {
		return nil, err
	}
	conn, err := db.pool.Acquire(ctx)
	if err == nil {
		err = db.prepare(ctx, conn.Conn())
		conn.Release()
	}
	if err != nil {
		db.disconnect()
		return nil, fmt.Errorf("open: %w", fault(err))
	}
	db.edits = newEditStatements(db)
	db.watch = newWatch(db)
	db.events = newEventStore(db)
	db.outbox = newOutbox(db)
	db.models = newReadModels(db)
	db.dedupe = newDedupe(db)
	db.leases = newLeases(db)
	db.snapshots = newSnapshots(db)
	return db, nil
}

// connect makes the pool, if there is none, and finds out how to connect past it.
func (db *DB) connect(ctx context.Context) (err error) {
	db.pool = db.config.Pool
	if db.pool == nil {
		c, err := pgxpool.ParseConfig(db.config.URL)
		if err != nil {
			return es.Invalidf("url", "cannot be read: %v", err)
		}
		if db.pool, err = pgxpool.NewWithConfig(ctx, c); err != nil {
			return fmt.Errorf("open: %w", fault(err))
		}
	}
	db.direct = db.pool.Config().ConnConfig
	if db.config.DirectURL == "" {
		return nil
	}
	if db.direct, err = pgx.ParseConfig(db.config.DirectURL); err != nil {
		db.disconnect()
		return es.Invalidf("direct url", "cannot be read: %v", err)
	}
	return nil
}

// disconnect closes the pool, if it is the store's own.
func (db *DB) disconnect() {
	if db.config.Pool == nil {
		db.pool.Close()
	}
}

// Events returns the event store.
func (db *DB) Events() es.EventStore { return db.events }

// Outbox returns the outbox. It is an [es.Forwarder] too.
func (db *DB) Outbox() es.Outbox { return db.outbox }

// ReadModels returns the read models.
func (db *DB) ReadModels() es.ReadModels { return db.models }

// Dedupe returns the memory of handled messages.
func (db *DB) Dedupe() es.Dedupe { return db.dedupe }

// Leases returns the leases.
func (db *DB) Leases() es.Leases { return db.leases }

// Snapshots returns the snapshots.
func (db *DB) Snapshots() es.Snapshots { return db.snapshots }

// Capabilities says what PostgreSQL can do: all of it, as long as its own durability is not turned off (fsync, full_page_writes).
func (db *DB) Capabilities() es.Capabilities {
	return es.Capabilities{
		Name: "postgres", Durable: true, SurvivesPowerLoss: true, Shared: true,
		WakeUp: db.config.PollInterval + wakeUpSlack, Edits: true, Limits: db.config.Limits,
	}
}

// Close waits for the calls that are under way, and closes the connections that the store has opened.
func (db *DB) Close() error {
	if !db.handle.close() {
		return nil
	}
	db.models.close()
	err := errors.Join(db.events.close(), db.watch.close())
	db.disconnect()
	return err
}

// sql returns a statement for the namespace; see [names.sql].
func (db *DB) sql(query string) string { return db.names.sql(query) }
