package processor

import (
	"context"
	"errors"
	"fmt"

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
	held      tally        // how often the publisher held a message back that nothing was before
	desk      desk
	parcels   [][]int // what is appended together
}

// NewAtLeastOnce makes a processor. The error joins an [*es.InvalidError] for each field of the configuration that is wrong.
func NewAtLeastOnce(c Config) (*AtLeastOnce, error) {
	c = c.withDefaults(10, 256)
	faults := c.check()
	c.checkEvents(&faults)
	if err := faults.join(); err != nil {
		return nil, err
	}
	p := &AtLeastOnce{unsent: tally{}, held: tally{}}
	p.init(c)
	p.desk.init(&p.config)
	p.handle = p.move
	if c.Publisher == nil && c.AfterDeadLetter == Continue {
		p.forwarder, _ = c.Outbox.(es.Forwarder)
	}
	return p, nil
}

// move does all the steps for what is in hand, and answers every entry of it.
func (p *AtLeastOnce) move(ctx context.Context, h *hand) {
	p.desk.lay(h, h.every())
	if p.forwarder != nil {
		p.forward(ctx, h)
	} else {
		p.append(ctx, h)
		p.publish(ctx, h)
	}
	p.answer(ctx, h)
	p.desk.sweep()
}

// forward appends and completes in one step.
func (p *AtLeastOnce) forward(ctx context.Context, h *hand) {
	for i := range h.entries {
		h.keeper.answering(i)
	}
	outcomes := p.forwarder.Forward(ctx, h.entries)
	moved := int64(0)
	for i, o := range outcomes {
		if o.Err != nil {
			h.keeper.unanswered(i)
			continue
		}
		h.keeper.answered(i)
		p.desk.items[i].fate = fateSettled
		p.desk.streams[p.desk.items[i].stream].passed = true
		p.held.drop(h.entries[i].ID)
		p.counters.appended.Add(int64(1 - o.Existing))
		moved++
	}
	p.counters.completed.Add(moved)
	if moved > 0 {
		p.moving.clear()
	}
	for i, o := range outcomes {
		if o.Err != nil {
			p.failed(ctx, h, i, fmt.Errorf("append: %w", o.Err))
		}
	}
}

// append appends what there is of each stream in one go, and those of all streams in one call.
func (p *AtLeastOnce) append(ctx context.Context, h *hand) {
	p.parcels = p.parcels[:0]
	for s := range p.desk.streams {
		p.parcels = append(p.parcels, p.desk.of(s))
	}
	for s, o := range p.desk.append(ctx, h, p.parcels) {
		items := p.parcels[s]
		switch {
		case o.Err == nil:
			p.appended(items, o.Appended)
		case len(items) > 1 && es.Permanent(o.Err):
			p.appendSingly(ctx, h, items)
		default:
			for _, i := range items {
				p.failed(ctx, h, i, fmt.Errorf("append: %w", o.Err))
			}
		}
	}
}

// appendSingly appends messages of a stream one by one: one of them can never be appended, and the others must not suffer.
func (p *AtLeastOnce) appendSingly(ctx context.Context, h *hand, items []int) {
	for j, i := range items {
		if p.desk.streams[p.desk.items[i].stream].blocked {
			p.desk.items[i].fate = fateHeld
			continue
		}
		appended, err := p.desk.appendOne(ctx, h, i)
		if err != nil {
			p.failed(ctx, h, i, fmt.Errorf("append: %w", err))
			continue
		}
		p.appended(items[j:j+1], appended)
	}
}

func (p *AtLeastOnce) appended(items []int, a es.Appended) {
	p.desk.place(items, a)
	p.counters.appended.Add(int64(len(items) - a.Existing))
}

// failed decides what becomes of an entry that could not be appended or published.
func (p *AtLeastOnce) failed(ctx context.Context, h *hand, i int, err error) {
	it := &p.desk.items[i]
	s := &p.desk.streams[it.stream]
	it.err = err
	switch {
	case s.blocked || ctx.Err() != nil:
		it.fate = fateHeld // it was not tried
	case errors.Is(err, es.ErrHeldBack):
		it.fate = p.heldBack(h.entries[i].ID, s)
	case errors.Is(err, es.ErrLeaseLost):
		it.fate = fateSettled
		if h.keeper.answering(i) {
			h.keeper.answered(i)
			h.keeper.lost(&h.entries[i])
		}
	case errors.Is(err, es.ErrClosed):
		it.fate = fateHeld
		p.end(err)
	case errors.Is(err, es.ErrDuplicate) && h.entries[i].Name == es.DeadLetterName:
		// It is on record. A route that did not get to hear of it has sent it again, with another time and number of attempts.
		it.fate, it.err = fateDone, nil
		return
	case es.Permanent(err):
		p.bury(ctx, h, i, err)
		return
	default:
		it.fate = fateFailed
	}
	s.blocked = true
}

