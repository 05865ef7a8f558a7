package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func TestDedupe(t *testing.T) {
	t.Parallel()
	estest.RunDedupe(t, harness[es.Dedupe]{role: (*postgres.DB).Dedupe, with: withBounds})
}

type dedupeStorage struct{ *storage[es.Dedupe] }

func withBounds(s *storage[es.Dedupe]) estest.Storage[es.Dedupe] { return dedupeStorage{s} }

func (s dedupeStorage) OpenBounded(t testing.TB, namespace string, entries int, ttl time.Duration) es.Dedupe {
	t.Helper()
	return openDB(t, postgres.Config{URL: s.url, Namespace: namespace, DedupeEntries: entries, DedupeTTL: ttl}).Dedupe()
}

// dedupeTest is a database with what its handles have to say, which is nothing: what fails while they sweep is told to the logger only.
type dedupeTest struct {
	testing.TB

	url string
	sql *pgx.Conn // of the test's own
}

func newDedupeTest(t testing.TB) *dedupeTest {
	t.Helper()
	d := &dedupeTest{TB: t, url: pgserver.Database(t)}
	d.sql = d.connect()
	return d
}

// connect makes a connection of the test's own.
func (t *dedupeTest) connect() *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), t.url)
	t.ok(err)
	t.Cleanup(func() { t.ok(c.Close(context.WithoutCancel(t.Context()))) })
	return c
}

func (t *dedupeTest) open(c postgres.Config) es.Dedupe {
	t.Helper()
	c.URL, c.Logger = t.url, slog.New(slog.NewTextHandler(failing{t}, nil))
	return openDB(t, c).Dedupe()
}

// failing fails a test when something is written to it.
type failing struct{ testing.TB }

func (f failing) Write(line []byte) (int, error) {
	f.Errorf("logged: %s", line)
	return len(line), nil
}

func (t *dedupeTest) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs a statement on the connection of the test.
func (t *dedupeTest) do(statement string, args ...any) {
	t.Helper()
	_, err := t.sql.Exec(t.Context(), statement, args...)
	t.ok(err)
}

// stored counts rows.
func (t *dedupeTest) stored(where string) (n int) {
	t.Helper()
	t.ok(t.sql.QueryRow(t.Context(), "SELECT count(*) FROM eventsourcing.dedupe_1 WHERE "+where).Scan(&n))
	return n
}

// backdate makes everything older.
func (t *dedupeTest) backdate(by time.Duration) {
	t.Helper()
	t.do("UPDATE eventsourcing.dedupe_1 SET until = until - $1", by.Microseconds())
	t.do("UPDATE eventsourcing.dedupe_parts_1 SET until = until - $1", by.Microseconds())
}

// waiting waits until so many connections wait for a lock that another has.
func (t *dedupeTest) waiting(connections int) {
	t.Helper()
	const query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
	c := t.connect()
	for n := 0; n != connections; {
		t.ok(c.QueryRow(t.Context(), query).Scan(&n))
	}
}

func newIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = es.NewID()
	}
	return ids
}

func (t *dedupeTest) reserve(d es.Dedupe, group string, ids ...uuid.UUID) []es.Reservation {
	t.Helper()
	rs := make([]es.Reservation, len(ids))
	for i, id := range ids {
		rs[i].ID = id
	}
	t.ok(d.Reserve(t.Context(), group, rs, time.Minute))
	return rs
}

// handle reserves and completes messages.
func (t *dedupeTest) handle(d es.Dedupe, group string, ids ...uuid.UUID) {
	t.Helper()
	t.ok(d.Complete(t.Context(), group, t.reserve(d, group, ids...)))
}

// states fails the test unless messages are found in these states.
func (t *dedupeTest) states(d es.Dedupe, group string, ids []uuid.UUID, want es.ReserveState) {
	t.Helper()
	for i, r := range t.reserve(d, group, ids...) {
		if r.State != want {
			t.Fatalf("message %d of %d is %v, want %v", i, len(ids), r.State, want)
		}
	}
}

// TestDedupeBoundIsThatOfAllHandles completes messages on two handles in turn. Together they remember the last ones of both, and never many
// more than that.
func TestDedupeBoundIsThatOfAllHandles(t *testing.T) {
	t.Parallel()
	for _, bound := range []int{10, 64} {
		t.Run(fmt.Sprint("bound=", bound), func(t *testing.T) {
			t.Parallel()
			test := newDedupeTest(t)
			handles := []es.Dedupe{test.open(postgres.Config{DedupeEntries: bound}), test.open(postgres.Config{DedupeEntries: bound})}
			ids := newIDs(300)
			for i, id := range ids {
				test.handle(handles[i%2], "g", id)
				if n := test.stored("number IS NOT NULL"); n > bound+5*bound/16 {
					t.Fatalf("after %d messages %d are stored, where %d are remembered", i+1, n, bound)
				}
			}
			for _, d := range handles {
				test.states(d, "g", ids[len(ids)-bound:], es.ReserveDone)
			}
			test.states(handles[0], "g", ids[:len(ids)-2*bound], es.ReserveNew)
		})
	}
}

