package powerloss

import (
	"slices"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"
)

// osFile is what SQLite has of an open file; it begins like a sqlite3_file.
type osFile struct {
	methods uintptr
	number  uintptr // of the handle
}

// handle is an open file.
type handle struct {
	disk        *Disk
	inode       *inode
	name        string // "" for a temporary file
	writable    bool
	syncsFolder bool // its next sync is one of the folder, too
	level       lockLevel
}

func handleOf(file uintptr) *handle {
	return openFiles.get(at[osFile](file).number)
}

// ioMethods are the methods of an open file. Version 2 is the one with shared memory.
func ioMethods() lib.Tsqlite3_io_methods {
	return lib.Tsqlite3_io_methods{
		FiVersion:               2,
		FxClose:                 address(fileClose),
		FxRead:                  address(fileRead),
		FxWrite:                 address(fileWrite),
		FxTruncate:              address(fileTruncate),
		FxSync:                  address(fileSync),
		FxFileSize:              address(fileSize),
		FxLock:                  address(fileLock),
		FxUnlock:                address(fileUnlock),
		FxCheckReservedLock:     address(fileCheckReservedLock),
		FxFileControl:           address(fileControl),
		FxSectorSize:            address(fileSectorSize),
		FxDeviceCharacteristics: address(fileDeviceCharacteristics),
		FxShmMap:                address(shmMap),
		FxShmLock:               address(shmLock),
		FxShmBarrier:            address(shmBarrier),
		FxShmUnmap:              address(shmUnmap),
	}
}

// fileClose closes a file: int xClose(sqlite3_file*).
func fileClose(tls *libc.TLS, file uintptr) int32 {
	h := handleOf(file)
	openFiles.drop(at[osFile](file).number)
	*at[osFile](file) = osFile{}
	h.close(tls)
	return lib.SQLITE_OK
}

func (h *handle) close(tls *libc.TLS) {
	d := h.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	h.leave(tls)
	h.inode.opens--
	delete(d.open, h)
	d.release(h.inode)
}

// fileRead reads: int xRead(sqlite3_file*, void*, int iAmt, sqlite3_int64 iOfst).
func fileRead(_ *libc.TLS, file, buf uintptr, size int32, offset int64) int32 {
	return int32(handleOf(file).read(bytesAt(buf, size), offset))
}

func (h *handle) read(buf []byte, offset int64) sqlite.ResultCode {
	d := h.disk
	d.pass(Read, h.name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if code := d.fails(Read, h.name); code != sqlite.ResultOK {
		return code
	}
	d.count(h.name).Reads++
	n := h.inode.content.read(buf, offset)
	if n < len(buf) {
		clear(buf[n:]) // SQLite relies on it
		return sqlite.ResultIOErrShortRead
	}
	return sqlite.ResultOK
}

// fileWrite writes: int xWrite(sqlite3_file*, const void*, int iAmt, sqlite3_int64 iOfst).
func fileWrite(_ *libc.TLS, file, buf uintptr, size int32, offset int64) int32 {
	return int32(handleOf(file).write(bytesAt(buf, size), offset))
}

func (h *handle) write(data []byte, offset int64) sqlite.ResultCode {
	d := h.disk
	d.pass(Write, h.name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if code := d.fails(Write, h.name); code != sqlite.ResultOK {
		return code
	}
	if !h.writable {
		return sqlite.ResultIOErrWrite
	}
	code := sqlite.ResultOK
	end := offset + int64(len(data))
	if need := max(0, end-h.inode.content.size()); d.lacks(need) {
		code = sqlite.ResultFull
		data = data[:max(0, int64(len(data))-(need-d.faults.room))]
	}
	if len(data) == 0 {
		return code
	}
	if h.inode.serial != 0 {
		data = slices.Clone(data) // the history keeps it
	}
	before := h.inode.content.size()
	h.inode.content.write(data, offset)
	d.faults.room -= h.inode.content.size() - before
	d.history.record(event{kind: wrote, inode: h.inode.serial, name: h.name, offset: offset, data: data})
	if code == sqlite.ResultOK {
		counts := d.count(h.name)
		counts.Writes++
		counts.Bytes += int64(len(data))
	}
	return code
}

// fileTruncate cuts a file: int xTruncate(sqlite3_file*, sqlite3_int64 size).
func fileTruncate(_ *libc.TLS, file uintptr, size int64) int32 {
	return int32(handleOf(file).truncate(size))
}

func (h *handle) truncate(size int64) sqlite.ResultCode {
	d := h.disk
	d.pass(Truncate, h.name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if code := d.fails(Truncate, h.name); code != sqlite.ResultOK {
		return code
	}
	if !h.writable {
		return sqlite.ResultIOErrTruncate
	}
	grows := size - h.inode.content.size()
	if d.lacks(grows) {
		return sqlite.ResultIOErrTruncate
	}
	d.faults.room -= grows
	h.inode.content.resize(size)
	d.history.record(event{kind: truncated, inode: h.inode.serial, name: h.name, offset: size})
	return sqlite.ResultOK
}

// fileSync syncs a file, its content and its size: int xSync(sqlite3_file*, int flags).
func fileSync(_ *libc.TLS, file uintptr, _ int32) int32 {
	return int32(handleOf(file).sync())
}

func (h *handle) sync() sqlite.ResultCode {
	d := h.disk
	d.pass(Sync, h.name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if code := d.fails(Sync, h.name); code != sqlite.ResultOK {
		d.history.record(event{kind: syncFailed, inode: h.inode.serial, name: h.name})
		return code
	}
	d.count(h.name).Syncs++
	d.history.record(event{kind: synced, inode: h.inode.serial, name: h.name})
	if h.syncsFolder {
		d.syncFolder(h.name)
		h.syncsFolder = false
	}
	return sqlite.ResultOK
}

// fileSize gives the size of a file: int xFileSize(sqlite3_file*, sqlite3_int64 *pSize).
func fileSize(_ *libc.TLS, file, size uintptr) int32 {
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	*at[int64](size) = h.inode.content.size()
	return lib.SQLITE_OK
}

// fileControl answers what SQLite wants to know of a file: int xFileControl(sqlite3_file*, int op, void *pArg). It knows one
// question, whether the file was deleted, or replaced by another one.
func fileControl(_ *libc.TLS, file uintptr, op int32, arg uintptr) int32 {
	if op != lib.SQLITE_FCNTL_HAS_MOVED {
		return lib.SQLITE_NOTFOUND
	}
	h := handleOf(file)
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	*at[int32](arg) = libc.Bool32(h.name != "" && h.disk.files[h.name] != h.inode)
	return lib.SQLITE_OK
}

// fileSectorSize gives the size of a sector: int xSectorSize(sqlite3_file*).
func fileSectorSize(_ *libc.TLS, file uintptr) int32 {
	return int32(handleOf(file).disk.config.Sector) //nolint:gosec // one of the constants
}

// fileDeviceCharacteristics tells what a disk promises: int xDeviceCharacteristics(sqlite3_file*).
func fileDeviceCharacteristics(*libc.TLS, uintptr) int32 { return lib.SQLITE_IOCAP_POWERSAFE_OVERWRITE }
