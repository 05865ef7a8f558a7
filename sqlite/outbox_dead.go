package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// bury makes an entry that a claim has in hand a dead letter.
func (e *outboxEdit) bury(h heldEntry, f es.Failure) error {
	if err := e.tx.write(e.sql.bury, e.tx.now, max(1, h.tried), f.Err.Error(), f.Park, h.entry); err != nil {
		return err
	}
	e.numbers.dead++
	switch s := &e.stream; {
	case !f.Park:
	case s.parked == 0:
		e.numbers.parked++
		s.parked = h.place
	default:
		s.parked = min(s.parked, h.place)
	}
	return e.complete(h)
}

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
	if err := p.fetch(ctx, p.begin); err != nil {
		return err
	}
	for p.after < p.last {
		if err := p.fetch(ctx, p.next); err != nil {
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
	bytes       int
}

// deadPageSize is how many dead letters are read at once; fewer when they are large.
const deadPageSize = 100

func (p *deadPage) fetch(ctx context.Context, how func(c *conn) error) error {
	if err := p.outbox.db.handle.begin(ctx); err != nil {
		return err
	}
	defer p.outbox.db.handle.leave()
	return p.outbox.db.read(ctx, how)
}

// begin finds the end.
func (p *deadPage) begin(c *conn) (err error) {
	p.last, err = c.number(p.outbox.sql.lastDeath)
	return err
}

// next reads the dead letters that come next.
func (p *deadPage) next(c *conn) error {
	p.letters, p.bytes = p.letters[:0], 0
	err := c.query(func(stmt *lite.Stmt) error { return p.add(c, stmt) }, p.outbox.sql.deadPage, p.after, p.last, deadPageSize)
	switch {
	case errors.Is(err, errEnough):
		return nil
	case len(p.letters) < deadPageSize:
		p.after = p.last
	}
	return err
}

func (p *deadPage) add(c *conn, stmt *lite.Stmt) error {
	p.after = stmt.ColumnInt64(0)
	letter := es.DeadEntry{
		Message: new(es.Message), Enqueued: timeAt(stmt.ColumnInt64(1)), Died: timeAt(stmt.ColumnInt64(2)),
		Attempts: stmt.ColumnInt(3), Error: stmt.ColumnText(4), Parked: stmt.ColumnBool(5),
	}
	if err := readMessage(stmt, 6, letter.Message, &c.texts); err != nil {
		return damaged(fmt.Errorf("dead letter %d: %w", p.after, err))
	}
	p.letters = append(p.letters, letter)
	if p.bytes += len(letter.Data); p.bytes >= pageBytes {
		return errEnough
	}
	return nil
}

// Replay puts dead letters back where they were in the order of their stream, before what was enqueued later.
func (o *Outbox) Replay(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, (*outboxEdit).revive)
}

// Discard removes dead letters for good.
func (o *Outbox) Discard(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, func(*outboxEdit, deadLetter) error { return nil })
}

// deadLetter is a dead letter in a transaction.
type deadLetter struct {
	death, place int64
	parked       bool
	stream       string
}

// raise takes dead letters, all or none, out of the dead letters when do has had each of them.
func (o *Outbox) raise(ctx context.Context, ids []uuid.UUID, do func(e *outboxEdit, d deadLetter) error) error {
	if err := o.db.handle.begin(ctx); err != nil {
		return err
	}
	defer o.db.handle.leave()
	if len(ids) == 0 {
		return nil
	}
	return o.db.write(ctx, &op{run: func(tx *txn) error {
		letters, err := o.findDead(tx, ids)
		if err != nil {
			return err
		}
		e, err := o.edit(tx)
		if err != nil {
			return err
		}
		for _, d := range letters {
			if err := e.takeUp(d.stream); err != nil {
				return err
			}
			if err := do(e, d); err != nil {
				return err
			}
			if err := e.exhume(d); err != nil {
				return err
			}
		}
		return e.put()
	}})
}

// findDead finds dead letters, each once, stream by stream and in the order of each.
func (o *Outbox) findDead(tx *txn, ids []uuid.UUID) ([]deadLetter, error) {
	letters := make([]deadLetter, 0, len(ids))
	for _, id := range ids {
		found := len(letters)
		err := tx.query(func(stmt *lite.Stmt) error {
			letters = append(letters, deadLetter{
				death: stmt.ColumnInt64(0), place: stmt.ColumnInt64(1), parked: stmt.ColumnBool(2), stream: stmt.ColumnText(3),
			})
			return nil
		}, o.sql.find, id[:])
		if err != nil {
			return nil, err
		}
		if len(letters) == found {
			return nil, fmt.Errorf("dead letter %s: %w", id, es.ErrNotFound)
		}
	}
	slices.SortFunc(letters, func(a, b deadLetter) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.place, b.place))
	})
	return slices.Compact(letters), nil
}

// takeUp takes up a stream, which may be one that does not stand in the file any more.
func (e *outboxEdit) takeUp(name string) error {
	if e.stream.name == name {
		return nil
	}
	found := outboxStream{}
	err := e.tx.query(func(stmt *lite.Stmt) error {
		found = readOutboxStream(stmt, 0)
		return nil
	}, e.sql.stream, name)
	if err != nil {
		return err
	}
	if err := e.take(found); err != nil {
		return err
	}
	e.stream.name, e.there = name, found.name != ""
	return nil
}

// revive makes a dead letter an entry.
func (e *outboxEdit) revive(d deadLetter) error {
	if !e.there {
		e.there = true
		if err := e.tx.write(e.sql.addStream, d.stream); err != nil {
			return err
		}
	}
	e.changed = true
	entry := e.numbers.entry + 1
	if err := e.tx.write(e.sql.revive, entry, e.tx.now, d.death); err != nil {
		return err
	}
	if err := e.tx.write(e.sql.addOrder, d.stream, d.place, entry); err != nil {
		return err
	}
	if !e.numbers.arrived() {
		e.numbers.sorted = entry
	}
	e.numbers.entry = entry
	e.numbers.depth++
	if e.stream.open == 0 || e.stream.last < d.place {
		return nil
	}
	// It stands among what a claim was given, which does not have it.
	return e.tx.write(e.sql.giveBack, entry, e.stream.token)
}

// exhume takes a dead letter out of the dead letters.
func (e *outboxEdit) exhume(d deadLetter) (err error) {
	e.numbers.dead--
	if err = e.tx.write(e.sql.exhume, d.death); err != nil || !d.parked {
		return err
	}
	e.changed = true
	if e.stream.parked, err = e.tx.number(e.sql.parked, d.stream); e.stream.parked == 0 {
		e.numbers.parked--
	}
	return err
}
