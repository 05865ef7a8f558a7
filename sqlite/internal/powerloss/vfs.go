package powerloss

import (
	"errors"
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
	"zombiezen.com/go/sqlite"
)

// registration is what SQLite knows of a disk.
type registration struct {
	name    string
	number  uintptr // of the disk
	tls     *libc.TLS
	vfs     uintptr // a sqlite3_vfs
	methods uintptr // a sqlite3_io_methods
	cname   uintptr
}

// register makes a disk known to SQLite, under a name of its own.
func register(d *Disk) (*registration, error) {
	tls := libc.NewTLS()
	if code := lib.Xsqlite3_initialize(tls); code != lib.SQLITE_OK {
		tls.Close()
		return nil, fmt.Errorf("SQLite cannot be initialized: %w", sqlite.ResultCode(code).ToError())
	}
	r := &registration{tls: tls, number: disks.add(d)}
	r.name = fmt.Sprintf("powerloss-%d", r.number)
	r.cname, _ = libc.CString(r.name) // its only error is that it is 0
	r.vfs = allocate(tls, sizeOf[lib.Tsqlite3_vfs]())
	r.methods = allocate(tls, sizeOf[lib.Tsqlite3_io_methods]())
	if r.cname == 0 || r.vfs == 0 || r.methods == 0 {
		r.free()
		return nil, errors.New("there is no memory for a file system")
	}
	*at[lib.Tsqlite3_io_methods](r.methods) = ioMethods()
	// The clock, the randomness and the like are those of the system. Its pointer to the next file system is not to be read:
	// whoever registers one writes it.
	system := at[lib.Tsqlite3_vfs](lib.Xsqlite3_vfs_find(tls, 0))
	*at[lib.Tsqlite3_vfs](r.vfs) = lib.Tsqlite3_vfs{
		FiVersion:          2,
		FszOsFile:          sizeOf[osFile](),
		FmxPathname:        system.FmxPathname,
		FzName:             r.cname,
		FpAppData:          r.number,
		FxOpen:             address(vfsOpen),
		FxDelete:           address(vfsDelete),
		FxAccess:           address(vfsAccess),
		FxFullPathname:     address(vfsFullPathname),
		FxDlOpen:           system.FxDlOpen,
		FxDlError:          system.FxDlError,
		FxDlSym:            system.FxDlSym,
		FxDlClose:          system.FxDlClose,
		FxRandomness:       system.FxRandomness,
		FxSleep:            system.FxSleep,
		FxCurrentTime:      system.FxCurrentTime,
		FxGetLastError:     address(vfsGetLastError),
		FxCurrentTimeInt64: system.FxCurrentTimeInt64,
	}
	if code := lib.Xsqlite3_vfs_register(tls, r.vfs, 0); code != lib.SQLITE_OK {
		r.free()
		return nil, fmt.Errorf("a file system cannot be registered: %w", sqlite.ResultCode(code).ToError())
	}
	return r, nil
}

// end takes the disk away from SQLite.
func (r *registration) end() {
	lib.Xsqlite3_vfs_unregister(r.tls, r.vfs) // it cannot fail
	r.free()
}

func (r *registration) free() {
	disks.drop(r.number)
	libc.Xfree(r.tls, r.cname)
	libc.Xfree(r.tls, r.vfs)
	libc.Xfree(r.tls, r.methods)
	r.tls.Close()
}

// diskOf returns the disk of a sqlite3_vfs.
func diskOf(vfs uintptr) *Disk {
	return disks.get(at[lib.Tsqlite3_vfs](vfs).FpAppData)
}

// vfsOpen opens a file: int xOpen(sqlite3_vfs*, sqlite3_filename zName, sqlite3_file*, int flags, int *pOutFlags).
func vfsOpen(_ *libc.TLS, vfs, name, file uintptr, flags int32, outFlags uintptr) int32 {
	d := diskOf(vfs)
	*at[osFile](file) = osFile{} // without methods it is not closed when it cannot be opened
	h, flags, code := d.openFile(libc.GoString(name), flags)
	if code != sqlite.ResultOK {
		return int32(code)
	}
	if outFlags != 0 {
		*at[int32](outFlags) = flags
	}
	*at[osFile](file) = osFile{methods: d.vfs.methods, number: openFiles.add(h)}
	return lib.SQLITE_OK
}

