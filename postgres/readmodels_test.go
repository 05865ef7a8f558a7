package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func document(key, data string, expect es.Expectation) es.Write {
	return es.Write{Model: "m", Key: key, Data: []byte(data), Expect: expect}
}

func deletion(key string) es.Write { return es.Write{Model: "m", Key: key, Delete: true} }

// commit makes writes.
func (p *program) commit(writes ...es.Write) {
	p.Helper()
	p.must(p.models.Commit(p.ctx, es.Commit{Writes: writes}))
}

// committing makes writes while the test goes on.
func (p *program) committing(c es.Commit) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.models.Commit(p.ctx, c) }()
	return done
}

// wantModel fails the test unless a model has these documents, as "key=data key=data".
func (p *program) wantModel(model, want string) {
	p.Helper()
	docs, err := p.models.List(p.ctx, es.ListQuery{Model: model})
	p.must(err)
	if got := dataOf(docs); got != want {
		p.Errorf("model %s is %q, want %q", model, got, want)
	}
}

func dataOf(docs []es.Document) string {
	all := make([]string, len(docs))
	for i, doc := range docs {
		all[i] = doc.Key + "=" + string(doc.Data)
	}
	return strings.Join(all, " ")
}

// wantNothingUnfinished fails the test when there is a row that a commit has taken a place with.
func (p *program) wantNothingUnfinished() {
	p.Helper()
	if n := p.value("SELECT (SELECT count(*) FROM eventsourcing.documents_1 WHERE revision = 0) + " +
		"(SELECT count(*) FROM eventsourcing.progress_1 WHERE generation = 0 AND epoch = 0 AND position = 0)"); n != "0" {
		p.Errorf("%s rows are left of commits that are over", n)
	}
}

// watcher sees how often a program waits for the database, and which transactions were in each other's way there.
type watcher struct {
	trips     atomic.Int64
	deadlocks atomic.Int64
}

// wire is a connection that counts its round trips: what is sent after something was received.
type wire struct {
	net.Conn

	watcher  *watcher
	received atomic.Bool
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.received.Store(true)
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	if w.received.Swap(false) {
		w.watcher.trips.Add(1)
	}
	return w.Conn.Write(b)
}

func (w *watcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &wire{Conn: conn, watcher: w}, err
}

func (*watcher) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (w *watcher) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	w.end(data.Err)
}

func (*watcher) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (w *watcher) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	w.end(data.Err)
}

func (*watcher) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (w *watcher) end(err error) {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == "40P01" {
		w.deadlocks.Add(1)
	}
}

// newWatchedProgram makes a program with a watcher, whose store has so many connections.
func newWatchedProgram(t *testing.T, connections int32) (*program, *watcher) {
	t.Helper()
	url := pgserver.Database(t)
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{}
	c.MaxConns, c.ConnConfig.Tracer, c.ConnConfig.DialFunc = connections, w, w.dial
	c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // however long a connection was idle
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return newProgramAt(t, url, postgres.Config{Pool: pool}), w
}

// TestACommitIsOneRoundTrip counts what a commit sends, whatever is in it and whether it can be made, when its statements are prepared.
func TestACommitIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	p, w := newWatchedProgram(t, 1)
	lease := p.lease(time.Hour)
	p.commit(document("a", "0", es.Any))
	many := make([]es.Write, 1000)
	for i := range many {
		many[i] = document(strconv.Itoa(i), "1", es.Any)
	}
	for _, test := range []struct {
		name   string
		commit es.Commit
	}{
		{"a projection", es.Commit{Writes: many, Fence: lease}},
		{"documents as expected", es.Commit{Writes: []es.Write{document("a", "2", es.StreamExists), document("b", "2", es.Any)}}},
		{"deletions", es.Commit{Writes: []es.Write{document("b", "2", es.Any), deletion("none")}}},
		{"a conflict", es.Commit{Writes: []es.Write{document("new", "3", es.Any), document("a", "3", es.NoStream), deletion("c")}}},
		{"a lease that is lost", es.Commit{Writes: many, Fence: &es.Lease{Name: "n", Owner: "B", Token: 1}}},
	} {
		for _, prepared := range []bool{false, true} {
			at, err := p.models.Progress(p.ctx, test.name)
			p.must(err)
			test.commit.Progress = es.ProgressUpdate{Projection: test.name, From: at, To: at}
			test.commit.Progress.To.Position++
			before := w.trips.Load()
			err = p.models.Commit(p.ctx, test.commit)
			if err != nil && !errors.Is(err, es.ErrConflict) && !errors.Is(err, es.ErrLeaseLost) {
				t.Error(err)
			}
			if n := w.trips.Load() - before; prepared && n != 1 || n > 2 {
				t.Errorf("%s, prepared %t: %d round trips", test.name, prepared, n)
			}
		}
	}
	p.wantNothingUnfinished()
}

