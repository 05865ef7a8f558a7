package postgres

import (
	"context"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Outbox is the outbox of a namespace, for all the processes that have it open. It is an [es.Outbox] and an [es.Forwarder].
//
// Each stream is a lease partition of its own. What a claim hands out of a stream is with that claim until all of it is answered or the
// lease has ended, and only then does the next claim, whoever makes it, get entries of the stream. Attempt rises with every Fail and
// when the lease of a claim ends: the message may be what its owner died of. The clock of the database decides when a lease has ended.
//
// What is enqueued, completed, failed, replayed and discarded is synced. Claims, and what is given back or prolonged, are not: after a
// crash of the database what somebody had in hand may be handed out again at once, and his answer is [es.ErrLeaseLost] then.
//
// Transactions that enqueue at the same time may commit in another order than that of the places of their entries. An entry that comes
// late is the next one of its stream then.
type Outbox struct {
	db        *DB
	sql       outboxSQL
	failures  atomic.Int64
	restraint restraint
}

var (
	_ es.Outbox    = (*Outbox)(nil)
	_ es.Forwarder = (*Outbox)(nil)
)

func newOutbox(db *DB) *Outbox {
	return &Outbox{db: db, sql: newOutboxSQL(db)}
}

// Stats tells what is in the outbox. It counts: the outbox is read through. Failures are those of this handle, since it was opened.
func (o *Outbox) Stats(ctx context.Context) (es.OutboxStats, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return es.OutboxStats{}, err
	}
	defer o.db.handle.leave()
	stats, oldest := es.OutboxStats{Failures: o.failures.Load()}, int64(0)
	err := o.db.pool.QueryRow(ctx, o.sql.stats).Scan(&stats.Depth, &oldest, &stats.Retrying, &stats.Dead, &stats.Parked)
	if err != nil {
		return es.OutboxStats{}, fault(err)
	}
	if oldest != 0 {
		stats.Oldest = timeAt(oldest)
	}
	return stats, nil
}

// alive tells whether a call may go on.
func (o *Outbox) alive(ctx context.Context) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	o.db.handle.leave()
	return nil
}

// changed tells who waits that a transaction was committed that may have made something claimable.
func (o *Outbox) changed(what topic) {
	o.restraint.reset()
	o.db.tell(what)
}
