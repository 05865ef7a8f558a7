package memory

import (
	"encoding/binary"
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// clearEvents is how many hidden events are taken out of the indexes before the lock is let go for a moment.
const clearEvents = 256

// truncate hides the events of a stream below a version.
func (l *eventLog) truncate(stream string, before int64) {
	l.mu.Lock()
	ref := l.streamRef(stream)
	if ref == noRef {
		l.mu.Unlock()
		return
	}
	s := l.streams.at(ref)
	l.hide(s, uint32(min(max(before-1, 0), int64(s.version)))) //nolint:gosec // it is at most the version
	l.mu.Unlock()
	l.clear(ref)
}

// delete hides all the events of a stream.
func (l *eventLog) delete(stream string, how es.Deletion) {
	l.mu.Lock()
	ref := l.streamRef(stream)
	if ref == noRef {
		if how == es.Tombstone { // the name is closed all the same
			l.streams.at(l.addStream(stream)).tombstone = true
		}
		l.mu.Unlock()
		return
	}
	s := l.streams.at(ref)
	l.hide(s, s.version)
	if how == es.Tombstone {
		s.tombstone = true
	}
	s.deleted = true
	l.mu.Unlock()
	l.clear(ref)
}

// hide hides the versions of a stream up to one from every reader, at once. To take them out of the indexes is left to clear.
func (l *eventLog) hide(s *logStream, upTo uint32) {
	if upTo <= s.hidden {
		return
	}
	l.hiddenHigh = max(l.hiddenHigh, s.position(upTo))
	s.hidden = upTo
	l.edits.Add(1)
}

// clear takes the hidden events of a stream out of the indexes and gives back the memory that they take, but for what tells
// their IDs. It does so in small steps, so that a long stream holds nobody up.
func (l *eventLog) clear(ref uint32) {
	for more := true; more; {
		more = l.clearSome(ref)
	}
}

func (l *eventLog) clearSome(ref uint32) (more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.streams.at(ref)
	n := min(s.hidden-s.cleared, clearEvents)
	if n == 0 {
		return false
	}
	positions := make([]uint32, n)
	var d decoder
	names, tags, chunks := map[uint32][]uint32{}, map[uint32][]uint32{}, map[int]struct{}{}
	for i := range positions {
		position := s.postings.at(i)
		positions[i] = position
		at := l.locate(position)
		chunks[at] = struct{}{}
		c := l.chunks[at]
		r := c.record(int(position - c.first))
		name, tagged := r.terms()
		names[name] = append(names[name], position)
		for _, tag := range tagged {
			tags[tag] = append(tags[tag], position)
		}
		l.retire(c, &r, position, &d)
	}
	s.postings.dropFront(len(positions))
	s.cleared += n
	l.categories.terms.at(s.category).postings.remove(positions)
	for name, from := range names {
		l.names.remove(name, from)
	}
	for tag, from := range tags {
		l.tags.remove(tag, from)
	}
	for chunk := range chunks {
		if c := l.chunks[chunk]; 2*c.stale > max(c.size, cap(c.data)) {
			l.rewrite(c, nil, "")
		}
	}
	return s.cleared < s.hidden
}

// retire notes that an event is out of the indexes. Its name and tags may be forgotten now, so that its content cannot be read
// any more; what is left to compare it by is a hash.
func (l *eventLog) retire(c *logChunk, r *record, position uint32, d *decoder) {
	var m es.Message
	l.decode(r, position, d, &m)
	if c.retired == nil {
		c.retired = map[uint32]uint64{}
	}
	i := position - c.first
	c.retired[i] = l.fingerprint(&m)
	c.live--
	c.stale += c.end(int(i)) - int(c.offsets[i])
	if r.flags&flagBlob != 0 {
		c.stale += len(m.Data)
	}
}

// erase removes data and metadata from events of a stream, and appends the audit event, in one step: everybody else waits while
// the chunks that the events stand in are copied, which for a stream of a million events is the whole log.
func (l *eventLog) erase(e es.Erasure, limits es.Limits) (es.Appended, error) {
	audit := es.AppendTo(e.Audit.Stream, es.Any, e.Audit)
	if err := audit.Validate(limits); err != nil {
		return es.Appended{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if position, err := l.sameEvent(e.Audit, l.ids.hash(e.Audit.ID), l.streamRef(e.Audit.Stream)); position != 0 || err != nil {
		if err != nil {
			return es.Appended{}, err
		}
		return l.appendLocked(&audit) // which finds it there
	}
	positions, err := l.erasable(e)
	if err != nil {
		return es.Appended{}, err
	}
	done, err := l.appendLocked(&audit)
	if err != nil {
		return es.Appended{}, err
	}
	l.eraseAt(positions, e.Audit.ID.String())
	return done, nil
}

// erasable returns the positions of the events that are to be erased, in order.
func (l *eventLog) erasable(e es.Erasure) ([]uint32, error) {
	var s logStream
	if ref := l.streamRef(e.Stream); ref != noRef {
		s = *l.streams.at(ref)
	}
	var positions []uint32
	for _, version := range e.Versions {
		if version <= int64(s.hidden) || version > int64(s.version) {
			return nil, fmt.Errorf("version %d: %w", version, es.ErrNotFound)
		}
		positions = append(positions, s.position(uint32(version))) //nolint:gosec // it is a version of this stream
	}
	if len(e.Versions) == 0 {
		for version := s.hidden + 1; version <= s.version; version++ {
			positions = append(positions, s.position(version))
		}
	}
	slices.Sort(positions)
	return positions, nil
}

// eraseAt erases the events at rising positions. The bytes are gone from the log when it returns.
func (l *eventLog) eraseAt(positions []uint32, audit string) {
	for len(positions) > 0 {
		c := l.chunks[l.locate(positions[0])]
		n, _ := slices.BinarySearch(positions, c.first+uint32(len(c.offsets))) //nolint:gosec // there are few in a chunk
		l.rewrite(c, positions[:n], audit)
		positions = positions[n:]
	}
	l.edits.Add(1)
}

// rewrite makes a new copy of what is to stay of a chunk: of events that are retired a stub, of those at the given positions,
// which rise, what is left when they are erased.
func (l *eventLog) rewrite(c *logChunk, erase []uint32, audit string) {
	data, offsets := make([]byte, 0, cap(c.data)), make([]uint32, len(c.offsets), cap(c.offsets))
	for i := range c.offsets {
		offsets[i] = uint32(len(data)) //nolint:gosec // chunks are small
		position := c.first + uint32(i)
		hash, retired := c.retired[uint32(i)]
		_, erased := slices.BinarySearch(erase, position)
		switch r := c.record(i); {
		case retired:
			data = c.appendStub(data, &r, hash)
		case erased && r.flags&flagErased == 0:
			data = c.appendErased(data, &r, audit)
		default:
			data = append(data, c.data[c.offsets[i]:c.end(i)]...)
		}
	}
	if c != l.chunks[len(l.chunks)-1] { // the last one keeps its room, for what is still to come
		data = slices.Clone(data)
	}
	c.data, c.offsets, c.retired = data, offsets, nil
	c.stale, c.size = 0, len(c.data)
	for _, blob := range c.blobs {
		c.size += len(blob)
	}
}

// appendStub appends what is left of a record of an event that nobody can read any more.
func (c *logChunk) appendStub(b []byte, r *record, hash uint64) []byte {
	c.dropBlob(r)
	b = append(b, flagStub|r.flags&flagErased)
	b = append(b, r.id[:]...)
	b = binary.AppendUvarint(b, uint64(r.stream))
	b = binary.AppendUvarint(b, uint64(r.version))
	return binary.LittleEndian.AppendUint64(b, hash)
}

// appendErased appends what is left of a record when its event is erased.
func (c *logChunk) appendErased(b []byte, r *record, audit string) []byte {
	c.dropBlob(r)
	rest := r.rest
	rest.skipToMetadata(r.flags)
	start := len(b)
	b = append(b, r.whole[:len(r.whole)-len(rest.b)]...)
	b[start] = r.flags&^flagBlob | flagErased | flagMetadata
	b = appendMetadata(b, map[string]string{es.MetadataErased: audit})
	return binary.AppendUvarint(b, 0) // no data
}

// dropBlob lets go of a payload that stands outside of the record.
func (c *logChunk) dropBlob(r *record) {
	if r.flags&(flagBlob|flagStub) == flagBlob {
		rest := r.rest
		rest.skipToMetadata(r.flags)
		rest.skipMetadata(r.flags)
		c.blobs[rest.number()] = nil // the others keep their numbers
	}
}

// skipToMetadata goes on from the name to the metadata.
func (s *scanner) skipToMetadata(flags byte) {
	s.number() // name
	s.skipToTags(flags)
	if flags&flagTags != 0 {
		for range s.number() {
			s.number()
		}
	}
}

// skipMetadata goes on from the metadata to the data.
func (s *scanner) skipMetadata(flags byte) {
	if flags&flagMetadata != 0 {
		for range s.number() {
			s.text()
			s.text()
		}
	}
}
