package middleware

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
)

// inHand is a store that knows which messages are in hand, and fails the test when it is to prolong another.
type inHand struct {
	light

	t        *testing.T
	extended chan struct{} // closed when something was prolonged

	once sync.Once
	mu   sync.Mutex
	ids  map[uuid.UUID]bool
}

func (s *inHand) set(id uuid.UUID, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held {
		s.ids[id] = true
	} else {
		delete(s.ids, id)
	}
}

func (s *inHand) Extend(_ context.Context, _ string, rs []es.Reservation, _ time.Duration) error {
	s.check(rs)
	runtime.Gosched() // so that handlers may end meanwhile
	s.check(rs)
	s.once.Do(func() { close(s.extended) })
	return nil
}

func (s *inHand) check(rs []es.Reservation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rs {
		if !s.ids[r.ID] {
			s.t.Errorf("message %s is prolonged and in nobody's hand", r.ID)
		}
	}
}

// TestDedupeProlongsWhatIsInHandOnly: looks cross with handlers that begin and end, and their rooms are used again; what is prolonged
// is in hand from the beginning of the call of the store to its end.
func TestDedupeProlongsWhatIsInHandOnly(t *testing.T) {
	t.Parallel()
	s := &inHand{t: t, extended: make(chan struct{}), ids: map[uuid.UUID]bool{}}
	k := newHoldings(s, DedupeConfig{Lease: time.Hour})
	hold := func(wait func()) {
		room := k.take()
		defer k.give(room)
		id := es.NewID()
		room.group, room.rs[0] = "shipping", es.Reservation{ID: id, State: es.ReserveNew}
		s.set(id, true)
		k.begin(room)
		wait()
		k.end(room)
		s.set(id, false)
	}
	var handlers, looker sync.WaitGroup
	stop := make(chan struct{})
	looker.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				k.look()
				runtime.Gosched()
			}
		}
	})
	for range 4 {
		handlers.Go(func() {
			hold(func() { <-s.extended })
			for range 2000 {
				hold(runtime.Gosched)
			}
		})
	}
	handlers.Wait()
	close(stop)
	looker.Wait()
	k.look() // nothing is in hand
	if k.armed.Load() {
		t.Error("the timer runs when nothing is in hand")
	}
	k.timer.Stop()
}

// TestDedupeForgetsRooms: rooms that nobody uses any more do not pile up.
func TestDedupeForgetsRooms(t *testing.T) {
	t.Parallel()
	k := newHoldings(light{}, DedupeConfig{Lease: time.Hour})
	kept := k.newRoom()
	for range 20 {
		for range 100 {
			k.newRoom()
		}
		runtime.GC()
	}
	kept.phase.Store(fresh)
	found := 0
	for room := range k.inUse {
		if room == kept {
			found++
		}
	}
	if found != 1 || len(k.rooms) > 1000 {
		t.Errorf("of 2001 rooms, one of them in use, it knows %d, and that one %d times", len(k.rooms), found)
	}
}
