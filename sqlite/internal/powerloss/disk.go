package powerloss

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"testing"
)

// Sector is how many bytes a disk writes at once, all of them or none.
type Sector int

const (
	// Sector512 is the sector of old disks, and of what SQLite relies on. It tears writes into the smallest pieces.
	Sector512 Sector = 512
	// Sector4096 is the sector of modern disks, which is also a page of SQLite.
	Sector4096 Sector = 4096
)

// FolderMode says when a file that was created or deleted is so for sure.
type FolderMode int

const (
	// FolderSynced makes it sure with the next sync of the folder, which is all that POSIX promises.
	FolderSynced FolderMode = iota
	// FolderAtOnce makes it sure at once.
	FolderAtOnce
)

// Config is what a disk is like. The zero value is a disk with sectors of 512 bytes that keeps what POSIX promises, and no more.
type Config struct {
	// Sector is [Sector512] by default.
	Sector Sector
	// Folder is [FolderSynced] by default.
	Folder FolderMode
}

// Disk is a folder of files on a disk, and a file system of SQLite. It is safe for use by several goroutines.
type Disk struct {
	tb     testing.TB
	config Config
	vfs    *registration

	mu      sync.Mutex
	files   map[string]*inode
	open    map[*handle]struct{}
	history history
	counts  map[string]*Counts
	faults  faults
	gates   []*Gate
	serial  int // of the inode that was made last

	barriers int // how many there were
}

// inode is a file as programs see it, whether it has a name or not.
type inode struct {
	serial  int // 0 for a temporary file, which has no history
	content content
	linked  bool // it has a name
	opens   int
	shared  *sharedMemory
}

// NewDisk returns an empty disk, and registers it with SQLite. It ends with the test, or with [Disk.Close] before.
func NewDisk(tb testing.TB, config Config) *Disk {
	tb.Helper()
	if config.Sector == 0 {
		config.Sector = Sector512
	}
	if config.Sector != Sector512 && config.Sector != Sector4096 {
		tb.Fatalf("powerloss: a sector of %d bytes; there are Sector512 and Sector4096", config.Sector)
	}
	return newDisk(tb, config, nil)
}

// newDisk returns a disk with files on it, which are safe.
func newDisk(tb testing.TB, config Config, files map[string]content) *Disk {
	tb.Helper()
	d := &Disk{
		tb: tb, config: config,
		files:  map[string]*inode{},
		open:   map[*handle]struct{}{},
		counts: map[string]*Counts{},
	}
	d.history.start = newImage(config.Folder)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		safe := files[name]
		node := d.link(name)
		node.content = safe.share()
		d.history.start.put(name, node.serial, safe.share())
	}
	var err error
	if d.vfs, err = register(d); err != nil {
		tb.Fatalf("powerloss: %v", err)
	}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// Close takes the disk away from SQLite and forgets what is on it. It does nothing and returns an error while a connection has a
// file of the disk open. Nobody may be about to open one meanwhile. A closed disk may be closed again, and nothing else.
func (d *Disk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.vfs == nil {
		return nil
	}
	if len(d.open) > 0 {
		names := []string{}
		for h := range d.open {
			names = append(names, h.name)
		}
		slices.Sort(names)
		return fmt.Errorf("powerloss: files of the disk are still open: %q", names)
	}
	d.vfs.end()
	d.vfs = nil
	d.files, d.history = nil, history{}
	return nil
}

// Name is the name under which SQLite knows the disk.
func (d *Disk) Name() string { return d.vfs.name }

// URI is how to open a file of the disk, by its name, as a database. The flags with which it is opened must include
// SQLITE_OPEN_URI.
func (d *Disk) URI(file string) string {
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: file}).EscapedPath(), RawQuery: "vfs=" + d.Name()}).String()
}

// Files returns the names of the files that are there, sorted.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files))
}

// File returns a copy of what is in a file, as programs see it. It fails the test when there is no such file.
func (d *Disk) File(name string) []byte {
	d.tb.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	node := d.find(name)
	if node == nil {
		return nil
	}
	return slices.Clone(node.content.bytes)
}

// find returns a file that must be there. The caller holds the lock.
func (d *Disk) find(name string) *inode {
	d.tb.Helper()
	node := d.files[name]
	if node == nil {
		d.tb.Errorf("powerloss: there is no file %q on the disk; there are %q", name, slices.Sorted(maps.Keys(d.files)))
	}
	return node
}

// link makes a new file. The caller holds the lock, and records it.
func (d *Disk) link(name string) *inode {
	d.serial++
	node := &inode{serial: d.serial, linked: true}
	d.files[name] = node
	return node
}

// remove takes the name from a file, and gives back its room unless somebody has it open. The caller holds the lock.
func (d *Disk) remove(name string) {
	node := d.files[name]
	delete(d.files, name)
	node.linked = false
	d.history.record(event{kind: deleted, inode: node.serial, name: name})
	d.release(node)
}

// release gives back the room of a file that is gone. The caller holds the lock.
func (d *Disk) release(node *inode) {
	if !node.linked && node.opens == 0 {
		d.faults.room += node.content.size()
		node.content = content{}
	}
}
