package memory

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Outbox is the outbox of a namespace. It is an [es.Outbox] and an [es.Forwarder].
//
// Each stream is a lease partition of its own. What a claim hands out of a stream is with that claim until all of it is
// answered or the lease has ended, and only then does the next claim, whoever makes it, get entries of the stream. Attempt
// rises with every Fail and when the lease of a claim ends: the message may be what its owner died of.
type Outbox struct {
	handle   *handle
	queue    *outboxQueue
	limits   es.Limits
	failures atomic.Int64
}

var (
	_ es.Outbox    = (*Outbox)(nil)
	_ es.Forwarder = (*Outbox)(nil)
)

// Enqueue stores messages, all or none. An ID that waits already, or is a dead letter, is left as it is when the content is
// the same; otherwise the error is a [*es.DuplicateError].
func (o *Outbox) Enqueue(ctx context.Context, msgs ...*es.Message) error {
	if err := o.handle.begin(ctx); err != nil {
		return err
	}
	defer o.handle.leave()
	for _, m := range msgs {
		if err := m.Validate(o.limits); err != nil {
			return err
		}
	}
	entries := make([]*outboxEntry, len(msgs))
	for i, m := range msgs {
		entries[i] = &outboxEntry{message: m.Clone()} // outside the lock: a message may be large
		entries[i].message.Time = es.Timestamp(m.Time)
	}
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.takeIDs(entries); err != nil {
		return err
	}
	now := time.Now()
	for _, e := range entries {
		if e != nil {
			q.add(e, now)
		}
	}
	return nil
}

// takeIDs enters new entries under their IDs, all or none, and sets to nil those that are there already.
func (q *outboxQueue) takeIDs(entries []*outboxEntry) error {
	for i, e := range entries {
		id := e.message.ID
		old, taken := q.byID[id]
		switch {
		case !taken:
			q.byID[id] = e
		case old.message.SameContent(e.message):
			entries[i] = nil
		default:
			for _, earlier := range entries[:i] {
				if earlier != nil {
					delete(q.byID, earlier.message.ID)
				}
			}
			return &es.DuplicateError{ID: id, Stream: old.message.Stream, Reason: "in the outbox, with other content"}
		}
	}
	return nil
}

// Complete removes entries that are done.
func (o *Outbox) Complete(ctx context.Context, entries []es.Entry) error {
	return o.answer(ctx, entries, func(q *outboxQueue, e *outboxEntry, _ time.Time) { q.complete(e) })
}

// Fail gives entries back after a failed attempt. An Err that is nil is [es.ErrInvalid]; a negative Delay counts as none.
func (o *Outbox) Fail(ctx context.Context, entries []es.Entry, f es.Failure) error {
	if err := o.alive(ctx); err != nil {
		return err
	}
	if f.Err == nil {
		return es.Invalidf("failure", "has no error; it takes what went wrong")
	}
	dead := f.Dead || es.Permanent(f.Err)
	return o.answer(ctx, entries, func(q *outboxQueue, e *outboxEntry, now time.Time) {
		o.failures.Add(1)
		if dead {
			q.bury(e, f, now)
			return
		}
		if !e.failed {
			e.failed = true
			q.retrying++
		}
		e.attempt++
		e.due = now.Add(max(f.Delay, 0))
	})
}

// Release gives entries back at once; it was not an attempt.
func (o *Outbox) Release(ctx context.Context, entries []es.Entry) error {
	return o.answer(ctx, entries, func(*outboxQueue, *outboxEntry, time.Time) {})
}

// answer ends the claim on the entries that are still the caller's and does with each what is to be done with it.
func (o *Outbox) answer(ctx context.Context, entries []es.Entry, do func(*outboxQueue, *outboxEntry, time.Time)) error {
	return o.eachHeld(ctx, entries, func(_ int, e *outboxEntry, now time.Time) {
		o.queue.answer(e)
		do(o.queue, e, now)
		o.queue.settle(e.stream, now)
	})
}

// Extend starts the lease of the entries anew, and sets their Deadline. The lease is on the stream, so other entries of the
// stream that the claim handed out have the new one too.
func (o *Outbox) Extend(ctx context.Context, entries []es.Entry) error {
	return o.eachHeld(ctx, entries, func(i int, e *outboxEntry, now time.Time) {
		claim := &e.stream.claim
		claim.until = leaseEnd(now, claim.lease)
		entries[i].Deadline = es.Timestamp(claim.until)
		o.queue.settle(e.stream, now)
	})
}

// eachHeld calls a function, under the lock, for each entry that is still the caller's. For the others there is an error.
func (o *Outbox) eachHeld(ctx context.Context, entries []es.Entry, do func(i int, e *outboxEntry, now time.Time)) error {
	if err := o.handle.begin(ctx); err != nil {
		return err
	}
	defer o.handle.leave()
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	var errs []error // made when there is one
	for i := range entries {
		e, err := q.held(entries[i])
		if err != nil {
			if errs == nil {
				errs = make([]error, len(entries))
			}
			errs[i] = err
			continue
		}
		do(i, e, now)
	}
	return es.BatchErr(errs)
}

// held returns the entry that a claim has handed out, unless it was answered or is overdue. What is overdue has been taken
// back by advance.
func (q *outboxQueue) held(e es.Entry) (*outboxEntry, error) {
	if e.Message == nil {
		return nil, es.Invalidf("outbox entry", "has no message; pass what Claim gave")
	}
	entry := q.byID[e.ID]
	if entry == nil || !entry.out || entry.stream.claim.token != e.Token {
		return nil, fmt.Errorf("outbox entry %s of stream %q: %w", e.ID, e.Stream, es.ErrLeaseLost)
	}
	return entry, nil
}

// Stats tells what is in the outbox. Failures are those of this handle, since it was opened.
func (o *Outbox) Stats(ctx context.Context) (es.OutboxStats, error) {
	if err := o.handle.begin(ctx); err != nil {
		return es.OutboxStats{}, err
	}
	defer o.handle.leave()
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	return es.OutboxStats{
		Depth:    len(q.byID) - q.deadLetters,
		Oldest:   q.oldest(),
		Retrying: q.retrying,
		Dead:     q.deadLetters,
		Parked:   q.parked,
		Failures: o.failures.Load(),
	}, nil
}

// oldest returns when the oldest entry that waits was enqueued.
func (q *outboxQueue) oldest() time.Time {
	e := q.fresh.first
	if r := q.replayed.first; r != nil && (e == nil || r.enqueued.Before(e.enqueued)) {
		e = r
	}
	if e == nil {
		return time.Time{}
	}
	return es.Timestamp(e.enqueued)
}
