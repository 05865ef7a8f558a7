package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// durability is whether the outcome of a transaction survives a crash of the database.
type durability int

const (
	synced durability = iota
	// unsynced is for what may be undone by a crash. Others see it at once all the same, and whatever is synced later has it synced as well.
	unsynced
)

// byIndex has the planner leave out scans of whole tables, in a transaction: a plan that was made while a table was small is used when it
// has grown. And it makes the plan of a statement once: it is the same whatever the arguments are, and to make it takes longer than to run
// it.
const byIndex = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_mergejoin', 'off', true), " +
	"set_config('jit', 'off', true), " + // what is ruled out has a price that would make it compile statements
	"set_config('plan_cache_mode', 'force_generic_plan', true)"

// pipeline does statements in a transaction of their own, in one round trip: all of them, or nothing. Each sees what is committed when it
// begins, whatever the database has as its default. queue adds them to a batch, with what is to become of their answers; it is called
// again when PostgreSQL has undone the transaction because of others.
func (db *DB) pipeline(ctx context.Context, how durability, queue func(b *pgx.Batch)) error {
	return db.again(ctx, func() error {
		var b pgx.Batch
		b.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
		if how == synced {
			b.Queue(byIndex + ", " + durable)
		} else {
			b.Queue(byIndex + ", set_config('synchronous_commit', 'off', true)")
		}
		queue(&b)
		b.Queue("COMMIT")
		return db.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
			err := c.SendBatch(ctx, &b).Close()
			if err != nil && !c.Conn().IsClosed() && c.Conn().PgConn().TxStatus() != 'I' {
				_, _ = c.Exec(ctx, "ROLLBACK") // else the pool closes the connection, which comes to the same
			}
			return err
		})
	})
}
