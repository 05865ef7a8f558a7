package sqlite

import (
	"context"
	"fmt"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outboxStream is a stream of the outbox in a transaction.
type outboxStream struct {
	name                            string
	token, lease, until, last, open int64
	ready                           int64 // 0 when it is not
}

// Claim fills dst with entries that can be worked on now.
func (o *Outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.db.handle.leave()
	if opts.Owner == "" {
		return 0, es.Invalidf("claim", "has no owner; name who claims")
	}
	lease, err := leaseOr(opts.Lease)
	if err != nil || len(dst) == 0 {
		return 0, err
	}
	ready := int64(0)
	err = o.db.read(ctx, func(c *conn) error { // most polls find nothing, and need not disturb who writes
		ready, err = c.number(o.sql.anyReady, time.Now().UnixMicro())
		return err
	})
	if err != nil || ready == 0 {
		return 0, err
	}
	var claimed []es.Entry
	err = o.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		claimed, err = o.claim(tx, len(dst), lease)
		return err
	}})
	if err != nil {
		return 0, err
	}
	return copy(dst, claimed), nil
}

// outboxHand is what a claim takes of a stream.
type outboxHand struct {
	outboxStream
	entries []es.Entry
	ended   bool // there is nothing more to be had of it
}

// claim takes up to so many entries: of each stream that is ready a share first, and then what is left over.
func (o *Outbox) claim(tx *txn, most int, lease time.Duration) ([]es.Entry, error) {
	var hands []*outboxHand
	err := tx.query(func(stmt *lite.Stmt) error {
		hands = append(hands, &outboxHand{outboxStream: outboxStream{
			name: stmt.ColumnText(0), token: stmt.ColumnInt64(1), lease: stmt.ColumnInt64(2), until: stmt.ColumnInt64(3),
			last: stmt.ColumnInt64(4), open: stmt.ColumnInt64(5),
		}})
		return nil
	}, o.sql.ready, tx.now, most)
	if err != nil || len(hands) == 0 {
		return nil, err
	}
	tx.writes++
	token, err := tx.number(o.sql.token)
	if err != nil {
		return nil, err
	}
	left := most
	for _, share := range []int{most / len(hands), most} {
		for _, h := range hands {
			n, err := o.handOut(tx, h, min(share, left), token)
			if err != nil {
				return nil, err
			}
			left -= n
		}
	}
	claimed := make([]es.Entry, 0, most-left)
	until := leaseEnd(tx.now, lease)
	for _, h := range hands {
		for i := range h.entries {
			h.entries[i].Deadline = timeOf(until)
		}
		claimed = append(claimed, h.entries...)
		h.token, h.lease, h.until, h.open = token, lease.Microseconds(), until, int64(len(h.entries))
		if err := o.settle(tx, &h.outboxStream); err != nil {
			return nil, err
		}
	}
	return claimed, nil
}

// handOut adds up to so many entries to what is taken of a stream, as far as they can be worked on, and returns how many. A claim of
// before whose lease has ended counts as an attempt: the message may be what its owner died of.
func (o *Outbox) handOut(tx *txn, h *outboxHand, most int, token int64) (int, error) {
	if h.open > 0 {
		if err := tx.write(o.sql.overdue, h.name, h.last, h.token); err != nil {
			return 0, err
		}
		h.open = 0
	}
	if len(h.entries) == 0 {
		h.last = 0
	}
	if most <= 0 || h.ended {
		return 0, nil
	}
	parked, err := tx.number(o.sql.parked, h.name)
	if err != nil {
		return 0, err
	}
	n := 0
	err = tx.query(func(stmt *lite.Stmt) error {
		seq, due := stmt.ColumnInt64(0), stmt.ColumnInt64(3)
		if h.ended = h.ended || due > tx.now || parked != 0 && parked < seq; h.ended {
			return nil
		}
		m := new(es.Message)
		if err := readMessage(stmt, 4, m); err != nil {
			return damaged(fmt.Errorf("outbox entry %d: %w", seq, err))
		}
		h.last = seq
		h.entries = append(h.entries, es.Entry{
			Message: m, Enqueued: timeOf(stmt.ColumnInt64(1)), Attempt: stmt.ColumnInt(2),
			Token: uint64(token), //nolint:gosec // a token is above 0
		})
		n++
		return nil
	}, o.sql.handOut, h.name, h.last, most)
	return n, err
}

// settle writes a stream down after a change, with when it can be claimed from next.
func (o *Outbox) settle(tx *txn, s *outboxStream) error {
	if s.open > 0 {
		return o.putStream(tx, s, s.until)
	}
	var first, due int64
	err := tx.query(func(stmt *lite.Stmt) error {
		first, due = stmt.ColumnInt64(0), stmt.ColumnInt64(1)
		return nil
	}, o.sql.first, s.name)
	if err != nil {
		return err
	}
	parked, err := tx.number(o.sql.parked, s.name)
	switch {
	case err != nil:
		return err
	case first == 0 && parked == 0:
		return tx.write(o.sql.dropStream, s.name)
	case first == 0 || parked != 0 && parked < first:
		return o.putStream(tx, s, nil)
	}
	tx.tells |= outboxChanged
	return o.putStream(tx, s, max(due, tx.now))
}

func (o *Outbox) putStream(tx *txn, s *outboxStream, ready any) error {
	return tx.write(o.sql.setStream, s.name, ready, s.token, s.lease, s.until, s.last, s.open)
}
