//go:build !unix

package sqlite

import (
	"time"

	"github.com/google/uuid"
)

// turn is the right to write among processes. Here there is only SQLite's own lock, which is not fair: a busy process may keep
// others waiting.
type turn struct{}

func openTurn(string) (*turn, error)      { return nil, nil } //nolint:nilnil // a nil turn is nobody's
func (*turn) acquire(time.Duration) error { return nil }
func (*turn) try() (bool, error)          { return true, nil }
func (*turn) release()                    {}
func (*turn) announce(uuid.UUID)          {}
func (*turn) announcedBy(uuid.UUID) bool  { return false }
func (*turn) path() string                { return "" }
func (*turn) close() error                { return nil }

// fileLock is a lock that nobody waits for. Here it is always free.
type fileLock struct{}

func openFileLock(string) (*fileLock, error) { return nil, nil } //nolint:nilnil // a nil lock is always free
func (*fileLock) try() (bool, error)         { return true, nil }
func (*fileLock) unlock()                    {}
func (*fileLock) close() error               { return nil }
