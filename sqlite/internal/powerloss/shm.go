package powerloss

import (
	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// sharedMemory is the index of a write-ahead log, which the connections to a database share. It is not memory of Go:
// SQLite reads it while others write, on purpose, and finds out by checksums.
type sharedMemory struct {
	regions []uintptr
	size    int32 // of each
	users   map[*handle]*sharedLocks
}

// sharedLocks are the locks that a connection has on the shared memory, a bit for each.
type sharedLocks struct {
	shared    uint32
	exclusive uint32
}

// shmMap gives a region of the shared memory: int xShmMap(sqlite3_file*, int iPg, int pgsz, int bExtend, void volatile **pp).
func shmMap(tls *libc.TLS, file uintptr, region, size, extend int32, out uintptr) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	*at[uintptr](out) = 0
	if h.inode.shared == nil {
		if h.disk.faults.all {
			return lib.SQLITE_CANTOPEN // there is no file for it, and none can be created
		}
		h.inode.shared = &sharedMemory{size: size, users: map[*handle]*sharedLocks{}}
	}
	memory := h.inode.shared
	if memory.users[h] == nil {
		memory.users[h] = &sharedLocks{}
	}
	for extend != 0 && len(memory.regions) <= int(region) {
		if code := h.disk.extend(tls, memory); code != lib.SQLITE_OK {
			return code
		}
	}
	if int(region) < len(memory.regions) {
		*at[uintptr](out) = memory.regions[region]
	}
	return lib.SQLITE_OK
}

// extend adds a region to a shared memory. The caller holds the lock.
func (d *Disk) extend(tls *libc.TLS, memory *sharedMemory) int32 {
	if d.lacks(int64(memory.size)) {
		return lib.SQLITE_IOERR_SHMSIZE
	}
	p := allocate(tls, memory.size)
	if p == 0 {
		return lib.SQLITE_NOMEM
	}
	d.faults.room -= int64(memory.size)
	memory.regions = append(memory.regions, p)
	return lib.SQLITE_OK
}

// shmLock takes locks, or gives them back: int xShmLock(sqlite3_file*, int offset, int n, int flags).
func shmLock(_ *libc.TLS, file uintptr, first, n, flags int32) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	memory := h.inode.shared
	if memory == nil || memory.users[h] == nil {
		return lib.SQLITE_IOERR_SHMLOCK
	}
	mine, mask := memory.users[h], (uint32(1)<<n-1)<<first
	if flags&lib.SQLITE_SHM_UNLOCK != 0 {
		mine.shared &^= mask
		mine.exclusive &^= mask
		return lib.SQLITE_OK
	}
	for other, locks := range memory.users {
		if other == h {
			continue
		}
		if locks.exclusive&mask != 0 || flags&lib.SQLITE_SHM_EXCLUSIVE != 0 && locks.shared&mask != 0 {
			return lib.SQLITE_BUSY
		}
	}
	if flags&lib.SQLITE_SHM_EXCLUSIVE != 0 {
		mine.exclusive |= mask
	} else {
		mine.shared |= mask
	}
	return lib.SQLITE_OK
}

// shmBarrier orders what is read and written before it and after it: void xShmBarrier(sqlite3_file*).
func shmBarrier(_ *libc.TLS, file uintptr) {
	d := handleOf(file).disk
	d.mu.Lock()
	defer d.mu.Unlock()
	d.barriers++ // with the lock around it this is a full barrier
}

// shmUnmap leaves the shared memory: int xShmUnmap(sqlite3_file*, int deleteFlag). The last one to leave ends it; nobody reads it
// before it was built anew, so it does not matter whether it is deleted.
func shmUnmap(tls *libc.TLS, file uintptr, _ int32) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.leave(tls)
	return lib.SQLITE_OK
}

// leave leaves the shared memory, if there is any. The caller holds the lock.
func (h *handle) leave(tls *libc.TLS) {
	memory := h.inode.shared
	if memory == nil || memory.users[h] == nil {
		return
	}
	delete(memory.users, h)
	if len(memory.users) > 0 {
		return
	}
	for _, p := range memory.regions {
		libc.Xfree(tls, p)
		h.disk.faults.room += int64(memory.size)
	}
	h.inode.shared = nil
}
