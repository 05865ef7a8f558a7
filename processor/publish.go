package processor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// publish tells others of what was appended, in the order in which it stands in the event store.
func (p *AtLeastOnce) publish(ctx context.Context, b *batch) {
	for s := range p.streams {
		p.streams[s].blocked = false // what is stored stands before what could not be appended, and need not wait for it
	}
	p.sorted = p.sorted[:0]
	for i := range p.items {
		if p.items[i].fate != fateStored {
			continue
		}
		if p.config.Publisher == nil {
			p.items[i].fate = fateDone
			continue
		}
		p.sorted = append(p.sorted, i)
	}
	if len(p.sorted) == 0 {
		return
	}
	slices.SortFunc(p.sorted, func(i, j int) int { return cmp.Compare(p.items[i].place.Position, p.items[j].place.Position) })
	p.load(ctx, b)
	for together := true; len(p.sorted) > 0; {
		together = p.round(ctx, b, together)
	}
}

// load reads back what was appended: an append tells the places of its events, and not when they were recorded.
func (p *AtLeastOnce) load(ctx context.Context, b *batch) {
	const gap = 16 // of positions, up to which it is cheaper to read on than to begin another read
	for rest := p.sorted; len(rest) > 0; {
		n := 1
		for n < len(rest) && p.items[rest[n]].place.Position-p.items[rest[n-1]].place.Position <= gap {
			n++
		}
		p.loadRun(ctx, b, rest[:n])
		rest = rest[n:]
	}
}

func (p *AtLeastOnce) loadRun(ctx context.Context, b *batch, run []int) {
	first, last := p.items[run[0]].place.Position, p.items[run[len(run)-1]].place.Position
	next := 0
	for m, err := range p.config.Events.Read(ctx, es.Query{After: first - 1, UpTo: last, Unsettled: true}) {
		if err != nil {
			for _, i := range run {
				p.failed(ctx, b, i, fmt.Errorf("read back: %w", err))
			}
			return
		}
		for next < len(run) && p.items[run[next]].place.Position < m.Position {
			next++
		}
		if next < len(run) && p.items[run[next]].place.Position == m.Position {
			p.items[run[next]].stored = m
		}
	}
	for _, i := range run {
		it := &p.items[i]
		if it.stored == nil { // its stream was truncated or deleted meanwhile; it was promised to be published all the same
			it.stored = b.entries[i].Clone()
			it.stored.Version, it.stored.Position = it.place.Version, it.place.Position
		}
	}
}

// round publishes what can be published in one call: of each stream what goes to one topic, because a publisher keeps the
// order of a stream within a topic only. The rest is left in p.sorted for the next round. Not together, it is one message at a
// time. It returns whether the next round may be together.
func (p *AtLeastOnce) round(ctx context.Context, b *batch, together bool) bool {
	for s := range p.streams {
		p.streams[s].topic, p.streams[s].deferred = "", false
	}
	p.pubs, p.sending = p.pubs[:0], p.sending[:0]
	rest := p.sorted[:0]
	for _, i := range p.sorted {
		if !together && len(p.pubs) > 0 || !p.join(ctx, b, i) {
			rest = append(rest, i)
		}
	}
	p.sorted = rest
	if len(p.pubs) == 0 {
		return together
	}
	err := p.config.Publisher.Publish(ctx, p.pubs...)
	var each *es.BatchError
	if err != nil && es.Permanent(err) && !errors.As(err, &each) && len(p.sending) > 1 {
		p.sorted = append(p.sorted, p.sending...) // nothing was published, and one of them is to blame
		slices.SortFunc(p.sorted, func(i, j int) int { return cmp.Compare(p.items[i].place.Position, p.items[j].place.Position) })
		return false
	}
	for j, i := range p.sending {
		p.sent(ctx, b, i, es.Of(err, j))
	}
	return together
}

// join puts item i into the round, or settles its fate; it returns false to leave it for the next one.
func (p *AtLeastOnce) join(ctx context.Context, b *batch, i int) bool {
	it := &p.items[i]
	s := &p.streams[it.stream]
	switch {
	case it.fate != fateStored: // it could not be read back
		return true
	case s.blocked:
		it.fate = fateHeld
		return true
	case s.deferred:
		return false
	case !b.keeper.ours(i):
		it.fate, s.blocked = fateSettled, true
		return true
	}
	topic, err := p.topic(it.stored)
	if s.topic != "" && (err != nil || topic != s.topic) {
		s.deferred = true
		return false
	}
	if err != nil {
		p.bury(ctx, b, i, err)
		return true
	}
	s.topic = topic
	p.pubs = append(p.pubs, es.Publication{Topic: topic, Message: it.stored})
	p.sending = append(p.sending, i)
	return true
}

// topic asks where a message goes. An answer that is no topic, or none, makes it a dead letter: asking again does not help.
func (p *AtLeastOnce) topic(m *es.Message) (topic string, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("find its topic: %w", &es.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	topic = p.config.Topic(m)
	if err := es.ValidateName("topic", topic); err != nil {
		return "", fmt.Errorf("find its topic: %w", err)
	}
	return topic, nil
}

// sent notes what became of a message that was given to the publisher.
func (p *AtLeastOnce) sent(ctx context.Context, b *batch, i int, err error) {
	it := &p.items[i]
	if err == nil {
		it.fate = fateDone
		p.unsent.drop(it.stored.ID)
		p.counters.published.Add(1)
		return
	}
	topic := p.streams[it.stream].topic
	err = fmt.Errorf("publish to topic %q: %w", topic, err)
	untold := p.streams[it.stream].blocked || ctx.Err() != nil || errors.Is(err, es.ErrHeldBack) // it says nothing of the message
	if !untold && !errors.Is(err, es.ErrClosed) && !es.Permanent(err) && p.unsent.add(it.stored.ID) >= p.config.Retry.Attempts {
		p.bury(ctx, b, i, fmt.Errorf("%w: %w", es.ErrAttemptsExhausted, err))
	} else {
		p.failed(ctx, b, i, err)
	}
	p.streams[it.stream].blocked = true // those behind it were turned down because of it, and come again
}
