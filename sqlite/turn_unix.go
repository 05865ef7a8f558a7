//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// turn is the right to write among the processes that have the file open. SQLite lets those who wait try again after a sleep, so
// that a process which has the next transaction ready at the end of every one leaves no moment for the others: they starve. Here
// who wants to write takes the place of the next one first, then the turn, and then gives up the place. So who has just written
// stands behind whoever waits.
//
// Both are locks on files of their own, which end with the process. A nil turn is nobody's: for files that are not shared.
type turn struct{ next, turn *os.File }

// openTurn opens the two files beside the database.
func openTurn(path string) (*turn, error) {
	next, err := openLock(path + "-next")
	if err != nil {
		return nil, err
	}
	at, err := openLock(path + "-turn")
	if err != nil {
		return nil, errors.Join(err, next.Close())
	}
	return &turn{next: next, turn: at}, nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // SQLite makes its files so as well
	if err != nil {
		return nil, fileError(err)
	}
	return f, nil
}

// acquire waits for the turn. The error is [ErrBusy] when that takes too long.
func (t *turn) acquire(patience time.Duration) error {
	if t == nil {
		return nil
	}
	deadline := time.Now().Add(patience)
	if err := lockFile(t.next, deadline); err != nil {
		return err
	}
	err := lockFile(t.turn, deadline)
	unlockFile(t.next)
	return err
}

// try takes the turn if nobody has it and nobody is the next one: who is must not be overtaken.
func (t *turn) try() (bool, error) {
	if t == nil {
		return true, nil
	}
	if free, err := tryLock(t.next); !free {
		return false, err
	}
	free, err := tryLock(t.turn)
	unlockFile(t.next)
	return free, err
}

func (t *turn) release() {
	if t != nil {
		unlockFile(t.turn)
	}
}

// announce says that a handle of a name has committed. It has the turn still, so that the last name is that of the last commit.
func (t *turn) announce(name uuid.UUID) {
	if t != nil {
		_, _ = t.turn.WriteAt(name[:], 0) // without it others learn of the commit when they look
	}
}

// announcedBy tells whether the last commit was announced by a handle of a name.
func (t *turn) announcedBy(name uuid.UUID) bool {
	var last uuid.UUID
	_, err := t.turn.ReadAt(last[:], 0)
	return err == nil && last == name
}

// path is that of the file in which commits are announced.
func (t *turn) path() string {
	if t == nil {
		return ""
	}
	return t.turn.Name()
}

func (t *turn) close() error {
	if t == nil {
		return nil
	}
	return errors.Join(t.next.Close(), t.turn.Close())
}

// lockFile waits for a lock. To block in the kernel would be quicker, but nobody could end it: not even the end of the store.
func lockFile(f *os.File, deadline time.Time) error {
	const shortest, longest = 20 * time.Microsecond, time.Millisecond
	for pause := shortest; ; pause = min(2*pause, longest) {
		switch free, err := tryLock(f); {
		case free || err != nil:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("%w: waited for the lock on %s", ErrBusy, f.Name())
		}
		<-time.After(pause)
	}
}

// tryLock takes a lock if nobody has it.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		}
		return false, fmt.Errorf("%w: lock %s: %w", ErrIO, f.Name(), err)
	}
}

func unlockFile(f *os.File) {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) // it fails only for a descriptor that is closed
}

// fileLock is a lock that nobody waits for. A nil one is always free: for files that are not shared.
type fileLock struct{ file *os.File }

func openFileLock(path string) (*fileLock, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, err
	}
	return &fileLock{f}, nil
}

// try takes the lock if nobody has it.
func (l *fileLock) try() (bool, error) {
	if l == nil {
		return true, nil
	}
	return tryLock(l.file)
}

func (l *fileLock) unlock() {
	if l != nil {
		unlockFile(l.file)
	}
}

func (l *fileLock) close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}
