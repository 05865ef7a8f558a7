package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/jackc/pgx/v5"
)

// dedupeSweeper tells when it is time to sweep. It begins at a random place, so that many processes that live shortly sweep as often as
// one that lives long.
type dedupeSweeper struct {
	mu       sync.Mutex
	reserved sweepCount
	done     map[string]*sweepCount // by group
}

// sweepCount counts up to the next sweep.
type sweepCount struct{ made, due int }

// add notes that so many more were made. It returns how many were made since the last sweep, when it is time for one.
func (c *sweepCount) add(made, every int) (since int, sweep bool) {
	if c.due == 0 {
		c.due = 1 + rand.N(every)
	}
	if c.made += made; c.made < c.due {
		return 0, false
	}
	since, c.made, c.due = c.made, 0, every
	return since, true
}

// sweepReserved notes that reservations were made, and removes some of those that nobody has completed before their lease ended: a message
// that was reserved by a program that died may never be asked for again.
func (d *Dedupe) sweepReserved(ctx context.Context, made int) {
	const every = 256
	d.sweeper.mu.Lock()
	since, sweep := d.sweeper.reserved.add(made, every)
	d.sweeper.mu.Unlock()
	if !sweep {
		return
	}
	most := 2*since + 4*every // more than are made, so that it catches up
	err := d.db.pipeline(ctx, unsynced, func(b *pgx.Batch) { b.Queue(d.sql.abandon, most) })
	if err != nil && ctx.Err() == nil { // what was asked for is done
		d.db.config.Logger.WarnContext(ctx, "reservations that were abandoned could not be removed; trying again later", "error", err)
	}
}

// partSize is how many handled messages are counted as one, and forgotten together.
func (d *Dedupe) partSize() int { return min(max(d.db.config.DedupeEntries/16, 1), 1024) }

// sweepDone notes that messages of a group were completed. Every so often it counts those that are not counted yet, in parts, and removes
// the oldest parts: those that have expired, and those beyond which there are as many in newer parts as the group is to remember.
//
// A message that was completed by a transaction that took longer than the count is not counted, and goes with its part. So more may be
// remembered than were counted, and never fewer.
func (d *Dedupe) sweepDone(ctx context.Context, group string, completed int) {
	size := d.partSize()
	d.sweeper.mu.Lock()
	count := d.sweeper.done[group]
	if count == nil {
		count = &sweepCount{}
		d.sweeper.done[group] = count
	}
	since, sweep := count.add(completed, size)
	d.sweeper.mu.Unlock()
	if !sweep {
		return
	}
	parts := 2*since/size + 4 // more than are made, so that it catches up
	err := d.db.transact(ctx, func(tx pgx.Tx) error {
		var grp int32
		var counted, swept int64
		err := tx.QueryRow(ctx, d.sql.lockGroup, group).Scan(&grp, &counted, &swept)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // another process is at it
		}
		if err != nil {
			return err
		}
		// Where many rows were removed, to look again takes long, and there is hardly one that was locked or not committed at the time.
		const lookAgain = 64
		if rand.N(lookAgain) == 0 {
			swept = 0
		}
		var b pgx.Batch
		b.Queue(byIndex)
		b.Queue(d.sql.count, grp, counted, size, parts, d.db.config.DedupeTTL.Microseconds())
		b.Queue(d.sql.forget, grp, swept, d.db.config.DedupeEntries, parts)
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil && ctx.Err() == nil { // as above
		d.db.config.Logger.WarnContext(ctx, "messages that were handled long ago could not be removed; trying again later",
			"group", group, "error", err)
	}
}
