package processor_test

import (
	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/processor"
)

// dead returns the dead letters, each of which must be on record.
func (s *simulation) dead() map[uuid.UUID]bool {
	recorded := map[uuid.UUID]bool{}
	for record, err := range es.ReadDeadLetters(s.Context(), s.backend.Events(), "dead") {
		if err != nil {
			s.Fatal(err)
		}
		recorded[record.Original.ID] = true
	}
	dead := map[uuid.UUID]bool{}
	for letter, err := range s.backend.Outbox().DeadLetters(s.Context()) {
		if err != nil {
			s.Fatal(err)
		}
		dead[letter.ID] = true
		if !recorded[letter.ID] {
			s.Errorf("%s of %s was given up and is not on record", letter.Name, letter.Stream)
		}
	}
	return dead
}

// counted returns how often each message is stored, and published, having looked at the order of each stream: in the store, and
// among the first times that each was published.
func (s *simulation) counted(dead map[uuid.UUID]bool, ordered bool) (stored, published map[uuid.UUID]int) {
	stored, published = map[uuid.UUID]int{}, map[uuid.UUID]int{}
	var inStore []*es.Message
	for m, err := range s.backend.Events().Read(s.Context(), es.Query{Category: "s"}) {
		if err != nil {
			s.Fatal(err)
		}
		stored[m.ID]++
		inStore = append(inStore, m)
	}
	var firsts []*es.Message
	for _, m := range s.published {
		if published[m.ID]++; published[m.ID] == 1 {
			firsts = append(firsts, m)
		}
		if m.Version == 0 || m.Position == 0 {
			s.Errorf("%s of %s is published without its place", m.Name, m.Stream)
		}
	}
	if ordered {
		s.inOrder("stored", inStore, dead, func(m *es.Message) string { return m.Stream })
		s.inOrder("published", firsts, dead, s.lane)
	}
	return stored, published
}

// lane is what keeps its order when it is published. A batch is published in one call, and within a call a publisher keeps the order
// of a stream in each topic only.
func (s *simulation) lane(m *es.Message) string {
	if s.topic == nil || s.kind.whole {
		return m.Stream
	}
	return s.topic(m) + " of " + m.Stream
}

// inOrder looks whether messages come stream by stream in the order in which they were enqueued. A dead letter has no place: others
// went on without it.
func (s *simulation) inOrder(what string, msgs []*es.Message, dead map[uuid.UUID]bool, lane func(*es.Message) string) {
	number := map[uuid.UUID]int{}
	for i, m := range s.messages {
		number[m.ID] = i
	}
	last := map[string]int{}
	for _, m := range msgs {
		if dead[m.ID] {
			continue
		}
		if n := number[m.ID] + 1; n < last[lane(m)] {
			s.Errorf("message %d of %s is %s after message %d", n-1, lane(m), what, last[lane(m)]-1)
		} else {
			last[lane(m)] = n
		}
	}
}

// checkAtLeastOnce: all is stored once and published, in order, but for what can never be, or was tried often enough.
func (s *simulation) checkAtLeastOnce() {
	dead := s.dead()
	stored, published := s.counted(dead, true)
	for i, m := range s.messages {
		want := 1
		if m.Name == unstorable {
			want = 0
		}
		if stored[m.ID] != want {
			s.Errorf("message %d is stored %d times, want %d", i, stored[m.ID], want)
		}
		if published[m.ID] == 0 && !dead[m.ID] {
			s.Errorf("message %d is neither published nor a dead letter", i)
		}
		if dead[m.ID] && m.Name != unstorable && m.Name != unsendable && s.failures[m.ID] < attempts {
			s.Errorf("message %d is a dead letter after %d failures", i, s.failures[m.ID])
		}
		if s.gentle && published[m.ID] != 1 {
			s.Errorf("message %d is published %d times, although there were only stops", i, published[m.ID])
		}
	}
}

// checkAtMostOnce: nothing is published twice, and what is dropped is counted unless somebody died.
func (s *simulation) checkAtMostOnce() {
	dead := s.dead()
	if len(dead) != 0 || s.outboxStats().Failures != 0 {
		s.Errorf("%d dead letters, stats are %+v", len(dead), s.outboxStats())
	}
	stored, published := s.counted(dead, s.solo && s.gentle && s.patient)
	lost := 0
	for i, m := range s.messages {
		if stored[m.ID] > 1 || published[m.ID] > 1 {
			s.Errorf("message %d is stored %d times and published %d times", i, stored[m.ID], published[m.ID])
		}
		if published[m.ID] == 0 {
			lost++
		}
	}
	dropped := s.dropped()
	if int64(lost) > dropped {
		s.Errorf("%d messages are not published, %d are counted as dropped", lost, dropped)
	}
	if s.gentle && s.patient && dropped != 0 {
		s.Errorf("%d messages are dropped, although nothing failed", dropped)
	}
}

// dropped counts what was dropped by processors of the kind that does.
func (s *simulation) dropped() int64 {
	dropped := int64(0)
	for _, c := range s.all {
		p, drops := c.(*processor.AtMostOnce)
		if !drops {
			continue
		}
		stats, err := p.Stats(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		dropped += stats.Dropped
	}
	return dropped
}

// checkAllKinds: each message is published, or a dead letter because of an error, or dropped and counted.
func (s *simulation) checkAllKinds() {
	dead := s.dead()
	stored, published := s.counted(dead, false)
	lost := int64(0)
	for i, m := range s.messages {
		if stored[m.ID] > 1 {
			s.Errorf("message %d is stored %d times", i, stored[m.ID])
		}
		if !dead[m.ID] && published[m.ID] == 0 {
			lost++
		}
		if dead[m.ID] && !s.blamed[m.ID] {
			s.Errorf("message %d is a dead letter, and nothing has failed", i)
		}
		if s.gentle && published[m.ID] > 1 {
			s.Errorf("message %d is published %d times, although there were only stops", i, published[m.ID])
		}
	}
	if dropped := s.dropped(); lost > dropped {
		s.Errorf("%d messages are neither published nor dead letters, %d are counted as dropped", lost, dropped)
	} else if s.gentle && s.patient && dropped != 0 {
		s.Errorf("%d messages are dropped, although nothing failed", dropped)
	}
}

// checkBatch: all is stored and published, in order, or a dead letter because of an error.
func (s *simulation) checkBatch() {
	dead := s.dead()
	stored, published := s.counted(dead, true)
	for i, m := range s.messages {
		if stored[m.ID] > 1 {
			s.Errorf("message %d is stored %d times", i, stored[m.ID])
		}
		if !dead[m.ID] && (stored[m.ID] != 1 || published[m.ID] == 0) {
			s.Errorf("message %d is no dead letter, stored %d times and published %d times", i, stored[m.ID], published[m.ID])
		}
		if dead[m.ID] && !s.blamed[m.ID] {
			s.Errorf("message %d is a dead letter, and nothing has failed", i)
		}
		if s.gentle && published[m.ID] != 1 {
			s.Errorf("message %d is published %d times, although there were only stops", i, published[m.ID])
		}
	}
}
