package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

const (
	// sortAtOnce is how many new entries a claim looks at.
	sortAtOnce = 10_000
	// lookAtOnce is about how many entries a claim looks at to share out among streams.
	lookAtOnce = 2048
	// defaultClaimLease is that of [es.ClaimOptions].
	defaultClaimLease = 30 * time.Second
)

// Claim fills dst with entries that can be worked on now. It waits for nobody: streams that somebody else works on at the moment are
// left to him.
//
// Streams take turns: the one that has waited longest for its turn comes first, and each has an equal share of dst. What some do not
// need goes to the others, so that one long stream alone fills dst.
func (o *Outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.db.handle.leave()
	if err := es.ValidateName("owner", opts.Owner); err != nil {
		return 0, err
	}
	if opts.Lease < 0 {
		return 0, es.Invalidf("lease", "is %v; it takes a duration above 0, or 0 for the default", opts.Lease)
	}
	if opts.Lease == 0 {
		opts.Lease = defaultClaimLease
	}
	if len(dst) == 0 {
		return 0, nil
	}
	n := 0
	err := o.db.pipeline(ctx, unsynced, func(b *pgx.Batch) {
		n = 0
		b.Queue(o.sql.sort, sortAtOnce)
		b.Queue(o.sql.pick, len(dst))
		b.Queue(o.sql.takeBack)
		b.Queue(o.sql.handOut, len(dst), lookAtOnce, leaseMicros(opts.Lease)).Query(func(rows pgx.Rows) (err error) {
			n, err = receive(dst, rows)
			return err
		})
		b.Queue(o.sql.rest)
	})
	if err != nil {
		clear(dst)
		return 0, err
	}
	o.restraint.claimed(n)
	return n, nil
}

// receive takes the entries that were handed out.
func receive(dst []es.Entry, rows pgx.Rows) (n int, err error) {
	var token, until, place, enqueued int64
	var attempt int
	var r messageRow
	_, err = pgx.ForEachRow(rows, append([]any{&token, &until, &place, &enqueued, &attempt}, r.fields()...), func() error {
		m, err := r.message()
		if err != nil {
			return fmt.Errorf("outbox entry at place %d: %w", place, err)
		}
		r = messageRow{}
		dst[n] = es.Entry{
			Message: m, Enqueued: timeAt(enqueued), Attempt: attempt, Deadline: timeAt(until),
			Token: uint64(token), //nolint:gosec // a token is above 0
		}
		n++
		return nil
	})
	return n, err
}

// Wait returns when there may be something to claim.
func (o *Outbox) Wait(ctx context.Context) error {
	watching, paused := false, false
	defer func() {
		if watching {
			o.db.watch.end()
		}
	}()
	for {
		rung := o.db.outboxBell.listen()
		in, err := o.nextReady(ctx)
		if err != nil {
			return err
		}
		pause := min(o.restraint.pause(), o.db.config.PollInterval)
		if in == 0 && (paused || pause == 0) {
			o.restraint.promised()
			return nil
		}
		if !watching { // and look once more: somebody may have written in between
			if err := o.db.watch.begin(); err != nil {
				return err
			}
			watching = true
			continue
		}
		until := time.Time{}
		switch {
		case in == 0:
			until, paused = time.Now().Add(pause), true
		case in > 0:
			until = time.Now().Add(in)
		}
		if err := o.db.wait(ctx, rung, until); err != nil {
			return err
		}
	}
}

// nextReady returns in what time the first stream can be claimed from: 0 for at once, and less when nobody knows.
func (o *Outbox) nextReady(ctx context.Context) (time.Duration, error) {
	if err := o.db.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.db.handle.leave()
	var clock, at int64
	if err := o.db.pool.QueryRow(ctx, o.sql.nextReady).Scan(&clock, &at); err != nil {
		return 0, fault(err)
	}
	if at == 0 {
		return -1, nil
	}
	return max(time.Duration(at-clock)*time.Microsecond, 0), nil
}

// restraint keeps those who wait from looking for the same thing all the time when others have it locked, as a transaction that forwards
// entries has: a stream looks as if it could be claimed from then, and cannot.
type restraint struct {
	hinted atomic.Bool  // somebody was told that there is something
	inVain atomic.Int64 // how often there was nothing, since a claim got something or this handle has changed something
}

// promised says that Wait returns because there is something.
func (r *restraint) promised() { r.hinted.Store(true) }

// claimed says what a claim has got.
func (r *restraint) claimed(entries int) {
	switch {
	case entries > 0:
		r.reset()
	case r.hinted.Swap(false):
		r.inVain.Add(1)
	}
}

func (r *restraint) reset() { r.inVain.Store(0) }

// pause is how long to wait although there seems to be something. Those who just came late a few times do not.
func (r *restraint) pause() time.Duration {
	const forNothing = 3
	return time.Duration(max(r.inVain.Load()-forNothing, 0)) * time.Millisecond
}
