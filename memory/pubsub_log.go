package memory

import (
	"bytes"
	"maps"
	"slices"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// mostPiece is the size of a piece of records or payloads when a topic is busy, in bytes. The allocator gets memory for four of this
// size at a time; for those of 16 KiB it does so one by one, which takes a tenth of the time of a Publish.
const mostPiece = 18 << 10

// The sizes of the pieces that records are cut from: from few, as long as a topic is small, to many, and given up early when their
// payloads are large, because a piece is kept for as long as one of its messages is.
const (
	firstPieceRecords = 4
	mostPieceRecords  = 76 // just under mostPiece
	mostPieceBytes    = 256 << 10
)

// The sizes of the pieces that payloads are copied to. Larger payloads have an allocation of their own.
const (
	firstArenaBytes   = 512
	mostArenaBytes    = mostPiece
	mostSharedPayload = 2 << 10
)

// topicLog is what was published to a topic, for all groups. It is a list of blocks that knows only its newest: each group
// holds on to the block where it stands, and what lies behind all of them is garbage.
//
// So nothing may refer to a block for longer than it is read: with it, all that was published since would be kept.
type topicLog struct {
	head uint64 // how many records were ever added
	tail *topicBlock
}

// topicBlock is a piece of the log. Its first records are in use, and never changed; more of them may come into use while it is the
// newest block, and then none any more.
type topicBlock struct {
	records []topicRecord
	used    int
	next    *topicBlock
	broken  bool // its records are
}

// topicRecord is a message as it was published. It is never changed.
type topicRecord struct {
	message   es.Message
	published int64 // when, on the clock of the space
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
		some := w.records[:min(n, len(w.records))]
		l.add(some, w.broken != nil)
		n -= len(some)
		if w.records = w.records[len(some):]; len(w.records) == 0 && len(w.more) > 0 {
			w.records, w.more = w.more[0], w.more[1:]
		}
	}
}

// add adds records: to the newest block when they follow its own in memory, as those of the same press mostly do.
func (l *topicLog) add(some []topicRecord, broken bool) {
	l.head += uint64(len(some))
	if b := l.tail; b.used < len(b.records) && &b.records[b.used] == &some[0] && b.broken == broken {
		b.used += len(some)
		return
	}
	l.tail.next = &topicBlock{records: some[:cap(some)], used: len(some), broken: broken}
	l.tail = l.tail.next
}

// press makes records of messages. To copy them is most of the work of a Publish, and is done before the lock of the topic is
// taken, so that who receives goes on meanwhile. What it cuts its pieces from belongs to one topic: what is slow to be received in one
// must not keep alive what is long done in another.
type press struct {
	space *topicSpace

	records []topicRecord // unused
	size    int           // of the piece
	bytes   int           // of the payloads in it
	arena   []byte
}

// copy makes the records of a call of Publish: those in the first piece, and those in more.
func (p *press) copy(w *publication) {
	published := p.space.clock()
	for pubs := w.pubs; len(pubs) > 0; {
		if len(p.records) == 0 || p.bytes >= mostPieceBytes {
			p.size = min(max(2*p.size, firstPieceRecords), mostPieceRecords)
			p.records, p.bytes = make([]topicRecord, p.size), 0
		}
		n := 0
		for n < len(p.records) && n < len(pubs) && p.bytes < mostPieceBytes {
			p.record(&p.records[n], pubs[n].Message, published, w.broken)
			n++
		}
		if w.records == nil {
			w.records = p.records[:n]
		} else {
			w.more = append(w.more, p.records[:n])
		}
		p.records, pubs = p.records[n:], pubs[n:]
	}
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
	r.published = published
	r.broken = broken
	p.bytes += len(m.Data)
}

// keep returns a copy of a payload.
func (p *press) keep(data []byte) []byte {
	size := len(data)
	switch {
	case size == 0:
		return nil
	case size > mostSharedPayload:
		return bytes.Clone(data)
	case size > cap(p.arena)-len(p.arena):
		p.arena = make([]byte, 0, max(min(max(2*cap(p.arena), firstArenaBytes), mostArenaBytes), size))
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
	return topicCursor{block: l.tail, index: l.tail.used, number: l.head}
}

// record returns the record at the cursor. There must be one.
func (c *topicCursor) record() *topicRecord {
	if c.index == c.block.used {
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
	for n > c.block.used-c.index {
		n -= c.block.used - c.index
		c.block, c.index = c.block.next, 0
	}
	c.index += n
}

// span is a part of the log. It is read without the lock of the topic: what is in it does not change any more.
type span struct {
	begin topicCursor
	last  *topicBlock // more of this one may come into use meanwhile
	size  int
}

// take returns the next n records as a span, and moves behind them. There must be as many, and one at least.
func (c *topicCursor) take(n int) span {
	s := span{begin: *c, size: n}
	c.skip(n)
	s.last = c.block
	return s
}

// next cuts off the first records of the span: those that lie in one block. There must be some.
func (s *span) next() (some []topicRecord, broken bool) {
	for {
		b := s.begin.block
		some = b.records[s.begin.index:]
		if b != s.last {
			some = b.records[s.begin.index:b.used]
		}
		some = some[:min(s.size, len(some))]
		s.size -= len(some)
		s.begin.index += len(some)
		if len(some) > 0 {
			return some, b.broken
		}
		s.begin.block, s.begin.index = b.next, 0
	}
}
