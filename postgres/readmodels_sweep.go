package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// modelSweeper removes the documents of models that have no name any more. It has a goroutine while there are any.
type modelSweeper struct {
	models *ReadModels
	ctx    context.Context //nolint:containedctx // it is the lifetime of the goroutine, and ends with the store
	cancel context.CancelFunc

	mu      sync.Mutex
	running bool
	again   bool // there may be more than the goroutine has seen
	closed  bool
	ended   sync.WaitGroup
}

// begin takes up what a process has left that ended in between.
func (s *modelSweeper) begin(r *ReadModels) {
	s.models = r
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wake()
}

// wake says that there may be something to remove.
func (s *modelSweeper) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = true
	if s.running || s.closed {
		return
	}
	s.running = true
	s.ended.Go(s.loop)
}

// close ends the goroutine. What it has not removed is removed when the store is opened again.
func (s *modelSweeper) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.ended.Wait()
}

const (
	// sliceDocuments is how many documents are removed at once.
	sliceDocuments = 256
	// After an error the sweeper tries again, later and later.
	firstSweepPause, lastSweepPause = time.Second, time.Minute
)

// loop is the goroutine.
func (s *modelSweeper) loop() {
	pause := firstSweepPause
	for s.more() {
		err := s.sweep()
		if err == nil || s.ctx.Err() != nil {
			pause = firstSweepPause
			continue
		}
		if errors.Is(err, ErrReadOnly) || errors.Is(err, ErrForbidden) {
			continue // another program may do it
		}
		s.models.db.config.Logger.Warn("postgres: documents of a model that was dropped are left in the database for now", "error", err,
			"again", pause)
		s.rest(pause)
		pause = min(2*pause, lastSweepPause)
		s.mu.Lock()
		s.again = true
		s.mu.Unlock()
	}
}

func (s *modelSweeper) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.again && !s.closed
	s.again = false
	return s.running
}

func (s *modelSweeper) rest(pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-s.ctx.Done():
	}
}

// sweep removes the documents of one model after the other. Other processes may do so too: each leaves to the others what they have in
// hand, and the one that is the last to be done with a model finds it empty, and removes it.
func (s *modelSweeper) sweep() error {
	for model := int64(0); s.ctx.Err() == nil; {
		err := s.models.db.pool.QueryRow(s.ctx, s.models.sql.hidden, model).Scan(&model)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fault(err)
		}
		if err := s.sweepModel(model); err != nil {
			return err
		}
	}
	return nil
}

// sweepModel removes the documents of a model, slice after slice, and then the model. After each slice it rests for as long as that took.
// It goes on behind the slice: what was removed before is in the way of a search until the database is vacuumed.
func (s *modelSweeper) sweepModel(model int64) error {
	for n, last := sliceDocuments, ""; n == sliceDocuments; {
		began := time.Now()
		err := s.models.db.pipeline(s.ctx, unsynced, func(b *pgx.Batch) {
			b.Queue(byIndex + inOrder)
			b.Queue(s.models.sql.removeSlice, model, last, sliceDocuments).QueryRow(func(row pgx.Row) error { return row.Scan(&n, &last) })
		})
		if err != nil {
			return err
		}
		s.rest(time.Since(began))
	}
	return s.models.db.pipeline(s.ctx, unsynced, func(b *pgx.Batch) {
		b.Queue(byIndex + inOrder)
		b.Queue(s.models.sql.removeModel, model)
	})
}

// close ends what goes on behind the calls.
func (r *ReadModels) close() { r.sweeper.close() }
