package memory

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The sizes of the pieces that records are cut from: from few, as long as a topic is small, to many, and given up early when their
// payloads are large, because a piece is kept for as long as one of its messages is.
const (
	firstPieceRecords = 4
	mostPieceRecords  = 66 // just under 16 KiB, a size that the allocator has
	mostPieceBytes    = 256 << 10
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
	head uint64 // how many records were ever added
	tail *topicBlock
}

// topicBlock is a piece of the log: what one call of Publish added, or a part of that. Its records are never changed.
type topicBlock struct {
	records []topicRecord
	next    *topicBlock
}

// topicRecord is a message as it was published. It is never changed.
type topicRecord struct {
	message   es.Message
	key       uint64 // hash of the stream
	published int64  // when, on the clock of the space
	broken    *undecodable
}

// undecodable is what could not be decoded.
type undecodable struct {
	cause error
	raw   []byte
}

// link adds the first n of the records that a call of Publish has made.
func (l *topicLog) link(w *publication, n int) {
	for n > 0 {
		b := w.blocks
		if rest := b.records[min(n, len(b.records)):]; len(rest) > 0 { // there is room for a part of them
			b.records = b.records[:n:n]
			b.next = &topicBlock{records: rest, next: b.next}
		}
		w.blocks, b.next = b.next, nil
		l.tail.next = b
		l.tail = b
		l.head += uint64(len(b.records))
		n -= len(b.records)
	}
}

// press makes records of messages. To copy them is most of the work of a Publish, and is done before the lock of the topic is
// taken, so that who receives goes on meanwhile. What it cuts its pieces from belongs to one topic: what is slow to be received in one
// must not keep alive what is long done in another.
type press struct {
	space *topicSpace

	records []topicRecord // unused
	blocks  []topicBlock  // unused ones that are only for records of this piece
	size    int           // of the piece
	bytes   int           // of the payloads in it
	arena   []byte
}

// copy makes the records of a call of Publish and returns them in blocks.
func (p *press) copy(pubs []es.Publication, broken *undecodable) *topicBlock {
	published := p.space.clock()
	var first, last *topicBlock
	for begin := 0; begin < len(pubs); {
		if len(p.records) == 0 || p.bytes >= mostPieceBytes {
			p.size = min(max(2*p.size, firstPieceRecords), mostPieceRecords)
			p.records, p.blocks, p.bytes = make([]topicRecord, p.size), nil, 0
		}
		n := 0
		for n < len(p.records) && begin+n < len(pubs) && p.bytes < mostPieceBytes {
			p.record(&p.records[n], pubs[begin+n].Message, published, broken)
			n++
		}
		b := p.block(n)
		b.records = p.records[:n:n]
		p.records = p.records[n:]
		if last == nil {
			first = b
		} else {
			last.next = b
		}
		last = b
		begin += n
	}
	return first
}

// block returns a block for n of the unused records. A block is as long in memory as those beside it, so they share a piece only
// where their records do.
func (p *press) block(n int) *topicBlock {
	if n == p.size {
		return &topicBlock{}
	}
	if len(p.blocks) == 0 {
		p.blocks = make([]topicBlock, len(p.records))
	}
	b := &p.blocks[0]
	p.blocks = p.blocks[1:]
	return b
}

// record makes r a copy of a message.
func (p *press) record(r *topicRecord, m *es.Message, published int64, broken *undecodable) {
	r.message = *m
	r.message.Data = p.keep(m.Data)
	if len(m.Tags) > 0 {
		r.message.Tags = slices.Clone(m.Tags)
	}
	if len(m.Metadata) > 0 {
		r.message.Metadata = maps.Clone(m.Metadata)
	}
	if m.Time.Location() != time.UTC || m.Time.Nanosecond()%1000 != 0 {
		r.message.Time = es.Timestamp(m.Time) // as it would come from any other backend
	}
	r.key = maphash.String(p.space.seed, m.Stream)
	r.published = published
	r.broken = broken
	p.bytes += len(m.Data)
}

// keep returns a copy of a payload.
func (p *press) keep(data []byte) []byte {
	switch {
	case len(data) == 0:
		return nil
	case len(data) > mostSharedPayload:
		return bytes.Clone(data)
	case len(data) > cap(p.arena)-len(p.arena):
		size := min(max(2*cap(p.arena), firstArenaBytes), mostArenaBytes)
		p.arena = make([]byte, 0, max(size, len(data)))
	}
	begin := len(p.arena)
	p.arena = append(p.arena, data...)
	return p.arena[begin:len(p.arena):len(p.arena)]
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
