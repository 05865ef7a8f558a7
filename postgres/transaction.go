package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// now is the time of the database in a statement, in microseconds since 1970: the clock that decides about leases. Unlike now() it is
// not that of the beginning of the transaction, which may have waited for others.
const now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

// durably makes a transaction one that is on the disk when COMMIT returns, whatever the server, the user or the session have as their
// default; a stricter one stays.
const durably = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') IN ('off', 'local')"

// querier is a connection, a transaction or a pool.
type querier interface {
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// tries is how often a transaction is done that PostgreSQL undoes because of others.
const tries = 8

// transact does work in a transaction of its own, on a connection of the pool: all of it, durably, or nothing. Each statement sees what
// is committed when it begins. The work is done again when PostgreSQL has undone the transaction because of others.
func (db *DB) transact(ctx context.Context, do func(tx pgx.Tx) error) error {
	return db.again(ctx, func() error {
		return pgx.BeginTxFunc(ctx, db.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, durably); err != nil {
				return err
			}
			return do(tx)
		})
	})
}

// again does something that changes nothing when it fails, and does it again when PostgreSQL has undone it because of others.
func (db *DB) again(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || !mayTryAgain(err) || try == tries {
			return fault(err)
		}
		select {
		case <-time.After(rand.N(time.Duration(try) * 5 * time.Millisecond)): // so that those who met do not meet again
		case <-ctx.Done():
			return ctx.Err()
		case <-db.handle.done: // it is waited for: once more, at once
		}
	}
}
