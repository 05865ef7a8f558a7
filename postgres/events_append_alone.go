package postgres

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
)

// manner is how an append that goes alone behaves when others have its locks.
type manner string

const (
	// patient waits for them, however long it takes.
	patient manner = ""
	// hasty gives up soon, with [ErrBusy].
	hasty manner = "SET LOCAL lock_timeout = '50ms'"
)

// appendAlone does an append in a transaction of its own, in which entries of the outbox are written as well. When the connection is lost,
// and whether it was done is unknown, it is done again: its IDs turn out to be there if it was. To look for them instead would not do,
// because the transaction may still be about to commit.
func (s *EventStore) appendAlone(ctx context.Context, a *es.Append, entries []*es.Message, how manner) (es.Appended, error) {
	var lost time.Time
	for {
		done, err := s.appendOnce(ctx, a, entries, how)
		if err == nil {
			if len(done.Places) > done.Existing {
				s.db.tell(eventsChanged)
			}
			if len(entries) > 0 {
				s.db.outbox.changed(outboxChanged)
			}
			return done, nil
		}
		if lost.IsZero() && !isRefusal(err) {
			lost = time.Now()
		}
		if !isLoss(err) || lost.IsZero() || time.Since(lost) > s.lanes.patience {
			return es.Appended{}, err
		}
		rest(ctx, rand.N(50*time.Millisecond))
		if ctx.Err() != nil {
			return es.Appended{}, ctx.Err()
		}
	}
}

// appendOnce does an append in two round trips: one to take the locks and look, and one to write and commit. It is done again when
// PostgreSQL has undone it because of others, and when another transaction had the same ID under way, in another stream.
func (s *EventStore) appendOnce(ctx context.Context, a *es.Append, entries []*es.Message, how manner) (done es.Appended, err error) {
	if len(entries) > 0 {
		return s.appendWith(ctx, a, entries, how)
	}
	for try := 1; ; try++ {
		err = s.db.again(ctx, func() error {
			return s.db.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) (err error) {
				done, err = s.appendOn(ctx, c.Conn(), a, how)
				return err
			})
		})
		if violatedKey(err) == "" || try == tries {
			return done, err
		}
	}
}

// appendWith does an append and enqueues entries in one transaction. Messages that an append has not left to be written, because they are
// there, do not keep the entries from being enqueued.
func (s *EventStore) appendWith(ctx context.Context, a *es.Append, entries []*es.Message, how manner) (done es.Appended, err error) {
	err = s.db.transact(ctx, func(tx pgx.Tx) (err error) {
		if how == hasty {
			if _, err := tx.Exec(ctx, string(hasty)); err != nil {
				return fault(err)
			}
		}
		if done, err = s.appendIn(ctx, tx, a); err != nil {
			return err
		}
		return s.db.outbox.enqueueIn(ctx, tx, entries)
	})
	if err != nil {
		return es.Appended{}, err
	}
	return done, nil
}

// appendOn does an append on a connection.
func (s *EventStore) appendOn(ctx context.Context, c *pgx.Conn, a *es.Append, how manner) (es.Appended, error) {
	p := s.newAppending(a)
	var look pgx.Batch
	look.Queue("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
	look.Queue(durably)
	if how == hasty {
		look.Queue(string(hasty))
	}
	p.queueLook(&look)
	if err := c.SendBatch(ctx, &look).Close(); err != nil {
		rollBack(ctx, c)
		return es.Appended{}, verdictOr(err)
	}
	rows, done, err := p.judge()
	if err != nil || len(rows.ids) == 0 {
		rollBack(ctx, c)
		return done, err
	}
	var write pgx.Batch
	p.queueInsert(&write, rows, &done)
	write.Queue("COMMIT")
	if err := c.SendBatch(ctx, &write).Close(); err != nil {
		rollBack(ctx, c)
		return es.Appended{}, fault(err)
	}
	return done, nil
}

// rollBack ends the transaction of a connection, if there is one. Where that fails the pool closes the connection, which comes to the same.
func rollBack(ctx context.Context, c *pgx.Conn) {
	if !c.IsClosed() && c.PgConn().TxStatus() != 'I' {
		_, _ = c.Exec(ctx, "ROLLBACK")
	}
}
