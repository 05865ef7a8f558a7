package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// planBench is a store, and a session that plans its reads once, and keeps the plans.
type planBench struct {
	*testing.T

	db       *DB
	conn     *pgx.Conn
	prepared map[string]string // names of statements
}

func newPlanBench(t *testing.T) *planBench {
	t.Helper()
	url := pgserver.Database(t)
	db, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &planBench{T: t, db: db, conn: conn, prepared: map[string]string{}}
	for _, table := range []string{"@events_#", "@tags_#", "@edits_#"} { // nobody looks at the tables but when the test says so
		b.exec("ALTER TABLE " + table + " SET (autovacuum_enabled = off)")
	}
	b.exec(strings.ReplaceAll(planned, ", true)", ", false)"))
	return b
}

func (b *planBench) exec(statement string) {
	b.Helper()
	if _, err := b.conn.Exec(b.Context(), b.db.sql(statement)); err != nil {
		b.Fatal(err)
	}
}

// fill writes events with positions from one on up to another: all have the tag "all", every tenth one the tag "tenth", one of a thousand
// has the tag, the name and the category "rare", and 99 of a hundred have the name "Common". There are ten streams.
func (b *planBench) fill(from, to int) {
	b.Helper()
	b.exec(fmt.Sprintf(` 
INSERT INTO @events_# (position, version, id, stream, category, name, schema, time, recorded, tags, data)
SELECT i, 1 + i / 10, gen_random_uuid(), 'stream-' || i %% 10, CASE i %% 1000 WHEN 7 THEN 'rare' ELSE 'stream' END,
  CASE WHEN i %% 1000 = 7 THEN 'rare' WHEN i %% 100 = 3 THEN 'Seldom' ELSE 'Common' END, 1, i, i + 1,
  ARRAY['all'] || CASE WHEN i %% 10 = 7 THEN ARRAY['tenth'] END || CASE WHEN i %% 1000 = 7 THEN ARRAY['rare'] END, decode(repeat('00', 100), 'hex')
FROM generate_series(%d, %d) AS i`, from, to))
	b.exec(fmt.Sprintf("INSERT INTO @tags_# (tag, position) SELECT unnest(tags), position FROM @events_# WHERE position BETWEEN %d AND %d",
		from, to))
}

// planNode is what EXPLAIN tells of a step of a plan.
type planNode struct {
	Type    string     `json:"Node Type"`
	Rows    float64    `json:"Actual Rows"`
	Removed float64    `json:"Rows Removed by Filter"`
	Loops   float64    `json:"Actual Loops"`
	Plans   []planNode `json:"Plans"`
}

// touched returns how many rows of tables and indexes a plan has gone through.
func (n *planNode) touched() (rows float64) {
	if strings.Contains(n.Type, "Index") {
		rows = (n.Rows + n.Removed) * n.Loops
	}
	for i := range n.Plans {
		rows += n.Plans[i].touched()
	}
	return rows
}

// explain runs a page of a read, by the plan that the session has kept, and returns the plan, and how many rows it has gone through.
func (b *planBench) explain(q es.Query, last int64, density float64) (plan string, touched float64) {
	b.Helper()
	selected, err := selectionOf(&q)
	if err != nil {
		b.Fatal(err)
	}
	r := &logReader{store: b.db.events, query: q, selected: selected, low: 1, high: last, density: density}
	p := r.statement(firstPageEvents)
	name := b.prepared[p.query]
	if name == "" {
		name = "read_" + strconv.Itoa(len(b.prepared))
		b.prepared[p.query] = name
		b.exec("PREPARE " + name + " AS " + p.query)
	}
	literals := make([]string, len(p.arguments))
	for i, argument := range p.arguments {
		literals[i] = argumentLiteral(argument)
	}
	rows, err := b.conn.Query(b.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE "+name+"("+strings.Join(literals, ", ")+")",
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		b.Fatal(err)
	}
	plan, err = pgx.CollectOneRow(rows, pgx.RowTo[string])
	if err != nil {
		b.Fatalf("%+v: %v", q, err)
	}
	var explained []struct {
		Plan planNode `json:"Plan"`
	}
	if err := json.Unmarshal([]byte(plan), &explained); err != nil {
		b.Fatal(err)
	}
	return plan, explained[0].Plan.touched()
}

