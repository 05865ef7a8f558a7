package memory

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strconv"
	"testing"
	"weak"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestPiecesAreOfASizeThatTheAllocatorHas: it puts a word in front of what has pointers.
func TestPiecesAreOfASizeThatTheAllocatorHas(t *testing.T) {
	t.Parallel()
	const word = 8
	if size := mostPieceRecords * reflect.TypeFor[topicRecord]().Size(); size+word > mostPiece {
		t.Errorf("%d records take %d bytes, and %d for the allocator; a piece has %d", mostPieceRecords, size, word, mostPiece)
	}
}

// TestTopicLogKeepsTheOrderOfLinks has several presses at work on one log, whose publications are linked piece by piece, in any order,
// and compares what cursors and spans read there with a plain list.
func TestTopicLogKeepsTheOrderOfLinks(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	topic := newTopic(newTopicSpace(&broker{}), "x")
	presses := []*press{{space: topic.space}, {space: topic.space}, {space: topic.space}}
	begin := topic.log.end()
	var want []string
	var waiting []*publication
	made := 0
	for range 3000 {
		if len(waiting) < 4 {
			w := &publication{pubs: make([]es.Publication, 1+random.IntN(3)*random.IntN(60))}
			for i := range w.pubs {
				made++
				w.pubs[i].Message = &es.Message{Name: strconv.Itoa(made), Data: make([]byte, random.IntN(4000))}
			}
			if random.IntN(10) == 0 {
				w.broken = &undecodable{cause: errors.New("broken")}
			}
			presses[random.IntN(len(presses))].copy(w)
			waiting = append(waiting, w)
			continue
		}
		i := random.IntN(len(waiting))
		w := waiting[i]
		n := 1 + random.IntN(len(w.pubs)-w.taken)
		topic.log.link(w, n)
		for _, p := range w.pubs[w.taken : w.taken+n] {
			want = append(want, named(p.Message, w.broken != nil))
		}
		if w.taken += n; w.taken == len(w.pubs) {
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
	}
	if topic.log.head != uint64(len(want)) {
		t.Fatalf("the log counts %d records, want %d", topic.log.head, len(want))
	}
	one, span := begin, begin
	for at := 0; at < len(want); {
		n := min(1+random.IntN(300), len(want)-at)
		skipped := one
		skipped.skip(n - 1)
		if got := named(&skipped.record().message, skipped.record().broken != nil); got != want[at+n-1] {
			t.Fatalf("%d records behind %d there is %s, want %s", n-1, at, got, want[at+n-1])
		}
		for s := span.take(n); s.size > 0; {
			some, broken := s.next()
			for i := range some {
				r := one.record()
				one.advance()
				if got := named(&some[i].message, broken); got != want[at] || r != &some[i] {
					t.Fatalf("record %d is %s in the span and %s at the cursor, want %s", at, got, r.message.Name, want[at])
				}
				at++
			}
		}
	}
	if one.number != topic.log.head || span.number != topic.log.head {
		t.Errorf("at the end the cursors are at %d and %d, want %d", one.number, span.number, topic.log.head)
	}
}

func named(m *es.Message, broken bool) string {
	if broken {
		return m.Name + ", broken"
	}
	return m.Name
}

// TestTopicLogIsNotKeptByWhoDoesNotPublish has a press lie idle, as that of a publisher that was the second at some time does: what
// is published later must not be kept in memory by it.
func TestTopicLogIsNotKeptByWhoDoesNotPublish(t *testing.T) {
	t.Parallel()
	topic := newTopic(newTopicSpace(&broker{}), "x")
	publish := func(p *press) *topicRecord {
		w := &publication{pubs: []es.Publication{{Message: &es.Message{Data: make([]byte, 4<<10)}}}}
		p.copy(w)
		topic.log.link(w, 1)
		end := topic.log.end()
		return &end.block.records[end.index-1]
	}
	idle, busy := &press{space: topic.space}, &press{space: topic.space}
	publish(idle)
	const many = 400
	var payloads []weak.Pointer[byte]
	for range many {
		payloads = append(payloads, weak.Make(&publish(busy).message.Data[0]))
	}
	runtime.GC()
	kept := 0
	for _, payload := range payloads[:many/2] {
		if payload.Value() != nil {
			kept++
		}
	}
	if kept > 0 {
		t.Errorf("%d of %d payloads are in memory that nobody can read any more", kept, many/2)
	}
	runtime.KeepAlive(idle)
	runtime.KeepAlive(busy)
	runtime.KeepAlive(topic)
}

// TestTopicCacheForgetsTopicsThatAreGone has one topic of a name follow another, and names that share a place.
func TestTopicCacheForgetsTopicsThatAreGone(t *testing.T) {
	t.Parallel()
	s := newTopicSpace(&broker{})
	for _, name := range []string{"orders", "orders", "sdrero", "orders", "a", ""} {
		got := s.lockTopic(name)
		if got.name != name || got.gone {
			t.Fatalf("asked for %q, got %q, gone: %v", name, got.name, got.gone)
		}
		got.unlock()
		if again := s.lockTopic(name); again != got {
			t.Fatalf("asked again for %q, got another topic", name)
		}
		got.unlock()
		s.forget(got)
		if place := s.known.place(name); place.Load() != nil {
			t.Errorf("the topic %q is kept although it is gone", name)
		}
		// Somebody who was about to ask may put it there again.
		s.known.place(name).Store(got)
		if next := s.lockTopic(name); next == got || next.gone {
			t.Fatalf("asked for %q, got the one that is gone", name)
		} else {
			next.unlock()
			s.forget(next)
		}
	}
}
