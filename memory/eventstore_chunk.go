package memory

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// logChunk holds the records of events that follow each other in position, one record behind the other.
//
// Bytes that are written are not changed any more: the Data of the messages that are handed out is a part of them. What is to
// go is left out of a new copy, see logChunk.rewrite; the old one is gone when the last of its readers is.
//
// A record is: flags, ID, stream, version, name, schema, time of recording after the chunk's base, time before that, content
// type, correlation, causation, tags, metadata, data. What the flags deny is left out; numbers are varints. A stub, which is
// left of an event that nobody can read any more, is: flags, ID, stream, version, hash of the content.
type logChunk struct {
	first   uint32
	base    int64 // microseconds since 1970
	data    []byte
	offsets []uint32
	blobs   [][]byte          // large payloads, which stand outside of data
	live    int               // how many of the events are in the indexes
	size    int               // bytes of data and blobs
	stale   int               // of these, the ones of events that are not in the indexes any more
	retired map[uint32]uint64 // those whose record is not a stub yet, with the hash of their content
}

const (
	// chunkBytes is how long the data of a chunk is; the first chunks of a log are shorter.
	chunkBytes      = 64 << 10
	firstChunkBytes = 2 << 10
	// blobBytes is from how many bytes on a payload stands by itself, so that little is left over at the end of a chunk.
	blobBytes = 4 << 10
)

// The flags of a record.
const (
	flagStub byte = 1 << iota
	flagErased
	flagBlob
	flagMetadata
	flagCorrelation
	flagCausation
	flagTags
	flagContent // another content type than JSON
)

// chunkFor returns the chunk that the next event is to stand in, and has room for it.
func (l *eventLog) chunkFor(m *es.Message) *logChunk {
	need := recordBound(m)
	size := firstChunkBytes
	if n := len(l.chunks); n > 0 {
		c := l.chunks[n-1]
		if cap(c.data)-len(c.data) >= need {
			return c
		}
		size = min(max(2*cap(c.data), firstChunkBytes), chunkBytes)
	}
	c := &logChunk{first: l.last, base: l.recorded, data: make([]byte, 0, max(size, need))}
	l.chunks = append(l.chunks, c)
	l.firsts = append(l.firsts, c.first)
	return c
}

// recordBound is the largest number of bytes that a record of m takes.
func recordBound(m *es.Message) int {
	const (
		number = binary.MaxVarintLen64
		fixed  = 1 + len(m.ID) + 8*number
	)
	n := fixed + len(m.ContentType) + len(m.CorrelationID) + len(m.CausationID) + 4*number + len(m.Tags)*number
	for key, value := range m.Metadata {
		n += len(key) + len(value) + 2*number
	}
	if len(m.Data) < blobBytes {
		n += len(m.Data)
	}
	return n
}

// encode writes the record of m behind those that c has.
func (l *eventLog) encode(c *logChunk, m *es.Message, stream, version, name uint32, tags []uint32) {
	b := c.data
	start := len(b)
	var flags byte
	b = append(b, 0)
	b = append(b, m.ID[:]...)
	b = binary.AppendUvarint(b, uint64(stream))
	b = binary.AppendUvarint(b, uint64(version))
	b = binary.AppendUvarint(b, uint64(name))
	b = binary.AppendUvarint(b, uint64(m.Schema)) //nolint:gosec // it is 1 or more
	b = binary.AppendUvarint(b, uint64(l.recorded-c.base))
	b = binary.AppendVarint(b, l.recorded-m.Time.UnixMicro())
	if m.ContentType != es.ContentTypeJSON {
		flags |= flagContent
		ref := l.contents.intern(m.ContentType)
		if b = binary.AppendUvarint(b, ref); ref == 0 {
			b = appendText(b, m.ContentType)
		}
	}
	if m.CorrelationID != "" {
		flags |= flagCorrelation
		b = appendText(b, m.CorrelationID)
	}
	if m.CausationID != "" {
		flags |= flagCausation
		b = appendText(b, m.CausationID)
	}
	if len(tags) > 0 {
		flags |= flagTags
		b = binary.AppendUvarint(b, uint64(len(tags)))
		for _, tag := range tags {
			b = binary.AppendUvarint(b, uint64(tag))
		}
	}
	if len(m.Metadata) > 0 {
		flags |= flagMetadata
		b = appendMetadata(b, m.Metadata)
	}
	if len(m.Data) >= blobBytes {
		flags |= flagBlob
		b = binary.AppendUvarint(b, uint64(len(c.blobs)))
		c.blobs = append(c.blobs, slices.Clone(m.Data))
		c.size += len(m.Data)
	} else {
		b = binary.AppendUvarint(b, uint64(len(m.Data)))
		b = append(b, m.Data...)
	}
	b[start] = flags
	c.data = b
}

