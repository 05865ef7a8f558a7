package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Claim fills dst with entries that can be worked on now. Who finds nothing does not wait for those who write to the file.
//
// Streams take turns: the one that has waited longest for its turn comes first, and each has an equal share of dst. What some do not
// need goes to the others, so that one long stream alone fills dst. Of what was enqueued since the last claim the first 1,024 entries take
// part, or as many as dst has room for; the others do in the next claims.
func (o *Outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.db.handle.leave()
	if err := es.ValidateName("owner", opts.Owner); err != nil {
		return 0, err
	}
	lease, err := leaseOr(opts.Lease)
	if err != nil || len(dst) == 0 {
		return 0, err
	}
	ready := int64(0)
	err = o.db.read(ctx, func(c *conn) error {
		ready, err = c.number(o.sql.isReady, time.Now().UnixMicro())
		return err
	})
	if err != nil || ready == 0 {
		return 0, err
	}
	var claimed []es.Entry
	for more := true; more && len(claimed) == 0; {
		err = o.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
			claimed, more, err = o.claim(tx, len(dst), lease)
			return err
		}})
		if err != nil {
			return 0, err
		}
	}
	return copy(dst, claimed), nil
}

// outboxClaim is a claim that is being made.
type outboxClaim struct {
	outboxEdit

	until    time.Time
	streams  []claimedStream
	receiver *claimedStream // whose entries are being handed out
	entries  []es.Entry     // that were handed out, in this order
}

// claimedStream is a stream, and which entries of the claim are its.
type claimedStream struct {
	outboxStream

	share, rest span
}

// span is from one index up to, and without, another.
type span struct{ from, to int }

// claim makes a claim for so many entries at the most. Without any, it tells whether more have arrived, which the next claim sorts in: so
// a transaction is short, however much has arrived that cannot be worked on.
func (o *Outbox) claim(tx *txn, most int, lease time.Duration) (entries []es.Entry, more bool, err error) {
	edit, err := o.edit(tx)
	if err != nil {
		return nil, false, err
	}
	c := outboxClaim{outboxEdit: *edit}
	if err := c.find(most); err != nil {
		return nil, false, err
	}
	if len(c.streams) == 0 {
		return nil, c.numbers.arrived(), nil
	}
	if err := c.shareOut(most, lease); err != nil {
		return nil, false, err
	}
	return c.entries, false, nil
}

// shareOut hands out entries of the streams, so many at the most.
func (c *outboxClaim) shareOut(most int, lease time.Duration) (err error) {
	if err := c.begin(lease); err != nil {
		return err
	}
	share := most / len(c.streams)
	for i := range c.streams {
		s := &c.streams[i]
		if s.share, err = c.handOut(s, share); err != nil {
			return err
		}
	}
	grouped := true
	for i := range c.streams {
		s, left := &c.streams[i], most-len(c.entries)
		if left == 0 || s.share.to-s.share.from < share { // it has no more
			continue
		}
		if s.rest, err = c.handOut(s, left); err != nil {
			return err
		}
		grouped = grouped && s.rest.from == s.rest.to
	}
	if !grouped {
		c.group()
	}
	for i := range c.streams {
		c.stream, c.changed = c.streams[i].outboxStream, true
		if err := c.put(); err != nil {
			return err
		}
	}
	return nil
}

// find finds up to so many streams that can be claimed from.
func (c *outboxClaim) find(most int) error {
	if err := c.sortIn(max(int64(most), sortedAtOnce)); err != nil {
		return err
	}
	return c.tx.query(func(stmt *lite.Stmt) error {
		c.streams = append(c.streams, claimedStream{outboxStream: readOutboxStream(stmt, 0)})
		return nil
	}, c.sql.ready, c.tx.now, most)
}

// sortedAtOnce is how many entries a transaction sorts in, unless a claim has room for more. While more have arrived, those streams take
// turns that have entries among the first. It bounds how long others wait for a claim after many have been enqueued.
const sortedAtOnce = 1024

