package powerloss

import (
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// Op is something that SQLite does to a file.
type Op int

const (
	// Read is a read.
	Read Op = iota + 1
	// Write is a write.
	Write
	// Truncate is to cut a file.
	Truncate
	// Sync is a sync of a file, not of its folder.
	Sync
	// Open is to open a file, or to create it.
	Open
	// Delete is to delete a file.
	Delete
)

// code is the result code of SQLite's file system for Unix when it fails.
func (op Op) code() sqlite.ResultCode {
	switch op {
	case Read:
		return sqlite.ResultIOErrRead
	case Write:
		return sqlite.ResultIOErrWrite
	case Truncate:
		return sqlite.ResultIOErrTruncate
	case Sync:
		return sqlite.ResultIOErrFsync
	case Open:
		return sqlite.ResultCantOpen
	case Delete:
		return sqlite.ResultIOErrDelete
	}
	return sqlite.ResultIOErr
}

// Fault makes something fail. What fails is not done, except that a sync that fails leaves open what of the writes before it is on
// the disk, for good.
type Fault struct {
	// Op is what fails. It is required.
	Op Op
	// File is how the name of the file ends, such as "-wal"; all files by default. Temporary files have no faults.
	File string
	// After is how many go well before, counted from [Disk.Inject].
	After int
	// Times is how many fail then; all by default.
	Times int
	// Code is the result of it; by default the code that SQLite has for it, such as SQLITE_IOERR_FSYNC.
	Code sqlite.ResultCode
}

// faults is what is wrong with a disk.
type faults struct {
	injected []*Fault
	bounded  bool  // there is only so much room
	room     int64 // in bytes; it counts when bounded only
	all      bool  // everything is protected
	files    map[string]bool
}

// Inject has something fail from now on. Of several faults that match, the first that is due is the one.
func (d *Disk) Inject(f Fault) {
	d.tb.Helper()
	if f.Op < Read || f.Op > Delete || f.After < 0 || f.Times < 0 {
		d.tb.Fatalf("powerloss: the fault is %+v; it takes an Op, and numbers of 0 or more", f)
	}
	if f.Code == 0 {
		f.Code = f.Op.code()
	}
	if f.Times == 0 {
		f.Times = -1
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.injected = append(d.faults.injected, &f)
}

// Fill leaves so much room on the disk, in bytes: files, temporary ones included, cannot grow by more than that together. The shared
// memory of a write-ahead log is a file, too, and grows by 32 KiB at a time. A write that needs more is done as far as there is room,
// and fails with SQLITE_FULL. What is deleted or cut makes room, and a write into the middle of a file needs none.
func (d *Disk) Fill(room int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults.bounded, d.faults.room = true, room
}

// Protect takes away the right to write to files, by their names. Those who have opened one already keep it, as on Unix. Without
// names it takes away the right to write to all files, and to create and delete them.
func (d *Disk) Protect(files ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(files) == 0 {
		d.faults.all = true
	}
	for _, name := range files {
		if d.faults.files == nil {
			d.faults.files = map[string]bool{}
		}
		d.faults.files[name] = true
	}
}

// Heal ends all faults, and makes room. What a fault has damaged stays damaged.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = faults{}
}

// Put replaces a file, or creates one, for programs and on the disk. Nobody should have it open.
func (d *Disk) Put(file string, bytes []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.files[file]
	if node == nil {
		node = d.link(file)
	}
	d.replace(file, node, slices.Clone(bytes))
}

// Remove deletes a file, as another program would, for programs; the folder is not synced. It fails the test when there is no such
// file.
func (d *Disk) Remove(file string) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.find(file) != nil {
		d.remove(file)
	}
}

// Flip flips a bit in a file, for programs and on the disk, the lowest one of the byte at an offset. It fails the test when there
// is no such byte. What SQLite has read already it does not read again.
func (d *Disk) Flip(file string, offset int64) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.find(file)
	if node == nil {
		return
	}
	if offset < 0 || offset >= node.content.size() {
		d.tb.Errorf("powerloss: there is no byte %d in %q, which has %d", offset, file, node.content.size())
		return
	}
	bytes := slices.Clone(node.content.bytes)
	bytes[offset] ^= 1
	d.replace(file, node, bytes)
}

// Shorten cuts a file, for programs and on the disk. It fails the test when the file is not longer than that.
func (d *Disk) Shorten(file string, size int64) {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.find(file)
	if node == nil {
		return
	}
	if size < 0 || size >= node.content.size() {
		d.tb.Errorf("powerloss: %q has %d bytes; it cannot be shortened to %d", file, node.content.size(), size)
		return
	}
	d.replace(file, node, slices.Clone(node.content.bytes[:size]))
}

// replace gives a file another content, which the caller gives away. The caller holds the lock.
func (d *Disk) replace(name string, node *inode, bytes []byte) {
	node.content = content{bytes: bytes, shared: true}
	d.history.record(event{kind: damaged, inode: node.serial, name: name, data: bytes})
}

// fails returns the code with which something fails, or SQLITE_OK. The caller holds the lock.
func (d *Disk) fails(op Op, name string) sqlite.ResultCode {
	if name == "" {
		return sqlite.ResultOK
	}
	code := sqlite.ResultOK
	for _, f := range d.faults.injected {
		switch {
		case f.Op != op || !strings.HasSuffix(name, f.File) || f.Times == 0:
		case f.After > 0:
			f.After--
		case code == sqlite.ResultOK:
			code = f.Code
			if f.Times > 0 {
				f.Times--
			}
		}
	}
	return code
}

// protected tells whether a file may not be written to. The caller holds the lock.
func (d *Disk) protected(name string) bool {
	return d.faults.all || d.faults.files[name]
}

// lacks tells whether there is no room for a file to grow by so many bytes. The caller holds the lock.
func (d *Disk) lacks(bytes int64) bool {
	return d.faults.bounded && bytes > max(0, d.faults.room)
}