func appendText(b []byte, text string) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendMetadata(b []byte, metadata map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(metadata)))
	for key, value := range metadata {
		b = appendText(b, key)
		b = appendText(b, value)
	}
	return b
}

// record is the beginning of a record, which every event keeps, and a scanner over what follows.
type record struct {
	chunk           *logChunk
	whole           []byte
	id              uuid.UUID
	flags           byte
	stream, version uint32
	rest            scanner
}

// locate returns the index of the chunk that has an event.
func (l *eventLog) locate(position uint32) int {
	i, exact := slices.BinarySearch(l.firsts, position)
	if !exact {
		i--
	}
	return i
}

func (l *eventLog) record(position uint32) record {
	c := l.chunks[l.locate(position)]
	return c.record(int(position - c.first))
}

// record returns the record of the i-th event of a chunk.
func (c *logChunk) record(i int) record {
	whole := c.data[c.offsets[i]:c.end(i)]
	r := record{chunk: c, whole: whole, rest: scanner{whole}}
	r.flags = r.rest.bytes(1)[0]
	r.id = uuid.UUID(r.rest.bytes(len(r.id)))
	r.stream, r.version = uint32(r.rest.number()), uint32(r.rest.number()) //nolint:gosec // they were written from such
	return r
}

// end is where the record of the i-th event ends.
func (c *logChunk) end(i int) int {
	if i+1 < len(c.offsets) {
		return int(c.offsets[i+1])
	}
	return len(c.data)
}

// visible tells whether readers may see an event.
func (l *eventLog) visible(r *record) bool { return r.version > l.streams.at(r.stream).hidden }

// terms reads the name and the tags of a record.
func (r *record) terms() (name uint32, tags []uint32) {
	s := r.rest
	name = uint32(s.number()) //nolint:gosec // it was written from such
	s.skipToTags(r.flags)
	if r.flags&flagTags != 0 {
		for range s.number() {
			tags = append(tags, uint32(s.number())) //nolint:gosec // and this
		}
	}
	return name, tags
}

// skipToTags goes on from behind the name to the tags.
func (s *scanner) skipToTags(flags byte) {
	s.number() // schema
	s.number() // recorded
	s.number() // time
	if flags&flagContent != 0 && s.number() == 0 {
		s.text()
	}
	if flags&flagCorrelation != 0 {
		s.text()
	}
	if flags&flagCausation != 0 {
		s.text()
	}
}

// decode makes a message of the record of an event, with what the decoder has for many.
func (l *eventLog) decode(r *record, position uint32, d *decoder, m *es.Message) {
	s := r.rest
	m.ID = r.id
	m.Stream = l.streams.at(r.stream).name
	m.Version = int64(r.version)
	m.Position = int64(position)
	m.Name = l.names.terms.at(uint32(s.number())).text //nolint:gosec // it was written from such
	m.Schema = int(s.number())                         //nolint:gosec // and this
	recorded := r.chunk.base + int64(s.number())       //nolint:gosec // and this
	m.Recorded = time.UnixMicro(recorded).UTC()
	m.Time = time.UnixMicro(recorded - s.signed()).UTC()
	m.ContentType = es.ContentTypeJSON
	if r.flags&flagContent != 0 {
		if ref := s.number(); ref > 0 {
			m.ContentType = l.contents.texts[ref-1]
		} else {
			m.ContentType = d.text(s.text())
		}
	}
	if r.flags&flagCorrelation != 0 {
		m.CorrelationID = d.text(s.text())
	}
	if r.flags&flagCausation != 0 {
		m.CausationID = d.text(s.text())
	}
	if r.flags&flagTags != 0 {
		m.Tags = d.strings(int(s.number())) //nolint:gosec // it was written from such
		for i := range m.Tags {
			m.Tags[i] = l.tags.terms.at(uint32(s.number())).text //nolint:gosec // and this
		}
	}
	if r.flags&flagMetadata != 0 {
		m.Metadata = d.metadata(&s)
	}
	if r.flags&flagBlob != 0 {
		m.Data = slices.Clip(r.chunk.blobs[s.number()])
	} else if data := s.text(); len(data) > 0 {
		m.Data = slices.Clip(data)
	}
}

