package oracle

import (
	"maps"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
)

// model is an event store as simple as can be: a list of events, looked through from the beginning for everything.
type model struct {
	events  []modelEvent
	byID    map[[16]byte]int
	streams map[string]*modelStream
}

type modelEvent struct {
	es.Message
	hidden bool
	erased bool
}

type modelStream struct {
	version   int64
	deleted   bool
	tombstone bool
}

func newModel() *model { return &model{byID: map[[16]byte]int{}, streams: map[string]*modelStream{}} }

func (m *model) last() int64 { return int64(len(m.events)) }

func (m *model) stream(name string) modelStream {
	if s := m.streams[name]; s != nil {
		return *s
	}
	return modelStream{}
}

func (m *model) find(id [16]byte) *modelEvent {
	if i, ok := m.byID[id]; ok {
		return &m.events[i]
	}
	return nil
}

// append tells what an append is to give: the places and how many existed, or the error that it is.
func (m *model) append(a es.Append) (es.Appended, error) {
	var done es.Appended
	own := map[[16]byte]bool{}
	total := 0
	for _, s := range a.Streams {
		total += len(s.Events)
		for _, e := range s.Events {
			stored := m.find(e.ID)
			if stored == nil {
				continue
			}
			if stored.Stream != s.Stream || !stored.erased && !stored.SameContent(e) {
				return es.Appended{}, es.ErrDuplicate
			}
			own[e.ID] = true
		}
	}
	if done.Existing = len(own); len(own) < total || total == 0 {
		if err := m.refuses(a, own); err != nil {
			return es.Appended{}, err
		}
	}
	for _, s := range a.Streams {
		for _, e := range s.Events {
			stored := m.find(e.ID)
			if stored == nil {
				stored = m.add(e)
			}
			done.Places = append(done.Places, es.Place{Version: stored.Version, Position: stored.Position})
			done.Position = max(done.Position, stored.Position)
		}
	}
	return done, nil
}

// refuses returns the error of an append that is not there as a whole, with the IDs of its events that are.
func (m *model) refuses(a es.Append, own map[[16]byte]bool) error {
	for _, s := range a.Streams {
		if m.stream(s.Stream).tombstone && slices.ContainsFunc(s.Events, func(e *es.Message) bool { return !own[e.ID] }) {
			return es.ErrStreamDeleted
		}
	}
	for _, s := range a.Streams {
		if s.Expect == es.Any {
			continue
		}
		state := m.stream(s.Stream)
		version := state.version
		if _, exactly := s.Expect.Version(); !exactly && (state.deleted || state.tombstone) {
			version = 0
		}
		if slices.ContainsFunc(s.Events, func(e *es.Message) bool { return own[e.ID] }) || !s.Expect.Holds(version) {
			return es.ErrConflict
		}
	}
	for _, c := range a.Unless {
		matches, gone := 0, false
		for _, e := range m.events[min(c.After, m.last()):] {
			gone = gone || e.hidden
			if !e.hidden && !own[e.ID] && es.MatchesAny(c.Match, &e.Message) {
				matches++
			}
		}
		if matches > c.Seen || c.Seen > 0 && gone {
			return es.ErrConflict
		}
	}
	return nil
}

func (m *model) add(e *es.Message) *modelEvent {
	s := m.streams[e.Stream]
	if s == nil {
		s = &modelStream{}
		m.streams[e.Stream] = s
	}
	s.version++
	s.deleted = false
	stored := modelEvent{Message: *e.Clone()}
	stored.Version, stored.Position = s.version, m.last()+1
	m.byID[e.ID] = len(m.events)
	m.events = append(m.events, stored)
	return &m.events[len(m.events)-1]
}

func (m *model) truncate(stream string, before int64) {
	for i := range m.events {
		if e := &m.events[i]; e.Stream == stream && e.Version < before {
			e.hidden = true
		}
	}
}

func (m *model) delete(stream string, how es.Deletion) {
	s := m.streams[stream]
	if s == nil {
		if how == es.Tombstone {
			m.streams[stream] = &modelStream{tombstone: true}
		}
		return
	}
	m.truncate(stream, s.version+1)
	s.deleted = true
	s.tombstone = s.tombstone || how == es.Tombstone
}

func (m *model) erase(e es.Erasure) (es.Appended, error) {
	audit := es.AppendTo(e.Audit.Stream, es.Any, e.Audit)
	if m.find(e.Audit.ID) != nil {
		return m.append(audit)
	}
	var erase []int
	for i := range m.events {
		stored := &m.events[i]
		if stored.Stream == e.Stream && !stored.hidden && (len(e.Versions) == 0 || slices.Contains(e.Versions, stored.Version)) {
			erase = append(erase, i)
		}
	}
	for _, version := range e.Versions {
		if !slices.ContainsFunc(erase, func(i int) bool { return m.events[i].Version == version }) {
			return es.Appended{}, es.ErrNotFound
		}
	}
	done, err := m.append(audit)
	if err != nil {
		return es.Appended{}, err
	}
	for _, i := range erase {
		if stored := &m.events[i]; !stored.erased {
			stored.Data, stored.Metadata = nil, map[string]string{es.MetadataErased: e.Audit.ID.String()}
			stored.erased = true
		}
	}
	return done, nil
}

// read tells what a query is to give.
func (m *model) read(q es.Query) []*es.Message {
	var found []*es.Message
	for i := range m.events {
		e := &m.events[i]
		at := e.Position
		if q.Stream != "" {
			at = e.Version
		}
		if !e.hidden && at > q.After && (q.UpTo == 0 || at <= q.UpTo) && q.Matches(&e.Message) {
			found = append(found, &e.Message)
		}
	}
	if q.Reverse {
		slices.Reverse(found)
	}
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	return found
}

// same tells whether two messages agree in all but when they were recorded.
func same(a, b *es.Message) bool {
	return a.Position == b.Position && a.Version == b.Version && a.ID == b.ID && a.SameContent(b) && a.Time.Equal(b.Time) &&
		a.CorrelationID == b.CorrelationID && a.CausationID == b.CausationID && maps.Equal(a.Metadata, b.Metadata)
}
