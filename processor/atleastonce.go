package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// AtLeastOnce moves each message of an outbox through three steps: it is appended to the event store, published, and completed
// in the outbox. A crash between any two of them loses nothing: after the lease the steps are done again, where the append, by
// the message's ID, changes nothing, and the message is at most published again, with the same ID and place.
//
// Subscribers get the message as it is stored, with its version, position and time of record. Messages of one stream are
// appended and published in the order in which they were enqueued. When one fails, those behind it wait for it:
//
//   - A message that could not be appended is tried again, for as long as it can help, with a growing delay.
//   - One that could not be published is tried again as often as [Retry] says, and then is a dead letter.
//   - One that can never succeed ([es.Permanent]) is a dead letter at once.
//
// A dead letter is appended to the dead stream of the event store, as [es.NewDeadEntry] makes it, and stays in the outbox,
// where it can be replayed or discarded. When the dead stream cannot be appended to, the message is tried again: nothing is
// given up that is not on record. Dead letters are not published: the publisher is often what has failed, and a topic that
// nobody subscribes to would fill up. Who wants to be told reads the dead stream.
//
// Without a publisher, and with an outbox that is an [es.Forwarder], appending and completing are one step and one commit. With
// [Park] they are two all the same, because what follows a dead letter must not be appended.
//
// An outbox, event store or publisher that is closed ends the processor; see Err. That does not count as an attempt.
type AtLeastOnce struct {
	engine

	forwarder es.Forwarder // nil when there is nothing to be gained, or none
	unsent    tally        // failures to publish

	// Of the batch in hand, used again for the next one.
	items   []item
	streams []stream
	index   map[string]int // of streams, by name
	order   []int          // items, stream by stream
	sorted  []int          // items, by the position that they were stored at
	events  []*es.Message
	appends []es.Append
	single  []es.StreamAppend // one for each of appends
	pubs    []es.Publication
	sending []int // the item of each of pubs
	which   []int
}

// item is what is to become of an entry of the batch.
type item struct {
	stream int
	fate   fate
	place  es.Place
	stored *es.Message // as it stands in the event store
	err    error       // why it failed
}

// fate is how far an entry has come.
type fate int

const (
	fatePending fate = iota
	fateStored       // to be published
	fateDone         // to be completed
	fateFailed       // to be tried again
	fateHeld         // to be released
	fateSettled      // the outbox has it back
)

// stream is what the batch has of one stream.
type stream struct {
	name       string
	start, end int    // its items in AtLeastOnce.order
	blocked    bool   // one of its items has failed; those behind it must not overtake
	topic      string // where the present round of publishing sends it; empty when it has nothing in it
	deferred   bool   // it has more for the next round
}

// NewAtLeastOnce makes a processor. The error joins an [*es.InvalidError] for each field of the configuration that is wrong.
func NewAtLeastOnce(c Config) (*AtLeastOnce, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	p := &AtLeastOnce{index: map[string]int{}, unsent: tally{}}
	p.init(c)
	p.handle = p.move
	if c.Publisher == nil && c.AfterDeadLetter == Continue {
		p.forwarder, _ = c.Outbox.(es.Forwarder)
	}
	return p, nil
}

// move does all the steps for a batch, and answers every entry of it.
func (p *AtLeastOnce) move(ctx context.Context, b *batch) {
	p.group(b)
	if p.forwarder != nil {
		p.forward(ctx, b)
	} else {
		p.append(ctx, b)
		p.publish(ctx, b)
	}
	p.answer(ctx, b)
	p.forget()
}

// group sorts the entries of a batch by stream, in the order in which they came.
func (p *AtLeastOnce) group(b *batch) {
	n := len(b.entries)
	p.items = append(p.items[:0], make([]item, n)...)
	p.streams = p.streams[:0]
	clear(p.index)
	for i := range b.entries {
		name := b.entries[i].Stream
		s, known := p.index[name]
		if !known {
			s = len(p.streams)
			p.index[name] = s
			p.streams = append(p.streams, stream{name: name})
		}
		p.items[i].stream = s
		p.streams[s].end++ // how many it has, for now
	}
	at := 0
	for s := range p.streams {
		count := p.streams[s].end
		p.streams[s].start, p.streams[s].end = at, at
		at += count
	}
	p.order = slices.Grow(p.order[:0], n)[:n]
	for i := range p.items {
		s := &p.streams[p.items[i].stream]
		p.order[s.end] = i
		s.end++
	}
}