// TestCommitsThatCrossInAnyWayNeverDeadlock makes commits at random that put, create, change and delete the same few documents, in any
// order, some of which are not there.
func TestCommitsThatCrossInAnyWayNeverDeadlock(t *testing.T) {
	t.Parallel()
	p, w := newWatchedProgram(t, 8)
	p.commit(es.Write{Model: "m", Key: "a"}, es.Write{Model: "n", Key: "a"})
	var all sync.WaitGroup
	for worker := range 6 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 7))
			for range 120 {
				var c es.Commit
				for _, i := range r.Perm(10)[:1+r.IntN(5)] {
					c.Writes = append(c.Writes, es.Write{
						Model: []string{"m", "n"}[i%2], Key: string(rune('a' + i/2)), Delete: r.IntN(3) == 0,
						Expect: []es.Expectation{es.Any, es.Any, es.NoStream, es.StreamExists}[r.IntN(4)],
					})
				}
				if err := p.models.Commit(p.ctx, c); err != nil && !errors.Is(err, es.ErrConflict) {
					t.Errorf("commit %+v: %v", c, err)
				}
			}
		})
	}
	all.Wait()
	if n := w.deadlocks.Load(); n > 0 {
		t.Errorf("%d deadlocks", n)
	}
	p.wantNothingUnfinished()
}

// TestCommitsOfWhatIsNotThereAreWhole has a commit that deletes a document and puts another one meet one that puts both, when neither is
// there: the documents are as if one had come after the other.
func TestCommitsOfWhatIsNotThereAreWhole(t *testing.T) {
	t.Parallel()
	p := newProgram(t, postgres.Config{})
	for round := range 60 {
		key := func(name string) string { return fmt.Sprint(round, "-", name) }
		first := p.committing(es.Commit{Writes: []es.Write{deletion(key("a")), document(key("b"), "first", es.Any)}})
		second := p.committing(es.Commit{Writes: []es.Write{document(key("a"), "second", es.Any), document(key("b"), "second", es.Any)}})
		p.must(errors.Join(<-first, <-second))
		docs, err := p.models.Load(p.ctx, "m", key("a"), key("b"))
		p.must(err)
		got := string(docs[0].Data) + "+" + string(docs[1].Data)
		if !slices.Contains([]string{"+first", "second+second"}, got) {
			t.Fatalf("the documents are %q", got)
		}
	}
}

// TestARevisionRisesThoughItWasDrawnFirst has a commit draw a revision and wait for a document that somebody else creates, and then gives
// a later revision.
func TestARevisionRisesThoughItWasDrawnFirst(t *testing.T) {
	t.Parallel()
	const next = "nextval('eventsourcing.revisions_1')"
	p := newProgram(t, postgres.Config{})
	p.commit(document("other", "", es.Any))
	tx := p.begin(pgx.TxOptions{})
	_, err := tx.Exec(p.ctx, "INSERT INTO eventsourcing.documents_1 SELECT model, 'k', "+next+", '' FROM eventsourcing.models_1")
	p.must(err)
	done := p.committing(es.Commit{Writes: []es.Write{document("k", "later", es.Any)}})
	p.until("1", waiting)
	later := int64(0)
	p.must(tx.QueryRow(p.ctx, "UPDATE eventsourcing.documents_1 SET revision = "+next+" WHERE key = 'k' RETURNING revision").Scan(&later))
	p.must(tx.Commit(p.ctx))
	p.must(<-done)
	docs, err := p.models.Load(p.ctx, "m", "k")
	p.must(err)
	if docs[0].Revision <= later || string(docs[0].Data) != "later" {
		t.Errorf("the document is %+v; it had the revision %d before", docs[0], later)
	}
}

