package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// openLanes opens a store for a test, with its event store.
func openLanes(t *testing.T, c Config) *EventStore {
	t.Helper()
	db, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db.events
}

// appendOf makes an append of events with tags that need care.
func appendOf(stream string, events int, tags ...string) es.Append {
	a := es.AppendTo(stream, es.Any)
	for range events {
		m := es.NewMessage(stream, "Added", []byte("{\x00\xff}"))
		m.Tags, m.Metadata = tags, map[string]string{`"quote\`: "line\n"}
		a.Streams[0].Events = append(a.Streams[0].Events, m)
	}
	return a
}

func TestAServerThatDoesNotAnswerIsUnavailable(t *testing.T) {
	t.Parallel()
	server := pgserver.ForTest(t, pgserver.Config{NoSync: true})
	s := openLanes(t, Config{URL: server.URL("postgres"), Lanes: 1})
	s.lanes.patience = 300 * time.Millisecond
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first, second := appendOf("order-1", 1), appendOf("order-1", 1)
	_, err := s.Append(ctx, first)
	must(err)
	must(server.Pause())
	if _, err := s.Append(ctx, second); !errors.Is(err, ErrUnavailable) {
		t.Errorf("append to a server that hangs: %v, want ErrUnavailable", err)
	}
	must(server.Resume())
	done, err := s.Append(ctx, second) // whatever became of it
	must(err)
	if done.Places[0].Version != 2 {
		t.Errorf("once more when it answers: %+v, want version 2", done)
	}
	must(server.Kill())
	third := appendOf("order-1", 1)
	if _, err := s.Append(ctx, third); !errors.Is(err, ErrUnavailable) {
		t.Errorf("append to a server that is gone: %v, want ErrUnavailable", err)
	}
	must(server.Restart(ctx))
	for _, a := range []es.Append{first, second, third} {
		_, err := s.Append(ctx, a)
		must(err)
	}
	if done, err = s.Append(ctx, third); err != nil || done.Places[0].Version != 3 || done.Existing != 1 {
		t.Errorf("once more when it is back: %+v, %v; want version 3, which is there", done, err)
	}
}

func TestALaneThatIsNotWhatItWasSetToBeIsNotUsed(t *testing.T) {
	t.Parallel()
	s := openLanes(t, Config{URL: pgserver.Database(t), Lanes: 1})
	if _, err := s.Append(t.Context(), appendOf("order-1", 1)); err != nil {
		t.Fatal(err)
	}
	ln := s.lanes.idle[0]
	if _, err := ln.conn.pg.Exec(t.Context(), "SET default_transaction_isolation = 'repeatable read'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []es.Append{appendOf("order-1", 1), appendOf("order-1", 2)} {
		answer, flown := s.lanes.flyNow(t.Context(), s.lanes.newFlyer(&a, nil))
		if !flown || !answer.alone {
			t.Errorf("in a lane that has one snapshot for all statements: %+v, %v; want that it goes alone", answer, flown)
		}
		delete(s.lanes.board.streams, s.lanes.streamKey("order-1"))
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
}

func TestAllWaysStoreTheSame(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	for name, parameters := range map[string]string{
		"prepared": "", "described": "default_query_exec_mode=cache_describe", "unnamed": "default_query_exec_mode=exec",
		"simple": "default_query_exec_mode=simple_protocol",
	} {
		for _, ordering := range []Ordering{Fence, Serial} {
			space := fmt.Sprintf("%s-%d", name, ordering)
			s := openLanes(t, Config{URL: withParameter(url, parameters), Namespace: space, Ordering: ordering})
			tags := []string{`"a",{b}`, `back\slash`, "ü", "NULL", " "}
			conditional, both := appendOf("conditional-1", 2, tags...), appendOf("both-1", 1, tags...)
			conditional.Unless = []es.Condition{{Match: []es.Criterion{{Tags: []string{"nobody"}}, {Names: []string{"Nothing"}, Tags: tags[:2]}}}}
			both.Streams = append(both.Streams, appendOf("both-2", 1, tags...).Streams...)
			appends := []es.Append{appendOf("lone-1", 1, tags...), appendOf("many-1", 3, tags...), appendOf("untagged-1", 1), conditional, both}
			for _, a := range appends {
				want := len(a.Streams[0].Events)
				done, err := s.Append(t.Context(), a)
				if err != nil || done.Places[want-1].Version != int64(want) {
					t.Fatalf("%s: append to %s: %+v, %v", space, a.Streams[0].Stream, done, err)
				}
				wantStored(t, space, s, &a, done)
			}
		}
	}
}

func withParameter(url, parameter string) string {
	switch {
	case parameter == "":
		return url
	case strings.Contains(url, "?"):
		return url + "&" + parameter
	}
	return url + "?" + parameter
}

// wantStored fails the test unless the events of an append are in the store as they were given, at their places.
func wantStored(t *testing.T, what string, s *EventStore, a *es.Append, done es.Appended) {
	t.Helper()
	var stored []storedEvent
	rows, err := s.db.pool.Query(t.Context(), s.lanes.sql.existing, idTexts(a))
	if err == nil {
		stored, err = storedEvents(rows)
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	at := 0
	for i := range a.Streams {
		for _, m := range a.Streams[i].Events {
			found := false
			for _, got := range stored {
				if got.ID == m.ID {
					found = true
					place := es.Place{Version: got.Version, Position: got.Position}
					if !got.says(m) || got.Metadata[`"quote\`] != "line\n" || !got.Time.Equal(m.Time) || place != done.Places[at] {
						t.Errorf("%s: %+v is stored as %+v", what, m, got.Message)
					}
				}
			}
			if !found {
				t.Errorf("%s: event %s of %s is not stored", what, m.ID, m.Stream)
			}
			var tags int
			err := s.db.pool.QueryRow(t.Context(), s.db.sql("SELECT count(*) FROM @tags_# WHERE position = $1 AND tag = ANY ($2)"),
				done.Places[at].Position, m.Tags).Scan(&tags)
			if err != nil || tags != len(m.Tags) {
				t.Errorf("%s: %d tags are to be found of %q: %v", what, tags, m.Tags, err)
			}
			at++
		}
	}
}

