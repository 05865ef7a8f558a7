package sqlite

import (
	"fmt"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite/internal/index"
)

// appendPlan is an append on its way to the writer: all that can be done before it has its turn is done.
type appendPlan struct {
	op     op
	runs   func(tx *txn) error // run
	log    *eventLog
	append es.Append
	keys   []index.Keys // of the events, one stream after the other
	texts  []encoded    // of the events
	heads  []streamHead // of the streams
	found  []es.Place   // of each event, the place it has already; zero for one that is new
	done   es.Appended
}

// streamHead is what an append must know of a stream.
type streamHead struct {
	key     index.Key
	version int64
	edit    edit
}

// plan checks an append by itself and prepares it. The plan must be released.
func (l *eventLog) plan(a es.Append, limits es.Limits) (*appendPlan, error) {
	if err := a.Validate(limits); err != nil {
		return nil, err
	}
	p, _ := l.plans.Get().(*appendPlan)
	if p == nil {
		p = new(appendPlan)
	}
	p.log, p.append, p.done = l, a, es.Appended{}
	if p.runs == nil {
		p.runs = p.run
	}
	p.op = op{run: p.runs, done: p.op.done}
	p.heads, p.texts, p.keys = p.heads[:0], p.texts[:0], p.keys[:cap(p.keys)]
	total := 0
	for i := range a.Streams {
		p.heads = append(p.heads, streamHead{key: index.KeyOf(index.KindStream, a.Streams[i].Stream)})
		for _, m := range a.Streams[i].Events {
			if total == len(p.keys) {
				p.keys = append(p.keys, index.Keys{})
			}
			p.texts = append(p.texts, encode(m))
			p.keys[total].Set(&index.Event{ID: m.ID, Stream: m.Stream, Name: m.Name, Tags: m.Tags})
			p.op.size += len(m.Data) + eventOverhead
			total++
		}
	}
	p.keys = p.keys[:total]
	return p, nil
}

// eventOverhead is roughly what an event takes beside its payload.
const eventOverhead = 256

func (p *appendPlan) release() {
	clear(p.texts)
	p.append, p.done, p.op = es.Append{}, es.Appended{}, op{done: p.op.done}
	p.log.plans.Put(p)
}

func (p *appendPlan) run(tx *txn) error { return p.log.append(tx, p) }

// append does an append in a transaction. It checks everything before it writes.
func (l *eventLog) append(tx *txn, p *appendPlan) error {
	view, err := l.writerView(tx)
	if err != nil {
		return err
	}
	existing, err := l.resolve(tx, view, p)
	if err != nil {
		return err
	}
	p.done = es.Appended{Places: make([]es.Place, len(p.found)), Existing: existing}
	if existing > 0 && existing == len(p.found) {
		copy(p.done.Places, p.found)
		p.done.Position = largest(p.found)
		return nil
	}
	if err := l.checkStreams(tx, view, p); err != nil {
		return err
	}
	for i := range p.append.Unless {
		if err := l.checkCondition(tx, view, p, &p.append.Unless[i]); err != nil {
			return err
		}
	}
	return l.write(tx, p)
}

func largest(places []es.Place) int64 {
	var position int64
	for _, place := range places {
		position = max(position, place.Position)
	}
	return position
}

// resolve finds the events of an append that are there already, and returns how many these are.
func (l *eventLog) resolve(tx *txn, view *index.View, p *appendPlan) (int, error) {
	p.found = p.found[:0]
	existing, event := 0, 0
	for i := range p.append.Streams {
		for _, m := range p.append.Streams[i].Events {
			place, err := l.sameEvent(tx, view, m)
			if err != nil {
				return 0, err
			}
			if place.Position != 0 {
				existing++
			}
			p.found = append(p.found, place)
			event++
		}
	}
	return existing, nil
}

// sameEvent returns the place of an event that is there already, in the same stream and with the same content, and none when its ID is
// new. Anything else is an [es.DuplicateError].
func (l *eventLog) sameEvent(tx *txn, view *index.View, m *es.Message) (es.Place, error) {
	position, err := view.ID(m.ID)
	if err != nil {
		return es.Place{}, damaged(err)
	}
	if position == 0 {
		return es.Place{}, nil
	}
	var stored storedEvent
	if err := l.event(tx.conn, position, &stored); err != nil {
		return es.Place{}, err
	}
	switch {
	case stored.ID != m.ID:
		return es.Place{}, damaged(fmt.Errorf("the index has ID %s at position %d, where %s stands", m.ID, position, stored.ID))
	case stored.Stream != m.Stream:
		return es.Place{}, &es.DuplicateError{ID: m.ID, Stream: stored.Stream, Reason: fmt.Sprintf("and not in %q", m.Stream)}
	case !stored.says(m):
		return es.Place{}, &es.DuplicateError{ID: m.ID, Stream: m.Stream, Reason: "with other content"}
	}
	return es.Place{Version: stored.Version, Position: position}, nil
}

