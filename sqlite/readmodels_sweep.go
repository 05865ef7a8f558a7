package sqlite

import (
	"context"
	"sync"
	"time"

	lite "zombiezen.com/go/sqlite"
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

// begin takes up what a process has left that ended in between. It is called before the writer begins.
func (s *modelSweeper) begin(r *ReadModels) {
	s.models = r
	s.ctx, s.cancel = context.WithCancel(context.Background())
	left, err := r.db.writer.conn.number(r.sql.hidden)
	if left != 0 || err != nil { // with an error the goroutine finds out again, and logs it
		s.wake()
	}
}

// wake says that there is something to remove.
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

// close ends the goroutine. What it has not removed is removed when the file is opened again.
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
		s.models.db.config.Logger.Warn("sqlite: documents of a model that was dropped are left in the file until a model is dropped "+
			"again, or the file opened", "path", s.models.db.config.Path, "error", err)
	}
}

func (s *modelSweeper) more() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = s.again && !s.closed
	s.again = false
	return s.running
}

// sweep removes slice after slice. After each it rests for as long as the slice took, so that others have half of the writer's time.
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

// A slice is so many documents at the most, and ends with the one that makes it so many bytes.
const (
	sliceDocuments = 256
	sliceBytes     = 1 << 20
)

// sweepSlice removes some documents of a model that has no name, and the model after the last of them. It tells when there is none.
//
// Which model that is, is decided in the transaction that removes: another process may sweep too, and the number of a model that is gone
// may belong to a new one the next moment.
func (r *ReadModels) sweepSlice(ctx context.Context) (over bool, err error) {
	err = r.db.write(ctx, &op{relaxed: true, run: func(tx *txn) error {
		model, err := tx.number(r.sql.hidden)
		over = model == 0
		if err != nil || over {
			return err
		}
		documents, err := r.slice(tx, model)
		if err != nil {
			return err
		}
		if len(documents) == 0 {
			return tx.write(r.sql.removeModel, model)
		}
		remove, err := tx.prepare(r.sql.removeDocument)
		if err != nil {
			return err
		}
		for _, document := range documents {
			remove.BindInt64(1, document)
			if _, err := tx.change(remove); err != nil {
				return err
			}
		}
		return nil
	}})
	return over, err
}

// slice returns the rows of some documents of a model. They are found before any is removed: what a statement finds while its table
// changes is not defined.
func (r *ReadModels) slice(tx *txn, model int64) ([]int64, error) {
	documents, size := make([]int64, 0, sliceDocuments), int64(0)
	err := tx.query(func(stmt *lite.Stmt) error {
		if size < sliceBytes {
			documents = append(documents, stmt.ColumnInt64(0))
			size += stmt.ColumnInt64(1)
		}
		return nil
	}, r.sql.slice, model, sliceDocuments)
	return documents, err
}
