package memory

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The sizes of the blocks of a topic's log: from few records, as long as a topic is small, to many, and closed early when their
// payloads are large, because a block is kept for as long as one of its messages is.
const (
	firstBlockRecords = 4
	mostBlockRecords  = 68 // just under 16 KiB, a size that the allocator has
	mostBlockBytes    = 256 << 10
)

// The sizes of the pieces that payloads are copied to. Larger payloads have an allocation of their own.
const (
	firstArenaBytes   = 512
	mostArenaBytes    = 16 << 10
	mostSharedPayload = 2 << 10
)

// topicLog is what was published to a topic, for all groups. It is a list of blocks that knows only its newest: each group
// holds on to the block where it stands, and what lies behind all of them is garbage.
type topicLog struct {
	head  uint64 // how many records were ever appended
	tail  *topicBlock
	arena []byte
}

// topicBlock is a piece of the log. It is full when the records have come to their capacity.
type topicBlock struct {
	records []topicRecord
	bytes   int // of the payloads
	next    *topicBlock
}

// topicRecord is a message as it was published. It is never changed.
type topicRecord struct {
	message es.Message
	key     uint64 // hash of the stream
	broken  *undecodable
}

// undecodable is what could not be decoded.
type undecodable struct {
	cause error
	raw   []byte
}

// grow adds a block.
func (l *topicLog) grow() {
	size := firstBlockRecords
	if l.tail != nil {
		size = min(2*cap(l.tail.records), mostBlockRecords)
		l.tail.records = slices.Clip(l.tail.records) // full now, also when it was closed early
	}
	b := &topicBlock{records: make([]topicRecord, 0, size)}
	if l.tail != nil {
		l.tail.next = b
	}
	l.tail = b
}

// append adds a copy of a message.
func (t *topic) append(m *es.Message, broken *undecodable) {
	l := &t.log
	if b := l.tail; len(b.records) == cap(b.records) || b.bytes >= mostBlockBytes {
		l.grow()
	}
	b := l.tail
	n := len(b.records)
	b.records = b.records[:n+1]
	r := &b.records[n]
	r.message = *m
	r.message.Data = l.keep(m.Data)
	if len(m.Tags) > 0 {
		r.message.Tags = slices.Clone(m.Tags)
	}
	if len(m.Metadata) > 0 {
		r.message.Metadata = maps.Clone(m.Metadata)
	}
	if m.Time.Location() != time.UTC || m.Time.Nanosecond()%1000 != 0 {
		r.message.Time = es.Timestamp(m.Time) // as it would come from any other backend
	}
	r.key = maphash.String(t.space.seed, m.Stream)
	r.broken = broken
	b.bytes += len(m.Data)
	l.head++
}

// keep returns a copy of a payload.
func (l *topicLog) keep(data []byte) []byte {
	switch {
	case len(data) == 0:
		return nil
	case len(data) > mostSharedPayload:
		return bytes.Clone(data)
	case len(data) > cap(l.arena)-len(l.arena):
		size := min(max(2*cap(l.arena), firstArenaBytes), mostArenaBytes)
		l.arena = make([]byte, 0, max(size, len(data)))
	}
	begin := len(l.arena)
	l.arena = append(l.arena, data...)
	return l.arena[begin:len(l.arena):len(l.arena)]
}

// topicCursor is a place in the log.
type topicCursor struct {
	block  *topicBlock
	index  int    // in the block
	number uint64 // how many records lie before it
}

// end returns the place behind the newest record.
func (l *topicLog) end() topicCursor {
	return topicCursor{block: l.tail, index: len(l.tail.records), number: l.head}
}

// record returns the record at the cursor. There must be one.
func (c *topicCursor) record() *topicRecord {
	if c.index == len(c.block.records) {
		c.block, c.index = c.block.next, 0
	}
	return &c.block.records[c.index]
}

// advance moves behind the record at the cursor.
func (c *topicCursor) advance() {
	c.index++
	c.number++
}

// skip moves n records further. There must be as many.
func (c *topicCursor) skip(n int) {
	c.number += uint64(n) //nolint:gosec // it is not negative
	for n > len(c.block.records)-c.index {
		n -= len(c.block.records) - c.index
		c.block, c.index = c.block.next, 0
	}
	c.index += n
}