// forget lets go of the messages of the batch, and keeps the room.
func (p *AtLeastOnce) forget() {
	clear(p.items)
	clear(p.streams)
	clear(p.index)
	clear(p.events[:cap(p.events)])
	clear(p.appends[:cap(p.appends)])
	clear(p.single[:cap(p.single)])
	clear(p.pubs[:cap(p.pubs)])
}

// forward appends and completes in one step.
func (p *AtLeastOnce) forward(ctx context.Context, b *batch) {
	for i := range b.entries {
		b.keeper.answering(i)
	}
	outcomes := p.forwarder.Forward(ctx, b.entries)
	moved := int64(0)
	for i, o := range outcomes {
		if o.Err != nil {
			b.keeper.unanswered(i)
			continue
		}
		b.keeper.answered(i)
		p.items[i].fate = fateSettled
		p.counters.appended.Add(int64(1 - o.Existing))
		moved++
	}
	p.counters.completed.Add(moved)
	if moved > 0 {
		p.moving.clear()
	}
	for i, o := range outcomes {
		if o.Err != nil {
			p.failed(ctx, b, i, fmt.Errorf("append: %w", o.Err))
		}
	}
}

// append appends what the batch has of each stream in one go, and those of all streams in one call.
func (p *AtLeastOnce) append(ctx context.Context, b *batch) {
	p.events, p.appends = p.events[:0], p.appends[:0]
	for _, i := range p.order {
		p.events = append(p.events, b.entries[i].Message)
	}
	p.single = slices.Grow(p.single[:0], len(p.streams))[:len(p.streams)]
	for s, stream := range p.streams {
		p.single[s] = es.StreamAppend{Stream: stream.name, Expect: es.Any, Events: p.events[stream.start:stream.end]}
		p.appends = append(p.appends, es.Append{Streams: p.single[s : s+1 : s+1]})
	}
	outcomes := p.config.Events.AppendEach(ctx, p.appends)
	for s, o := range outcomes {
		items := p.order[p.streams[s].start:p.streams[s].end]
		switch {
		case o.Err == nil:
			p.appended(items, o.Appended)
		case len(items) > 1 && es.Permanent(o.Err):
			p.appendSingly(ctx, b, items)
		default:
			for _, i := range items {
				p.failed(ctx, b, i, fmt.Errorf("append: %w", o.Err))
			}
		}
	}
}

// appendSingly appends messages of a stream one by one: one of them can never be appended, and the others must not suffer.
func (p *AtLeastOnce) appendSingly(ctx context.Context, b *batch, items []int) {
	for _, i := range items {
		if p.streams[p.items[i].stream].blocked {
			p.items[i].fate = fateHeld
			continue
		}
		m := b.entries[i].Message
		appended, err := p.config.Events.Append(ctx, es.AppendTo(m.Stream, es.Any, m))
		if err != nil {
			p.failed(ctx, b, i, fmt.Errorf("append: %w", err))
			continue
		}
		p.appended([]int{i}, appended)
	}
}

func (p *AtLeastOnce) appended(items []int, a es.Appended) {
	for j, i := range items {
		p.items[i].fate, p.items[i].place = fateStored, a.Places[j]
	}
	p.counters.appended.Add(int64(len(items) - a.Existing))
}

// failed decides what becomes of an entry that could not be appended or published.
func (p *AtLeastOnce) failed(ctx context.Context, b *batch, i int, err error) {
	it := &p.items[i]
	s := &p.streams[it.stream]
	it.err = err
	switch {
	case s.blocked || ctx.Err() != nil || errors.Is(err, es.ErrHeldBack):
		it.fate = fateHeld // it was not tried
	case errors.Is(err, es.ErrLeaseLost):
		it.fate = fateSettled
		if b.keeper.answering(i) {
			b.keeper.answered(i)
			b.keeper.lost(&b.entries[i])
		}
	case errors.Is(err, es.ErrClosed):
		it.fate = fateHeld
		p.end(err)
	case es.Permanent(err):
		p.bury(ctx, b, i, err)
		return
	default:
		it.fate = fateFailed
	}
	s.blocked = true
}

