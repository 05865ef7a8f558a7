package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"

	lite "zombiezen.com/go/sqlite"

	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// indexer brings the tail of the index into the file, and merges runs, in the background. What it writes shares transactions with
// everybody else, a few blocks at a time, so that nobody waits for it for long; and it is not synced for its own sake, because it can
// be made again. One process at a time does it, for all.
type indexer struct {
	log  *eventLog
	lock *fileLock
	work chan struct{}

	ctx    context.Context //nolint:containedctx // it is that of the goroutine, which begins and ends with the store
	cancel context.CancelFunc
	ended  chan struct{}
}

func newIndexer(l *eventLog) *indexer {
	ctx, cancel := context.WithCancel(context.Background())
	return &indexer{log: l, work: make(chan struct{}, 1), ctx: ctx, cancel: cancel, ended: make(chan struct{})}
}

// wake says that there may be something to do.
func (x *indexer) wake() {
	select {
	case x.work <- struct{}{}:
	default:
	}
}

// start starts the goroutine. The lock may be nil, when no other process has the file.
func (x *indexer) start(lock *fileLock) {
	x.lock = lock
	x.wake()
	go x.loop()
}

// close ends the goroutine, if it was started. What it was at is done by the next one.
func (x *indexer) close() error {
	x.cancel()
	if x.ended != nil {
		<-x.ended
	}
	return x.lock.close()
}

func (x *indexer) loop() {
	defer close(x.ended)
	swept := false
	for {
		select {
		case <-x.ctx.Done():
			return
		case <-x.work:
		}
		if locked, err := x.lock.try(); err != nil || !locked {
			x.report(err) // or another process is at it, for all
			continue
		}
		var err error
		if !swept {
			err = x.sweep()
			swept = err == nil
		}
		if err == nil {
			err = x.buildAll()
		}
		if err == nil {
			err = x.mergeAll()
		}
		x.lock.unlock()
		x.report(err)
	}
}

func (x *indexer) report(err error) {
	if err != nil && x.ctx.Err() == nil {
		x.log.db.config.Logger.Warn("sqlite: the index was not brought into the file; it is tried again", "path", x.log.db.config.Path,
			"error", err)
	}
}

// write has an op done that need not be synced.
func (x *indexer) write(run func(tx *txn) error, committed func()) error {
	return x.log.db.write(x.ctx, &op{run: run, committed: committed, relaxed: true, size: blocksPerOp * index.BlockBytes})
}

// sweep removes what somebody has left behind who died at this work, and what was hidden and not cleared.
func (x *indexer) sweep() error {
	l := x.log
	if err := l.clearLeftovers(x.ctx); err != nil {
		return err
	}
	for run := int64(0); ; run++ {
		known := false
		err := l.db.read(x.ctx, func(c *conn) error {
			first, err := c.number(l.sql.firstBlock, blockNumber(run, 0))
			if err != nil {
				return err
			}
			run = first >> 24
			return c.query(func(stmt *lite.Stmt) error {
				known = known || stmt.ColumnInt64(0) == run
				return nil
			}, l.sql.runs)
		})
		switch {
		case err != nil:
			return err
		case run == 0:
			return nil
		case known:
			continue
		}
		if err := x.drop(run); err != nil {
			return err
		}
	}
}

const (
	// blocksPerOp is how many blocks are written in a transaction, and droppedPerOp how many are removed.
	blocksPerOp  = 32
	droppedPerOp = 256
)

// drop removes the blocks of a run.
func (x *indexer) drop(run int64) error {
	for {
		more := false
		err := x.write(func(tx *txn) error {
			first, err := tx.number(x.log.sql.firstBlock, blockNumber(run, 0))
			if err != nil {
				return err
			}
			if more = first>>24 == run; !more {
				return nil
			}
			return tx.write(x.log.sql.dropBlocks, first, min(first+droppedPerOp, blockNumber(run+1, 0)-1))
		}, nil)
		if err != nil || !more {
			return err
		}
	}
}

