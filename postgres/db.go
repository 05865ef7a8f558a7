package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is a store that is open, in one namespace.
type DB struct {
	config      Config
	pool        *pgxpool.Pool
	names       names
	incarnation uuid.UUID
}

// Open connects to a database, and makes the schema and the namespace when they are not there.
//
// Errors: [es.ErrInvalid] when the configuration breaks a rule; [ErrUnavailable], [ErrForbidden], [ErrForeign], [ErrNewer], [ErrOutdated],
// [ErrReadOnly]; that of ctx. Nothing was changed then.
func Open(ctx context.Context, c Config) (*DB, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	db := &DB{config: c, pool: c.Pool, names: names{schema: c.Schema}}
	if db.pool == nil {
		pool, err := pgxpool.New(ctx, c.URL)
		if err != nil {
			return nil, fmt.Errorf("open: %w", fault(err))
		}
		db.pool = pool
	}
	conn, err := db.pool.Acquire(ctx)
	if err == nil {
		err = db.prepare(ctx, conn.Conn())
		conn.Release()
	}
	if err != nil {
		if c.Pool == nil {
			db.pool.Close()
		}
		return nil, fmt.Errorf("open: %w", fault(err))
	}
	return db, nil
}

// Close closes the connections that the store has opened.
func (db *DB) Close() error {
	if db.config.Pool == nil {
		db.pool.Close()
	}
	return nil
}
