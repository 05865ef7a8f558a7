package index

import (
	"encoding/binary"
	"hash/crc32"
)

// Run is an immutable sorted index of the events with positions in (Base, Last]. It is small: all but its root stands in blocks.
// What a run was made with is not to be changed, but for Level.
type Run struct {
	// ID tells runs apart. It is never given again, also when the run was not finished: blocks are cached by it.
	ID         int64
	Base, Last int64
	// Level is 0 for a run that was built, and one more than that of the runs it was merged of.
	Level  int
	Events int64
	// Blocks is how many blocks there are, numbered from 0.
	Blocks int
	// Root is where the blocks begin to be looked up, at most [RootBytes], with a checksum over all of the run's fields but Level.
	Root []byte

	root *root
}

// RootBytes is the largest size of a run's root.
const RootBytes = 4000

const (
	rootFormat         = 1
	rootHeader         = 1 + 2*len(Key{})
	rootDirectoryBytes = (RootBytes - rootHeader - 2*2 - checksumBytes) / 2
)

// root is a run's root when it was parsed.
type root struct {
	smallest, largest Key       // of the IDs
	leaves, filters   directory // they may be empty, on level 0
}

// Open checks the root of a run, once, so that views need not do it each time. Runs that [Build] and [Merge] return are open.
// The error is a [*CorruptError].
func (r *Run) Open() error {
	if r.root != nil {
		return nil
	}
	parsed, err := r.parseRoot()
	if err != nil {
		return &CorruptError{r.ID, -1, err.Error()}
	}
	r.root = parsed
	return nil
}

func (r *Run) parseRoot() (*root, error) {
	n := len(r.Root) - checksumBytes
	if n < rootHeader || len(r.Root) > RootBytes {
		return nil, damage("it has a wrong size")
	}
	b := r.Root[:n]
	if binary.LittleEndian.Uint32(r.Root[n:]) != r.checksum(b) {
		return nil, damage("its checksum is wrong")
	}
	if b[0] != rootFormat {
		return nil, damage("it has a format that is not known")
	}
	if r.Base < 0 || r.Last < r.Base || r.Blocks < 0 {
		return nil, damage("its bounds are impossible")
	}
	parsed := &root{smallest: Key(b[1:]), largest: Key(b[1+len(Key{}):])}
	b = b[rootHeader:]
	var err error
	if parsed.leaves, b, err = parseRootDirectory(b); err != nil {
		return nil, err
	}
	if parsed.filters, b, err = parseRootDirectory(b); err != nil {
		return nil, err
	}
	if len(b) > 0 {
		return nil, damage("it has too many bytes")
	}
	return parsed, nil
}

// parseRootDirectory returns the directory that b begins with, and the rest of b.
func parseRootDirectory(b []byte) (directory, []byte, error) {
	if len(b) < 2 {
		return directory{}, nil, damage("it is cut off")
	}
	size := int(binary.LittleEndian.Uint16(b))
	if b = b[2:]; len(b) < size {
		return directory{}, nil, damage("it is cut off")
	}
	if size == 0 {
		return directory{}, b, nil
	}
	d, err := parseDirectory(b[:size])
	return d, b[size:], err
}

// checksum is a CRC-32C over what a root has, and what the run is.
func (r *Run) checksum(content []byte) uint32 {
	var fields [5 * 8]byte
	for i, field := range []int64{r.ID, r.Base, r.Last, r.Events, int64(r.Blocks)} {
		binary.LittleEndian.PutUint64(fields[8*i:], uint64(field)) //nolint:gosec // the bits matter
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(fields[:], castagnoli), castagnoli, content)
}