// newRun returns the number of a run that is about to be written. It is never given again.
func (x *indexer) newRun() (run int64, err error) {
	err = x.write(func(tx *txn) error {
		if run, err = tx.number(x.log.sql.lastRun); err != nil {
			return err
		}
		run++
		return tx.write(x.log.sql.setLastRun, run)
	}, nil)
	return run, err
}

// emitter collects blocks of a run and writes them, some at a time.
type emitter struct {
	indexer *indexer
	run     int64
	first   int
	blocks  [][]byte
}

func (e *emitter) emit(number int, block []byte) error {
	if len(e.blocks) == 0 {
		e.first = number
	}
	if e.blocks = append(e.blocks, block); len(e.blocks) < blocksPerOp {
		return nil
	}
	return e.flush()
}

func (e *emitter) flush() error {
	if len(e.blocks) == 0 {
		return nil
	}
	err := e.indexer.write(func(tx *txn) error {
		for i, block := range e.blocks {
			if err := tx.write(e.indexer.log.sql.putBlock, blockNumber(e.run, e.first+i), block); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	e.blocks = e.blocks[:0]
	return err
}

// errOvertaken says that others have changed the runs meanwhile.
var errOvertaken = errors.New("others have changed the runs")

// buildAll makes runs of the chunks of the tail that are full.
func (x *indexer) buildAll() error {
	for x.ctx.Err() == nil {
		if built, err := x.build(); err != nil || !built {
			return err
		}
	}
	return x.ctx.Err()
}

func (x *indexer) build() (built bool, err error) {
	l := x.log
	to, due := l.nextRun()
	base := l.runs.Load().last
	if !due {
		return false, nil
	}
	span, ok := l.tail.Span(base, to)
	if !ok {
		return false, nil // it was cut a moment ago
	}
	err = x.writeRun(func(id int64, e *emitter) (index.Run, error) { return index.Build(id, span, e.emit) },
		func(runs []index.Run, run index.Run) ([]index.Run, error) {
			if len(runs) > 0 && runs[len(runs)-1].Last != base || len(runs) == 0 && base != 0 {
				return nil, errOvertaken
			}
			return append(slices.Clip(runs), run), nil
		})
	return err == nil, err
}

// mergeAll merges runs as long as there are any to be merged.
func (x *indexer) mergeAll() error {
	for x.ctx.Err() == nil {
		due := index.Due(x.log.runs.Load().runs)
		if len(due) == 0 {
			return nil
		}
		if err := x.merge(slices.Clone(due)); err != nil {
			return err
		}
	}
	return x.ctx.Err()
}

func (x *indexer) merge(due []index.Run) error {
	err := x.writeRun(func(id int64, e *emitter) (index.Run, error) {
		return index.Merge(id, due, &poolReader{indexer: x}, func(number int, block []byte) error {
			if len(e.blocks) == 0 { // a merge may take long, and the tail grows meanwhile
				if err := x.buildAll(); err != nil {
					return err
				}
			}
			return e.emit(number, block)
		})
	}, func(runs []index.Run, run index.Run) ([]index.Run, error) {
		at := slices.IndexFunc(runs, func(r index.Run) bool { return r.ID == due[0].ID })
		if at < 0 || at+len(due) > len(runs) || runs[at+len(due)-1].ID != due[len(due)-1].ID {
			return nil, errOvertaken
		}
		return slices.Replace(slices.Clone(runs), at, at+len(due), run), nil
	})
	if err != nil {
		return err
	}
	for _, run := range due {
		if err := x.drop(run.ID); err != nil {
			return err
		}
	}
	return nil
}

// writeRun writes the blocks of a run, and then puts it among the runs.
func (x *indexer) writeRun(
	write func(id int64, e *emitter) (index.Run, error), place func(runs []index.Run, run index.Run) ([]index.Run, error),
) error {
	id, err := x.newRun()
	if err != nil {
		return err
	}
	e := &emitter{indexer: x, run: id}
	run, err := write(id, e)
	if err == nil {
		err = e.flush()
	}
	if err == nil {
		err = x.putRun(run, place)
	}
	if err != nil && x.ctx.Err() == nil {
		return errors.Join(err, x.drop(id))
	}
	return err
}

func (x *indexer) putRun(run index.Run, place func(runs []index.Run, run index.Run) ([]index.Run, error)) error {
	l := x.log
	var set *runSet
	return x.write(func(tx *txn) error {
		before := l.runs.Load()
		runs, err := place(before.runs, run)
		if err != nil {
			return err
		}
		set = &runSet{generation: before.generation + 1, runs: runs, last: runs[len(runs)-1].Last}
		for _, r := range before.runs {
			if !slices.ContainsFunc(runs, func(kept index.Run) bool { return kept.ID == r.ID }) {
				if err := tx.write(l.sql.dropRun, r.ID); err != nil {
					return err
				}
			}
		}
		err = tx.write(l.sql.putRun, run.ID, run.Base, run.Last, run.Level, run.Events, run.Blocks, run.Root)
		if err != nil {
			return err
		}
		return tx.write(l.sql.setRuns, set.generation)
	}, func() {
		l.runs.Store(set)
		l.tail.Cut(set.last)
	})
}

// poolReader reads blocks by connections of the pool.
type poolReader struct{ indexer *indexer }

// Block is that of [index.Blocks].
func (p *poolReader) Block(run int64, number int) (block []byte, err error) {
	err = p.indexer.log.db.read(p.indexer.ctx, func(c *conn) error {
		block, err = (&blockReader{log: p.indexer.log, conn: c}).Block(run, number)
		return err
	})
	return block, err
}

// catchUpBacklog makes runs of what no run has, while the file is being opened and nobody waits, until what is left fits the memory. It
// is only much after the index was lost.
func (l *eventLog) catchUpBacklog(c *conn) error {
	for {
		behind := false
		err := inTransaction(c, func() (err error) {
			behind, err = l.buildBacklog(c, mostBacklog)
			return err
		})
		if err != nil || !behind {
			return err
		}
	}
}

// buildBacklog makes a run of the oldest events that no run has, if there are as many as least.
func (l *eventLog) buildBacklog(c *conn, least int64) (behind bool, err error) {
	generation, _, err := l.readState(c)
	if err != nil {
		return false, err
	}
	set, err := l.readRuns(c, generation)
	if err != nil {
		return false, err
	}
	last, err := c.number(l.sql.last)
	if err != nil || last-set.last < least {
		return false, err
	}
	upTo := set.last + l.runEvents()
	tail := index.NewTail(set.last)
	err = l.scan(c, set.last, upTo, func(_ *index.Event, _ int64, keys *index.Keys) { tail.Add(keys) })
	if err != nil {
		return false, err
	}
	span, ok := tail.Span(set.last, tail.Last())
	if !ok || tail.Len() == 0 {
		return false, damaged(fmt.Errorf("the log has no events from position %d to %d", set.last+1, upTo))
	}
	id, err := c.number(l.sql.lastRun)
	if err != nil {
		return false, err
	}
	id++
	run, err := index.Build(id, span, func(number int, block []byte) error {
		return c.query(nil, l.sql.putBlock, blockNumber(id, number), block)
	})
	if err != nil {
		return false, err
	}
	return true, errors.Join(
		c.query(nil, l.sql.putRun, run.ID, run.Base, run.Last, run.Level, run.Events, run.Blocks, run.Root),
		c.query(nil, l.sql.setLastRun, id),
		c.query(nil, l.sql.setRuns, generation+1),
	)
}

// runEvents is how many events a new run has.
func (l *eventLog) runEvents() int64 {
	if few := l.db.config.runEvents; few > 0 {
		return few
	}
	return index.ChunkEvents
}

// mostBacklog is how many events are taken into memory when a file is opened; with more, runs are made first.
const mostBacklog = 8 * index.ChunkEvents
