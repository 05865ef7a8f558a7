package processor

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
)

// publish tells others of what was appended, in the order in which it stands in the event store.
func (p *AtLeastOnce) publish(ctx context.Context, h *hand) {
	for s := range p.desk.streams {
		p.desk.streams[s].blocked = false // what is stored stands before what could not be appended, and need not wait for it
	}
	if p.config.Publisher == nil {
		for _, i := range p.desk.with(fateStored) {
			p.desk.items[i].fate = fateDone
		}
		return
	}
	p.desk.sort()
	p.desk.load(ctx, h)
	for _, i := range p.desk.sorted {
		if err := p.desk.items[i].err; err != nil {
			p.failed(ctx, h, i, err)
		}
	}
	for together := true; len(p.desk.sorted) > 0; {
		together = p.round(ctx, h, together)
	}
}

// round publishes what can be published in one call: of each stream what goes to one topic, because a publisher keeps the
// order of a stream within a topic only. The rest is left in p.desk.sorted for the next round. Not together, it is one message at a
// time. It returns whether the next round may be together.
func (p *AtLeastOnce) round(ctx context.Context, h *hand, together bool) bool {
	for s := range p.desk.streams {
		p.desk.streams[s].topic, p.desk.streams[s].deferred = "", false
	}
	p.desk.pubs, p.desk.sending = p.desk.pubs[:0], p.desk.sending[:0]
	rest := p.desk.sorted[:0]
	for _, i := range p.desk.sorted {
		if !together && len(p.desk.pubs) > 0 || !p.join(ctx, h, i) {
			rest = append(rest, i)
		}
	}
	p.desk.sorted = rest
	if len(p.desk.pubs) == 0 {
		return together
	}
	err := p.config.Publisher.Publish(ctx, p.desk.pubs...)
	var each *es.BatchError
	if err != nil && es.Permanent(err) && !errors.As(err, &each) && len(p.desk.sending) > 1 {
		p.desk.sorted = append(p.desk.sorted, p.desk.sending...) // nothing was published, and one of them is to blame
		p.desk.sortByPosition()
		return false
	}
	for j, i := range p.desk.sending {
		p.sent(ctx, h, i, es.Of(err, j))
	}
	return together
}

// join puts item i into the round, or settles its fate; it returns false to leave it for the next one.
func (p *AtLeastOnce) join(ctx context.Context, h *hand, i int) bool {
	it := &p.desk.items[i]
	s := &p.desk.streams[it.stream]
	switch {
	case it.fate != fateStored: // it could not be read back
		return true
	case s.blocked:
		it.fate = fateHeld
		return true
	case s.deferred:
		return false
	case !h.keeper.ours(i):
		it.fate, s.blocked = fateSettled, true
		return true
	}
	topic, err := p.desk.topic(it.stored)
	if s.topic != "" && (err != nil || topic != s.topic) {
		s.deferred = true
		return false
	}
	if err != nil {
		p.bury(ctx, h, i, err)
		return true
	}
	s.topic = topic
	p.desk.pubs = append(p.desk.pubs, es.Publication{Topic: topic, Message: it.stored})
	p.desk.sending = append(p.desk.sending, i)
	return true
}

// sent notes what became of a message that was given to the publisher.
func (p *AtLeastOnce) sent(ctx context.Context, h *hand, i int, err error) {
	it := &p.desk.items[i]
	if err == nil {
		it.fate = fateDone
		p.desk.streams[it.stream].passed = true
		p.unsent.drop(it.stored.ID)
		p.held.drop(it.stored.ID)
		p.counters.published.Add(1)
		return
	}
	topic := p.desk.streams[it.stream].topic
	err = fmt.Errorf("publish to topic %q: %w", topic, err)
	untold := p.desk.streams[it.stream].blocked || ctx.Err() != nil || errors.Is(err, es.ErrHeldBack) // it says nothing of the message
	if !untold && !errors.Is(err, es.ErrClosed) && !es.Permanent(err) && p.unsent.add(it.stored.ID) >= p.config.Retry.Attempts {
		p.bury(ctx, h, i, fmt.Errorf("%w: %w", es.ErrAttemptsExhausted, err))
	} else {
		p.failed(ctx, h, i, err)
	}
	p.desk.streams[it.stream].blocked = true // those behind it were turned down because of it, and come again
}
