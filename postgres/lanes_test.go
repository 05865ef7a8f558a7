package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

func TestEachAppendOfABatchHasItsOwnOutcome(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	there := events("there-1", 2, es.NoStream)
	b.append(b.two, there)
	b.must(b.two.Delete(b.ctx, "closed-1", es.Tombstone))
	b.append(b.two, events("deleted-1", 1, es.Any))
	b.must(b.two.Delete(b.ctx, "deleted-1", es.SoftDelete))
	elsewhere := es.AppendTo("elsewhere-1", es.Any, event("elsewhere-1", "Added"))
	elsewhere.Streams[0].Events[0].ID = there.Streams[0].Events[0].ID
	several := es.Append{Streams: slices.Concat(events("several-1", 2, es.NoStream).Streams, events("several-2", 1, es.NoStream).Streams)}
	taken := taking("taken-1", "seat:1")
	taken.Unless[0].Match = []es.Criterion{{Tags: []string{"nobody"}}, {Names: []string{"Added"}}}

	cases := []struct {
		append   es.Append
		want     error
		versions []int64
		existing int
	}{
		{append: events("plain-1", 1, es.Any), versions: []int64{1}},
		{append: there, versions: []int64{1, 2}, existing: 2},
		{append: events("plain-2", 3, es.NoStream), versions: []int64{1, 2, 3}},
		{append: events("there-1", 1, es.NoStream), want: es.ErrConflict},
		{append: events("there-1", 1, es.Exactly(3)), want: es.ErrConflict},
		{append: elsewhere, want: es.ErrDuplicate},
		{append: taken, want: es.ErrConflict},
		{append: taking("free-1", "seat:2"), versions: []int64{1}},
		{append: events("closed-1", 1, es.Any), want: es.ErrStreamDeleted},
		{append: events("deleted-1", 1, es.StreamExists), want: es.ErrConflict},
		{append: events("deleted-1", 1, es.NoStream), versions: []int64{2}},
		{append: several, versions: []int64{1, 2, 1}},
		{append: events("several-2", 1, es.Exactly(1)), versions: []int64{2}}, // behind the one before
		{append: es.AppendTo("there-1", es.Exactly(2))},
		{append: es.AppendTo("there-1", es.NoStream), want: es.ErrConflict},
		{append: events("", 1, es.Any), want: es.ErrInvalid},
		{append: events("there-1", 1, es.Exactly(2)), versions: []int64{3}},
		{append: events("there-1", 1, es.StreamExists), versions: []int64{4}},
	}
	appends := make([]es.Append, len(cases))
	for i, c := range cases {
		appends[i] = c.append
	}
	for i, got := range b.one.AppendEach(b.ctx, appends) {
		c := cases[i]
		if c.want != nil {
			wantError(t, fmt.Sprintf("append %d", i), got.Err, c.want)
			continue
		}
		var versions []int64
		last := int64(0)
		for _, place := range got.Places {
			versions = append(versions, place.Version)
			if place.Position <= last {
				t.Errorf("append %d: positions do not rise in %v", i, got.Places)
			}
			last = place.Position
		}
		if got.Err != nil || !slices.Equal(versions, c.versions) || got.Existing != c.existing || got.Position != last {
			t.Errorf("append %d: %+v, %v; want versions %v, of which there were %d", i, got.Appended, got.Err, c.versions, c.existing)
		}
	}
}

func TestAnAppendToManyStreamsIsWhole(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	var all es.Append
	for i := range 1000 {
		all.Streams = append(all.Streams, events(fmt.Sprintf("order-%d", i), 2, es.NoStream).Streams...)
	}
	if done := b.append(b.one, all); len(done.Places) != 2000 {
		t.Errorf("%d places, want 2000", len(done.Places))
	}
	_, err := b.two.Append(b.ctx, all)
	b.must(err)
	all.Streams[999].Events = events("order-999", 1, es.Any).Streams[0].Events
	_, err = b.two.Append(b.ctx, all)
	b.wantConflict("to many streams, one of which has another event", err)
	b.wantVersions("order-999", 1, 2)
}

