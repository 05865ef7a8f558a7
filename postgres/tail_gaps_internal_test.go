package postgres

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

// TestWhatALookDoesNotLookIntoIsNotTakenForEmpty fills gaps that no look has looked into before their holders have ended, and reads what the
// tail has in memory then.
func TestWhatALookDoesNotLookIntoIsNotTakenForEmpty(t *testing.T) {
	t.Parallel()
	// The last look into gaps is left with some, but fewer than it could look into, when so many reads have looked into as many as they may.
	const some = 44
	afterOne, afterTwo := maxFills+some, 2*maxFills+some
	for name, schedule := range map[string]func(s *stepped){
		"filled before a look": func(s *stepped) {
			slow := s.leaveGaps(afterTwo)
			s.look()
			slow.do("COMMIT")
			s.look()
		},
		"filled before gaps are looked at again": func(s *stepped) {
			slow := s.leaveGaps(afterTwo)
			s.lookAnd("again", func() { slow.do("COMMIT") })
		},
		"filled before the holders are asked for": func(s *stepped) {
			slow := s.leaveGaps(afterOne)
			s.lookAnd("ask", func() { slow.do("COMMIT") })
		},
		"filled after the holders were asked for": func(s *stepped) {
			slow := s.leaveGaps(afterTwo)
			s.lookAnd("asked", func() { slow.do("COMMIT") })
			s.look()
		},
		"one that is too large": func(s *stepped) {
			slow := s.db.hand(s.T)
			slow.do("BEGIN")
			slow.appendMany(fillSize + 1)
			s.quick.append()
			s.lookAnd("ask", func() { slow.do("COMMIT") })
		},
		"and others are open beyond": func(s *stepped) {
			slow, late := s.leaveGaps(afterTwo), s.db.hand(s.T)
			s.look()
			late.do("BEGIN")
			late.append()
			s.quick.append() // it is read before, and settled after, what is in the gaps
			s.lookAnd("ask", func() { slow.do("COMMIT") })
			late.do("COMMIT")
			s.look()
		},
		"an end of a long log that was not read": func(s *stepped) {
			open := s.db.hand(s.T)
			s.quick.appendMany(2 * pageSize)
			open.do("BEGIN")
			open.append()
			s.quick.append()
			s.look()
			s.quick.append() // it is beyond what was left out
			s.lookAnd("ask", func() { open.do("COMMIT") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStepped(t)
			schedule(s)
			s.wantAll()
			s.quick.append()
			s.wantAll()
			head := s.look()
			if events, ok := s.db.events.tail.cached(head-1, head); !ok || len(events) != 1 {
				t.Errorf("memory has %d events (%t) of what was appended in the end; want 1", len(events), ok)
			}
		})
	}
}

// stepped is a store whose looks are not paced, so that each one does what the first one after a pause would, and stand still at a step.
type stepped struct {
	*testing.T

	db    *DB
	quick *hand // its appends are committed at once
}

func newStepped(t *testing.T) *stepped {
	t.Helper()
	s := &stepped{T: t, db: openTail(t, Config{})}
	s.quick = s.db.hand(t)
	tail := s.db.events.tail
	tail.begun.Do(func() {})       // the first look does not wait for the appends that are open
	_, _ = tail.cached(0, 0)       // there is a reader
	tail.step = s.unpaced("", nil) // before the first look, and between looks later on
	return s
}

// unpaced is called between the steps of looks, and stops at one of them.
func (s *stepped) unpaced(at string, stop func()) func(string) {
	tail := s.db.events.tail
	return func(step string) {
		if step == "read" { // what a look begins with
			tail.last = time.Time{}
			tail.mu.Lock()
			tail.fence.asked = time.Time{}
			tail.mu.Unlock()
		}
		if step == at {
			stop()
		}
	}
}

// look looks once, and returns the settled head.
func (s *stepped) look() int64 {
	s.Helper()
	head, err := s.db.events.Head(s.Context())
	must(s.T, err)
	return head.Position
}

// lookAnd looks once, and does something when the look has come to a step, which it goes on with after that.
func (s *stepped) lookAnd(step string, do func()) {
	s.Helper()
	tail := s.db.events.tail
	reached, goOn := make(chan struct{}), make(chan struct{})
	tail.step = s.unpaced(step, sync.OnceFunc(func() {
		close(reached)
		<-goOn
	}))
	looked := make(chan error, 1)
	go func() {
		_, err := s.db.events.Head(s.Context())
		looked <- err
	}()
	select {
	case <-reached:
	case err := <-looked:
		s.Fatalf("a look ends without %q (%v)", step, err)
	}
	func() {
		defer close(goOn) // also when it fails
		do()
	}()
	must(s.T, <-looked)
	tail.step = s.unpaced("", nil)
}

// leaveGaps draws by turns for two transactions, and commits only the second one. It returns the first one, which may fill the gaps.
func (s *stepped) leaveGaps(gaps int) *hand {
	s.Helper()
	slow := s.db.hand(s.T)
	slow.do("BEGIN")
	s.quick.do("BEGIN")
	for range gaps {
		slow.append()
		s.quick.append()
	}
	s.quick.do("COMMIT")
	return slow
}

// appendMany draws positions and writes events there.
func (h *hand) appendMany(events int) {
	h.t.Helper()
	h.do("INSERT INTO @events_# (position, version, id, stream, category, name, schema, time, recorded) SELECT nextval('@positions_#'), n, "+
		"gen_random_uuid(), 'many', 'many', 'Happened', 1, 0, 0 FROM generate_series(1, $1) n", events)
}

// wantAll fails unless everything is settled, and memory has all events or says that it has not, wherever a reader begins.
func (s *stepped) wantAll() {
	s.Helper()
	ctx, tail := s.Context(), s.db.events.tail
	rows, err := s.quick.conn.Query(ctx, s.db.sql("SELECT position FROM @events_# ORDER BY position"))
	must(s.T, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	must(s.T, err)
	head := s.look()
	if last := all[len(all)-1]; head != last {
		s.Fatalf("%d is settled of %d, and nothing is open", head, last)
	}
	for i := range all {
		after := int64(0)
		if i > 0 {
			after = all[i-1]
		}
		if events, ok := tail.cached(after, head); ok && !slices.Equal(positionsOf(events), all[i:]) {
			s.Fatalf("beyond %d there are %d events, and memory has %d of them", after, len(all[i:]), len(events))
		}
	}
	wantPositions(s.T, s.db, all...)
}

func positionsOf(events []*es.Message) (positions []int64) {
	for _, m := range events {
		positions = append(positions, m.Position)
	}
	return positions
}
