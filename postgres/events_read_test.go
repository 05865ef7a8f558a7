package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// poolOf returns a pool of one connection, which is closed when the test ends.
func poolOf(t *testing.T, url string, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	c.MaxConns, c.ConnConfig.DefaultQueryExecMode = 1, mode
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// collect reads all that a query selects.
func collect(t *testing.T, store es.EventStore, q es.Query) (events []*es.Message) {
	t.Helper()
	for m, err := range store.Read(t.Context(), q) {
		if err != nil {
			t.Fatalf("read %+v: %v", q, err)
		}
		events = append(events, m)
	}
	return events
}

// put appends events to a stream.
func put(t *testing.T, store es.EventStore, stream string, events ...*es.Message) {
	t.Helper()
	if _, err := store.Append(t.Context(), es.AppendTo(stream, es.Any, events...)); err != nil {
		t.Fatal(err)
	}
}

// some makes events, which are all alike.
func some(stream string, n int) []*es.Message {
	events := make([]*es.Message, n)
	for i := range events {
		events[i] = es.NewMessage(stream, "Happened", []byte(`{}`))
	}
	return events
}

// A pool may be made for a pooler that knows no prepared statements, or only texts.
func TestEventsAreReadInEveryModeOfThePool(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	writer := openDB(t, postgres.Config{URL: url})
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		pieces := []string{"a", "ü", `"`, `\`, "{", "}", ",", "'", "$1", "%", "NULL", " ", "\t", "€", "\u2028"}
		var b strings.Builder
		for range 1 + random.IntN(6) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		return b.String()
	}
	var want []*es.Message
	for i := range 150 {
		m := es.NewMessage("random-1", text(), nil)
		if m.Schema = 1 + random.IntN(9); i%3 > 0 {
			m.CorrelationID, m.CausationID, m.ContentType = text(), text(), text()
			m.Metadata = map[string]string{text(): text(), "tenant": strconv.Itoa(i % 5)}
			m.Data = []byte(text() + "\x00\xff")
		}
		for len(m.Tags) < i%4 {
			m.Tags = append(m.Tags, fmt.Sprint(len(m.Tags), text()))
		}
		want = append(want, m)
	}
	put(t, writer.Events(), "random-1", want...)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	} {
		store := openDB(t, postgres.Config{Pool: poolOf(t, url, mode)}).Events()
		for _, q := range []es.Query{
			{Stream: "random-1"}, {Unsettled: true}, {Category: "random"}, {Stream: "random-1", Any: []es.Criterion{{}}},
		} {
			got := collect(t, store, q)
			if len(got) != len(want) {
				t.Fatalf("%v: %+v gives %d events, want %d", mode, q, len(got), len(want))
			}
			for i, m := range got {
				w := want[i]
				if !m.SameContent(w) || m.ID != w.ID || !m.Time.Equal(w.Time) || m.CorrelationID != w.CorrelationID ||
					m.CausationID != w.CausationID || fmt.Sprint(m.Metadata) != fmt.Sprint(w.Metadata) || m.Version != int64(i+1) {
					t.Fatalf("%v: %+v was read as %+v", mode, w, m)
				}
			}
		}
		with := want[3]
		for i, w := range want {
			if i%4 == 3 {
				with = w
			}
		}
		q := es.Query{Names: []string{with.Name}, Tags: with.Tags, Unsettled: true}
		if got := collect(t, store, q); !slices.ContainsFunc(got, func(m *es.Message) bool { return m.ID == with.ID }) {
			t.Errorf("%v: %+v does not give %+v", mode, q, with)
		}
	}
}

// The body of a loop reads and writes with the one connection that there is: the read has it only while it gets a page.
func TestAReadHasNoConnectionWhileItsBodyRuns(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, pgserver.Database(t), pgx.QueryExecModeCacheStatement)
	store := openDB(t, postgres.Config{Pool: pool}).Events()
	put(t, store, "long-1", some("long-1", 700)...)
	for _, q := range []es.Query{{}, {Stream: "long-1"}, {Unsettled: true, Tags: nil}, {Reverse: true}, {Names: []string{"Happened"}}} {
		n := 0
		for m, err := range store.Read(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			if got := pool.Stat().AcquiredConns(); got != 0 {
				t.Fatalf("%+v has %d connections", q, got)
			}
			if n++; n%200 == 1 {
				put(t, store, "long-1", some("long-1", 1)...)
				if got := collect(t, store, es.Query{Stream: m.Stream, After: m.Version - 1, Limit: 1}); got[0].ID != m.ID {
					t.Errorf("another event at version %d", m.Version)
				}
			}
		}
		if n < 700 {
			t.Errorf("%+v gives %d events", q, n)
		}
	}
}

func TestAReadThatWaitsCanBeCanceled(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	store := openDB(t, postgres.Config{URL: url}).Events()
	put(t, store, "some-1", some("some-1", 3)...)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.Background()) }()
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE eventsourcing.events_1 IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for _, err := range store.Read(ctx, es.Query{Stream: "some-1"}) {
			ended <- err
			return
		}
		ended <- errors.New("it is over")
	}()
	for waits := false; !waits; {
		err := tx.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'eventsourcing.events_1'::regclass AND NOT granted)").
			Scan(&waits)
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that of the context", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, store, es.Query{Stream: "some-1"}); len(got) != 3 {
		t.Errorf("%d events afterwards", len(got))
	}
}

// What is truncated, deleted or erased while a read goes on is not handed out any more, though it was fetched before.
func TestWhatIsHiddenMeanwhileIsNotHandedOut(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]es.Query{
		"stream": {Stream: "long-1"}, "all": {}, "category": {Category: "long"}, "unsettled": {Unsettled: true}, "names": {Names: []string{"Happened"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := openDB(t, postgres.Config{URL: pgserver.Database(t)}).Events()
			put(t, store, "long-1", some("long-1", 100)...)
			var versions []int64
			for m, err := range store.Read(t.Context(), q) {
				if err != nil {
					t.Fatal(err)
				}
				if m.Stream != "long-1" {
					continue
				}
				switch versions = append(versions, m.Version); len(versions) {
				case 10:
					err = store.Truncate(t.Context(), "long-1", 50)
				case 20:
					_, err = store.Erase(t.Context(), es.Erasure{Stream: "long-1", Audit: es.NewMessage("audit-1", "Erased", nil)})
				}
				if err != nil {
					t.Fatal(err)
				}
				if erased := m.Data == nil; erased != (len(versions) > 20) {
					t.Fatalf("version %d, the %dth, was erased: %v", m.Version, len(versions), erased)
				}
			}
			if len(versions) != 61 || versions[9] != 10 || versions[10] != 50 {
				t.Errorf("gives the versions %v", versions)
			}
		})
	}
}

func TestADamagedEventIsAnErrorAndNoEnd(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	store := openDB(t, postgres.Config{URL: url}).Events()
	put(t, store, "some-1", some("some-1", 300)...)
	run(t, url, "UPDATE eventsourcing.events_1 SET metadata = '[]' WHERE version = 250")
	for _, q := range []es.Query{{Stream: "some-1"}, {Unsettled: true}, {Reverse: true, Unsettled: true}} {
		n, failed := 0, error(nil)
		for _, err := range store.Read(t.Context(), q) {
			if failed = err; err == nil {
				n++
			}
		}
		if failed == nil || n >= 300 {
			t.Errorf("%+v gives %d events and the error %v", q, n, failed)
		}
	}
}

// A connection that is lost between two pages, or in one, is an error or does not matter; it never makes a history shorter.
func TestALostConnectionIsAnErrorAndNoEnd(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	store := openDB(t, postgres.Config{Pool: poolOf(t, url, pgx.QueryExecModeCacheStatement)}).Events()
	put(t, store, "some-1", some("some-1", 600)...)
	n, failed := 0, error(nil)
	for _, err := range store.Read(t.Context(), es.Query{Stream: "some-1"}) {
		if failed = err; err == nil {
			n++
		}
		if n == 1 {
			run(t, url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		}
	}
	if failed != nil && !errors.Is(failed, postgres.ErrUnavailable) || failed == nil && n != 600 {
		t.Errorf("%d events of 600, and the error %v", n, failed)
	}
}

// Readers go from page to page in other ways where much is selected than where little is. None misses an event, or gives one twice.
func TestReadsGoThroughSparseAndDenseParts(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	store := openDB(t, postgres.Config{URL: url}).Events()
	run(t, url, `
INSERT INTO eventsourcing.events_1 (position, version, id, stream, category, name, schema, time, recorded, tags)
SELECT nextval('eventsourcing.positions_1') + i % 3, i, gen_random_uuid(), 'part-1', 'part',
  CASE WHEN i / 1500 % 2 = 0 AND i % 5 > 0 THEN 'Dense' WHEN i % 211 = 0 THEN 'Sparse' ELSE 'Other' || i % 3 END, 1, i, i + 1,
  CASE WHEN i / 1000 % 3 = 1 THEN ARRAY['dense'] WHEN i % 97 = 0 THEN ARRAY['sparse', 'dense'] ELSE ARRAY['other'] END
FROM (SELECT i FROM generate_series(1, 9000) AS i WHERE nextval('eventsourcing.positions_1') + nextval('eventsourcing.positions_1') > 0) AS s;
INSERT INTO eventsourcing.tags_1 (tag, position) SELECT unnest(tags), position FROM eventsourcing.events_1`)
	all := collect(t, store, es.Query{})
	if len(all) != 9000 {
		t.Fatalf("%d events", len(all))
	}
	for _, q := range []es.Query{
		{Names: []string{"Dense"}}, {Names: []string{"Sparse"}}, {Names: []string{"Dense", "Sparse"}}, {Names: []string{"Other1", "Sparse", "None"}},
		{Tags: []string{"dense"}}, {Tags: []string{"sparse"}}, {Tags: []string{"dense", "sparse"}}, {Tags: []string{"dense"}, Names: []string{"Dense"}},
		{Category: "part", Names: []string{"Dense", "Other1"}}, {Category: "part", Tags: []string{"dense"}}, {Stream: "part-1", Tags: []string{"dense"}},
		{Any: []es.Criterion{{Names: []string{"Sparse"}}, {Tags: []string{"sparse"}}, {Names: []string{"Dense"}, Tags: []string{"dense"}}}},
		{Names: []string{"Dense", "Sparse"}, Any: []es.Criterion{{Names: []string{"Sparse", "Other1"}}, {Tags: []string{"sparse"}}}},
		{Names: []string{"Dense"}, Any: []es.Criterion{{Names: []string{"Sparse"}}}},
	} {
		for _, limit := range []int{0, 1, 129, 2000} {
			for _, reverse := range []bool{false, true} {
				for _, unsettled := range []bool{false, true} {
					q.Limit, q.Reverse, q.Unsettled = limit, reverse, unsettled
					var want []*es.Message
					for _, m := range all {
						if q.Matches(m) {
							want = append(want, m)
						}
					}
					if reverse {
						slices.Reverse(want)
					}
					if limit > 0 {
						want = want[:min(limit, len(want))]
					}
					got := collect(t, store, q)
					if !slices.EqualFunc(got, want, func(a, b *es.Message) bool { return a.ID == b.ID && a.Position == b.Position }) {
						t.Errorf("%+v gives %d events, which are not the %d that it selects", q, len(got), len(want))
					}
				}
			}
		}
	}
}
