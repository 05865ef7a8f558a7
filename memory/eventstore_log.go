package memory

import (
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// eventLog is what the event stores of one namespace share: the events, and how to find them.
//
// Events stand in chunks of bytes, in the order of their positions, so that a million of them are a few thousand objects to the
// garbage collector and take little more than their payload; see logChunk. Positions have no gaps. They are kept in 32 bits,
// as are the versions and references inside: the events of one process do not get that many.
type eventLog struct {
	incarnation uuid.UUID
	seed        maphash.Seed
	// edits counts what took events away. A reader looks at it before it hands out what it decoded earlier.
	edits atomic.Uint64

	mu       sync.RWMutex
	last     uint32 // the last position that was given out, which is the settled head
	clock    wallClock
	recorded int64 // when that was, in microseconds; the clock may step back, Recorded does not
	advanced chan struct{}

	chunks []*logChunk
	firsts []uint32 // the first position of each chunk

	streams    slab[logStream]
	streamRefs map[string]uint32
	categories termTable
	names      termTable
	tags       termTable
	contents   contentTypes
	ids        idIndex

	hiddenHigh uint32 // the largest position that was ever hidden

	places  []es.Place // room for results, shared by appends
	found   []uint32   // of the append under way: the position of each event that is there already, or 0
	hashes  []uint32   // and the hash of its ID
	targets []uint32   // and the reference of each stream, or noRef
	tagRefs []uint32   // those of the event that is being added
}

// logStream is what the log knows of a stream.
type logStream struct {
	name      string
	category  uint32
	version   uint32 // the last that was given
	hidden    uint32 // versions up to here are hidden from readers
	cleared   uint32 // and up to here they are out of the indexes: the first posting is the version after it
	deleted   bool   // softly, and not appended to since
	tombstone bool
	postings  postings
}

const (
	// maxPosition is the last position that the log can give.
	maxPosition = math.MaxUint32
	// noRef stands for a stream or a term that is not there.
	noRef = math.MaxUint32
	// placesPerBlock is for how many events the room for results is made at once.
	placesPerBlock = 256
)

func newEventLog() *eventLog {
	seed := maphash.MakeSeed()
	return &eventLog{
		incarnation: es.NewID(),
		seed:        seed,
		streamRefs:  map[string]uint32{},
		categories:  newTermTable(),
		names:       newTermTable(),
		tags:        newTermTable(),
		ids:         newIDIndex(seed),
	}
}

// append adds events to their streams, to all or to none. It takes the log's lock and waits for nothing else, so that an outbox
// may call it under its own: the order is first the outbox's lock, then the log's.
func (l *eventLog) append(a es.Append, limits es.Limits) (es.Appended, error) {
	if err := a.Validate(limits); err != nil {
		return es.Appended{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appendLocked(&a)
}

func (l *eventLog) appendLocked(a *es.Append) (es.Appended, error) {
	existing, err := l.resolve(a)
	if err != nil {
		return es.Appended{}, err
	}
	total := len(l.found)
	if existing > 0 && existing == total {
		return l.existing(), nil
	}
	if err := l.checkStreams(a); err != nil {
		return es.Appended{}, err
	}
	for i := range a.Unless {
		if err := l.checkCondition(&a.Unless[i]); err != nil {
			return es.Appended{}, err
		}
	}
	if int64(total-existing) > int64(maxPosition-l.last) {
		return es.Appended{}, fmt.Errorf("append: the log in memory has given out all its positions: %w", es.ErrFull)
	}
	return l.write(a, existing), nil
}

// resolve looks up the streams of an append and those of its events that are there already, and returns how many these are.
func (l *eventLog) resolve(a *es.Append) (int, error) {
	l.found, l.hashes, l.targets = l.found[:0], l.hashes[:0], l.targets[:0]
	existing := 0
	for i := range a.Streams {
		target := l.streamRef(a.Streams[i].Stream)
		l.targets = append(l.targets, target)
		for _, m := range a.Streams[i].Events {
			hash := l.ids.hash(m.ID)
			position, err := l.sameEvent(m, hash, target)
			if err != nil {
				return 0, err
			}
			if position != 0 {
				existing++
			}
			l.found, l.hashes = append(l.found, position), append(l.hashes, hash)
		}
	}
	return existing, nil
}

// sameEvent returns the position of an event that is there already, in the same stream and with the same content, and 0 when its
// ID, which has the given hash, is new. Anything else is an [es.DuplicateError].
func (l *eventLog) sameEvent(m *es.Message, hash, target uint32) (uint32, error) {
	position := l.find(m.ID, hash)
	if position == 0 {
		return 0, nil
	}
	r := l.record(position)
	if r.stream != target {
		stands := l.streams.at(r.stream).name
		return 0, &es.DuplicateError{ID: m.ID, Stream: stands, Reason: fmt.Sprintf("and not in %q", m.Stream)}
	}
	if !l.sameContent(position, m) {
		return 0, &es.DuplicateError{ID: m.ID, Stream: m.Stream, Reason: "with other content"}
	}
	return position, nil
}

// existing is the result of an append whose events are all there.
func (l *eventLog) existing() es.Appended {
	done := es.Appended{Places: l.room(len(l.found)), Existing: len(l.found)}
	for i, position := range l.found {
		l.put(&done, i, l.record(position).version, position)
	}
	return done
}

// checkStreams returns an error when a stream of an append, which is not there as a whole, is not as expected. A stream that was
// closed for good comes before one that is only not as expected: trying again helps with the latter.
func (l *eventLog) checkStreams(a *es.Append) error {
	var conflict error
	event := 0
	for i := range a.Streams {
		s := &a.Streams[i]
		found := l.found[event : event+len(s.Events)]
		event += len(s.Events)
		state := logStream{}
		if l.targets[i] != noRef {
			state = *l.streams.at(l.targets[i])
		}
		if state.tombstone && slices.Contains(found, 0) {
			return fmt.Errorf("append to stream %q: %w", s.Stream, es.ErrStreamDeleted)
		}
		if s.Expect == es.Any || conflict != nil {
			continue
		}
		some := slices.ContainsFunc(found, func(position uint32) bool { return position != 0 })
		if some || !state.meets(s.Expect) {
			conflict = &es.ConflictError{Stream: s.Stream, Expected: s.Expect, Actual: int64(state.version)}
		}
	}
	return conflict
}

// meets tells whether a stream is as expected. One that was deleted counts as empty, but its versions go on, so that Exactly
// takes the last one.
func (s *logStream) meets(expect es.Expectation) bool {
	if _, exactly := expect.Version(); !exactly && (s.deleted || s.tombstone) {
		return expect.Holds(0)
	}
	return expect.Holds(int64(s.version))
}

// write adds the events of an append that are not there. It cannot fail.
func (l *eventLog) write(a *es.Append, existing int) es.Appended {
	done := es.Appended{Places: l.room(len(l.found)), Existing: existing}
	if existing < len(l.found) {
		l.recorded = max(l.recorded, l.clock.microseconds())
	}
	event := 0
	for i := range a.Streams {
		ref := l.targets[i]
		for _, m := range a.Streams[i].Events {
			position := l.found[event]
			switch {
			case position != 0:
				l.put(&done, event, l.record(position).version, position)
			default:
				if ref == noRef {
					ref = l.addStream(m.Stream)
				}
				l.put(&done, event, l.add(m, l.hashes[event], ref), l.last)
			}
			event++
		}
	}
	if l.advanced != nil && existing < len(l.found) {
		close(l.advanced)
		l.advanced = nil
	}
	return done
}

// add appends one event, whose ID has the given hash, to a stream. It returns the event's version; its position is the last.
func (l *eventLog) add(m *es.Message, hash, ref uint32) (version uint32) {
	s := l.streams.at(ref)
	s.version++
	s.deleted = false
	l.last++
	position := l.last
	name := l.names.intern(m.Name)
	l.tagRefs = l.tagRefs[:0]
	for _, tag := range m.Tags {
		l.tagRefs = append(l.tagRefs, l.tags.intern(tag))
	}

	c := l.chunkFor(m)
	c.offsets = append(c.offsets, uint32(len(c.data))) //nolint:gosec // chunks are small
	c.live++
	start := len(c.data)
	l.encode(c, m, ref, s.version, name, l.tagRefs)
	c.size += len(c.data) - start

	s.postings.add(position)
	l.categories.terms.at(s.category).postings.add(position)
	l.names.terms.at(name).postings.add(position)
	for _, tag := range l.tagRefs {
		l.tags.terms.at(tag).postings.add(position)
	}
	l.ids.add(hash, position)
	return s.version
}

func (l *eventLog) streamRef(name string) uint32 {
	if ref, ok := l.streamRefs[name]; ok {
		return ref
	}
	return noRef
}

func (l *eventLog) addStream(name string) uint32 {
	ref, s := l.streams.add()
	s.name = strings.Clone(name) // it may be part of something large that the caller has
	s.category = l.categories.intern(es.Category(s.name))
	l.streamRefs[s.name] = ref
	return ref
}

// room returns room for the result of an append. It is cut from a block, and never used again.
func (l *eventLog) room(n int) []es.Place {
	if n > placesPerBlock/4 {
		return make([]es.Place, n)
	}
	if len(l.places) < n {
		l.places = make([]es.Place, placesPerBlock)
	}
	room := l.places[:n:n]
	l.places = l.places[n:]
	return room
}

func (l *eventLog) put(done *es.Appended, i int, version, position uint32) {
	done.Places[i] = es.Place{Version: int64(version), Position: int64(position)}
	done.Position = max(done.Position, int64(position))
}

// head returns the settled head.
func (l *eventLog) head() es.Checkpoint {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.headLocked()
}

func (l *eventLog) headLocked() es.Checkpoint {
	return es.Checkpoint{Incarnation: l.incarnation, Position: int64(l.last)}
}

// foreign tells whether a checkpoint is of another log, and ahead whether it is beyond what this one has given out.
func (l *eventLog) foreign(c es.Checkpoint) bool {
	return c.Incarnation != uuid.Nil && c.Incarnation != l.incarnation
}

func (l *eventLog) ahead(c es.Checkpoint) bool { return c.Position > int64(l.last) }

// beyond returns the settled head when it is beyond a checkpoint, and otherwise a channel that is closed by the next append.
// All who wait share the channel: an append that nobody waits for makes none, and nobody needs a goroutine to wait.
func (l *eventLog) beyond(after es.Checkpoint) (es.Checkpoint, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.foreign(after) || l.ahead(after) {
		return es.Checkpoint{}, nil, &es.CheckpointError{Checkpoint: after, Last: l.headLocked()}
	}
	if int64(l.last) > after.Position {
		return l.headLocked(), nil, nil
	}
	if l.advanced == nil {
		l.advanced = make(chan struct{})
	}
	return es.Checkpoint{}, l.advanced, nil
}
