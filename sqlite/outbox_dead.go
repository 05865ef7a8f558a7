package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// deadPage is how many dead letters are read at once.
const deadPage = 100

// DeadLetters yields the dead letters that there are when the loop begins, the one that died first first. The body of the loop may
// replay and discard them.
func (o *Outbox) DeadLetters(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
	return func(yield func(es.DeadEntry, error) bool) {
		var after, last int64
		for begun := false; ; begun = true {
			page, err := o.deadPage(ctx, &after, &last, begun)
			if err != nil {
				yield(es.DeadEntry{}, err)
				return
			}
			for _, d := range page {
				if err := o.alive(ctx); err != nil {
					yield(es.DeadEntry{}, err)
					return
				}
				if !yield(d, nil) {
					return
				}
			}
			if len(page) < deadPage {
				return
			}
		}
	}
}

// deadPage reads the dead letters after one, which it moves on. The first page tells which is the last.
func (o *Outbox) deadPage(ctx context.Context, after, last *int64, begun bool) (page []es.DeadEntry, err error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return nil, err
	}
	defer o.db.handle.leave()
	err = o.db.read(ctx, func(c *conn) error {
		if !begun {
			if *last, err = c.number(o.sql.lastDeath); err != nil {
				return err
			}
		}
		return c.query(func(stmt *lite.Stmt) error {
			*after = stmt.ColumnInt64(0)
			d := es.DeadEntry{
				Message: new(es.Message), Enqueued: timeOf(stmt.ColumnInt64(1)), Died: timeOf(stmt.ColumnInt64(2)),
				Attempts: stmt.ColumnInt(3), Error: stmt.ColumnText(4), Parked: stmt.ColumnBool(5),
			}
			if err := readMessage(stmt, 6, d.Message); err != nil {
				return damaged(fmt.Errorf("dead letter %d: %w", *after, err))
			}
			page = append(page, d)
			return nil
		}, o.sql.deadPage, *after, *last, deadPage)
	})
	return page, err
}

// deadLetter is a dead letter in a transaction.
type deadLetter struct {
	id     uuid.UUID
	seq    int64
	stream string
}

// Replay puts dead letters back where they were in the order of their stream, before what was enqueued later.
func (o *Outbox) Replay(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, func(a *outboxAnswers, d deadLetter, s *outboxStream) error {
		a.gone--
		// A claim that is open has the entries up to one, but not this one: it counts as answered.
		return a.tx.write(o.sql.revive, a.tx.now, s.token, d.id[:])
	})
}

// Discard removes dead letters for good.
func (o *Outbox) Discard(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, func(*outboxAnswers, deadLetter, *outboxStream) error { return nil })
}

// raise takes dead letters, all or none, out of the dead letters, lets do have them in the order in which they were enqueued, and
// settles their streams.
func (o *Outbox) raise(ctx context.Context, ids []uuid.UUID, do func(a *outboxAnswers, d deadLetter, s *outboxStream) error) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if len(ids) == 0 {
		return nil
	}
	return o.db.write(ctx, &op{run: func(tx *txn) error {
		dead, err := o.deadLetters(tx, ids)
		if err != nil {
			return err
		}
		a := o.answers(tx)
		for _, d := range dead {
			s, err := a.stream(d.stream)
			if err != nil {
				return err
			}
			s.ready = 1 // it is to be settled, also when it was not there
			if err := do(a, d, s); err != nil {
				return err
			}
			if err := tx.write(o.sql.exhume, d.id[:]); err != nil {
				return err
			}
		}
		return a.settle()
	}})
}

// deadLetters finds dead letters, each once, in the order in which they were enqueued.
func (o *Outbox) deadLetters(tx *txn, ids []uuid.UUID) ([]deadLetter, error) {
	dead := make([]deadLetter, 0, len(ids))
	for _, id := range ids {
		d := deadLetter{id: id}
		err := tx.query(func(stmt *lite.Stmt) error {
			d.seq, d.stream = stmt.ColumnInt64(0), stmt.ColumnText(1)
			return nil
		}, o.sql.dead, id[:])
		if err != nil {
			return nil, err
		}
		if d.seq == 0 {
			return nil, fmt.Errorf("dead letter %s: %w", id, es.ErrNotFound)
		}
		dead = append(dead, d)
	}
	slices.SortFunc(dead, func(a, b deadLetter) int { return cmp.Compare(a.seq, b.seq) })
	return slices.Compact(dead), nil
}
