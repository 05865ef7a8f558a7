package powerloss

import (
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// lockLevel is the lock that a connection has on a database file, as in https://www.sqlite.org/lockingv3.html.
type lockLevel int32

const (
	unlocked  lockLevel = lib.SQLITE_LOCK_NONE
	shared    lockLevel = lib.SQLITE_LOCK_SHARED    // reads; others may read
	reserved  lockLevel = lib.SQLITE_LOCK_RESERVED  // will write; others may read
	lockWaits lockLevel = lib.SQLITE_LOCK_PENDING   // waits for the readers to go; no new ones come
	exclusive lockLevel = lib.SQLITE_LOCK_EXCLUSIVE // writes; no others
)

// fileLock raises the lock: int xLock(sqlite3_file*, int).
func fileLock(_ *libc.TLS, file uintptr, level int32) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return h.lock(lockLevel(level))
}

func (h *handle) lock(want lockLevel) int32 {
	if want <= h.level {
		return lib.SQLITE_OK
	}
	others := h.others()
	switch {
	case want == shared && others >= lockWaits, want > shared && others >= reserved:
		return lib.SQLITE_BUSY
	case want == exclusive && others >= shared:
		h.level = lockWaits
		return lib.SQLITE_BUSY
	}
	h.level = want
	return lib.SQLITE_OK
}

// others is the highest lock that others have on the file. The caller holds the lock of the disk.
func (h *handle) others() lockLevel {
	highest := unlocked
	for other := range h.disk.open {
		if other != h && other.inode == h.inode {
			highest = max(highest, other.level)
		}
	}
	return highest
}

// fileUnlock lowers the lock: int xUnlock(sqlite3_file*, int).
func fileUnlock(_ *libc.TLS, file uintptr, level int32) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.level = min(h.level, lockLevel(level))
	return lib.SQLITE_OK
}

// fileCheckReservedLock tells whether somebody writes, or will: int xCheckReservedLock(sqlite3_file*, int *pResOut).
func fileCheckReservedLock(_ *libc.TLS, file, result uintptr) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	*at[int32](result) = libc.Bool32(max(h.level, h.others()) >= reserved)
	return lib.SQLITE_OK
}