// argumentLiteral returns an argument of a statement as a part of another one.
func argumentLiteral(value any) string {
	switch v := value.(type) {
	case *string:
		if v == nil {
			return "NULL"
		}
		return argumentLiteral(*v)
	case string:
		return "'" + strings.ReplaceAll(v, "'", "''") + "'"
	}
	return fmt.Sprint(value)
}

// A plan is made when the tables are small, and what PostgreSQL knows of them is old when they have grown. The same plans go through
// hardly more than a page of them all the same, and so do those that are made later.
func TestReadsGoThroughAPageOfALargeTable(t *testing.T) {
	t.Parallel()
	const few, many = 40, 20_000
	queries := []struct {
		query es.Query
		most  float64 // rows for each event of a page
	}{
		{es.Query{}, 1},
		{es.Query{Stream: "stream-3"}, 1},
		{es.Query{Stream: "stream-3", Names: []string{"Seldom"}}, 10}, // one in ten
		{es.Query{Category: "stream"}, 1},
		{es.Query{Category: "rare"}, 1},
		{es.Query{Category: "none"}, 1},
		{es.Query{Tags: []string{"all"}}, 2}, // the tag and the event
		{es.Query{Tags: []string{"rare"}}, 2},
		{es.Query{Tags: []string{"none"}}, 2},
		{es.Query{Names: []string{"Common"}}, 3},
		{es.Query{Names: []string{"rare", "none"}}, 3},
		{es.Query{Names: []string{"rare", "Common"}}, 4},
		{es.Query{Tags: []string{"all", "rare"}}, 4},
		{es.Query{Tags: []string{"rare", "all", "tenth"}}, 6},
		{es.Query{Tags: []string{"all", "none"}}, 4},
		{es.Query{Tags: []string{"all"}, Names: []string{"rare"}}, 4},
		{es.Query{Tags: []string{"rare"}, Names: []string{"Common", "rare"}}, 5},
		{es.Query{Category: "stream", Names: []string{"rare"}}, 4},
		{es.Query{Category: "rare", Names: []string{"Common", "rare"}}, 5},
		{es.Query{Category: "rare", Names: []string{"rare"}, Tags: []string{"all"}}, 6},
		{es.Query{Any: []es.Criterion{{Tags: []string{"rare"}}, {Names: []string{"rare"}}, {Tags: []string{"all", "none"}}}}, 8},
		{es.Query{Any: []es.Criterion{{Tags: []string{"all"}}, {Names: []string{"Common"}}}}, 8},
	}
	b := newPlanBench(t)
	check := func(when string, last int64) {
		t.Helper()
		for _, c := range queries {
			for _, reverse := range []bool{false, true} {
				for _, density := range []float64{0, dense} {
					q := c.query
					q.Reverse = reverse
					plan, touched := b.explain(q, last, density)
					if strings.Contains(plan, "Seq Scan") || strings.Contains(plan, "Bitmap") {
						t.Fatalf("%s, %+v goes through the whole table:\n%s", when, q, plan)
					}
					most := max(c.most*firstPageEvents, fewPositions)
					if density == dense && q.Stream == "" {
						most = max(most, 1.5*firstPageEvents/dense) // those of which so many should be selected
					}
					if touched > most {
						t.Errorf("%s, %+v goes through %v rows, which is more than %v:\n%s", when, q, touched, most, plan)
					}
				}
			}
		}
	}
	b.fill(1, few)
	b.exec("ANALYZE @events_#, @tags_#, @edits_#")
	check("small", math.MaxInt64)
	b.fill(few+1, many)
	check("with the plans of when it was small", many)
	b.exec("DEALLOCATE ALL")
	clear(b.prepared)
	check("planned with old statistics", many)
	b.exec("ANALYZE @events_#, @tags_#, @edits_#")
	check("planned with new statistics", many)
}
