package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// AtMostOnce completes each message in the outbox first, and then appends and publishes it: no message is published twice, and
// one that fails is dropped. It is for messages that are worth nothing when they come late or again, such as a position, a
// measurement, a reminder.
//
// It appends to the event store and publishes what is stored, with its version, position and time of record. Without Events it
// only publishes, as the message was enqueued; without a Publisher it only appends. A message that could not be appended is
// not published.
//
// Dropped is what was completed and then could not be appended or published, for whatever reason: an error, a closed store or
// publisher, a stop without patience, a crash. A crash drops what was in hand, [Config].InHand messages at the most. A drop is
// logged, and counted in [Stats], except after a crash. There is no dead letter and no other attempt; a message that was appended
// stays in the event store. The later messages of its stream go on without it.
//
// Where it is not known whether a message was completed, because the outbox did not answer or its lease was lost meanwhile, it is
// not published either. If it was not completed, it comes again, and if it was, it is dropped.
//
// Messages of one stream are passed on in their order. With several processors beside each other that is so for each of them only:
// what is completed holds up nobody, so that another one may get the next message of the stream and be faster with it.
//
// The promise is about this processor. When others than these work on the same outbox, one of them may have published a message
// before it died, and given this one a chance to do so again.
//
// Stop finishes what is in hand and drops nothing. An outbox, event store or publisher that is closed ends the processor; see Err.
type AtMostOnce struct {
	engine

	desk    desk
	parcels [][]int // what is appended together
}

// NewAtMostOnce makes a processor. Retry.Attempts and AfterDeadLetter have nothing to say here, and must be 0 or 1, and
// [Continue]. The error joins an [*es.InvalidError] for each field of the configuration that is wrong.
func NewAtMostOnce(c Config) (*AtMostOnce, error) {
	c = c.withDefaults(1, 256)
	faults := c.check()
	faults.addf(c.Events == nil && c.Publisher == nil, "processor", "has neither Events nor a Publisher; it takes one of them or both")
	faults.addf(c.Retry.Attempts > 1, "retry attempts", "are %d; at most once takes 1, or 0 for the default", c.Retry.Attempts)
	faults.addf(c.AfterDeadLetter == Park, "policy after a dead letter", "is Park; at most once has no dead letters, and takes Continue")
	if err := faults.join(); err != nil {
		return nil, err
	}
	p := &AtMostOnce{}
	p.init(c)
	p.desk.init(&p.config)
	p.handle = p.move
	return p, nil
}

// move completes what is in hand, and passes on what was completed.
func (p *AtMostOnce) move(ctx context.Context, h *hand) {
	if ctx.Err() != nil { // nothing could be passed on any more
		h.release(ctx, h.every())
		return
	}
	h.complete(ctx, h.every())
	slices.Sort(h.taken) // it may have taken more than one try, and the later one the earlier entries
	p.desk.lay(h, h.taken)
	p.giveBack(ctx, h)
	p.pass(p.working, h) //nolint:contextcheck // what is completed is nobody else's: the end of leases, which ends ctx, says nothing of it
	p.desk.sweep()
}

// pass passes on what was completed.
func (p *AtMostOnce) pass(ctx context.Context, h *hand) {
	if p.config.Events != nil {
		p.append(ctx, h)
	}
	p.publish(ctx, h)
}

// giveBack deals with what the outbox did not say was completed: nobody may publish that on a guess.
func (p *AtMostOnce) giveBack(ctx context.Context, h *hand) {
	for _, i := range h.unsure {
		p.dropped(h, i, errUnsure)
	}
	switch closed := errors.Is(h.err, es.ErrClosed); {
	case len(h.indexes) == 0, closed && h.tries == 1: // who is closed has done nothing
		return
	case closed: // and was open at a try before
		for _, i := range h.indexes {
			p.dropped(h, i, errUnsure)
		}
		return
	}
	unanswered := slices.Clone(h.indexes) // the next answer needs the room
	for _, i := range unanswered {
		h.keeper.unanswered(i)
	}
	h.release(ctx, unanswered)
	for _, i := range unanswered {
		if !slices.Contains(h.taken, i) {
			p.dropped(h, i, errUnsure)
		}
	}
}

var errUnsure = errors.New("it is not known whether the outbox has completed it")