// TestOfTwoThatCreateADocumentTheLaterOneSees has a commit wait for another one that creates the same document.
func TestOfTwoThatCreateADocumentTheLaterOneSees(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		write es.Write
		want  string // the model
	}{
		"that it is there":    {document("k", "second", es.NoStream), "k=first l=other"},
		"what it writes over": {document("k", "second", es.Any), "k=second l=other"},
		"what it expects":     {document("k", "second", es.StreamExists), "k=second l=other"},
		"what it deletes":     {deletion("k"), "l=other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, postgres.Config{})
			p.commit(document("gone", "", es.Any))
			p.commit(deletion("gone"))
			tx := p.begin(pgx.TxOptions{})
			p.must(p.models.CommitTx(p.ctx, tx, es.Commit{Writes: []es.Write{document("k", "first", es.Any)}}))
			done := p.committing(es.Commit{Writes: []es.Write{test.write}})
			p.must(p.models.Commit(p.ctx, es.Commit{Writes: []es.Write{document("l", "other", es.Any), deletion("gone")}})) // which does not wait
			p.until("1", waiting)
			p.must(tx.Commit(p.ctx))
			err := <-done
			p.wantModel("m", test.want)
			if test.write.Expect != es.NoStream {
				p.must(err)
				return
			}
			docs, loading := p.models.Load(p.ctx, "m", "k")
			p.must(loading)
			want := es.RevisionError{Model: "m", Key: "k", Expected: es.NoStream, Actual: docs[0].Revision}
			if got, ok := errors.AsType[*es.RevisionError](err); !ok || *got != want {
				t.Errorf("it fails with %v, want %+v", err, want)
			}
		})
	}
}

// TestTheSameWhateverTheProtocolIs makes commits by way of a pool that prepares no statements, as poolers ask for.
func TestTheSameWhateverTheProtocolIs(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	} {
		pool := poolOf(t, url, mode)
		p := &program{T: t, ctx: context.WithoutCancel(t.Context()), url: url}
		p.db = openDB(t, postgres.Config{Pool: pool, Namespace: strings.ReplaceAll(mode.String(), " ", "-")})
		p.models, _ = p.db.ReadModels().(*postgres.ReadModels)
		lease, err := p.db.Leases().Acquire(p.ctx, "n", "A", 1<<40)
		p.must(err)
		to := es.Progress{Epoch: 1, Checkpoint: es.Checkpoint{Incarnation: es.NewID(), Position: 7}}
		c := es.Commit{
			Writes: []es.Write{document("a'\\ü", "\x00\xff'", es.NoStream), deletion("b"), document("c", "", es.Any)}, Fence: &lease,
			Progress: es.ProgressUpdate{Projection: "aside", To: to},
		}
		for i := range c.Writes {
			c.Writes[i].Model = "aside"
		}
		p.must(p.models.Commit(p.ctx, c))
		wantError(t, mode.String(), p.models.Commit(p.ctx, es.Commit{Writes: c.Writes}), es.ErrConflict)
		p.must(p.models.Switch(p.ctx, es.Replacement{Model: "m", With: "aside"}))
		if at, err := p.models.Progress(p.ctx, "m"); err != nil || at != to {
			t.Errorf("%s: the projection is at %+v (%v), want %+v", mode, at, err, to)
		}
		c = es.Commit{Progress: es.ProgressUpdate{Projection: "m", From: to}}
		p.must(p.models.Commit(p.ctx, c))
		p.wantModel("m", "a'\\ü=\x00\xff' c=")
		docs, err := p.models.Load(p.ctx, "m", "c", "a'\\ü", "c", "none")
		p.must(err)
		if got := dataOf(docs); got != "c= a'\\ü=\x00\xff' c= none=" || docs[0].Revision == 0 || docs[3].Revision != 0 {
			t.Errorf("%s: loaded %+v", mode, docs)
		}
		p.must(p.models.Drop(p.ctx, "m"))
		p.wantModel("m", "")
	}
}
