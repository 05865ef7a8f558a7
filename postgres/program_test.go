package postgres_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// program is one that has a table of its own beside a store: orders, with a unique number. Its methods that take no error fail the test
// themselves, and so are for the test's own goroutine.
type program struct {
	*testing.T

	ctx    context.Context // it outlives that of the test, for what is to be cleaned up
	url    string
	db     *postgres.DB
	events *postgres.EventStore
	outbox *postgres.Outbox
	models *postgres.ReadModels
	own    *pgxpool.Pool
}

// newProgram makes a program in a new database.
func newProgram(t *testing.T, c postgres.Config) *program {
	t.Helper()
	return newProgramAt(t, pgserver.Database(t), c)
}

// newProgramAt makes a program in an empty database, which may be reached by the store in another way.
func newProgramAt(t *testing.T, url string, c postgres.Config) *program {
	t.Helper()
	if c.URL == "" && c.Pool == nil {
		c.URL = url
	}
	p := &program{T: t, ctx: context.WithoutCancel(t.Context()), url: url}
	own, err := pgxpool.ParseConfig(url)
	p.must(err)
	own.ConnConfig.RuntimeParams["application_name"] = "program"
	p.own, err = pgxpool.NewWithConfig(p.ctx, own)
	p.must(err)
	t.Cleanup(p.own.Close)
	p.db = openDB(t, c)
	p.events, _ = p.db.Events().(*postgres.EventStore)
	p.outbox, _ = p.db.Outbox().(*postgres.Outbox)
	p.models, _ = p.db.ReadModels().(*postgres.ReadModels)
	p.exec("CREATE TABLE orders (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
	return p
}

func (p *program) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// exec runs a statement of the program's own.
func (p *program) exec(statement string, args ...any) {
	p.Helper()
	if _, err := p.own.Exec(p.ctx, statement, args...); err != nil {
		p.Fatalf("%s: %v", statement, err)
	}
}

// value returns what a query gives, which is one value.
func (p *program) value(query string, args ...any) string {
	p.Helper()
	var value string
	if err := p.own.QueryRow(p.ctx, "SELECT coalesce(v::text, '') FROM ("+query+") AS q (v)", args...).Scan(&value); err != nil {
		p.Fatalf("%s: %v", query, err)
	}
	return value
}

// until looks at the database until a query gives a value.
func (p *program) until(want, query string, args ...any) {
	p.Helper()
	for end := time.Now().Add(time.Minute); p.value(query, args...) != want; {
		if time.Now().After(end) {
			p.Fatalf("%s: %s, and not %s", query, p.value(query, args...), want)
		}
	}
}

// waiting is a query for how many connections wait for a lock, in this database.
const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

// begin begins a transaction of the program's own, which ends with the test if not before.
func (p *program) begin(o pgx.TxOptions) pgx.Tx {
	p.Helper()
	tx, err := p.own.BeginTx(p.ctx, o)
	p.must(err)
	p.Cleanup(func() { _ = tx.Rollback(p.ctx) }) // it is over, most often
	return tx
}

// numbered makes an event with a number.
func numbered(stream string, n int) *es.Message {
	return es.NewMessage(stream, "Numbered", fmt.Appendf(nil, `{"n":%d}`, n))
}

// history is all the events, as "stream version", in order.
func (p *program) history() string {
	p.Helper()
	var events []string
	for m, err := range p.events.Read(p.ctx, es.Query{Unsettled: true}) {
		p.must(err)
		events = append(events, m.Stream+" "+strconv.FormatInt(m.Version, 10))
	}
	return strings.Join(events, ", ")
}

// wantCounts fails the test unless there are so many events, messages in the outbox, documents, steps of the projection and own rows.
func (p *program) wantCounts(want string) {
	p.Helper()
	events := 0
	for _, err := range p.events.Read(p.ctx, es.Query{Unsettled: true}) {
		p.must(err)
		events++
	}
	stats, err := p.outbox.Stats(p.ctx)
	p.must(err)
	docs, err := p.models.List(p.ctx, es.ListQuery{Model: "orders"})
	p.must(err)
	progress, err := p.models.Progress(p.ctx, "orders")
	p.must(err)
	if got := fmt.Sprint(events, stats.Depth, len(docs), progress.Position, " ", p.value("SELECT count(*) FROM orders")); got != want {
		p.Errorf("events, messages, documents, progress and rows are %s, and not %s", got, want)
	}
}

// projection is a commit of the read model that takes it from one order to the next.
func projection(n int) es.Commit {
	return es.Commit{
		Writes: []es.Write{{Model: "orders", Key: strconv.Itoa(n), Data: []byte("{}")}},
		Progress: es.ProgressUpdate{
			Projection: "orders",
			From:       es.Progress{Checkpoint: es.Checkpoint{Position: int64(n - 1)}},
			To:         es.Progress{Checkpoint: es.Checkpoint{Position: int64(n)}},
		},
	}
}