// checkStreams finds the heads of the streams, and returns an error when one is not as expected. A stream that was closed for good
// comes before one that is only not as expected: trying again helps with the latter.
func (l *eventLog) checkStreams(tx *txn, view *index.View, p *appendPlan) error {
	var conflict error
	event := 0
	for i := range p.append.Streams {
		s, h := &p.append.Streams[i], &p.heads[i]
		found := p.found[event : event+len(s.Events)]
		event += len(s.Events)
		if err := l.head(tx, view, s.Stream, h); err != nil {
			return err
		}
		if h.edit.deleted == deletedForGood && slices.Contains(found, es.Place{}) {
			return fmt.Errorf("append to stream %q: %w", s.Stream, es.ErrStreamDeleted)
		}
		if s.Expect == es.Any || conflict != nil {
			continue
		}
		some := slices.ContainsFunc(found, func(place es.Place) bool { return place.Position != 0 })
		if some || !h.meets(s.Expect) {
			conflict = &es.ConflictError{Stream: s.Stream, Expected: s.Expect, Actual: h.version}
		}
	}
	return conflict
}

// head finds the version of a stream, and how it was edited.
func (l *eventLog) head(tx *txn, view *index.View, stream string, h *streamHead) error {
	h.edit, _ = l.edits.get(stream)
	version, known := l.heads.get(h.key)
	if !known {
		found, position, err := view.Head(h.key)
		if err != nil {
			return damaged(err)
		}
		if position != 0 {
			if err := l.checkIdentity(tx.conn, position, stream, found); err != nil {
				return err
			}
		}
		version = found
		l.heads.put(h.key, version)
	}
	h.version = version
	return nil
}

// meets tells whether a stream is as expected. One that was deleted counts as empty, but its versions go on, so that Exactly takes the
// last one.
func (h *streamHead) meets(expect es.Expectation) bool {
	gone := h.edit.deleted == deletedForGood || h.edit.deleted == deletedSoftly && h.edit.hidden == h.version
	if _, exactly := expect.Version(); !exactly && gone {
		return expect.Holds(0)
	}
	return expect.Holds(h.version)
}

// checkCondition returns an error when events match a condition that its maker has not seen. The events of the append that are there
// already do not count. Hidden events match nothing; but when some were hidden beyond After, it cannot be told any more whether they
// are among those that were seen, and the decision is to be made again.
func (l *eventLog) checkCondition(tx *txn, view *index.View, p *appendPlan, c *es.Condition) error {
	if c.After >= l.last {
		return nil
	}
	matches, err := l.matches(tx, view, p, c)
	if err != nil {
		return err
	}
	if matches <= c.Seen && (c.Seen == 0 || l.edits.high() <= c.After) {
		return nil
	}
	broken := *c
	broken.Match = slices.Clone(c.Match)
	return &es.ConflictError{Condition: &broken, Matches: matches}
}

// matches counts the events that match a condition, as far as one more than were seen.
func (l *eventLog) matches(tx *txn, view *index.View, p *appendPlan, c *es.Condition) (int, error) {
	cursor := criteriaCursor(view, c.Match, index.Forward)
	if cursor == nil {
		cursor = index.All(index.Forward, l.last)
	}
	var stored storedEvent
	n := 0
	for next := c.After + 1; n <= c.Seen; {
		position, err := cursor.SeekPosition(next)
		if err != nil {
			return 0, damaged(err)
		}
		if position == 0 {
			break
		}
		next = position + 1
		if slices.ContainsFunc(p.found, func(own es.Place) bool { return own.Position == position }) {
			continue
		}
		there, err := l.lookUp(tx.conn, position, &stored)
		if err != nil {
			return 0, err
		}
		if there && l.visible(&stored) && es.MatchesAny(c.Match, &stored.Message) {
			n++
		}
	}
	return n, nil
}

// write adds the events of an append that are not there.
func (l *eventLog) write(tx *txn, p *appendPlan) error {
	l.recorded = max(l.recorded, tx.now)
	event := 0
	for i := range p.append.Streams {
		h := &p.heads[i]
		for _, m := range p.append.Streams[i].Events {
			place := p.found[event]
			if place.Position == 0 {
				h.version++
				place = es.Place{Version: h.version, Position: l.last + 1}
				if err := l.add(tx, m, p.texts[event], place, &p.keys[event]); err != nil {
					return err
				}
			}
			p.done.Places[event] = place
			p.done.Position = max(p.done.Position, place.Position)
			event++
		}
	}
	return nil
}

// add writes an event at its place.
func (l *eventLog) add(tx *txn, m *es.Message, texts encoded, place es.Place, keys *index.Keys) error {
	tx.writes++
	tx.tells |= eventsChanged
	if l.insert == nil {
		stmt, err := tx.prepare(l.sql.insert)
		if err != nil {
			return err
		}
		l.insert = stmt
	}
	stmt := l.insert
	stmt.BindInt64(1, place.Position)
	stmt.BindInt64(2, place.Version)
	stmt.BindInt64(3, l.recorded)
	bindMessage(stmt, 4, m, texts)
	if err := each(stmt, nil); err != nil {
		return err
	}
	keys.Position, keys.Version = place.Position, place.Version
	l.last = place.Position
	l.pending = append(l.pending, pendingEvent{position: place.Position, stream: keys.Stream})
	l.tail.Add(keys)
	l.heads.put(keys.Stream, place.Version)
	return nil
}