// TestALoweredDedupeBoundIsReached opens a database with a lower bound. What is beyond it goes, while others are completed.
func TestALoweredDedupeBoundIsReached(t *testing.T) {
	t.Parallel()
	const stored, bound = 1000, 20
	test := newDedupeTest(t)
	ids := newIDs(stored)
	test.handle(test.open(postgres.Config{DedupeEntries: stored}), "g", ids...)
	d := test.open(postgres.Config{DedupeEntries: bound})
	test.states(d, "g", ids, es.ReserveDone)
	last := newIDs(bound)
	for _, id := range last {
		test.handle(d, "g", id)
	}
	for range 2 * stored {
		if test.stored("number IS NOT NULL") <= 2*bound {
			break
		}
		last = append(last[1:], es.NewID())
		test.handle(d, "g", last[bound-1])
	}
	if n := test.stored("number IS NOT NULL"); n < bound || n > 2*bound {
		t.Fatalf("%d messages are stored, want about %d", n, bound)
	}
	test.states(d, "g", last, es.ReserveDone)
}

// TestExpiredMessagesAreNewAndRemoved has messages expire that another handle has completed.
func TestExpiredMessagesAreNewAndRemoved(t *testing.T) {
	t.Parallel()
	test := newDedupeTest(t)
	config := postgres.Config{DedupeEntries: 160, DedupeTTL: time.Hour}
	one, two := test.open(config), test.open(config)
	old, young := newIDs(100), newIDs(20)
	test.handle(one, "g", old...)
	test.backdate(40 * time.Minute)
	test.handle(two, "g", young...)
	test.backdate(30 * time.Minute)
	test.states(two, "g", young, es.ReserveDone)
	again := test.reserve(two, "g", old[:10]...)
	for _, r := range again {
		if r.State != es.ReserveNew {
			t.Fatalf("a message that has expired is %v", r.State)
		}
	}
	test.ok(two.Complete(t.Context(), "g", again))
	test.states(one, "g", old[:10], es.ReserveDone)
	latest := newIDs(30)
	for _, id := range latest {
		test.handle(two, "g", id)
	}
	test.states(two, "g", slices.Concat(old[:10], young, latest), es.ReserveDone)
	if n := test.stored("true"); n > 10+20+30+10 { // the last 10: of a part that is not full
		t.Fatalf("%d messages are stored; 60 have not expired", n)
	}
}

// TestAbandonedReservationsAreRemoved leaves reservations behind that nobody asks for again, as programs do that die.
func TestAbandonedReservationsAreRemoved(t *testing.T) {
	t.Parallel()
	test := newDedupeTest(t)
	d := test.open(postgres.Config{})
	const abandoned = 1000
	for _, group := range []string{"g", "h"} {
		test.reserve(d, group, newIDs(abandoned)...)
	}
	test.backdate(time.Hour)
	held := test.reserve(d, "g", newIDs(10)...)
	for range 40 {
		test.ok(d.Release(t.Context(), "g", test.reserve(d, "g", newIDs(16)...)))
	}
	if n := test.stored("true"); n != len(held) {
		t.Fatalf("%d reservations are stored; %d are held", n, len(held))
	}
	test.ok(d.Complete(t.Context(), "g", held))
}

// TestWhoReservesWaitsForTheOtherAndSeesWhatHeDid reserves a message in a transaction that is open, and ends it in different ways while
// somebody else reserves the message.
func TestWhoReservesWaitsForTheOtherAndSeesWhatHeDid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		number *int
		end    string
		want   es.ReserveState
	}{
		"rolled back": {nil, "ROLLBACK", es.ReserveNew},
		"reserved":    {nil, "COMMIT", es.ReserveBusy},
		"done":        {new(1), "COMMIT", es.ReserveDone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := newDedupeTest(t)
			d := test.open(postgres.Config{})
			ids := newIDs(3)
			test.handle(d, "g", ids[2]) // the group is there
			test.do("BEGIN")
			test.do("INSERT INTO eventsourcing.dedupe_1 (grp, id, token, until, number) VALUES (1, $1, 7, 4000000000000000, $2)", ids[1], c.number)
			reserved := make(chan error)
			rs := []es.Reservation{{ID: ids[1]}, {ID: ids[2]}, {ID: ids[0]}, {ID: ids[1]}}
			go func() { reserved <- d.Reserve(context.WithoutCancel(t.Context()), "g", rs, time.Minute) }()
			test.waiting(1)
			test.do(c.end)
			test.ok(<-reserved)
			second := map[es.ReserveState]es.ReserveState{es.ReserveNew: es.ReserveBusy}[c.want]
			if second == 0 {
				second = c.want
			}
			for i, want := range []es.ReserveState{c.want, es.ReserveDone, es.ReserveNew, second} {
				if rs[i].State != want {
					t.Errorf("reservation %d is %v, want %v", i, rs[i].State, want)
				}
			}
		})
	}
}

