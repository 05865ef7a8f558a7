package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// openTail opens a store in a database of its own.
func openTail(t *testing.T, c Config) *DB {
	t.Helper()
	if c.URL == "" {
		c.URL = pgserver.Database(t)
	}
	db, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// hand is a connection that does by hand what appends do, step by step.
type hand struct {
	t    *testing.T
	db   *DB
	conn *pgx.Conn
}

func (db *DB) hand(t *testing.T) *hand {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.config.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &hand{t, db, conn}
}

func (h *hand) do(query string, args ...any) {
	h.t.Helper()
	if _, err := h.conn.Exec(h.t.Context(), h.db.sql(query), args...); err != nil {
		h.t.Fatalf("%s: %v", query, err)
	}
}

// draw draws a position.
func (h *hand) draw() (position int64) {
	h.t.Helper()
	if err := h.conn.QueryRow(h.t.Context(), h.db.sql("SELECT nextval('@positions_#')")).Scan(&position); err != nil {
		h.t.Fatal(err)
	}
	return position
}

// put writes an event at a position, into a stream of its own.
func (h *hand) put(position int64) {
	h.t.Helper()
	h.do("INSERT INTO @events_# (position, version, id, stream, category, name, schema, time, recorded) "+
		"VALUES ($1, 1, $2, $3, 'hand', 'Happened', 1, 0, 0)", position, es.NewID(), fmt.Sprintf("hand-%d", position))
}

// append draws a position and writes an event there.
func (h *hand) append() int64 {
	h.t.Helper()
	position := h.draw()
	h.put(position)
	return position
}

// wantHead fails unless the settled head is at a position.
func (db *DB) wantHead(t *testing.T, want int64) {
	t.Helper()
	head, err := db.events.Head(t.Context())
	if err != nil || head.Position != want || head.Incarnation != db.incarnation {
		t.Fatalf("the head is %+v (%v), want position %d", head, err, want)
	}
}

// wantSettled waits until a position is settled, as a reader does.
func (db *DB) wantSettled(t *testing.T, position int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := db.events.Wait(ctx, es.Checkpoint{Position: position - 1}); err != nil {
		t.Fatalf("waiting for position %d: %v", position, err)
	}
}

// wantStuck looks many times whether the head stays.
func (db *DB) wantStuck(t *testing.T, at int64) {
	t.Helper()
	for range 20 {
		db.wantHead(t, at)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if head, err := db.events.Wait(ctx, es.Checkpoint{Position: at}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait beyond %d returns %+v and %v while an append is open", at, head, err)
	}
}

// wantBelow looks many times whether the head stays below a position, which is open, while readers wait for it.
func (db *DB) wantBelow(t *testing.T, open int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if head, err := db.events.Wait(ctx, es.Checkpoint{Position: open - 1}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait for %d, which is open, returns %+v and %v", open, head, err)
	}
}

func TestAnEventThatIsCommittedLateIsNotSkipped(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	slow, quick := db.hand(t), db.hand(t)
	db.wantHead(t, 0)
	slow.do("BEGIN")
	first := slow.append()
	second := quick.append()
	db.wantStuck(t, first-1)
	slow.do("COMMIT")
	db.wantSettled(t, second)
	db.wantHead(t, second)
}

func TestAPositionThatIsRolledBackDelaysNobody(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	a, b := db.hand(t), db.hand(t)
	last := b.append()
	a.do("BEGIN")
	a.append()
	a.append()
	last = max(last, b.append())
	a.do("ROLLBACK")
	db.wantSettled(t, last)
	if p, err := db.Probe(t.Context()); err != nil || p.Skipped != 2 || p.Lag != 0 || p.Settled != last || p.Ordering != Fence {
		t.Errorf("%+v (%v), want 2 positions skipped, and none behind", p, err)
	}
}

func TestASavepointThatIsRolledBackGivesNothingUp(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	a, b := db.hand(t), db.hand(t)
	a.do("BEGIN")
	a.do("SAVEPOINT s")
	position := a.draw()
	a.do("ROLLBACK TO SAVEPOINT s")
	last := b.append()
	db.wantStuck(t, position-1)
	a.put(position) // what it has drawn is still its own
	a.do("COMMIT")
	db.wantSettled(t, last)
	wantPositions(t, db, position, last)
}

// wantPositions fails unless a reader sees events at these positions.
func wantPositions(t *testing.T, db *DB, want ...int64) {
	t.Helper()
	var got []int64
	for m, err := range db.events.Read(t.Context(), es.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Position)
	}
	if !slices.Equal(got, want) {
		t.Errorf("a reader sees the positions %v, want %v", got, want)
	}
}

func TestAForeignTransactionDelaysNobody(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	foreign, a, b := db.hand(t), db.hand(t), db.hand(t)
	foreign.do("BEGIN ISOLATION LEVEL SERIALIZABLE")
	foreign.do("CREATE TABLE foreign_things (n integer)")
	foreign.do("SELECT count(*) FROM @events_#")
	foreign.do("SELECT last_value FROM @positions_#")
	foreign.do("LOCK TABLE @events_# IN ROW EXCLUSIVE MODE")
	a.do("BEGIN")
	a.append()
	last := b.append() // there is a gap, for which somebody must be asked
	a.do("ROLLBACK")
	db.wantSettled(t, last)
}

func TestADumpDelaysNobody(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	dump, a, b := db.hand(t), db.hand(t), db.hand(t)
	dump.do("BEGIN ISOLATION LEVEL REPEATABLE READ")
	dump.do("SELECT last_value, is_called FROM @positions_#") // which locks it in ACCESS SHARE MODE until the end
	a.do("BEGIN")
	a.append()
	last := b.append()
	a.do("ROLLBACK")
	db.wantSettled(t, last)
}

func TestAnOpenAppendIsNamedByProbe(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	a, b := db.hand(t), db.hand(t)
	a.do("SET application_name = 'slow program'")
	a.do("BEGIN")
	first := a.append()
	last := b.append()
	p, err := db.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Settled != first-1 || p.Last != last || p.Lag != 2 || len(p.Holders) != 1 {
		t.Fatalf("the log is %+v, want the head at %d, 2 behind, for one transaction", p, first-1)
	}
	h := p.Holders[0]
	if h.PID != int32(a.conn.PgConn().PID()) || h.State != "idle in transaction" || h.Application != "slow program" ||
		!strings.HasPrefix(h.Query, "INSERT") || h.Age <= 0 || h.Prepared != "" {
		t.Errorf("the head waits for %+v, want the transaction of slow program", h)
	}
	if s := p.String(); !strings.Contains(s, "2 behind") || !strings.Contains(s, "slow program") {
		t.Errorf("the log is described as %q", s)
	}
	a.do("PREPARE TRANSACTION 'left behind'")
	p, err = db.Probe(t.Context())
	if err != nil || len(p.Holders) != 1 || p.Holders[0].Prepared != "left behind" || p.Holders[0].PID != 0 || p.Holders[0].Age <= 0 {
		t.Errorf("the log is %+v (%v), want that it waits for the prepared transaction", p, err)
	}
	a.do("ROLLBACK PREPARED 'left behind'")
	db.wantSettled(t, last)
}

// TestNothingIsSkippedBetweenTheStepsOfALook has appends draw, commit and roll back between the statements of a look.
func TestNothingIsSkippedBetweenTheStepsOfALook(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"again", "ask", "asked", "close"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			db := openTail(t, Config{})
			rolled, late, quick, later := db.hand(t), db.hand(t), db.hand(t), db.hand(t)
			db.wantHead(t, 0)
			rolled.do("BEGIN")
			late.do("BEGIN")
			rolled.draw()
			<-time.After(2 * askPace) // the next look is a calm one, which looks at a gap again
			quick.append()
			var lateAt, quickAt, laterAt int64
			done := make(chan struct{})
			once := sync.OnceFunc(func() {
				lateAt = late.append()
				quickAt = quick.append()
				rolled.do("ROLLBACK")
				later.do("BEGIN")
				laterAt = later.append()
				quick.append()
				close(done)
			})
			db.events.tail.step = func(name string) {
				if name == step {
					once()
				}
			}
			if step == "close" { // a look that comes to it
				rolled.do("ROLLBACK")
				rolled.do("BEGIN")
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for {
				head, err := db.events.Head(ctx)
				if err != nil {
					t.Fatal(err)
				}
				select {
				case <-done:
				default:
					continue
				}
				if head.Position >= lateAt {
					t.Fatalf("the head is at %d, and %d is open", head.Position, lateAt)
				}
				break
			}
			db.wantBelow(t, lateAt)
			late.do("COMMIT")
			db.wantBelow(t, laterAt)
			later.do("COMMIT")
			db.wantSettled(t, laterAt+1)
			wantPositions(t, db, 2, lateAt, quickAt, laterAt, laterAt+1)
		})
	}
}