func TestAnIDUnderWayInAnotherStreamHoldsUpItsOwnAppendOnly(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	for _, commit := range []bool{true, false} {
		suffix := strconv.FormatBool(commit)
		first := events("first-"+suffix, 1, es.Any)
		tx := b.held(first)
		second := events("second-"+suffix, 1, es.Any)
		second.Streams[0].Events[0].ID = first.Streams[0].Events[0].ID
		waiting := b.send(b.ctx, b.one, second)
		b.untilWaiting(1)
		for i := range 10 {
			b.append(b.one, events(fmt.Sprintf("other-%d", i), 1, es.Any))
		}
		if !commit {
			b.must(tx.Rollback(b.ctx))
			b.must((<-waiting).err)
			continue
		}
		b.must(tx.Commit(b.ctx))
		wantError(t, "the same ID in another stream", (<-waiting).err, es.ErrDuplicate)
	}
}

func TestTheEndOfAContextTakesBackWhatWaits(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	tx := b.held(events("held-1", 1, es.Any))
	ctx, cancel := context.WithCancel(b.ctx)
	first := b.send(ctx, b.one, events("held-1", 1, es.Any)) // in the database
	b.untilWaiting(1)
	second := make(chan []es.Outcome, 1)
	go func() {
		second <- b.one.AppendEach(ctx, []es.Append{events("held-1", 1, es.Any), events("free-1", 1, es.Any)})
	}()
	for free := false; !free; free = len(b.versions("free-1")) > 0 { // then the other waits behind the first
		runtime.Gosched()
	}
	cancel()
	wantError(t, "append that waits in the database", (<-first).err, context.Canceled)
	wantError(t, "append that waits for it", (<-second)[0].Err, context.Canceled)
	b.must(tx.Commit(b.ctx))
	b.append(b.one, events("held-1", 1, es.Exactly(1)))
	b.wantVersions("held-1", 1, 2)
}

// gate has the insertion of an event wait in the database, when its name is the one of a gate, until it is opened.
func (b *appendBench) gate() (open func(name string)) {
	b.Helper()
	run(b.T, b.url, `
		CREATE TABLE gates (name text);
		CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			WHILE NEW.name LIKE 'Gate%' AND NOT EXISTS (SELECT FROM gates WHERE name = NEW.name) LOOP
				PERFORM pg_sleep(0.002);
			END LOOP;
			RETURN NEW;
		END $$;
		CREATE TRIGGER pass BEFORE INSERT ON eventsourcing.events_1 FOR EACH ROW EXECUTE FUNCTION pass();`)
	return func(name string) { run(b.T, b.url, "INSERT INTO gates VALUES ('"+name+"')") }
}

