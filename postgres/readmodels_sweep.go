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

// loop is the goroutine.
func (s *modelSweeper) loop() {
	for s.more() {
		err := s.sweep()
		if err == nil || s.ctx.Err() != nil {
			continue
		}
		s.models.db.config.Logger.Warn("postgres: documents of a model that was dropped are left in the database until a model is dropped "+
			"again, or the store opened", "error", err)
	}
}

func (s *modelSweeper) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.again && !s.closed
	s.again = false
	return s.running
}

// sweep removes slice after slice. After each it rests for as long as the slice took.
func (s *modelSweeper) sweep() error {
	for {
		began := time.Now()
		over, err := s.models.sweepSlice(s.ctx)
		if err != nil || over {
			return err
		}
		select {
		case <-time.After(time.Since(began)):
		case <-s.ctx.Done():
			return nil
		}
	}
}

// sliceDocuments is how many documents are removed at once.
const sliceDocuments = 256

// sweepSlice removes some documents of a model that has no name, and the model after the last of them. It tells when there is none. Other
// processes may sweep too: what one of them has in hand is left to it.
func (r *ReadModels) sweepSlice(ctx context.Context) (over bool, err error) {
	var model int64
	err = r.db.pool.QueryRow(ctx, r.sql.hidden).Scan(&model)
	if errors.Is(err, pgx.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, fault(err)
	}
	return false, r.db.pipeline(ctx, unsynced, func(b *pgx.Batch) {
		b.Queue(r.sql.sweepOne, model, sliceDocuments)
		b.Queue(r.sql.removeModel, model)
	})
}

// close ends what goes on behind the calls.
func (r *ReadModels) close() { r.sweeper.close() }
