package index

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// Columns are how blocks hold what they have much of: entries of the same width one after the other, found by their number.

// column has unsigned numbers, as differences from the least in as many bytes as the largest takes.
type column struct {
	base  uint64
	width int
	bytes []byte
}

// columnHeader is the size of a column without its entries.
const columnHeader = 8 + 1

// columnBytes is the size of a column whose numbers go from low to high.
func columnBytes(n int, low, high uint64) int { return columnHeader + n*widthOf(high-low) }

// widthOf returns how many bytes a number takes, from 0 to 8.
func widthOf(u uint64) int { return (bits.Len64(u) + 7) / 8 }

// appendColumn appends a column of n numbers that go from low to high.
func appendColumn(b []byte, n int, low, high uint64, number func(i int) uint64) []byte {
	width := widthOf(high - low)
	b = append(binary.LittleEndian.AppendUint64(b, low), byte(width)) //nolint:gosec // at most 8
	for i := range n {
		var entry [8]byte
		binary.LittleEndian.PutUint64(entry[:], number(i)-low)
		b = append(b, entry[:width]...)
	}
	return b
}

// parseColumn returns the column of n numbers that b begins with, and the rest of b.
func parseColumn(b []byte, n int) (column, []byte, error) {
	if len(b) < columnHeader {
		return column{}, nil, damage("a column is cut off")
	}
	c := column{base: binary.LittleEndian.Uint64(b), width: int(b[8])}
	b = b[columnHeader:]
	size := n * c.width
	if c.width > 8 || size > len(b) {
		return column{}, nil, damage("a column is too wide")
	}
	c.bytes = b[:size]
	return c, b[size:], nil
}

// at returns a number. What is not damaged does not overflow.
func (c *column) at(i int) uint64 {
	start := i * c.width
	if start+8 <= len(c.bytes) {
		entry := binary.LittleEndian.Uint64(c.bytes[start:])
		return c.base + entry&(1<<(8*c.width)-1)
	}
	var entry [8]byte
	copy(entry[:], c.bytes[start:start+c.width])
	return c.base + binary.LittleEndian.Uint64(entry[:])
}

// keyColumn has keys in rising order, without the bytes at their beginning that all of them share, and without the zeros at the end
// that all of them have.
type keyColumn struct {
	n               int // how many keys
	prefix, entries []byte
	width           int // of an entry
}

// keyColumnHeader is the size of a column of keys without those.
const keyColumnHeader = 2 + 1 + 1

// keyColumnBytes is the size of a column of n keys, from first to last, of which the longest has so many bytes without zeros at its
// end.
func keyColumnBytes(n int, first, last []byte, longest int) int {
	shared := min(sharedPrefix(first, last), longest)
	return keyColumnHeader + shared + n*(longest-shared)
}

// sharedPrefix returns how many bytes two keys of the same size have in common at their beginning.
func sharedPrefix(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// appendKeyColumn appends a column of n keys.
func appendKeyColumn(b []byte, n, longest int, key func(i int) []byte) []byte {
	first := key(0)
	shared := min(sharedPrefix(first, key(n-1)), longest)
	b = binary.LittleEndian.AppendUint16(b, uint16(n)) //nolint:gosec // a block has fewer
	b = append(b, byte(shared), byte(longest-shared))  //nolint:gosec // at most the size of a key
	b = append(b, first[:shared]...)
	for i := range n {
		b = append(b, key(i)[shared:longest]...)
	}
	return b
}

// parseKeyColumn returns the column of keys of a size that b begins with, and the rest of b. It has one key or more.
func parseKeyColumn(b []byte, size int) (keyColumn, []byte, error) {
	if len(b) < keyColumnHeader {
		return keyColumn{}, nil, damage("the keys are cut off")
	}
	n, shared, width := int(binary.LittleEndian.Uint16(b)), int(b[2]), int(b[3])
	b = b[keyColumnHeader:]
	if n == 0 || shared+width > size || shared+n*width > len(b) {
		return keyColumn{}, nil, damage("the keys have a wrong size")
	}
	end := shared + n*width
	return keyColumn{n: n, prefix: b[:shared], entries: b[shared:end], width: width}, b[end:], nil
}

func (k *keyColumn) entry(i int) []byte { return k.entries[i*k.width : (i+1)*k.width] }

// get puts a key to where there is room for it.
func (k *keyColumn) get(i int, key []byte) {
	n := copy(key, k.prefix)
	n += copy(key[n:], k.entry(i))
	clear(key[n:])
}

// below returns how many keys are less than one of their size, and upTo how many are not greater.
func (k *keyColumn) below(key []byte) int {
	start, end := k.split()
	if c := bytes.Compare(k.prefix, key[:start]); c != 0 {
		return k.beside(c)
	}
	most := 0 // how an entry compares that belongs to a lesser key
	if isZero(key[end:]) {
		most = -1
	}
	return search(k.n, func(i int) bool { return bytes.Compare(k.entry(i), key[start:end]) > most })
}

func (k *keyColumn) upTo(key []byte) int {
	start, end := k.split()
	if c := bytes.Compare(k.prefix, key[:start]); c != 0 {
		return k.beside(c)
	}
	return search(k.n, func(i int) bool { return bytes.Compare(k.entry(i), key[start:end]) > 0 })
}

// is tells whether a key is the given one.
func (k *keyColumn) is(i int, key []byte) bool {
	start, end := k.split()
	return bytes.Equal(k.prefix, key[:start]) && bytes.Equal(k.entry(i), key[start:end]) && isZero(key[end:])
}

// split returns where a key is split into prefix, entry and zeros.
func (k *keyColumn) split() (start, end int) { return len(k.prefix), len(k.prefix) + k.width }

// beside returns how many keys are less than one when all of them compare to it as given.
func (k *keyColumn) beside(comparison int) int {
	if comparison < 0 {
		return k.n
	}
	return 0
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
