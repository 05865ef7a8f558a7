package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// AppendTx is [es.EventStore].Append in a transaction of the program's own: it is there when the transaction commits, and not if it does
// not.
//
// From this call on until its end the transaction has the streams, and the tags and names that conditions are about, for itself, and holds
// back readers of the global order, and nobody else: commit soon, or use [DB.InTx], which appends at the end. Transactions that append
// to the same streams in opposite order are in each other's way: PostgreSQL undoes one of them, which is [ErrBusy].
//
// Who waits for events learns of them by looking time and again, within a second; [DB.Wake] after the commit makes it at once. The
// commit waits for the disk, also where the server, the user or the session have it otherwise by default.
//
// An append with a condition needs a transaction that is READ COMMITTED, and is [es.ErrInvalid] in another one. Without a condition, one
// that comes after another's is [es.ErrConflict] or [ErrBusy] in a stricter transaction, which cannot see what the other one has appended.
// After an error of the role, such as [es.ErrConflict], the transaction goes on as it was before the call; after one of the database
// it has to be rolled back.
func (s *EventStore) AppendTx(ctx context.Context, tx pgx.Tx, a es.Append) (done es.Appended, err error) {
	err = s.db.within(ctx, tx, func() error {
		if err := a.Validate(s.db.config.Limits); err != nil {
			return err
		}
		done, err = s.appendIn(ctx, tx, &a)
		return err
	})
	if err != nil {
		return es.Appended{}, err
	}
	return done, nil
}

// EnqueueTx is [es.Outbox].Enqueue in a transaction of the program's own. For who learns of it when, and for errors, see
// [EventStore.AppendTx].
func (o *Outbox) EnqueueTx(ctx context.Context, tx pgx.Tx, msgs ...*es.Message) error {
	return o.db.within(ctx, tx, func() error { return o.enqueueIn(ctx, tx, msgs) })
}

// CommitTx is [es.ReadModels].Commit in a transaction of the program's own. For errors see [EventStore.AppendTx].
func (r *ReadModels) CommitTx(ctx context.Context, tx pgx.Tx, c es.Commit) error {
	return r.db.within(ctx, tx, func() error { return r.commitIn(ctx, tx, &c) })
}

// within has a role do something in a transaction of the program's own.
func (db *DB) within(ctx context.Context, tx pgx.Tx, do func() error) error {
	if err := db.handle.begin(ctx); err != nil {
		return err
	}
	defer db.handle.leave()
	if _, err := tx.Exec(ctx, durably); err != nil {
		return fault(err)
	}
	return do()
}

// Wake tells who waits, here and in other processes, that a transaction with [EventStore.AppendTx] or [Outbox.EnqueueTx] has been
// committed. It is a hint: without it they find out by looking time and again.
func (db *DB) Wake() { db.tell(everything) }
