package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Flush says when a [Batch] passes on what it has collected of a stream. The zero value means the defaults.
type Flush struct {
	// Size is how many messages make a batch: so many are passed on as soon as they are seen. It must not be more than the event
	// store takes in one append; see [es.Limits]. The default is 100.
	Size int
	// Interval is how long the oldest message of a stream waits for others at the most, counted from when it was enqueued. Then
	// what there is makes a batch. The default is 1 second.
	Interval time.Duration
}

func (f Flush) withDefaults() Flush {
	if f.Size == 0 {
		f.Size = 100
	}
	if f.Interval == 0 {
		f.Interval = time.Second
	}
	return f
}

// Batch collects the messages of each stream, and passes them on in batches: a batch is appended in one append, published in one
// call and completed in one, and has one fate. It is for receivers that are better off with many messages at a time.
//
// A batch has messages of one stream, in their order: [Flush].Size of them, or fewer when the oldest has waited for
// [Flush].Interval, when the processor is stopped, or when there is no room for more in hand. What is collected stays in the
// outbox until it is done, so that a crash loses nothing: after the lease it is collected again. A stop passes on what is in hand
// at that moment, and leaves the rest in the outbox.
//
// Any error that is the batch's own sends all of it to the dead stream, as one dead letter for each message, in one append, and
// makes its entries dead letters of the outbox. Nobody can tell then how much of it was stored and published before the error;
// nothing of it is tried again unless [Retry].Attempts, which counts the attempts at a batch, says so. Exceptions are errors that
// say nothing of the batch: being stopped, a lease that is lost, a role that is closed, an [es.ErrHeldBack] of the publisher. And when
// the dead stream cannot be appended to, the batch is tried again: nothing is given up that is not on record. Other streams go on
// in any case.
//
// While a stream is collected its entries are this processor's, and the outbox shows nobody, not even the processor itself, what
// is enqueued behind them. So it gives them back for a moment now and then, to claim them again with what has come. It does so at
// once when it is told of anything new in other streams, and otherwise after a rest that begins with 1 millisecond and doubles
// while nothing comes, up to a thirtieth of the interval. So a batch that becomes full while it is collected may wait for that long;
// one that is full when it is first seen does not wait.
type Batch struct {
	engine

	flush    Flush
	failures tally // by message
	held     tally // how often the publisher held a message back
	desk     desk

	ready [][]int // what is to be flushed; the batches of a stream one behind the other
	round [][]int // those of them that go together, at most one of each stream

	since     map[string]time.Time // when the streams that are collected were first seen
	collected int                  // how many entries the last look left
	fruitless int                  // looks in a row that found nothing more
	hinted    bool                 // the last rest ended because of a hint
	vain      int                  // hints in a row that led to nothing
	left      time.Time            // the end of the last rest
}

// NewBatch makes a processor. The error joins an [*es.InvalidError] for each field that is wrong.
func NewBatch(c Config, f Flush) (*Batch, error) {
	f = f.withDefaults()
	const batches = 16
	c = c.withDefaults(1, max(f.Size, 1)*batches)
	faults := c.check()
	c.checkEvents(&faults)
	faults.addf(f.Size < 1, "batch size", "is %d; it takes 1 or more", f.Size)
	faults.addf(f.Interval < time.Millisecond, "batch interval", "is %v; it takes 1ms or more", f.Interval)
	faults.addf(c.InHand < f.Size, "number in hand", "is %d entries, less than a batch of %d", c.InHand, f.Size)
	if err := faults.join(); err != nil {
		return nil, err
	}
	p := &Batch{flush: f, failures: tally{}, held: tally{}, since: map[string]time.Time{}}
	p.init(c)
	p.desk.init(&p.config)
	p.handle = p.move
	return p, nil
}

// move flushes what is ready. When nothing is, it waits for that, or for more.
func (p *Batch) move(ctx context.Context, h *hand) {
	p.desk.lay(h, h.every())
	oldest := p.age(h)
	if !p.choose(h) {
		p.rest(ctx, h, oldest.Add(p.flush.Interval))
		p.choose(h)
	}
	if len(p.ready) > 0 {
		p.fruitless, p.collected, p.vain, p.hinted, p.left = 0, 0, 0, false, time.Time{}
	}
	for _, items := range p.ready { // what is left of these streams, or comes, is another batch
		delete(p.since, h.entries[items[0]].Stream)
	}
	p.flushReady(ctx, h)
	p.answer(ctx, h)
	p.desk.sweep()
	clear(p.ready[:cap(p.ready)])
}