// bury makes an entry a dead letter, on record in the dead stream before the outbox hears of it.
func (p *AtLeastOnce) bury(ctx context.Context, b *batch, i int, cause error) {
	it, entry := &p.items[i], &b.entries[i]
	s := &p.streams[it.stream]
	if !b.keeper.ours(i) {
		it.fate, s.blocked = fateSettled, true
		return
	}
	letter, err := es.NewDeadEntry(p.config.DeadStream, p.config.Name, entry, cause)
	if err == nil {
		_, err = p.config.Events.Append(ctx, es.AppendTo(letter.Stream, es.Any, letter))
	}
	if err != nil && !errors.Is(err, es.ErrDuplicate) { // a duplicate is the record of the same attempt, before a crash
		// As text: an error that is permanent would make the outbox give up what is not on record.
		p.failed(ctx, b, i, p.notOnRecord(err, cause))
		return
	}
	it.fate, it.err = fateSettled, cause
	s.blocked = p.config.AfterDeadLetter == Park
	p.which = append(p.which[:0], i)
	if b.fail(ctx, p.which, es.Failure{Err: cause, Dead: true, Park: s.blocked}) == 0 {
		s.blocked = true
		return
	}
	p.unsent.drop(entry.ID)
	p.counters.dead.Add(1)
	p.log.Error("message given up", "id", entry.ID, "name", entry.Name, "stream", entry.Stream, "attempt", entry.Attempt,
		"dead_stream", p.config.DeadStream, "error", cause)
}

func (p *AtLeastOnce) notOnRecord(err, cause error) error {
	text := fmt.Sprintf("append its dead letter to stream %q: %v; it is to be given up because: %v", p.config.DeadStream, err, cause)
	if errors.Is(err, es.ErrClosed) {
		return fmt.Errorf("%s: %w", text, es.ErrClosed)
	}
	return errors.New(text)
}

// answer tells the outbox what became of the entries, those first that are done.
func (p *AtLeastOnce) answer(ctx context.Context, b *batch) {
	b.complete(ctx, p.with(fateDone))
	p.retry(ctx, b)
	b.release(ctx, p.with(fateHeld))
}

// with lists the items of a fate, in the order in which they came.
func (p *AtLeastOnce) with(f fate) []int {
	p.which = p.which[:0]
	for i := range p.items {
		if p.items[i].fate == f {
			p.which = append(p.which, i)
		}
	}
	return p.which
}

// retry gives back what failed. In an outage much fails in the same way, and is given back in one call.
func (p *AtLeastOnce) retry(ctx context.Context, b *batch) {
	failed := p.with(fateFailed)
	for len(failed) > 0 {
		first := failed[0]
		text, attempt := p.items[first].err.Error(), b.entries[first].Attempt
		n := 1
		for n < len(failed) && b.entries[failed[n]].Attempt == attempt && p.items[failed[n]].err.Error() == text {
			n++
		}
		delay := p.config.Retry.delay(attempt)
		for _, i := range failed[:n] {
			entry := &b.entries[i]
			p.log.Warn("message is tried again", "id", entry.ID, "name", entry.Name, "stream", entry.Stream,
				"attempt", attempt, "retry_in", delay, "error", text)
		}
		retried := b.fail(ctx, failed[:n], es.Failure{Err: p.items[first].err, Delay: delay})
		p.counters.retried.Add(int64(retried))
		p.moving.note(p.items[first].err)
		failed = failed[n:]
	}
}

// tally counts failures by message, in bounded memory.
type tally map[uuid.UUID]int

// add counts a failure and returns how many there were.
func (t tally) add(id uuid.UUID) int {
	const most = 100_000
	if _, known := t[id]; !known && len(t) >= most {
		for some := range t { // which then has more attempts than it should
			delete(t, some)
			break
		}
	}
	t[id]++
	return t[id]
}

func (t tally) drop(id uuid.UUID) {
	if len(t) > 0 {
		delete(t, id)
	}
}
