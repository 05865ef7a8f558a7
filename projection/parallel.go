package projection

import (
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
)

// crew handles events of different streams beside each other: those of one stream are one worker's, in order.
type crew struct {
	run     *run
	seed    maphash.Seed
	workers []worker
	failed  atomic.Int64 // the first event that has failed, by its number in the page; the number of events while none has
}

// worker handles its share of the events.
type worker struct {
	batch   Batch
	share   []int // which events of the page
	decoded []es.Decoded
	failure int // the event that it could not handle; -1: there is none
	err     error
}

// handleParallel is handle, with several streams at a time.
func (r *run) handleParallel(ctx context.Context, n int) outcome {
	if r.crew == nil {
		r.crew = &crew{run: r, seed: maphash.MakeSeed(), workers: make([]worker, r.p.config.Parallel)}
	}
	return r.crew.handle(ctx, n)
}

func (c *crew) handle(ctx context.Context, n int) outcome {
	c.share(n)
	c.failed.Store(int64(n))
	var all sync.WaitGroup
	for i := range c.workers {
		if w := &c.workers[i]; len(w.share) > 0 {
			all.Go(func() { c.work(ctx, w) })
		}
	}
	all.Wait()
	return c.outcome(ctx, n)
}

// share gives each worker the events of its streams. What needs no handler nobody gets.
func (c *crew) share(n int) {
	for i := range c.workers {
		w := &c.workers[i]
		w.share, w.failure, w.err = w.share[:0], -1, nil
		w.batch = Batch{ledger: c.run.ledger, aside: c.run.batch.aside}
	}
	for i, m := range c.run.page.messages[:n] {
		if c.run.settled(i) {
			continue
		}
		w := &c.workers[maphash.String(c.seed, m.Stream)%uint64(len(c.workers))]
		w.share = append(w.share, i)
	}
}

// work handles the events of a worker, until one fails. Those behind one that has failed elsewhere are left: they are handled again anyway.
func (c *crew) work(ctx context.Context, w *worker) {
	for _, i := range w.share {
		if int64(i) > c.failed.Load() {
			return
		}
		w.failure, w.err = i, errVanished // until its handler comes back
		w.err = c.call(ctx, w, c.run.page.messages[i])
		if w.err != nil {
			break
		}
		w.failure = -1
	}
	if w.failure < 0 {
		return
	}
	for {
		first := c.failed.Load()
		if int64(w.failure) >= first || c.failed.CompareAndSwap(first, int64(w.failure)) {
			return
		}
	}
}

func (c *crew) call(ctx context.Context, w *worker, m *es.Message) (err error) {
	w.batch.touched = false
	w.decoded, err = c.run.p.handlers.handle(ctx, &w.batch, m, w.decoded)
	if w.batch.broken != nil { // a handler may have made nothing of it
		return w.batch.broken
	}
	return err
}

// outcome is what came of it. Where an event has failed, all is handled again: what others have changed meanwhile may stand behind it.
func (c *crew) outcome(ctx context.Context, n int) outcome {
	first := n
	for i := range c.workers {
		w := &c.workers[i]
		if w.failure < 0 {
			continue
		}
		if trouble := c.run.trouble(ctx, &w.batch, w.err); trouble != nil {
			return outcome{err: trouble}
		}
		first = min(first, w.failure)
	}
	if first == n {
		return outcome{done: n}
	}
	for i := range c.workers {
		w := &c.workers[i]
		if w.failure != first {
			continue
		}
		if o := c.run.judge(first, w.err); o.stop != nil {
			return outcome{again: first, stop: o.stop}
		}
	}
	return outcome{again: n}
}
