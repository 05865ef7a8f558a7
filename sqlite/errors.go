package sqlite

import (
	"errors"

	lite "zombiezen.com/go/sqlite"
)

// The errors of a file, beside those of the roles. Test for them with errors.Is. Unless it says otherwise nothing of the call was
// done, and the handle goes on: when the cause has gone, the next call succeeds.
var (
	// ErrBusy: others have held the file for longer than [Config].BusyTimeout.
	ErrBusy = errors.New("sqlite: the file is locked by others")
	// ErrDiskFull: there is no room on the disk.
	ErrDiskFull = errors.New("sqlite: the disk is full")
	// ErrReadOnly: the file, or its folder, may not be written.
	ErrReadOnly = errors.New("sqlite: the file is read-only")
	// ErrCorrupt: the file is damaged. See [Check].
	ErrCorrupt = errors.New("sqlite: the file is damaged")
	// ErrForeign: the file is not one of the toolkit's. It was not touched.
	ErrForeign = errors.New("sqlite: the file is not an event store")
	// ErrNewer: the file was written by a newer version of the toolkit. It was not touched.
	ErrNewer = errors.New("sqlite: the file has a newer schema")
	// ErrNetwork: the file is on a network file system, where locks and shared memory cannot be relied on.
	ErrNetwork = errors.New("sqlite: the file is on a network file system")
	// ErrIO: reading or writing failed.
	ErrIO = errors.New("sqlite: input or output failed")
	// ErrBroken: a sync failed before, and nobody knows what is on the disk. The handle takes no more writes; close it, look after
	// the disk, and open the file again. The outcome of the writes that were under way is unknown.
	ErrBroken = errors.New("sqlite: a sync has failed; close the store and open it again")
)

// engineError is an error of SQLite, as opposed to the verdict of a role about a call.
type engineError struct {
	kind error // one of ours, or nil
	err  error
}

func (e *engineError) Error() string {
	if e.kind == nil {
		return e.err.Error()
	}
	return e.kind.Error() + ": " + e.err.Error()
}

func (e *engineError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.err}
	}
	return []error{e.kind, e.err}
}

// fault makes an error of the driver one of ours. Every error of the driver goes through it where it comes up, so that the
// writer can tell it from the verdict of a role.
func fault(err error) error {
	if err == nil || isFault(err) {
		return err
	}
	return &engineError{kind: kindOf(lite.ErrCode(err)), err: err}
}

// isFault tells whether an error comes from SQLite.
func isFault(err error) bool {
	_, ok := errors.AsType[*engineError](err)
	return ok
}

// kindOf returns which of our errors a result code of SQLite is, and nil when it is none.
func kindOf(code lite.ResultCode) error {
	if code == lite.ResultIOErrSHMSize { // the memory that processes share is a file, too, and could not grow
		return ErrDiskFull
	}
	switch code.ToPrimary() { //nolint:exhaustive // the others are none of ours
	case lite.ResultBusy, lite.ResultLocked:
		return ErrBusy
	case lite.ResultFull:
		return ErrDiskFull
	case lite.ResultReadOnly, lite.ResultPerm:
		return ErrReadOnly
	case lite.ResultCorrupt:
		return ErrCorrupt
	case lite.ResultNotADB:
		return ErrForeign
	case lite.ResultIOErr, lite.ResultCantOpen:
		return ErrIO
	}
	return nil
}

// isSyncFailure tells whether SQLite could not sync a file. What the disk has then, nobody knows: the operating system may have
// dropped the pages that it could not write, and say of the next sync that all is well (Rebello et al., "Can Applications Recover
// from fsync Failures?", 2020).
func isSyncFailure(err error) bool {
	code := lite.ErrCode(err)
	return code == lite.ResultIOErrFsync || code == lite.ResultIOErrDirFsync
}
