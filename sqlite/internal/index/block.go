package index

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// BlockBytes is the largest size of a block. With a key of two integers before it, it fits a leaf of 4,096 bytes of an SQLite
// table with rowids.
const BlockBytes = 4000

// Blocks gives the blocks of runs, as they were emitted. What it returns is read-only, and never changes, because a block never
// does. It is called by several goroutines at once when views that have it are.
type Blocks interface {
	Block(run int64, number int) ([]byte, error)
}

// CorruptError says that a run is damaged. The run is of no use; its events can be indexed again.
type CorruptError struct {
	Run   int64
	Block int    // -1 for the root
	What  string // what is wrong
}

func (e *CorruptError) Error() string {
	if e.Block < 0 {
		return fmt.Sprintf("index: the root of run %d is damaged: %s", e.Run, e.What)
	}
	return fmt.Sprintf("index: block %d of run %d is damaged: %s", e.Block, e.Run, e.What)
}

// damage says what is wrong with some bytes. Whoever knows where they come from makes it a [CorruptError].
type damage string

func (d damage) Error() string { return string(d) }

const errPosition = damage("a position is not one of the run's")

// The first byte of a block is its type.
const (
	typeIDs byte = iota + 1
	typePostings
	typeDirectory
	typeFilter
)

// A block ends with a checksum.
const (
	checksumBytes = 4
	contentBytes  = BlockBytes - checksumBytes
)

// checksum is a CRC-32C over what a block has and where it belongs: a block in the place of another is damage, too.
func checksum(run int64, number int, content []byte) uint32 {
	var place [12]byte
	binary.LittleEndian.PutUint64(place[:], uint64(run))     //nolint:gosec // the bits matter
	binary.LittleEndian.PutUint32(place[8:], uint32(number)) //nolint:gosec // the bits matter
	castagnoli := crc32.MakeTable(crc32.Castagnoli)          // it is made once, and kept there
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, content)
}

// readBlock reads a block, checks it, and returns its content.
func readBlock(blocks Blocks, run int64, number int) ([]byte, error) {
	if c, ok := blocks.(*Cache); ok {
		return c.content(run, number)
	}
	block, err := blocks.Block(run, number)
	if err != nil {
		return nil, err
	}
	return checkBlock(run, number, block)
}

// checkBlock checks a block and returns its content.
func checkBlock(run int64, number int, block []byte) ([]byte, error) {
	n := len(block) - checksumBytes
	if n < 1 || len(block) > BlockBytes {
		return nil, &CorruptError{run, number, fmt.Sprintf("it has %d bytes", len(block))}
	}
	content := block[:n]
	if binary.LittleEndian.Uint32(block[n:]) != checksum(run, number, content) {
		return nil, &CorruptError{run, number, "its checksum is wrong"}
	}
	return content, nil
}

// output numbers blocks, and hands them on with their checksums.
type output struct {
	run  int64
	most int // bytes of content
	next int
	emit func(number int, block []byte) error
}

// write hands a block on, whose content must not be touched afterwards, and returns its number.
func (o *output) write(content []byte) (int, error) {
	number := o.next
	o.next++
	block := binary.LittleEndian.AppendUint32(content, checksum(o.run, number, content))
	return number, o.emit(number, block)
}