func TestABatchIsDurableWhateverTheDefault(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	s := openLanes(t, Config{URL: withParameter(url, "synchronous_commit=off"), Lanes: 1})
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	// Tells what a transaction was committed with.
	_, err = conn.Exec(t.Context(), `CREATE TABLE kept (setting text);
		CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.kept VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER keep AFTER INSERT ON eventsourcing.events_1 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION keep()`)
	if err != nil {
		t.Fatal(err)
	}
	several := es.Append{Streams: append(appendOf("several-1", 1).Streams, appendOf("several-2", 1).Streams...)}
	for _, a := range []es.Append{appendOf("lone-1", 1), appendOf("batch-1", 2), several} {
		if _, err := s.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	var kept, on int
	if err := conn.QueryRow(t.Context(), "SELECT count(*), count(*) FILTER (WHERE setting = 'on') FROM kept").Scan(&kept, &on); err != nil {
		t.Fatal(err)
	}
	if kept != 5 || on != kept {
		t.Errorf("%d events of %d were committed durably, want 5 of 5", on, kept)
	}
}

// TestLanesFindTheirIndexesWhateverTheStatisticsSay looks at the plans of a lane for tables that have grown since they were analyzed.
func TestLanesFindTheirIndexesWhateverTheStatisticsSay(t *testing.T) {
	t.Parallel()
	s := openLanes(t, Config{URL: pgserver.Database(t)})
	c, err := s.lanes.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close(t.Context())
	do := func(query string) (lines []string) {
		t.Helper()
		results, err := c.pg.Exec(t.Context(), s.db.sql(query)).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		for _, row := range results[len(results)-1].Rows {
			lines = append(lines, string(row[0]))
		}
		return lines
	}
	statements := &s.lanes.statements
	prepared := []struct {
		name, query string
		arguments   int
		want        []string
	}{
		{"one", statements.insertOne.sql, 1 + givenColumnCount, []string{"Backward using events_1_version"}},
		// All heads are known before the first event is inserted: else it would be quadratic in their number.
		{"many", statements.insert.sql, 3 + givenColumnCount, []string{"Backward using events_1_version", "Sort Key: g_1.append, g_1.step"}},
		{"conditions", statements.conditions.sql, 4, []string{
			`tags_1_pkey on tags_1 t|((tag = k.tag) AND ("position" > c.after))`,
			`events_1_pkey on events_1 e|("position" = t."position")`,
			`events_1_name on events_1 e_1|((name = ANY (k.names)) AND (name IS NOT NULL) AND ("position" > c.after))`,
			`events_1_pkey on events_1 e_2|("position" > c.after)`,
		}},
	}
	explain := func(name string, arguments int) string {
		return strings.Join(do("EXPLAIN EXECUTE "+name+"("+strings.Repeat("NULL, ", arguments-1)+"NULL)"), "\n")
	}
	do("ANALYZE @events_#; ANALYZE @tags_#; ANALYZE @edits_#")
	for _, p := range prepared {
		do("PREPARE " + p.name + " AS " + p.query)
		explain(p.name, p.arguments) // plans it
	}
	do(`INSERT INTO @events_# (position, version, id, stream, category, name, tags) SELECT n, 1, gen_random_uuid(), 'order-' || n, 'order',
		'Added', ARRAY['tag' || n] FROM generate_series(1, 3000) n; INSERT INTO @tags_# SELECT 'tag' || n, n FROM generate_series(1, 3000) n`)
	c.flights = 63 // the next one is due
	if err := c.replan(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range prepared {
		plan := explain(p.name, p.arguments)
		for _, want := range p.want {
			index, condition, _ := strings.Cut(want, "|")
			_, after, found := strings.Cut(plan, index)
			if next, _, _ := strings.Cut(strings.TrimLeft(after, " "), "->"); !found || !strings.Contains(next, condition) {
				t.Errorf("%s lacks %s:\n%s", p.name, want, plan)
			}
		}
		if strings.Contains(plan, "Seq Scan on events_1") || strings.Contains(plan, "Seq Scan on tags_1") {
			t.Errorf("%s scans a table:\n%s", p.name, plan)
		}
	}
}
