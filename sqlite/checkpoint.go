package sqlite

import (
	"errors"
	"fmt"

	lite "zombiezen.com/go/sqlite"
)

// The write-ahead log is brought into the file by the writer, between two transactions, and not by SQLite, which would do so within a
// commit: then nobody who waits for his commit waits for that as well, and a sync that fails is noticed. SQLite passes over it, although
// the system may have dropped what it could not write, commits among it that were not synced for their own sake. The commits behind
// them, whose syncs succeed, would then be lost with the power.

// logState is how much there is in the write-ahead log, in pages.
type logState struct{ pages, copied int64 }

// logState tells without doing anything.
func (c *conn) logState() (logState, error) { return c.checkpointed("PRAGMA wal_checkpoint(NOOP)") }

// checkpointed runs a checkpoint of some kind, which copies as much as those who read allow.
func (c *conn) checkpointed(query string) (s logState, err error) {
	err = c.query(func(stmt *lite.Stmt) error {
		s = logState{pages: stmt.ColumnInt64(1), copied: stmt.ColumnInt64(2)}
		return nil
	}, query)
	return s, err
}

const (
	pageBytesOnDisk = 4096
	// transactionBytes is what a transaction writes at least: the pages at the ends of the trees, whole.
	transactionBytes = 4 * pageBytesOnDisk
)

// checkpointWhenDue brings the log into the file when it has got long. When it could not be done to the end because somebody reads what
// is older, it is tried again when the log has grown by an eighth of that.
func (w *writer) checkpointWhenDue() {
	if !w.checkpointDue() {
		return
	}
	w.grown = 0
	due := int64(w.db.config.CheckpointPages)
	log, err := w.conn.logState()
	if err != nil || log.pages < due {
		w.checkpointAt = due
		return
	}
	if log.copied == log.pages || log.pages < w.checkpointAt {
		return
	}
	if err := w.checkpoint(); err != nil {
		w.db.config.Logger.Warn("sqlite: the write-ahead log was not brought into the file; it is tried again", "path", w.db.config.Path,
			"error", err)
	}
	w.checkpointAt = log.pages + due/8
}

// checkpointDue tells whether it is time to look how long the log is. To look takes a tenth of what a small transaction does.
func (w *writer) checkpointDue() bool {
	return w.broken == nil && w.grown >= w.db.config.CheckpointPages*pageBytesOnDisk/8
}

// checkpoint brings the log into the file, as far as possible. It has the turn meanwhile, so that the log does not grow.
func (w *writer) checkpoint() error {
	if err := w.turn.acquire(w.db.config.BusyTimeout); err != nil {
		return err
	}
	defer w.turn.release()
	_, err := w.conn.checkpointed("PRAGMA wal_checkpoint(PASSIVE)")
	return w.breakAfter(err)
}

// bringIn brings into the file, and syncs there, what those before have left in the log: a sync of the log may have failed for them. On a
// full disk it waits for another time.
func bringIn(c *conn) error {
	log, err := c.logState()
	if err != nil || log.pages <= log.copied {
		return err
	}
	_, err = c.checkpointed("PRAGMA wal_checkpoint(PASSIVE)")
	return unlessFull(err)
}

// unlessFull passes over that the disk is full: what is in the log is safe there.
func unlessFull(err error) error {
	if errors.Is(err, ErrDiskFull) {
		return nil
	}
	return err
}

// lastCheckpoint brings the log into the file when the handle is closed: SQLite would do so, too, but would not tell what goes wrong.
func (w *writer) lastCheckpoint() error {
	if w.broken != nil {
		return nil //nolint:nilerr // its error was told
	}
	log, err := w.conn.logState()
	if err != nil || log.pages <= log.copied {
		return err
	}
	return unlessFull(w.checkpoint())
}

// breakAfter has the writer write no more when an error is that of a sync.
func (w *writer) breakAfter(err error) error {
	if err == nil || !isSyncFailure(err) {
		return err
	}
	w.broken = err
	w.db.config.Logger.Error("sqlite: a sync has failed; the store takes no more writes", "path", w.db.config.Path, "error", err)
	return fmt.Errorf("%w: %w", ErrBroken, err)
}