// TestALeaseThatEndsWhileItsRowIsLockedIsLost locks a reservation until its lease has ended, while its holder completes or prolongs it.
func TestALeaseThatEndsWhileItsRowIsLockedIsLost(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(ctx context.Context, d es.Dedupe, rs []es.Reservation) error{
		"complete": func(ctx context.Context, d es.Dedupe, rs []es.Reservation) error { return d.Complete(ctx, "g", rs) },
		"prolong": func(ctx context.Context, d es.Dedupe, rs []es.Reservation) error {
			return d.Extend(ctx, "g", rs, time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test := newDedupeTest(t)
			d := test.open(postgres.Config{})
			test.handle(d, "g", es.NewID())
			rs := []es.Reservation{{ID: es.NewID()}}
			test.ok(d.Reserve(t.Context(), "g", rs, time.Second))
			test.do("BEGIN")
			test.do("SELECT FROM eventsourcing.dedupe_1 FOR UPDATE")
			called := make(chan error)
			go func() { called <- call(context.WithoutCancel(t.Context()), d, rs) }()
			test.waiting(1)
			for live := true; live; {
				test.ok(test.sql.QueryRow(t.Context(), "SELECT clock_timestamp() < $1", rs[0].Until).Scan(&live))
			}
			test.do("ROLLBACK")
			wantError(t, name, <-called, es.ErrLeaseLost)
			test.states(d, "g", []uuid.UUID{rs[0].ID}, es.ReserveNew)
		})
	}
}

// TestNobodyWaitsForWhoForgets locks a group, as those do who forget what it has handled, and reserves and completes messages meanwhile.
func TestNobodyWaitsForWhoForgets(t *testing.T) {
	t.Parallel()
	test := newDedupeTest(t)
	d := test.open(postgres.Config{DedupeEntries: 1})
	ids := newIDs(20)
	test.handle(d, "g", ids[0])
	test.do("BEGIN")
	test.do("SELECT FROM eventsourcing.dedupe_groups_1 FOR UPDATE")
	test.handle(d, "g", ids[1:]...)
	test.do("COMMIT")
	test.states(d, "g", ids, es.ReserveDone) // nobody could forget them
	last := newIDs(len(ids))
	for _, id := range last {
		test.handle(d, "g", id)
	}
	test.states(d, "g", last[len(last)-1:], es.ReserveDone)
	test.states(d, "g", ids, es.ReserveNew)
}

