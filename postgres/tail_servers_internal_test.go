package postgres

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// cut ends the connection of the tail, from the side of the server, and returns when it has.
func (h *hand) cut() {
	h.t.Helper()
	if _, err := h.db.events.Head(h.t.Context()); err != nil { // there is one, and it is at rest
		h.t.Fatal(err)
	}
	h.do("SELECT pg_terminate_backend($1, 10000)", h.db.watch.line.conn.PgConn().PID())
}

func TestAPreparedTransactionIsWaitedForByANewConnection(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	a, b := db.hand(t), db.hand(t)
	a.do("BEGIN")
	first := a.append()
	last := b.append()
	db.wantStuck(t, first-1)
	b.cut()
	db.wantStuck(t, first-1)
	a.do("PREPARE TRANSACTION 'later'")
	db.wantStuck(t, first-1)
	b.cut()
	db.wantStuck(t, first-1)
	last = max(last, b.append())
	db.wantStuck(t, first-1)
	b.do("COMMIT PREPARED 'later'")
	db.wantSettled(t, last)
	wantPositions(t, db, first, first+1, last)
}

func TestAPreparedTransactionIsWaitedForAfterARestart(t *testing.T) {
	t.Parallel()
	s := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	name, err := s.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	url := s.URL(name)
	db := openTail(t, Config{URL: url})
	a, b := db.hand(t), db.hand(t)
	a.do("BEGIN")
	first := a.append()
	last := b.append()
	a.do("PREPARE TRANSACTION 'later'")
	db.wantStuck(t, first-1)
	for _, again := range []func() error{func() error { return s.Restart(t.Context()) }, func() error {
		return errors.Join(s.Kill(), s.Restart(t.Context()))
	}} {
		if err := again(); err != nil {
			t.Fatal(err)
		}
		db.pool.Reset() // its connections are those of before
		b = db.hand(t)
		db.wantStuck(t, first-1)
		last = max(last, b.append())
		db.wantStuck(t, first-1)
	}
	b.do("COMMIT PREPARED 'later'")
	db.wantSettled(t, last)
}

func TestALossOfEventsIsNoticedByANewConnection(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	h := db.hand(t)
	for range 5 {
		h.append()
	}
	db.wantHead(t, 5)
	h.do("DELETE FROM @events_# WHERE position > 2") // as a failover to a replica that was behind does
	h.do("SELECT setval('@positions_#', 2)")
	h.cut()
	db.wantHead(t, 2)
	if _, err := db.events.Wait(t.Context(), es.Checkpoint{Position: 5}); !errors.Is(err, es.ErrCheckpoint) {
		t.Errorf("waiting beyond what was lost gives %v, want ErrCheckpoint", err)
	}
	db.wantSettled(t, h.append())
}

// TestMarksOfAnotherServerAreForgotten has something between the process and the server lead to another one, or to the same one after a
// restart, without breaking the connection.
func TestMarksOfAnotherServerAreForgotten(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	tl := db.events.tail
	var armed, changed atomic.Bool
	tl.step = func(name string) {
		if name == "ask" && armed.Load() && len(tl.fence.marks) > 0 && changed.CompareAndSwap(false, true) {
			db.watch.line.server.Started = time.Time{}
			tl.fence.marks[0].holders = []string{"of another server"} // and gone
		}
	}
	a, b := db.hand(t), db.hand(t)
	a.do("BEGIN")
	first := a.append()
	last := b.append()
	db.wantStuck(t, first-1)
	armed.Store(true)
	for !changed.Load() {
		db.wantHead(t, first-1)
	}
	db.wantStuck(t, first-1)
	a.do("COMMIT")
	db.wantSettled(t, last)
}
