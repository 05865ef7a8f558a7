package powerloss

import "slices"

// content is what is in a file. Several of them may share their bytes until one of them is written to.
type content struct {
	bytes  []byte
	shared bool
}

func (c *content) size() int64 { return int64(len(c.bytes)) }

// share returns a content that is the same now.
func (c *content) share() content {
	c.shared = true
	return *c
}

// own makes the bytes the content's own.
func (c *content) own() {
	if c.shared {
		c.bytes, c.shared = slices.Clone(c.bytes), false
	}
}

// write writes data at an offset; a gap before it is filled with zeros.
func (c *content) write(data []byte, offset int64) {
	c.grow(offset + int64(len(data)))
	c.own()
	copy(c.bytes[offset:], data)
}

// grow makes the file at least so large, with zeros at its end.
func (c *content) grow(size int64) {
	if size > c.size() {
		c.resize(size)
	}
}

// resize makes the file so large, by cutting it or by zeros at its end.
func (c *content) resize(size int64) {
	c.own()
	before := c.size()
	if size <= before {
		c.bytes = c.bytes[:size]
		return
	}
	c.bytes = slices.Grow(c.bytes, int(size-before))[:size]
	clear(c.bytes[before:])
}

// read reads into buf, and returns how much there was.
func (c *content) read(buf []byte, offset int64) int {
	if offset >= c.size() {
		return 0
	}
	return copy(buf, c.bytes[offset:])
}