// heldBack says what becomes of an entry that was not tried although nothing before it in its stream has failed: it comes again at
// once, a few times, and then after a delay, so that nobody turns in circles.
func (p *AtLeastOnce) heldBack(id uuid.UUID, s *stream) fate {
	const atOnce = 3
	if s.passed || p.held.add(id) <= atOnce {
		return fateHeld
	}
	return fateFailed
}

// bury makes an entry a dead letter, on record in the dead stream before the outbox hears of it.
func (p *AtLeastOnce) bury(ctx context.Context, h *hand, i int, cause error) {
	it, entry := &p.desk.items[i], &h.entries[i]
	s := &p.desk.streams[it.stream]
	if !h.keeper.ours(i) {
		it.fate, s.blocked = fateSettled, true
		return
	}
	letter, err := es.NewDeadEntry(p.config.DeadStream, p.config.Name, entry, cause)
	if err == nil {
		_, err = p.config.Events.Append(ctx, es.AppendTo(letter.Stream, es.Any, letter))
	}
	if err != nil && !errors.Is(err, es.ErrDuplicate) { // a duplicate is the record of the same attempt, before a crash
		p.failed(ctx, h, i, notOnRecord(p.config.DeadStream, err, cause))
		return
	}
	it.fate, it.err = fateSettled, cause
	s.blocked = p.config.AfterDeadLetter == Park
	p.desk.which = append(p.desk.which[:0], i)
	if h.fail(ctx, p.desk.which, es.Failure{Err: cause, Dead: true, Park: s.blocked}) == 0 {
		s.blocked = true
		return
	}
	p.gaveUp(cause)
	p.unsent.drop(entry.ID)
	p.held.drop(entry.ID)
	p.counters.dead.Add(1)
	p.log.Error("message given up", "id", entry.ID, "name", entry.Name, "stream", entry.Stream, "attempt", entry.Attempt,
		"dead_stream", p.config.DeadStream, "error", cause)
}

// notOnRecord is the error of a dead letter that could not be appended. It is a text: an error that is permanent would make the
// outbox give up what is not on record.
func notOnRecord(deadStream string, err, cause error) error {
	text := fmt.Sprintf("append its dead letter to stream %q: %v; it is to be given up because: %v", deadStream, err, cause)
	if errors.Is(err, es.ErrClosed) {
		return fmt.Errorf("%s: %w", text, es.ErrClosed)
	}
	return errors.New(text)
}

// answer tells the outbox what became of the entries, those first that are done.
func (p *AtLeastOnce) answer(ctx context.Context, h *hand) {
	if h.complete(ctx, p.desk.with(fateDone)) > 0 {
		p.moving.clear()
	}
	p.retry(ctx, h)
	h.release(ctx, p.desk.with(fateHeld))
}

// retry gives back what failed. In an outage much fails in the same way, and is given back in one call.
func (p *AtLeastOnce) retry(ctx context.Context, h *hand) {
	failed := p.desk.with(fateFailed)
	for len(failed) > 0 {
		first := failed[0]
		text, attempt := p.desk.items[first].err.Error(), h.entries[first].Attempt
		n := 1
		for n < len(failed) && h.entries[failed[n]].Attempt == attempt && p.desk.items[failed[n]].err.Error() == text {
			n++
		}
		delay := p.config.Retry.Backoff.Delay(attempt)
		for _, i := range failed[:n] {
			entry := &h.entries[i]
			p.log.Warn("message is tried again", "id", entry.ID, "name", entry.Name, "stream", entry.Stream,
				"attempt", attempt, "retry_in", delay, "error", text)
		}
		retried := h.fail(ctx, failed[:n], es.Failure{Err: p.desk.items[first].err, Delay: delay})
		p.counters.retried.Add(int64(retried))
		p.moving.note(p.desk.items[first].err)
		failed = failed[n:]
	}
}