// TestCallsThatMeetDoNotDeadlock has several goroutines do things with the same messages at once, each with its own order.
func TestCallsThatMeetDoNotDeadlock(t *testing.T) {
	t.Parallel()
	test := newDedupeTest(t)
	const workers, rounds, messages = 6, 20, 40
	handles := []es.Dedupe{test.open(postgres.Config{DedupeEntries: 16}), test.open(postgres.Config{DedupeEntries: 16})}
	var all sync.WaitGroup
	for range rounds {
		ids := newIDs(messages)
		held := test.reserve(handles[0], "g", ids[:messages/2]...)
		for w := range workers {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(w), 1))
				mine := slices.Clone(held)
				r.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
				theirs := make([]es.Reservation, len(ids))
				for i, n := range r.Perm(len(ids)) {
					theirs[i].ID = ids[n]
				}
				ctx, d := context.WithoutCancel(t.Context()), handles[w%2]
				for _, err := range []error{
					d.Extend(ctx, "g", mine, time.Minute), d.Reserve(ctx, "g", theirs, time.Minute), d.Complete(ctx, "g", mine),
					d.Complete(ctx, "g", theirs),
				} {
					if err != nil && !errors.Is(err, es.ErrLeaseLost) {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	}
	deadlocks := -1
	test.do("SELECT pg_stat_force_next_flush()")
	test.ok(test.sql.QueryRow(t.Context(), "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks))
	if deadlocks != 0 {
		t.Errorf("%d deadlocks", deadlocks)
	}
}

// TestAReservationThatFailsChangesNothing has a call fail: the reservations stay as they were.
func TestAReservationThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	test := newDedupeTest(t)
	db := openDB(t, postgres.Config{URL: test.url})
	test.do("DROP TABLE eventsourcing.dedupe_1")
	rs := []es.Reservation{{ID: es.NewID()}}
	if err := db.Dedupe().Reserve(t.Context(), "g", rs, time.Minute); err == nil {
		t.Error("there is no table, and no error")
	}
	test.ok(db.Close())
	wantError(t, "reserve", db.Dedupe().Reserve(t.Context(), "g", rs, time.Minute), es.ErrClosed)
	if rs[0].State != 0 || rs[0].Token != 0 || !rs[0].Until.IsZero() {
		t.Fatalf("a reservation that failed is %+v", rs[0])
	}
}

// TestDedupeDoesWhatMemoryDoes makes the same calls to a database and to memory, at random, and compares what they answer.
func TestDedupeDoesWhatMemoryDoes(t *testing.T) {
	t.Parallel()
	const bound = 6
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			test := newDedupeTest(t)
			backend, err := memory.Open(memory.Config{DedupeEntries: bound})
			test.ok(err)
			w := &dedupeWalk{
				dedupeTest: test, r: rand.New(rand.NewPCG(seed, 2)), ids: newIDs(12),
				stores: [2]es.Dedupe{test.open(postgres.Config{DedupeEntries: bound}), backend.Dedupe()},
			}
			for i := range w.ids {
				if i%3 == 0 {
					w.ids[i] = uuid.NewSHA1(uuid.Nil, []byte{byte(i)}) // not all IDs rise
				}
			}
			for range 400 {
				w.step()
			}
		})
	}
}

// dedupeWalk makes calls to two stores. What it holds, it holds of both.
type dedupeWalk struct {
	*dedupeTest

	r      *rand.Rand
	ids    []uuid.UUID
	stores [2]es.Dedupe
	held   [][2]es.Reservation
	groups []string // of what is held
}

func (w *dedupeWalk) step() {
	w.Helper()
	group := []string{"g", "h"}[w.r.IntN(2)]
	if w.r.IntN(3) > 0 {
		w.reserveBoth(group)
		return
	}
	what := []string{"complete", "prolong", "release"}[w.r.IntN(3)]
	most := 4
	if what == "complete" {
		most = 2 // which of a call is completed first is nobody's promise
	}
	var both [2][]es.Reservation
	for range w.r.IntN(most) {
		if len(w.held) == 0 {
			continue
		}
		at := w.r.IntN(len(w.held))
		if w.groups[at] != group && w.r.IntN(4) > 0 {
			continue // mostly
		}
		for i := range both {
			if slices.ContainsFunc(both[i], func(r es.Reservation) bool { return r.ID == w.held[at][i].ID }) {
				return
			}
			both[i] = append(both[i], w.held[at][i])
		}
	}
	var errs [2]error
	for i, d := range w.stores {
		switch what {
		case "complete":
			errs[i] = d.Complete(w.Context(), group, both[i])
		case "prolong":
			errs[i] = d.Extend(w.Context(), group, both[i], time.Hour)
		default:
			errs[i] = d.Release(w.Context(), group, both[i])
		}
	}
	for n := range both[0] {
		sql, mem := es.Of(errs[0], n), es.Of(errs[1], n)
		if (sql == nil) != (mem == nil) || errors.Is(sql, es.ErrLeaseLost) != errors.Is(mem, es.ErrLeaseLost) {
			w.Fatalf("%s: %v in the database, and %v in memory", what, sql, mem)
		}
	}
}

func (w *dedupeWalk) reserveBoth(group string) {
	w.Helper()
	var both [2][]es.Reservation
	for range 1 + w.r.IntN(3) {
		r := es.Reservation{ID: w.ids[w.r.IntN(len(w.ids))]}
		both[0], both[1] = append(both[0], r), append(both[1], r)
	}
	for i, d := range w.stores {
		w.ok(d.Reserve(w.Context(), group, both[i], time.Hour))
	}
	for n := range both[0] {
		sql, mem := both[0][n], both[1][n]
		if sql.State != mem.State {
			w.Fatalf("message %s is %v in the database, and %v in memory", sql.ID, sql.State, mem.State)
		}
		w.held = append(w.held, [2]es.Reservation{sql, mem})
		w.groups = append(w.groups, group)
	}
	const most = 30
	if len(w.held) > most {
		w.held, w.groups = w.held[len(w.held)-most:], w.groups[len(w.groups)-most:]
	}
}