// untilAtGate returns when so many connections wait at gates.
func (b *appendBench) untilAtGate(n int) {
	b.Helper()
	for waiting := -1; waiting != n; {
		b.must(b.other.QueryRow(b.ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`).
			Scan(&waiting))
	}
}

func TestTheEndOfAContextLeavesABatchToTheOthers(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	open := b.gate()
	s, _ := openDB(t, postgres.Config{URL: b.url, Lanes: 1}).Events().(*postgres.EventStore)
	ahead := b.send(b.ctx, s, es.AppendTo("ahead-1", es.Any, event("ahead-1", "Gate1")))
	b.untilAtGate(1)

	ctx, cancel := context.WithCancel(b.ctx)
	leaving := es.AppendTo("leaving-1", es.Any, event("leaving-1", "Gate2"))
	staying := events("staying-1", 1, es.Any)
	both := make(chan es.Outcome, 2)
	go func() { both <- s.AppendEach(ctx, []es.Append{leaving})[0] }()
	stay := b.send(b.ctx, s, staying)
	open("Gate1")
	b.must((<-ahead).err)
	b.untilAtGate(1)
	cancel()
	wantError(t, "append whose context ends", (<-both).Err, context.Canceled)
	m := leaving.Streams[0].Events[0] // belongs to the caller again
	m.Data, m.Name, m.Stream = []byte("overwritten"), "Overwritten", "overwritten"
	open("Gate2")
	b.must((<-stay).err)
	b.wantVersions("leaving-1", 1)
	b.wantVersions("staying-1", 1)
}

func TestTheEndOfAContextEndsALoneAppend(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	open := b.gate()
	ctx, cancel := context.WithCancel(b.ctx)
	lone := b.send(ctx, b.one, es.AppendTo("lone-1", es.Any, event("lone-1", "Gate1")))
	b.untilAtGate(1)
	cancel()
	wantError(t, "append whose context ends", (<-lone).err, context.Canceled)
	open("Gate1")
	b.append(b.one, events("lone-1", 1, es.Any)) // the lane goes on, with another connection
}

// cutConn is a connection that is cut when the answer arrives to an append: so it is committed, and nobody hears of it.
type cutConn struct {
	net.Conn

	batch atomic.Bool   // a batch was sent by it
	cut   *atomic.Int32 // so many times
}

func (c *cutConn) Write(p []byte) (int, error) {
	c.batch.Store(len(p) > 0 && p[0] == 'B' && strings.Contains(string(p), "es_insert"))
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && (c.batch.Load() || strings.Contains(string(p[:n]), "COMMIT")) && c.cut.Add(-1) >= 0 {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func TestAnAppendWhoseAnswerIsLostIsThereOnce(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	var cut atomic.Int32
	config, err := pgxpool.ParseConfig(b.url)
	b.must(err)
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		return &cutConn{Conn: c, cut: &cut}, err
	}
	pool, err := pgxpool.NewWithConfig(b.ctx, config)
	b.must(err)
	t.Cleanup(pool.Close)
	s := openDB(t, postgres.Config{Pool: pool}).Events()
	for i := range 5 {
		lone, batch := fmt.Sprintf("lone-%d", i), fmt.Sprintf("batch-%d", i)
		cut.Store(1)
		_, err := s.Append(b.ctx, events(lone, 1, es.NoStream))
		b.must(err)
		cut.Store(2)
		for _, outcome := range s.AppendEach(b.ctx, []es.Append{
			events(batch, 2, es.NoStream), events(batch+"-b", 1, es.Any),
			{Streams: slices.Concat(events(batch+"-c", 1, es.NoStream).Streams, events(batch+"-d", 1, es.NoStream).Streams)},
		}) {
			b.must(outcome.Err)
		}
		if left := cut.Load(); left > 0 {
			t.Errorf("round %d: the connection was to be cut %d times more", i, left)
		}
		cut.Store(0)
		b.wantVersions(lone, 1)
		b.wantVersions(batch, 1, 2)
		b.wantVersions(batch+"-b", 1)
		b.wantVersions(batch+"-c", 1)
		b.wantVersions(batch+"-d", 1)
	}
}

func TestAppendsOutliveTheirConnections(t *testing.T) {
	t.Parallel()
	b := newAppendBench(t)
	const writers, appends = 4, 50
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			var err error
			for i := range appends {
				_, failed := b.one.Append(b.ctx, events(fmt.Sprintf("order-%d", w), 1, es.Exactly(int64(i))))
				err = errors.Join(err, failed)
			}
			done <- err
		}()
	}
	for left := writers; left > 0; {
		select {
		case err := <-done:
			b.must(err)
			left--
		default:
			_, err := b.other.Exec(b.ctx, `SELECT pg_terminate_backend(pid), pg_sleep(0.005) FROM pg_stat_activity
				WHERE datname = current_database() AND query LIKE '%INSERT INTO%' AND pid <> pg_backend_pid()`)
			b.must(err)
		}
	}
	for w := range writers {
		if got := b.versions(fmt.Sprintf("order-%d", w)); len(got) != appends || got[appends-1] != appends {
			t.Errorf("stream %d has the versions %v, want %d", w, got, appends)
		}
	}
}
