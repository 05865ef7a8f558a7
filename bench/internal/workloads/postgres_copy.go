package workloads

import (
	"encoding/binary"
	"errors"
)

// copiedRows takes what COPY sends in the binary format (PostgreSQL's manual, COPY, "Binary Format"), and shows the last field of each row.
type copiedRows struct {
	see   func(data []byte) error
	rest  []byte // of a row that is not whole yet
	begun bool
	ended bool
}

const copyHeader = 11 + 4 + 4 // signature, flags, length of an extension that there is none of

var errCopy = errors.New("COPY has sent something else than rows")

// Write implements [io.Writer].
func (c *copiedRows) Write(p []byte) (int, error) {
	c.rest = append(c.rest, p...)
	at := 0
	if !c.begun {
		if len(c.rest) < copyHeader {
			return len(p), nil
		}
		at, c.begun = copyHeader, true
	}
	for !c.ended {
		length, data, whole := row(c.rest[at:])
		if !whole {
			break
		}
		at += length
		if c.ended = data == nil; !c.ended {
			if err := c.see(data); err != nil {
				return 0, err
			}
		}
	}
	c.rest = append(c.rest[:0], c.rest[at:]...)
	return len(p), nil
}

// row returns how long the first row is, and its last field; nil at the end of the rows. It tells whether the row is whole.
func row(b []byte) (length int, last []byte, whole bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	fields := int(int16(binary.BigEndian.Uint16(b))) //nolint:gosec // it is a signed number
	if fields < 0 {
		return 2, nil, true
	}
	length = 2
	for range fields {
		if len(b) < length+4 {
			return 0, nil, false
		}
		size := int(int32(binary.BigEndian.Uint32(b[length:]))) //nolint:gosec // it is a signed number
		length += 4
		if size < 0 {
			last = []byte{}
			continue
		}
		if len(b) < length+size {
			return 0, nil, false
		}
		last = b[length : length+size]
		length += size
	}
	return length, last, true
}

// left tells whether the rows have come to an end.
func (c *copiedRows) left() error {
	if !c.ended || len(c.rest) > 0 {
		return errCopy
	}
	return nil
}
