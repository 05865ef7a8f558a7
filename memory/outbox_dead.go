package memory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// bury makes an entry, whose claim has ended, a dead letter.
func (q *outboxQueue) bury(e *outboxEntry, f es.Failure, now time.Time) {
	q.unlink(e)
	q.dead.pushBack(e)
	q.deadLetters++
	e.dead = &es.DeadEntry{
		Message: e.message, Enqueued: es.Timestamp(e.enqueued), Died: es.Timestamp(now), Attempts: e.attempt,
		Error: f.Err.Error(), Parked: f.Park,
	}
	if f.Park {
		q.park(e)
	}
}

// exhume takes an entry out of the dead letters.
func (q *outboxQueue) exhume(e *outboxEntry) {
	q.dead.remove(e)
	q.deadLetters--
	if e.dead.Parked {
		q.unpark(e)
	}
	e.dead = nil
}

// DeadLetters yields the dead letters that there are when the loop begins, the one that died first first. The body of the
// loop may replay and discard them.
func (o *Outbox) DeadLetters(ctx context.Context) iter.Seq2[es.DeadEntry, error] {
	return func(yield func(es.DeadEntry, error) bool) {
		err := o.alive(ctx)
		if err == nil {
			for _, d := range o.deadLetters() {
				if err = o.alive(ctx); err != nil {
					break
				}
				if !yield(*d, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(es.DeadEntry{}, err)
		}
	}
}

// deadLetters returns the dead letters. None of them is ever changed.
func (o *Outbox) deadLetters() []*es.DeadEntry {
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	dead := make([]*es.DeadEntry, 0, q.deadLetters)
	for e := q.dead.first; e != nil; e = e.links[byAge].next {
		dead = append(dead, e.dead)
	}
	return dead
}

// alive tells whether a call may go on.
func (o *Outbox) alive(ctx context.Context) error {
	if err := o.handle.begin(ctx); err != nil {
		return err
	}
	o.handle.leave()
	return nil
}

// Replay puts dead letters back where they were in the order of their stream, before what was enqueued later.
func (o *Outbox) Replay(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, func(entries []*outboxEntry, now time.Time) {
		q := o.queue
		last := map[*outboxStream]*outboxEntry{} // of each stream, the one that was put back last
		for _, e := range entries {
			e.attempt, e.failed, e.due, e.replayed, e.enqueued = 1, false, time.Time{}, true, now
			e.stream = q.stream(e.message.Stream) // the one it was in may have gone
			e.stream.entries.insertFrom(last[e.stream], e)
			q.replayed.pushBack(e)
			last[e.stream] = e
		}
	})
}

// Discard removes dead letters for good.
func (o *Outbox) Discard(ctx context.Context, ids ...uuid.UUID) error {
	return o.raise(ctx, ids, func(entries []*outboxEntry, _ time.Time) {
		for _, e := range entries {
			delete(o.queue.byID, e.message.ID)
		}
	})
}

// raise takes dead letters, all or none, out of the dead letters, lets do have them in the order in which they were enqueued,
// and settles their streams.
func (o *Outbox) raise(ctx context.Context, ids []uuid.UUID, do func([]*outboxEntry, time.Time)) error {
	if err := o.handle.begin(ctx); err != nil {
		return err
	}
	defer o.handle.leave()
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	entries := make([]*outboxEntry, len(ids))
	for i, id := range ids {
		e := q.byID[id]
		if e == nil || e.dead == nil {
			return fmt.Errorf("dead letter %s: %w", id, es.ErrNotFound)
		}
		entries[i] = e
	}
	slices.SortFunc(entries, bySeq)
	entries = slices.Compact(entries) // an ID may be there twice
	for _, e := range entries {
		q.exhume(e)
	}
	now := time.Now()
	do(entries, now)
	q.advance(now)
	for _, e := range entries {
		q.settle(e.stream, now)
	}
	return nil
}
