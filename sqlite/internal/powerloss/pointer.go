package powerloss

import (
	"sync"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
)

// SQLite is C that was translated to Go: its pointers are numbers, its memory is outside of Go's heap, and its callbacks are the
// addresses of Go functions. What this file does about that is all there is of it in the package.

// at is the value at an address of SQLite's memory.
func at[T any](address uintptr) *T {
	return *(**T)(unsafe.Pointer(&address)) //nolint:gosec // the address comes from SQLite, which has memory there
}

// bytesAt is a piece of SQLite's memory. It may be used as long as the call from SQLite lasts that named it.
func bytesAt(address uintptr, size int32) []byte {
	return unsafe.Slice(at[byte](address), int(size)) //nolint:gosec // SQLite says how large it is
}

// address is how SQLite calls a function. It must be a function of the package, not a closure: nothing but this number keeps it.
func address[F any](function F) uintptr {
	return *(*uintptr)(unsafe.Pointer(&function)) //nolint:gosec // that is how the translation calls functions
}

// allocate returns zeroed memory that SQLite can use, and 0 when there is none. It is not SQLite's own allocator, which may write to
// files to make room, and so may not be called while the lock of a disk is held.
func allocate(tls *libc.TLS, size int32) uintptr {
	return libc.Xcalloc(tls, 1, types.Size_t(size)) //nolint:gosec // not below 0
}

// sizeOf is the size of a value in memory.
func sizeOf[T any]() int32 {
	var zero T
	return int32(unsafe.Sizeof(zero)) //nolint:gosec // a few hundred bytes
}

// Disks and open files have numbers, by which SQLite hands them back. Like SQLite's own list of file systems, which it is about,
// this belongs to the process.
//
//nolint:gochecknoglobals // see above
var (
	disks     table[*Disk]
	openFiles table[*handle]
)

// table gives numbers to values.
type table[T any] struct {
	mu     sync.RWMutex
	last   uintptr
	values map[uintptr]T
}

func (t *table[T]) add(value T) uintptr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.values == nil {
		t.values = map[uintptr]T{}
	}
	t.last++
	t.values[t.last] = value
	return t.last
}

func (t *table[T]) get(number uintptr) T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.values[number]
}

func (t *table[T]) drop(number uintptr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.values, number)
}
