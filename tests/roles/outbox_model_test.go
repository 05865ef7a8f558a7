package roles_test

import (
	"slices"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// outboxModel is what an outbox promises, done the simple way: everything in one list, looked through from end to end.
type outboxModel struct {
	entries []*modelEntry // in order of enqueue
	claims  map[string]*modelClaim
	died    int
}

type modelEntry struct {
	message  *es.Message
	enqueued time.Time
	attempt  int
	due      time.Time
	failed   bool
	out      bool
	dead     int // 0 when it is not dead; otherwise the order of dying
	parked   bool
	letter   es.DeadEntry
}

// modelClaim is the last claim of a stream.
type modelClaim struct {
	token uint64
	lease time.Duration
	until time.Time
}

func newOutboxModel() *outboxModel { return &outboxModel{claims: map[string]*modelClaim{}} }

func (m *outboxModel) find(id uuid.UUID) *modelEntry {
	for _, e := range m.entries {
		if e.message.ID == id {
			return e
		}
	}
	return nil
}

func (m *outboxModel) remove(id uuid.UUID) {
	m.entries = slices.DeleteFunc(m.entries, func(e *modelEntry) bool { return e.message.ID == id })
}

// expire ends the claims whose lease has ended.
func (m *outboxModel) expire(now time.Time) {
	for _, e := range m.entries {
		if e.out && !m.claims[e.message.Stream].until.After(now) {
			e.out = false
			e.attempt++
		}
	}
}

// claimable returns what could be claimed of each stream at a time, if nothing were done before.
func (m *outboxModel) claimable(now time.Time) map[string][]*modelEntry {
	free, blocked := map[string][]*modelEntry{}, map[string]bool{}
	for _, e := range m.entries {
		if e.out && m.claims[e.message.Stream].until.After(now) {
			blocked[e.message.Stream] = true // the whole stream, also what comes before this entry
			delete(free, e.message.Stream)
		}
	}
	for _, e := range m.entries {
		stream := e.message.Stream
		switch {
		case blocked[stream]:
		case e.dead > 0:
			blocked[stream] = e.parked
		case e.due.After(now):
			blocked[stream] = true
		default:
			free[stream] = append(free[stream], e)
		}
	}
	return free
}

// next returns when the next thing can be claimed, if nothing is done before.
func (m *outboxModel) next(now time.Time) (time.Time, bool) {
	times := []time.Time{now}
	for _, e := range m.entries {
		if e.due.After(now) {
			times = append(times, e.due)
		}
		if e.out {
			times = append(times, m.claims[e.message.Stream].until)
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	for _, at := range times {
		if len(m.claimable(at)) > 0 {
			return at, true
		}
	}
	return time.Time{}, false
}

// held returns the entry that a claim gave out, if it is neither answered nor overdue.
func (m *outboxModel) held(claimed es.Entry) *modelEntry {
	e := m.find(claimed.ID)
	if e == nil || !e.out || m.claims[e.message.Stream].token != claimed.Token {
		return nil
	}
	return e
}

func (m *outboxModel) fail(e *modelEntry, f es.Failure, now time.Time) {
	e.out = false
	if f.Dead || es.Permanent(f.Err) {
		m.died++
		e.dead, e.parked, e.failed = m.died, f.Park, false
		e.letter = es.DeadEntry{
			Message: e.message, Enqueued: e.enqueued, Died: es.Timestamp(now), Attempts: e.attempt,
			Error: f.Err.Error(), Parked: f.Park,
		}
		return
	}
	e.failed = true
	e.attempt++
	e.due = now.Add(f.Delay)
}

func (m *outboxModel) replay(e *modelEntry) {
	e.dead, e.parked, e.attempt, e.due, e.enqueued = 0, false, 1, time.Time{}, es.Timestamp(time.Now())
}

func (m *outboxModel) stats(failures int64) es.OutboxStats {
	s := es.OutboxStats{Failures: failures}
	parked := map[string]bool{}
	for _, e := range m.entries {
		if e.dead > 0 {
			s.Dead++
			if e.parked {
				parked[e.message.Stream] = true
			}
			continue
		}
		if s.Depth == 0 || e.enqueued.Before(s.Oldest) {
			s.Oldest = e.enqueued
		}
		s.Depth++
		if e.failed {
			s.Retrying++
		}
	}
	s.Parked = len(parked)
	return s
}

// letters returns the dead letters, the one that died first first.
func (m *outboxModel) letters() []es.DeadEntry {
	var dead []*modelEntry
	for _, e := range m.entries {
		if e.dead > 0 {
			dead = append(dead, e)
		}
	}
	slices.SortFunc(dead, func(a, b *modelEntry) int { return a.dead - b.dead })
	letters := make([]es.DeadEntry, len(dead))
	for i, e := range dead {
		letters[i] = e.letter
	}
	return letters
}
