package postgres

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// DeadLetters yields the dead letters that there are when the loop begins, the one that died first first. The body of the loop may
// replay and discard them.
func (o *Outbox) DeadLetters(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
	return func(yield func(es.DeadEntry, error) bool) {
		if err := o.eachDead(ctx, yield); err != nil {
			yield(es.DeadEntry{}, err)
		}
	}
}

// eachDead is DeadLetters but for the yielding of its error. It returns nil when the body of the loop wants no more.
func (o *Outbox) eachDead(ctx context.Context, yield func(es.DeadEntry, error) bool) error {
	p := deadPage{outbox: o}
	if err := p.begin(ctx); err != nil {
		return err
	}
	for p.after < p.last {
		if err := p.next(ctx); err != nil {
			return err
		}
		for _, letter := range p.letters {
			if err := o.alive(ctx); err != nil {
				return err
			}
			if !yield(letter, nil) {
				return nil
			}
		}
	}
	return nil
}

// deadPage is some of the dead letters.
type deadPage struct {
	outbox      *Outbox
	after, last int64 // the death of the last one that was read, and of the last one to be read
	letters     []es.DeadEntry
}

// deadPageSize is how many dead letters are read at once, and none follows more bytes than deadPageBytes.
const (
	deadPageSize  = 100
	deadPageBytes = 1 << 20
)

// begin finds the end.
func (p *deadPage) begin(ctx context.Context) error {
	if err := p.outbox.db.handle.begin(ctx); err != nil {
		return err
	}
	defer p.outbox.db.handle.leave()
	return fault(p.outbox.db.pool.QueryRow(ctx, p.outbox.sql.lastDeath).Scan(&p.last))
}

// next reads the dead letters that come next.
func (p *deadPage) next(ctx context.Context) error {
	if err := p.outbox.db.handle.begin(ctx); err != nil {
		return err
	}
	defer p.outbox.db.handle.leave()
	rows, err := p.outbox.db.pool.Query(ctx, p.outbox.sql.deadPage, p.after, p.last, deadPageSize, deadPageBytes)
	if err != nil {
		return fault(err)
	}
	p.letters = p.letters[:0]
	var r messageRow
	var letter es.DeadEntry
	var enqueued, died int64
	fields := append([]any{&p.after, &enqueued, &died, &letter.Attempts, &letter.Error, &letter.Parked}, r.fields()...)
	_, err = pgx.ForEachRow(rows, fields, func() (err error) {
		if letter.Message, err = r.message(); err != nil {
			return fmt.Errorf("dead letter %d: %w", p.after, err)
		}
		letter.Enqueued, letter.Died = timeAt(enqueued), timeAt(died)
		p.letters = append(p.letters, letter)
		r = messageRow{}
		return nil
	})
	if len(p.letters) == 0 {
		p.after = p.last
	}
	return fault(err)
}

// Replay puts dead letters back where they were in the order of their stream, before what was enqueued later.
func (o *Outbox) Replay(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, o.sql.revive)
}

// Discard removes dead letters for good.
func (o *Outbox) Discard(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, o.sql.discard)
}

// raise takes dead letters, all or none, out of the dead letters by a statement.
func (o *Outbox) raise(ctx context.Context, ids []uuid.UUID, statement string) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if len(ids) == 0 {
		return nil
	}
	err := o.db.transact(ctx, func(tx pgx.Tx) error {
		streams, err := o.findDead(ctx, tx, ids)
		if err != nil {
			return err
		}
		var b pgx.Batch
		b.Queue(byIndex)
		b.Queue(o.sql.addStream, streams) // which locks them
		b.Queue(statement, ids)
		b.Queue(o.sql.unpark, streams)
		b.Queue(o.sql.settle, streams)
		return tx.SendBatch(ctx, &b).Close()
	})
	if err == nil {
		o.changed(outboxChanged)
	}
	return err
}

// findDead locks dead letters, and returns their streams.
func (o *Outbox) findDead(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) (streams []string, err error) {
	rows, err := tx.Query(ctx, o.sql.find, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[uuid.UUID]bool, len(ids))
	var id uuid.UUID
	var stream string
	_, err = pgx.ForEachRow(rows, []any{&id, &stream}, func() error {
		found[id] = true
		streams = append(streams, stream)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !found[id] {
			return nil, fmt.Errorf("dead letter %s: %w", id, es.ErrNotFound)
		}
	}
	slices.Sort(streams)
	return slices.Compact(streams), nil
}