// sortIn sorts the first of the entries that have arrived in by their streams, up to so many.
func (c *outboxClaim) sortIn(most int64) error {
	n := c.numbers
	if !n.arrived() {
		return nil
	}
	upTo := min(n.entry, n.sorted+most)
	if err := c.tx.write(c.sql.sort, n.sorted, upTo); err != nil {
		return err
	}
	if err := c.tx.write(c.sql.sortStreams, n.sorted, upTo); err != nil {
		return err
	}
	n.sorted = upTo
	return nil
}

// begin has the claim take over the streams. The lease of a claim that had entries in hand has ended. That counts as an attempt, which
// need not survive a loss of power: the next one is counted again.
func (c *outboxClaim) begin(lease time.Duration) error {
	c.numbers.token++
	token := c.numbers.token
	until := leaseEnd(c.tx.now, lease)
	c.until = timeAt(until)
	for i := range c.streams {
		s := &c.streams[i].outboxStream
		if s.open > 0 {
			if err := c.tx.write(c.sql.takeBack, s.name, s.last, s.token); err != nil {
				return err
			}
		}
		s.token, s.lease, s.until, s.last, s.open = token, max(1, lease.Microseconds()), until, 0, 0
	}
	return nil
}

// errEnough ends the reading of rows.
var errEnough = errors.New("sqlite: no more rows are wanted")

// handOut hands out up to so many more entries of a stream, as far as they can be worked on.
func (c *outboxClaim) handOut(s *claimedStream, most int) (span, error) {
	before := int64(math.MaxInt64)
	if s.parked != 0 {
		before = s.parked
	}
	c.receiver = s
	handed := span{from: len(c.entries)}
	err := c.tx.query(c.receive, c.sql.handOut, s.name, s.last, before, most)
	if errors.Is(err, errEnough) {
		err = nil
	}
	handed.to = len(c.entries)
	return handed, err
}

// receive hands out the entry of a row.
func (c *outboxClaim) receive(stmt *lite.Stmt) error {
	place, due := stmt.ColumnInt64(0), stmt.ColumnInt64(1)
	if due > c.tx.now {
		return errEnough
	}
	m := new(es.Message)
	if err := readMessage(stmt, 4, m, &c.tx.texts); err != nil {
		return damaged(fmt.Errorf("outbox entry at place %d: %w", place, err))
	}
	c.receiver.last = place
	c.receiver.open++
	c.entries = append(c.entries, es.Entry{
		Message: m, Enqueued: timeAt(stmt.ColumnInt64(2)), Attempt: stmt.ColumnInt(3), Deadline: c.until,
		Token: uint64(c.numbers.token), //nolint:gosec // a token is above 0
	})
	return nil
}

// group brings the entries of each stream together.
func (c *outboxClaim) group() {
	entries := make([]es.Entry, 0, len(c.entries))
	for _, s := range c.streams {
		entries = append(entries, c.entries[s.share.from:s.share.to]...)
		entries = append(entries, c.entries[s.rest.from:s.rest.to]...)
	}
	c.entries = entries
}

// Wait returns when there may be something to claim.
func (o *Outbox) Wait(ctx context.Context) error {
	watching := false
	defer func() {
		if watching {
			o.db.watch.end()
		}
	}()
	for {
		rung := o.db.outboxBell.listen()
		next, err := o.nextReady(ctx)
		if err != nil {
			return err
		}
		if next != 0 && next <= time.Now().UnixMicro() {
			return nil
		}
		if !watching { // and look once more: somebody may have written in between
			if err := o.db.watch.begin(); err != nil {
				return err
			}
			watching = true
			continue
		}
		if err := o.db.wait(ctx, rung, timeOf(next)); err != nil {
			return err
		}
	}
}

// nextReady returns when the first stream can be claimed from, 0 when nobody knows.
func (o *Outbox) nextReady(ctx context.Context) (at int64, err error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.db.handle.leave()
	err = o.db.read(ctx, func(c *conn) error {
		at, err = c.number(o.sql.nextReady)
		return err
	})
	return at, err
}