// age notes since when each stream is collected, and returns the earliest of these times. That is when its oldest entry was
// enqueued, but not later than when it was first seen: the clock of the outbox may be ahead of ours.
func (p *Batch) age(h *hand) time.Time {
	now := time.Now()
	earliest := now
	seen := make(map[string]time.Time, len(p.desk.streams))
	for s := range p.desk.streams {
		st := &p.desk.streams[s]
		st.since = now
		if before, known := p.since[st.name]; known {
			st.since = before
		}
		seen[st.name] = st.since
		for _, i := range p.desk.of(s) {
			if at := h.entries[i].Enqueued; at.Before(st.since) {
				st.since = now.Add(at.Sub(now)) // by a clock that does not jump from now on
			}
		}
		if st.since.Before(earliest) {
			earliest = st.since
		}
	}
	p.since = seen
	return earliest
}

// choose finds the batches that are ready to be flushed, and tells whether there are any.
func (p *Batch) choose(h *hand) bool {
	p.ready = p.ready[:0]
	if p.working.Err() != nil { // there is no time for anything any more
		return false
	}
	now, stopping := time.Now(), p.waiting.Err() != nil
	for s := range p.desk.streams {
		items := p.desk.of(s)
		if !stopping && now.Sub(p.desk.streams[s].since) < p.flush.Interval {
			items = items[:len(items)/p.flush.Size*p.flush.Size]
		}
		p.cut(items)
	}
	if len(p.ready) == 0 && len(h.entries) == len(h.room) { // the room is full, and nothing more can come
		for s := range p.desk.streams {
			p.cut(p.desk.of(s))
		}
	}
	return len(p.ready) > 0
}

// cut makes batches of items of one stream.
func (p *Batch) cut(items []int) {
	for len(items) > 0 {
		n := min(len(items), p.flush.Size)
		p.ready = append(p.ready, items[:n:n])
		items = items[n:]
	}
}

// rest waits until it is time to look for more: a stream is due, another one has something, or a while has passed.
func (p *Batch) rest(ctx context.Context, h *hand, due time.Time) {
	now := time.Now()
	if more := len(h.entries) > p.collected; more {
		p.fruitless, p.vain = 0, 0
	} else {
		p.fruitless++
		if p.hinted {
			p.vain++
		}
	}
	p.collected = len(h.entries)
	const doublings = 20
	longest := max(p.flush.Interval/30, time.Millisecond)
	rest := time.Millisecond << min(p.fruitless, doublings)
	if !p.left.IsZero() {
		const share = 8 // looking takes no more than a part of the time
		rest = max(rest, share*now.Sub(p.left))
	}
	rest = min(rest, longest, due.Sub(now))

	const hints = 3 // an outbox may hint at what others hold; that must not make this loop spin
	if p.vain < hints {
		p.hinted = p.restLightly(ctx, rest)
	} else {
		p.vain, p.hinted = hints-1, false
		p.restQuietly(ctx, rest)
	}
	p.left = time.Now()
}

// restLightly ends early, and returns true, when the outbox has something in other streams.
func (p *Batch) restLightly(ctx context.Context, rest time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, rest)
	defer cancel()
	defer context.AfterFunc(p.waiting, cancel)() //nolint:contextcheck // a stop is no end of ctx, and ends the wait too
	err := p.config.Outbox.Wait(ctx)
	switch {
	case err == nil:
		return true
	case ctx.Err() == nil && errors.Is(err, es.ErrClosed):
		p.end(fmt.Errorf("wait for entries of the outbox: %w", err))
	default:
		<-ctx.Done() // at once, unless the outbox is in trouble, and then it is only hints that are missing
	}
	return false
}

func (p *Batch) restQuietly(ctx context.Context, rest time.Duration) {
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.waiting.Done():
	}
}
