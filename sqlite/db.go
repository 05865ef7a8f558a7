package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DB is a file that is open, in one namespace. It plays every role, and is an [es.Backend].
type DB struct {
	config      Config
	handle      *handle
	space       int64 // number of the namespace
	incarnation uuid.UUID
	unsynced    uuid.UUID // by which the file knows that this handle does not sync; nil when it does

	writer  *writer
	readers *readers
	watch   *watch

	eventsBell, outboxBell bell

	events    *EventStore
	outbox    *Outbox
	models    *ReadModels
	dedupe    *Dedupe
	leases    *Leases
	snapshots *Snapshots
}

var _ es.Backend = (*DB)(nil)

// Open opens a file, and makes it when it is not there. It waits for nothing but others who write to the file at the moment.
//
// Errors: [es.ErrInvalid] when the configuration breaks a rule; [ErrForeign], [ErrNewer], [ErrNetwork], [ErrReadOnly], [ErrCorrupt],
// [ErrDiskFull], [ErrBusy], [ErrIO]. A file that is there is then as it was.
func Open(c Config) (*DB, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	db, err := open(c)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.Path, err)
	}
	return db, nil
}

func open(c Config) (_ *DB, err error) {
	if err := checkPath(c); err != nil {
		return nil, err
	}
	if err := peek(c); err != nil {
		return nil, err
	}
	t, lock, err := openLocks(c)
	if err != nil {
		return nil, err
	}
	w, err := openConn(c, lite.OpenReadWrite|lite.OpenCreate)
	if err != nil {
		return nil, errors.Join(err, t.close(), lock.close())
	}
	w.guard.writes = true
	db := &DB{config: c, handle: &handle{done: make(chan struct{})}}
	db.writer = newWriter(db, w, t)
	db.readers = newReaders(c)
	db.watch = &watch{db: db}
	if err := db.prepare(w); err != nil {
		return nil, errors.Join(err, w.closeConn(), t.close(), lock.close())
	}
	db.events = newEventStore(db)
	if err := db.events.log.catchUpBacklog(w); err != nil {
		return nil, errors.Join(err, w.closeConn(), t.close(), lock.close())
	}
	db.outbox = newOutbox(db)
	db.models = newReadModels(db)
	db.dedupe = newDedupe(db)
	db.leases = newLeases(db)
	db.snapshots = newSnapshots(db)
	go db.writer.loop()
	db.events.log.indexer.start(lock)
	return db, nil
}

// openLocks opens the files that processes take turns with. Another file system than the default one is nobody else's.
func openLocks(c Config) (*turn, *fileLock, error) {
	if c.vfs != "" {
		return nil, nil, nil
	}
	t, err := openTurn(c.Path)
	if err != nil {
		return nil, nil, err
	}
	lock, err := openFileLock(c.Path + "-index")
	if err != nil {
		return nil, nil, errors.Join(err, t.close())
	}
	return t, lock, nil
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

// Capabilities says what a file can do: all of it.
func (db *DB) Capabilities() es.Capabilities {
	return es.Capabilities{
		Name: "sqlite", Durable: true, SurvivesPowerLoss: db.config.Synchronous == Full, Shared: true,
		WakeUp: db.config.PollInterval + wakeUpSlack, Edits: true, Limits: db.config.Limits,
	}
}

// Close waits for the calls that are under way, and closes the file. The last one who closes it brings the write-ahead log into it.
func (db *DB) Close() error {
	if !db.handle.close() {
		return nil
	}
	indexed := db.events.close()
	db.models.sweeper.close()
	db.writer.close()
	return errors.Join(indexed, db.settle(), db.writer.lastCheckpoint(), db.watch.close(), db.readers.close(),
		db.writer.conn.closeConn(), db.writer.turn.close())
}

// write has an op done; see [writer.do]. The caller holds the handle.
func (db *DB) write(ctx context.Context, o *op) error { return db.writer.do(ctx, o) }

// read reads in one snapshot; see [readers.read]. The caller holds the handle.
func (db *DB) read(ctx context.Context, do func(c *conn) error) error {
	return db.readers.read(ctx, do)
}

// sql returns a statement for the namespace: each $ in it stands for the number of the namespace.
func (db *DB) sql(query string) string { return spaced(query, db.space) }