// sameContent tells whether the event at a position says the same as m, which is of the same stream. Of one that was erased
// nobody can say, and every content will do.
func (l *eventLog) sameContent(position uint32, m *es.Message) bool {
	r := l.record(position)
	if r.flags&flagErased != 0 {
		return true
	}
	if hash, retired := r.chunk.retired[position-r.chunk.first]; retired {
		return hash == l.fingerprint(m)
	}
	if r.flags&flagStub != 0 {
		return binary.LittleEndian.Uint64(r.rest.b) == l.fingerprint(m)
	}
	var stored es.Message
	l.decode(&r, position, &decoder{}, &stored)
	return stored.SameContent(m)
}

// fingerprint is a hash of what [es.Message.SameContent] compares, for events whose content is gone.
func (l *eventLog) fingerprint(m *es.Message) uint64 {
	var h maphash.Hash
	h.SetSeed(l.seed)
	b := binary.AppendUvarint(nil, uint64(m.Schema)) //nolint:gosec // it is 1 or more
	b = appendText(b, m.Name)
	b = appendText(b, m.ContentType)
	b = binary.AppendUvarint(b, uint64(len(m.Tags)))
	for _, tag := range m.Tags {
		b = appendText(b, tag)
	}
	_, _ = h.Write(b) // it cannot fail
	_, _ = h.Write(m.Data)
	return h.Sum64()
}

// scanner reads what is in a record, from the front.
type scanner struct{ b []byte }

func (s *scanner) bytes(n int) []byte {
	b := s.b[:n]
	s.b = s.b[n:]
	return b
}

func (s *scanner) number() uint64 {
	if b := s.b[0]; b < 0x80 { // most are that small
		s.b = s.b[1:]
		return uint64(b)
	}
	v, n := binary.Uvarint(s.b)
	s.b = s.b[n:]
	return v
}

func (s *scanner) signed() int64 {
	v, n := binary.Varint(s.b)
	s.b = s.b[n:]
	return v
}

// text reads bytes that stand behind their length.
func (s *scanner) text() []byte { return s.bytes(int(s.number())) } //nolint:gosec // it was written from a length

// decoder makes the strings of many messages out of few allocations.
type decoder struct {
	texts strings.Builder // what was taken out of it stays as it is when more is written
	tags  []string
	last  map[string]string
}

func (d *decoder) text(b []byte) string {
	const room = 4 << 10
	if d.texts.Cap()-d.texts.Len() < len(b) {
		d.texts = strings.Builder{}
		d.texts.Grow(max(room, len(b)))
	}
	start := d.texts.Len()
	d.texts.Write(b)
	return d.texts.String()[start:]
}

// strings returns room for n strings.
func (d *decoder) strings(n int) []string {
	const room = 64
	if len(d.tags) < n {
		d.tags = make([]string, max(room, n))
	}
	s := d.tags[:n:n]
	d.tags = d.tags[n:]
	return s
}

// metadata reads metadata. Messages that follow each other often have the same; they share a map then.
func (d *decoder) metadata(s *scanner) map[string]string {
	n := int(s.number()) //nolint:gosec // it was written from a length
	if ahead := *s; d.isLast(&ahead, n) {
		*s = ahead
		return d.last
	}
	d.last = make(map[string]string, n)
	for range n {
		key := d.text(s.text())
		d.last[key] = d.text(s.text())
	}
	return d.last
}

func (d *decoder) isLast(s *scanner, n int) bool {
	if len(d.last) != n {
		return false
	}
	for range n {
		key, value := s.text(), s.text()
		if last, ok := d.last[string(key)]; !ok || last != string(value) {
			return false
		}
	}
	return true
}
