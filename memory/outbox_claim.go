package memory

import (
	"context"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Claim fills dst with entries that can be worked on now.
//
// Streams take turns: the one that has waited longest for its turn comes first, and each has an equal share of dst. What some
// do not need goes to the others, so that one long stream alone fills dst.
func (o *Outbox) Claim(ctx context.Context, dst []es.Entry, opts es.ClaimOptions) (int, error) {
	if err := o.handle.begin(ctx); err != nil {
		return 0, err
	}
	defer o.handle.leave()
	if err := es.ValidateName("owner", opts.Owner); err != nil {
		return 0, err
	}
	if opts.Lease == 0 {
		opts.Lease = defaultClaimLease
	}
	if err := validateLeaseTime(opts.Lease); err != nil {
		return 0, err
	}
	q := o.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.advance(now)
	return q.claim(dst, opts.Lease, now), nil
}

func (q *outboxQueue) claim(dst []es.Entry, lease time.Duration, now time.Time) int {
	streams := q.takeReady(len(dst))
	if len(streams) == 0 {
		return 0
	}
	q.token++
	until := leaseEnd(now, lease)
	share, left := len(dst)/len(streams), len(dst)
	for _, s := range streams {
		s.claim = outboxClaim{next: s.entries.first, token: q.token, lease: lease, until: until}
		left -= s.handOut(share, now)
	}
	for _, s := range streams {
		left -= s.handOut(left, now)
		s.claim.next = nil // so that it does not hold the entry when that is done
	}
	n := 0
	deadline := es.Timestamp(until)
	for _, s := range streams {
		e := s.entries.first
		for range s.claim.open {
			dst[n] = es.Entry{
				Message: e.message, Enqueued: es.Timestamp(e.enqueued), Attempt: e.attempt, Deadline: deadline, Token: q.token,
			}
			n++
			e = e.links[byStream].next
		}
		q.settle(s, now)
	}
	clear(streams)
	return n
}

// takeReady takes up to so many streams out of ready. The slice is good until the next call.
func (q *outboxQueue) takeReady(most int) []*outboxStream {
	streams := q.room[:0]
	for q.ready.len > 0 && len(streams) < most {
		s := q.ready.pop()
		s.place = placeNone
		streams = append(streams, s)
	}
	q.room = streams
	return streams
}

// handOut hands out up to so many more entries of the stream, as far as they can be worked on, and returns how many.
func (s *outboxStream) handOut(most int, now time.Time) int {
	n := 0
	for e := s.claim.next; e != nil && n < most && !e.due.After(now) && !s.blocked(e); e = e.links[byStream].next {
		e.out = true
		n++
		s.claim.next = e.links[byStream].next
	}
	s.claim.open += n
	return n
}

// Wait returns when there may be something to claim.
func (o *Outbox) Wait(ctx context.Context) error {
	q := o.queue
	var arrivals uint64
	for first := true; ; first = false {
		if err := o.handle.begin(ctx); err != nil {
			return err
		}
		q.mu.Lock()
		now := time.Now()
		q.advance(now)
		if first {
			arrivals = q.arrivals
		}
		if q.ready.len > 0 || q.arrivals != arrivals {
			q.mu.Unlock()
			o.handle.leave()
			return nil
		}
		q.waiting = true
		changed := q.changed
		due, timed := q.timed.next()
		q.mu.Unlock()
		o.handle.leave()
		var timer <-chan time.Time
		if timed {
			timer = time.After(due.Sub(now)) // it is collected when nobody waits for it any more
		}
		if err := o.sleep(ctx, changed, timer); err != nil {
			return err
		}
	}
}

// sleep waits for the first of a change, a time, and the end of the call.
func (o *Outbox) sleep(ctx context.Context, changed <-chan struct{}, timer <-chan time.Time) error {
	select {
	case <-changed:
		return nil
	case <-timer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-o.handle.done:
		return es.ErrClosed
	}
}