// append appends what there is of each stream in one go, and those of all streams in one call.
func (p *AtMostOnce) append(ctx context.Context, h *hand) {
	p.parcels = p.parcels[:0]
	for s := range p.desk.streams {
		p.parcels = append(p.parcels, p.desk.of(s))
	}
	if len(p.parcels) == 0 {
		return
	}
	for s, o := range p.desk.append(ctx, h, p.parcels) {
		items := p.parcels[s]
		switch {
		case o.Err == nil:
			p.appended(items, o.Appended)
		case len(items) > 1 && es.Permanent(o.Err): // one of them can never be appended, and nothing was
			for j, i := range items {
				appended, err := p.desk.appendOne(ctx, h, i)
				if err != nil {
					p.failed(ctx, h, i, fmt.Errorf("append: %w", err))
					continue
				}
				p.appended(items[j:j+1], appended)
			}
		default:
			for _, i := range items {
				p.failed(ctx, h, i, fmt.Errorf("append: %w", o.Err))
			}
		}
	}
}

func (p *AtMostOnce) appended(items []int, a es.Appended) {
	p.desk.place(items, a)
	p.counters.appended.Add(int64(len(items) - a.Existing))
	if p.config.Publisher == nil {
		p.moving.clear()
	}
}

// publish tells others, each message once.
func (p *AtMostOnce) publish(ctx context.Context, h *hand) {
	if p.config.Publisher == nil {
		return
	}
	d := &p.desk
	if p.config.Events != nil {
		d.sort()
		d.load(ctx, h)
	} else {
		d.sorted = append(d.sorted[:0], d.order...)
		for _, i := range d.sorted {
			d.items[i].stored = h.entries[i].Message
		}
	}
	p.address(ctx, h)
	for together := true; len(d.sending) > 0; {
		pubs, sending := d.pubs, d.sending
		if !together {
			pubs, sending = pubs[:1], sending[:1]
		}
		err := p.config.Publisher.Publish(ctx, pubs...)
		var each *es.BatchError
		if errors.Is(err, es.ErrInvalid) && !errors.As(err, &each) && len(pubs) > 1 {
			together = false // nothing was published, and one of them is to blame
			continue
		}
		p.sent(ctx, h, len(sending), err)
	}
}

// address finds out where each message goes.
func (p *AtMostOnce) address(ctx context.Context, h *hand) {
	d := &p.desk
	d.pubs, d.sending = d.pubs[:0], d.sending[:0]
	for _, i := range d.sorted {
		err := d.items[i].err
		topic := ""
		if err == nil {
			topic, err = d.topic(d.items[i].stored)
		}
		if err != nil {
			p.failed(ctx, h, i, err)
			continue
		}
		d.pubs = append(d.pubs, es.Publication{Topic: topic, Message: d.items[i].stored})
		d.sending = append(d.sending, i)
	}
}

// sent notes what became of the first n messages that are to be published. What the publisher did not try is left, as long as it
// gets on with others.
func (p *AtMostOnce) sent(ctx context.Context, h *hand, n int, err error) {
	d := &p.desk
	rest, left := 0, 0
	for j, i := range d.sending {
		itemErr := es.Of(err, j)
		switch {
		case j >= n:
		case itemErr == nil:
			p.desk.items[i].fate = fateDone
			p.counters.published.Add(1)
			p.moving.clear()
			continue
		case errors.Is(itemErr, es.ErrHeldBack):
			left++
		default:
			p.failed(ctx, h, i, fmt.Errorf("publish to topic %q: %w", d.pubs[j].Topic, itemErr))
			continue
		}
		d.sending[rest], d.pubs[rest] = i, d.pubs[j]
		rest++
	}
	if left == n { // it was held back behind nothing
		for j, i := range d.sending[:left] {
			p.failed(ctx, h, i, fmt.Errorf("publish to topic %q: %w", d.pubs[j].Topic, es.Of(err, j)))
		}
		d.sending, d.pubs = d.sending[left:rest], d.pubs[left:rest]
		return
	}
	d.sending, d.pubs = d.sending[:rest], d.pubs[:rest]
}

// failed drops an item that was completed and cannot be passed on.
func (p *AtMostOnce) failed(ctx context.Context, h *hand, i int, err error) {
	p.desk.items[i].fate = fateSettled
	p.dropped(h, i, err)
	switch {
	case ctx.Err() != nil:
		if p.working.Err() != nil {
			p.broken.Store(true)
		}
	case errors.Is(err, es.ErrClosed):
		p.end(err)
	default:
		p.moving.note(err)
	}
}

func (p *AtMostOnce) dropped(h *hand, i int, err error) {
	entry := &h.entries[i]
	p.counters.dropped.Add(1)
	p.log.Error("message dropped", "id", entry.ID, "name", entry.Name, "stream", entry.Stream, "error", err)
}
