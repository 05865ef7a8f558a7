package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// appendBench is a database with two stores on it, as two processes would have them, and a connection for statements by hand.
type appendBench struct {
	*testing.T

	ctx         context.Context // with a bound: what hangs fails
	url         string
	one, two    *postgres.EventStore
	conn, other *pgx.Conn
}

func newAppendBench(t *testing.T) *appendBench {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	b := &appendBench{T: t, ctx: ctx, url: pgserver.Database(t)}
	b.one, b.two = b.open(), b.open()
	b.conn, b.other = b.connect(), b.connect()
	return b
}

func (b *appendBench) open() *postgres.EventStore {
	b.Helper()
	s, _ := openDB(b.T, postgres.Config{URL: b.url}).Events().(*postgres.EventStore)
	return s
}

func (b *appendBench) connect() *pgx.Conn {
	b.Helper()
	c, err := pgx.Connect(b.ctx, b.url)
	b.must(err)
	b.Cleanup(func() { _ = c.Close(context.WithoutCancel(b.ctx)) })
	return c
}

func (b *appendBench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// event makes an event.
func event(stream, name string, tags ...string) *es.Message {
	m := es.NewMessage(stream, name, []byte(`{}`))
	m.Tags = tags
	return m
}

// events makes an append of so many events, which expects something.
func events(stream string, n int, expect es.Expectation) es.Append {
	a := es.AppendTo(stream, expect)
	for range n {
		a.Streams[0].Events = append(a.Streams[0].Events, event(stream, "Added"))
	}
	return a
}

// append appends, which succeeds.
func (b *appendBench) append(s *postgres.EventStore, a es.Append) es.Appended {
	b.Helper()
	done, err := s.Append(b.ctx, a)
	b.must(err)
	return done
}

// begin begins a transaction of an isolation level, with an append in it.
func (b *appendBench) begin(c *pgx.Conn, level pgx.TxIsoLevel, a es.Append) (pgx.Tx, error) {
	b.Helper()
	tx, err := c.BeginTx(b.ctx, pgx.TxOptions{IsoLevel: level})
	b.must(err)
	_, err = b.one.AppendTx(b.ctx, tx, a)
	return tx, err
}

// held is a transaction that has appended, and is left open.
func (b *appendBench) held(a es.Append) pgx.Tx {
	b.Helper()
	tx, err := b.begin(b.conn, pgx.ReadCommitted, a)
	b.must(err)
	return tx
}

// versions returns the versions that a stream has.
func (b *appendBench) versions(stream string) []int64 {
	b.Helper()
	rows, err := b.other.Query(b.ctx, "SELECT version FROM eventsourcing.events_1 WHERE stream = $1 ORDER BY position", stream)
	b.must(err)
	versions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	b.must(err)
	return versions
}

func (b *appendBench) wantVersions(stream string, want ...int64) {
	b.Helper()
	if got := b.versions(stream); !slices.Equal(got, want) {
		b.Errorf("stream %s has the versions %v, want %v", stream, got, want)
	}
}

// untilWaiting returns when so many connections wait for locks.
func (b *appendBench) untilWaiting(n int) {
	b.Helper()
	for {
		var waiting int
		b.must(b.other.QueryRow(b.ctx, "SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting))
		if waiting >= n {
			return
		}
	}
}

// sent is an append that goes on behind the test.
type sent struct {
	done es.Appended
	err  error
}

func (b *appendBench) send(ctx context.Context, s *postgres.EventStore, a es.Append) <-chan sent {
	c := make(chan sent, 1)
	go func() {
		done, err := s.Append(ctx, a)
		c <- sent{done, err}
	}()
	return c
}

func (b *appendBench) wantConflict(what string, err error) {
	b.Helper()
	wantError(b.T, what, err, es.ErrConflict)
}

// naively inserts events by the obvious statement, with versions that the client has worked out: from a cache, say.
func naively(ctx context.Context, c interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}, stream string, versions ...int64,
) (stored int, err error) {
	err = c.QueryRow(ctx, `WITH stored AS (
		INSERT INTO eventsourcing.events_1 (position, version, id, stream, category)
		SELECT nextval('eventsourcing.positions_1'), version, gen_random_uuid(), $1, '' FROM unnest($2::bigint[]) AS version
		ON CONFLICT ON CONSTRAINT events_1_version DO NOTHING RETURNING version)
		SELECT count(*) FROM stored`, stream, versions).Scan(&stored)
	return stored, err
}

func TestAnAppendIsNeverStoredInPart(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	b.append(b.one, events("naive-1", 1, es.NoStream))
	stored, err := naively(b.ctx, b.conn, "naive-1", 1, 2, 3) // who does it has not heard of the first
	b.must(err)
	if stored != 2 {
		t.Fatalf("the obvious statement stores %d events of 3; this test is about one that stores some", stored)
	}

	b.append(b.one, events("order-1", 1, es.NoStream))
	b.append(b.two, events("order-1", 1, es.Any)) // of which the first store hears nothing
	_, err = b.one.Append(b.ctx, events("order-1", 3, es.Exactly(1)))
	b.wantConflict("three events behind version 1", err)
	b.wantVersions("order-1", 1, 2)
	b.append(b.one, events("order-1", 3, es.Any))
	b.wantVersions("order-1", 1, 2, 3, 4, 5)
}

func TestVersionsHaveNoHole(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	b.append(b.one, events("naive-1", 1, es.NoStream))
	_, err := naively(b.ctx, b.conn, "naive-1", 6) // who does it believes that it has 5
	b.must(err)
	b.wantVersions("naive-1", 1, 6)

	b.append(b.one, events("order-1", 1, es.NoStream))
	_, err = b.two.Append(b.ctx, events("order-1", 1, es.Exactly(5)))
	b.wantConflict("behind a version that is not there", err)
	tx := b.held(events("order-1", 2, es.Any)) // is at 3, for itself
	waiting := b.send(b.ctx, b.one, events("order-1", 1, es.Any))
	b.untilWaiting(1)
	b.must(tx.Rollback(b.ctx))
	if got := <-waiting; got.err != nil || got.done.Places[0].Version != 2 {
		t.Errorf("behind a transaction that was rolled back: %+v, %v; want version 2", got.done, got.err)
	}
	b.wantVersions("order-1", 1, 2)
}

func TestAnOpenTransactionOnAStreamHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	tx := b.held(events("held-1", 1, es.Any))

	naive, err := b.other.Begin(b.ctx)
	b.must(err)
	_, err = naive.Exec(b.ctx, "SET LOCAL lock_timeout = '100ms'")
	b.must(err)
	if _, err = naively(b.ctx, naive, "held-1", 1); err == nil || !strings.Contains(err.Error(), "55P03") {
		t.Fatalf("the obvious statement: %v; this test is about one that waits", err)
	}
	b.must(naive.Rollback(b.ctx))

	late := b.send(b.ctx, b.one, events("held-1", 1, es.Any))
	var batch []es.Append
	for i := range 64 {
		batch = append(batch, events(fmt.Sprintf("free-%d", i), 1, es.NoStream))
	}
	for _, s := range []*postgres.EventStore{b.one, b.two} {
		for i, outcome := range s.AppendEach(b.ctx, batch) { // again by the second: they are there already
			if outcome.Err != nil {
				t.Errorf("append %d: %v", i, outcome.Err)
			}
		}
	}
	select {
	case got := <-late:
		t.Errorf("the append to the stream in use did not wait: %v", got.err)
	default:
	}
	b.must(tx.Commit(b.ctx))
	if got := <-late; got.err != nil || got.done.Places[0].Version != 2 {
		t.Errorf("the append to the stream in use: %+v, %v; want version 2", got.done, got.err)
	}
}

func TestBatchesInOppositeOrderDoNotDeadlock(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	naive := b.held(events("unrelated-1", 1, es.Any))
	second, err := b.other.Begin(b.ctx)
	b.must(err)
	_, err = naively(b.ctx, naive, "a-1", 1)
	b.must(err)
	_, err = naively(b.ctx, second, "b-1", 1)
	b.must(err)
	failed := make(chan error, 1)
	go func() {
		_, err := naively(b.ctx, naive, "b-1", 1)
		failed <- err
	}()
	_, err = naively(b.ctx, second, "a-1", 1)
	b.must(second.Rollback(b.ctx))
	if err = errors.Join(err, <-failed); err == nil || !strings.Contains(err.Error(), "40P01") {
		t.Fatalf("the obvious statements: %v; this test is about some that deadlock", err)
	}
	b.must(naive.Rollback(b.ctx))

	stores := []*postgres.EventStore{b.one, b.two}
	all := make(chan []es.Outcome, len(stores))
	const streams, rounds = 8, 25
	for i, s := range stores {
		var batch []es.Append
		for n := range streams * rounds {
			number := n % streams
			if i == 1 {
				number = streams - 1 - number
			}
			batch = append(batch, events(fmt.Sprintf("order-%d", number), 1, es.Any))
		}
		go func() { all <- s.AppendEach(b.ctx, batch) }()
	}
	for range stores {
		for _, outcome := range <-all {
			b.must(outcome.Err)
		}
	}
	var deadlocks, undone int
	b.must(b.other.QueryRow(b.ctx, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks))
	if deadlocks > 1 { // that of the control
		t.Errorf("there were %d deadlocks", deadlocks-1)
	}
	b.must(b.other.QueryRow(b.ctx, "SELECT count(*) FROM generate_series(0, $1) n WHERE (SELECT max(version) FROM eventsourcing.events_1 "+
		"WHERE stream = 'order-' || n) <> $2", streams-1, 2*rounds).Scan(&undone))
	if undone > 0 {
		t.Errorf("%d streams have another version than %d", undone, 2*rounds)
	}
}
