package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// pageLimit is the largest number of messages that are read in one go.
const pageLimit = 512

// retryAfter is how long the reader and the keeper wait after an error of the store.
const retryAfter = 100 * time.Millisecond

// read is the reader: the goroutine that brings messages from the store into the partitions that this member owns.
func (g *group) read() {
	for g.ctx.Err() == nil {
		err := g.readOnce()
		switch {
		case err == nil, g.ctx.Err() != nil:
			continue
		case lasting(err):
			g.mu.Lock()
			g.fail(fmt.Errorf("read topic %q for group %q: %w", g.topic, g.name, err))
			g.mu.Unlock()
			return
		}
		g.log.config.Logger.Warn("event store could not be read; trying again",
			"topic", g.topic, "group", g.name, "error", err)
		pause(g.ctx, retryAfter)
	}
}

// lasting tells whether trying again cannot help.
func lasting(err error) bool {
	return errors.Is(err, es.ErrClosed) || errors.Is(err, es.ErrCheckpoint) || errors.Is(err, es.ErrInvalid) ||
		errors.Is(err, es.ErrUnsupported)
}

// pause waits until a time has passed or ctx has ended.
func pause(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// readOnce does what is most urgent: it fetches what a partition has open that was taken over, or reads a page, or waits.
func (g *group) readOnce() error {
	g.mu.Lock()
	if p := g.toLoad(); p != nil {
		return g.load(p) // it unlocks
	}
	after, limit := g.nextPage()
	if limit == 0 {
		g.readerIdle = true
		g.mu.Unlock()
		select {
		case <-g.readerWake:
		case <-g.ctx.Done():
		}
		g.mu.Lock()
		g.readerIdle = false
		g.mu.Unlock()
		return nil
	}
	head, err := g.waitBeyond(after) // it unlocks
	if err != nil || head.Position <= after.Position {
		return err
	}
	return g.readPage(after, head, limit)
}

// toLoad returns a partition that has to fetch what it has open.
func (g *group) toLoad() *partition {
	for _, p := range g.owned {
		if p.loading {
			return p
		}
	}
	return nil
}

// chunk is for how many messages there has to be room before the reader reads on, so that it does not read them one by one.
func (g *group) chunk() int { return max(min(g.log.config.ReadAhead/2, pageLimit), 1) }

// room is how many messages the reader may bring.
func (g *group) room() int { return g.log.config.ReadAhead - g.ready }

// takesPart tells whether a partition is to be read.
func (p *partition) takesPart() bool { return !p.full && !p.leaving && !p.loading }

// nextPage returns where to read on, and how many messages at most; 0 when there is no room, or nothing to read for.
func (g *group) nextPage() (after es.Checkpoint, limit int) {
	after = es.Checkpoint{Incarnation: g.incarnation, Position: never}
	for _, p := range g.owned {
		if p.takesPart() {
			after.Position = min(after.Position, p.scanned)
		}
	}
	if after.Position == never || g.err != nil || g.room() < g.chunk() {
		return after, 0
	}
	return after, min(g.room(), pageLimit)
}

// waitBeyond waits until the store has something behind a position, or a partition wants to be read from elsewhere. It unlocks.
func (g *group) waitBeyond(after es.Checkpoint) (es.Checkpoint, error) {
	select { // whoever signals from now on ends the waiting
	case <-g.readerWake:
	default:
	}
	ctx, stop := context.WithCancel(g.ctx)
	defer stop()
	g.stopWait = stop
	g.mu.Unlock()
	head, err := g.log.events.Wait(ctx, after)
	if err != nil && ctx.Err() != nil {
		return after, nil // somebody wants it to look again
	}
	return head, err
}

// readPage reads the messages between a position and the head, at most so many, into the partitions.
func (g *group) readPage(after, head es.Checkpoint, limit int) error {
	g.mu.Lock()
	g.stopWait = nil
	for _, p := range g.owned { // one that came meanwhile, and is not as far, needs a page that begins earlier
		p.reading = p.takesPart() && p.scanned >= after.Position && p.scanned < head.Position
	}
	g.mu.Unlock()

	query := es.Query{Category: g.topic, Any: g.only, UpTo: head.Position, Limit: limit}
	page := g.page[:0]
	var failed error
	for m, err := range g.log.events.Read(g.ctx, query.Resume(after)) {
		if err != nil {
			failed = err
			break
		}
		page = append(page, m)
	}
	end := head.Position
	if len(page) == limit || failed != nil {
		end = after.Position
		if len(page) > 0 {
			end = page[len(page)-1].Position
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range page {
		g.distribute(m)
	}
	for _, p := range g.owned {
		if p.reading && !p.full {
			p.scanned = max(p.scanned, end)
		}
		p.reading = false
	}
	clear(page)
	g.page = page[:0]
	g.flushSoon(g.clock())
	g.announce()
	g.notify()
	return failed
}

// distribute puts a message into its partition, unless that is somebody else's, has it already or has no room.
func (g *group) distribute(m *es.Message) {
	hash := g.hash(m)
	p := g.partitionOf(hash)
	if p == nil || !p.reading || p.full || m.Position <= p.scanned {
		return
	}
	if p.count >= g.log.config.Window {
		p.full = true
		p.scanned = m.Position - 1
		return
	}
	g.add(p, m, hash, entry{})
	p.scanned = m.Position
}

// load fetches what a partition has open that was taken over. What is not there any more, because it was truncated or deleted,
// is handled. It unlocks.
func (g *group) load(p *partition) error {
	pending, high, incarnation := p.pending, p.scanned, g.incarnation
	g.mu.Unlock()
	found, err := g.fetch(pending, incarnation)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || p.gone {
		return err
	}
	p.loading, p.pending = false, nil
	p.high = high
	for i, m := range found {
		if m == nil {
			p.dirty = true
			g.flushSoon(g.clock())
			continue
		}
		g.add(p, m, g.hash(m), pending[i])
	}
	g.announce()
	g.notify()
	return nil
}

// apart is how far open messages stand apart before each of them is read by itself.
const apart = 512

// fetch reads open messages; nil stands for those that are not there.
func (g *group) fetch(open []entry, incarnation uuid.UUID) ([]*es.Message, error) {
	found := make([]*es.Message, len(open))
	for begin := 0; begin < len(open); {
		end := begin + 1
		for end < len(open) && open[end].position-open[end-1].position <= apart {
			end++
		}
		query := es.Query{
			Category: g.topic, After: open[begin].position - 1, UpTo: open[end-1].position, Incarnation: incarnation,
		}
		at := begin
		for m, err := range g.log.events.Read(g.ctx, query) {
			if err != nil {
				return nil, err
			}
			for at < end && open[at].position < m.Position {
				at++
			}
			if at < end && open[at].position == m.Position {
				found[at] = m
			}
		}
		begin = end
	}
	return found, nil
}

// serveReader lets the reader go on when it waits for room and there is some.
func (g *group) serveReader() {
	if g.readerIdle && g.room() >= g.chunk() {
		signal(g.readerWake)
	}
}
