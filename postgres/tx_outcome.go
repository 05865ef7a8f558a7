package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// What has become of a commit whose answer did not come can be asked: PostgreSQL knows for each transaction whether it was committed, and
// that it was not. As long as it says "in progress" nobody can tell: the commit may be waiting for a replica, when nothing of it can be
// seen yet.
//
// Its number alone is not enough. One that was given to a transaction of which nothing had reached the disk when the server crashed is
// given again, and so is one that a replica which takes over has not heard of; a commit under this number is another one's then. So the
// life of the server must be the same as before (see schema/1/transactions.sql), or an event that the transaction has appended must
// be there.

// commitMark is what a transaction is known by.
type commitMark struct {
	transaction string     // its number; empty when it has changed nothing
	life        *uuid.UUID // of the server; nil after a crash of which nobody has taken notice
	position    int64      // of an event that it has appended, or 0
	event       uuid.UUID  // which one that is
}

// A transaction has a number when it has changed something, and one that is going to can be given it.
const (
	numberIfAny = "coalesce(pg_current_xact_id_if_assigned()::text, '')"
	numberNow   = "pg_current_xact_id()::text"
)

// queueMark adds the statement that says what a transaction is known by.
func (db *DB) queueMark(b *pgx.Batch, number string, mark *commitMark) {
	b.Queue(db.sql("SELECT " + number + ", (SELECT life FROM @lives_#)")).QueryRow(func(row pgx.Row) error {
		return row.Scan(&mark.transaction, &mark.life)
	})
}

const (
	// outcomePatience is for how long it is tried to find out what has become of a commit.
	outcomePatience = 15 * time.Second
	// lastPatience is for how long when nobody waits for it any more.
	lastPatience = 2 * time.Second
)

// commit commits a transaction, and finds out what has become of it when the connection is lost meanwhile.
func (db *DB) commit(ctx context.Context, tx pgx.Tx, mark commitMark) error {
	lost := tx.Commit(ctx)
	if lost == nil {
		if mark.life == nil {
			db.beginLife(ctx)
		}
		return nil
	}
	_, answered := errors.AsType[*pgconn.PgError](lost)
	if answered && !errors.Is(fault(lost), ErrUnavailable) || errors.Is(lost, pgx.ErrTxCommitRollback) || mark.transaction == "" {
		return fault(lost) // the server says that it did not commit, or it does not matter
	}
	patience := outcomePatience
	if ctx.Err() != nil {
		patience = lastPatience
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	switch of := db.outcomeOf(asking, mark); {
	case of == outcomeCommitted:
		return nil
	case of == outcomeUndone && ctx.Err() != nil:
		return ctx.Err()
	case of == outcomeUndone:
		return &engineError{ErrUnavailable, fmt.Errorf("the connection was lost, and nothing was done: %w", lost)}
	}
	return &engineError{ErrUnavailable, fmt.Errorf("the connection was lost, and whether it was committed is not known: %w", lost)}
}

// beginLife notes that the server has come up anew. Without it outcomes remain unknown that could be told.
func (db *DB) beginLife(ctx context.Context) {
	_, _ = db.pool.Exec(ctx, db.sql("INSERT INTO @lives_# DEFAULT VALUES ON CONFLICT DO NOTHING")) // the next one does it
}

// outcome is what has become of a transaction.
type outcome int

const (
	outcomeUnknown outcome = iota
	outcomeCommitted
	outcomeUndone
)

// outcomeOf finds out what has become of a transaction. The server may be about to commit it, or not know yet that nobody wants it any
// more.
func (db *DB) outcomeOf(ctx context.Context, mark commitMark) outcome {
	// A replica that is asked may not have heard of it yet. A number that was not given yet has been forgotten in a crash.
	const statusOf = "SELECT CASE WHEN pg_is_in_recovery() THEN 'in progress' WHEN $1::text::xid8 >= pg_current_xact_id() THEN 'aborted' " +
		"ELSE coalesce(pg_xact_status($1::text::xid8), 'unknown') END"
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var status string
		err := db.pool.QueryRow(ctx, statusOf, mark.transaction).Scan(&status)
		switch {
		case err != nil || status == "in progress":
		case status == "aborted":
			return outcomeUndone
		default:
			if of, err := db.confirm(ctx, mark); err == nil {
				return of
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return outcomeUnknown
		}
	}
}

// confirm tells whether it is the transaction that has been committed under its number.
func (db *DB) confirm(ctx context.Context, mark commitMark) (outcome, error) {
	var life *uuid.UUID
	var there, replica bool
	query := db.sql("SELECT (SELECT life FROM @lives_#), EXISTS (SELECT FROM @events_# WHERE position = $1 AND id = $2), pg_is_in_recovery()")
	err := db.pool.QueryRow(ctx, query, mark.position, mark.event).Scan(&life, &there, &replica)
	switch {
	case err != nil:
		return outcomeUnknown, err
	case replica:
		return outcomeUnknown, errReplica
	case there, mark.life != nil && life != nil && *mark.life == *life:
		return outcomeCommitted, nil
	case mark.position != 0:
		return outcomeUndone, nil
	}
	return outcomeUnknown, nil
}