// openFile opens a file, or a temporary one when it has no name, and returns the flags that were obeyed.
func (d *Disk) openFile(name string, flags int32) (*handle, int32, sqlite.ResultCode) {
	d.pass(Open, name)
	d.mu.Lock()
	defer d.mu.Unlock()
	if code := d.fails(Open, name); code != sqlite.ResultOK {
		return nil, 0, code
	}
	journal := flags&lib.SQLITE_OPEN_CREATE != 0 &&
		flags&(lib.SQLITE_OPEN_MAIN_JOURNAL|lib.SQLITE_OPEN_SUPER_JOURNAL|lib.SQLITE_OPEN_WAL) != 0
	node := d.files[name]
	switch {
	case name == "":
		node = &inode{}
	case node != nil && flags&lib.SQLITE_OPEN_EXCLUSIVE != 0:
		return nil, 0, sqlite.ResultCantOpen
	case node != nil && flags&lib.SQLITE_OPEN_READWRITE != 0 && d.protected(name):
		flags = flags&^(lib.SQLITE_OPEN_READWRITE|lib.SQLITE_OPEN_CREATE) | lib.SQLITE_OPEN_READONLY
	case node != nil:
	case flags&lib.SQLITE_OPEN_CREATE == 0:
		return nil, 0, sqlite.ResultCantOpen
	case d.faults.all && journal:
		return nil, 0, sqlite.ResultReadOnlyDirectory
	case d.faults.all:
		return nil, 0, sqlite.ResultCantOpen
	default:
		node = d.link(name)
		d.history.record(event{kind: created, inode: node.serial, name: name})
	}
	h := &handle{
		disk: d, inode: node, name: name,
		writable:    flags&lib.SQLITE_OPEN_READWRITE != 0,
		syncsFolder: journal,
	}
	node.opens++
	d.open[h] = struct{}{}
	if name != "" && flags&lib.SQLITE_OPEN_DELETEONCLOSE != 0 {
		d.remove(name)
	}
	return h, flags, sqlite.ResultOK
}

// vfsDelete deletes a file: int xDelete(sqlite3_vfs*, const char *zName, int syncDir).
func vfsDelete(_ *libc.TLS, vfs, name uintptr, syncFolder int32) int32 {
	return int32(diskOf(vfs).deleteFile(libc.GoString(name), syncFolder))
}

func (d *Disk) deleteFile(name string, syncFolder int32) sqlite.ResultCode {
	d.pass(Delete, name)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch code := d.fails(Delete, name); {
	case code != sqlite.ResultOK:
		return code
	case d.files[name] == nil:
		return sqlite.ResultIOErrDeleteNoEnt
	case d.faults.all:
		return sqlite.ResultIOErrDelete
	}
	d.remove(name)
	if syncFolder&1 != 0 {
		d.syncFolder(name)
	}
	return sqlite.ResultOK
}

// syncFolder syncs the folder on behalf of a file. The caller holds the lock.
func (d *Disk) syncFolder(name string) {
	d.count(name).FolderSyncs++
	d.history.record(event{kind: folderSynced, name: name})
}

// vfsAccess tells whether a file is there, or may be written to: int xAccess(sqlite3_vfs*, const char *zName, int flags,
// int *pResOut).
func vfsAccess(_ *libc.TLS, vfs, name uintptr, flags int32, result uintptr) int32 {
	d := diskOf(vfs)
	d.mu.Lock()
	defer d.mu.Unlock()
	file := libc.GoString(name)
	node := d.files[file]
	yes := node != nil && !d.protected(file)
	if flags == lib.SQLITE_ACCESS_EXISTS {
		yes = node != nil && node.content.size() > 0 // on Unix, too, an empty file is none
	}
	*at[int32](result) = libc.Bool32(yes)
	return lib.SQLITE_OK
}

// vfsFullPathname makes a name whole, which it is: int xFullPathname(sqlite3_vfs*, const char *zName, int nOut, char *zOut).
func vfsFullPathname(_ *libc.TLS, _, name uintptr, size int32, out uintptr) int32 {
	path := libc.GoString(name)
	if len(path) >= int(size) {
		return lib.SQLITE_CANTOPEN
	}
	copy(bytesAt(out, size), path+"\x00")
	return lib.SQLITE_OK
}

// vfsGetLastError gives the error number of the system, of which there is none: int xGetLastError(sqlite3_vfs*, int, char*).
func vfsGetLastError(*libc.TLS, uintptr, int32, uintptr) int32 { return 0 }
