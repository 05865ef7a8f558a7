package postgres

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

func TestALongLogIsNotReadToFindItsHead(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	a := db.hand(t)
	a.do("INSERT INTO @events_# (position, version, id, stream, category, name, schema, time, recorded) SELECT nextval('@positions_#'), n, " +
		"gen_random_uuid(), 'long', 'long', 'Happened', 1, 0, 0 FROM generate_series(1, 5 * " + strconv.Itoa(pageSize) + ") n")
	db.wantHead(t, 5*pageSize)

	open := a
	open.do("BEGIN")
	first := open.append()
	last := db.hand(t).append()
	// A process that starts meanwhile knows that some of it is settled, and does not say more.
	other := openTail(t, Config{URL: db.config.URL})
	head, err := other.events.Head(t.Context())
	if err != nil || head.Position < pageSize || head.Position >= first {
		t.Fatalf("the head is %+v (%v); want one from %d to %d", head, err, pageSize, first-1)
	}
	open.do("COMMIT")
	other.wantSettled(t, last)
	db.wantSettled(t, last)
}

func TestWhatIsReadFromMemoryIsWhatIsThere(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	a, b := db.hand(t), db.hand(t)
	tl := db.events.tail
	_, _ = tl.cached(0, 0) // there is a reader
	look := func() int64 {
		t.Helper()
		settled, err := tl.settled(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return settled
	}
	look()
	want := func(after, upTo int64, positions ...int64) {
		t.Helper()
		db.wantSettled(t, upTo)
		events, ok := tl.cached(after, upTo)
		var got []int64
		for _, m := range events {
			got = append(got, m.Position)
			if m.Version != 1 || m.Stream != fmt.Sprintf("hand-%d", m.Position) || m.Name != "Happened" {
				t.Errorf("in memory is %+v", *m)
			}
		}
		if !ok || !slices.Equal(got, positions) {
			t.Fatalf("from %d to %d, memory has %v (%t); want %v", after, upTo, got, ok, positions)
		}
	}
	a.do("BEGIN")
	first := a.append()
	second := b.append()
	look()
	if _, ok := tl.cached(0, second); ok {
		t.Fatal("memory answers for what is not settled")
	}
	third := b.append()
	a.do("COMMIT")
	want(0, third, first, second, third)
	want(first, second, second)

	// What is hidden or erased is as it is now as soon as somebody has looked, and what came before is read anew.
	b.do("UPDATE @events_# SET name = NULL, data = NULL WHERE position = $1", second)
	b.do("UPDATE @state_# SET edits = edits + 1")
	look()
	if events, ok := tl.cached(first, third); ok {
		t.Fatalf("memory has %d events of before the edit", len(events))
	}
	b.do("BEGIN")
	b.append()
	b.do("ROLLBACK")
	fourth := b.append()
	want(third, fourth, fourth)
	hidden := b.append()
	b.do("UPDATE @events_# SET name = NULL, data = NULL WHERE position = $1", hidden)
	want(third, hidden, fourth)
}

// TestManyRollbacksKeepTheHeadNear has many who draw and roll back, so that there is a gap at every moment, while one appends: how long its
// events take to settle does not grow.
func TestManyRollbacksKeepTheHeadNear(t *testing.T) {
	t.Parallel()
	db := openTail(t, Config{})
	ctx, enough := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer enough()
	for range 4 {
		h := db.hand(t)
		all.Go(func() {
			for ctx.Err() == nil {
				for _, query := range []string{"BEGIN", "SELECT nextval('@positions_#')", "ROLLBACK"} {
					if _, err := h.conn.Exec(context.WithoutCancel(ctx), h.db.sql(query)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	h := db.hand(t)
	var took []time.Duration
	for range 300 {
		position := h.append()
		db.tell(eventsChanged)
		at := time.Now()
		db.wantSettled(t, position)
		took = append(took, time.Since(at))
	}
	first, last := took[:100], took[200:]
	slices.Sort(first)
	slices.Sort(last)
	t.Logf("settled after %v and %v (p50), %v and %v (p99) at the beginning and at the end", first[50], last[50], first[99], last[99])
	if p, err := db.Probe(t.Context()); err != nil || p.Skipped < 100 {
		t.Errorf("the log is %+v (%v): too few were rolled back", p, err)
	}
	if last[50] > 5*first[50]+50*time.Millisecond {
		t.Errorf("an event settles after %v at the beginning and after %v at the end", first[50], last[50])
	}
}

// TestATextProtocolGivesTheSameEvents reads as with a pooler that does not know prepared statements.
func TestATextProtocolGivesTheSameEvents(t *testing.T) {
	t.Parallel()
	c, err := pgxpool.ParseConfig(pgserver.Database(t))
	must(t, err)
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	must(t, err)
	t.Cleanup(pool.Close)
	db, err := Open(t.Context(), Config{Pool: pool})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	_, _ = db.events.tail.cached(0, 0) // there is a reader
	db.wantHead(t, 0)
	m := es.NewMessage("some-1", "Happened", []byte("{}"))
	m.Tags, m.Metadata, m.CorrelationID = []string{"a", "b,c"}, map[string]string{"k": "v"}, "c"
	_, err = db.events.Append(t.Context(), es.AppendTo("some-1", es.Any, m))
	must(t, err)
	db.wantSettled(t, 1)
	events, ok := db.events.tail.cached(0, 1)
	if !ok || len(events) != 1 || !events[0].SameContent(m) || events[0].Version != 1 || events[0].Recorded.IsZero() {
		t.Errorf("in memory is %+v (%t), want %+v", events, ok, *m)
	}
}

// counter counts the statements of connections.
type counter struct{ n atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (*counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestManyWhoAskShareALook(t *testing.T) {
	t.Parallel()
	url := pgserver.Database(t)
	c, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	var count counter
	c.ConnConfig.Tracer = &count
	pool, err := pgxpool.NewWithConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	db, err := Open(t.Context(), Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	db.wantHead(t, 0)
	before := count.n.Load()
	// The look that is under way when they ask is of no use to them. It is held up until they have all asked.
	const callers = 100
	begun, asked := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	held := sync.OnceFunc(func() {
		close(begun)
		<-asked
	})
	db.events.tail.step = func(name string) {
		if name == "read" {
			held()
		}
	}
	heads := make(chan error, callers)
	for n := range callers {
		all.Go(func() {
			_, err := db.events.Head(t.Context())
			heads <- err
		})
		if n == 0 {
			<-begun
		}
	}
	for {
		db.watch.mu.Lock()
		waiting := db.watch.next != nil && db.watch.next.callers == callers-1
		db.watch.mu.Unlock()
		if waiting {
			break
		}
		runtime.Gosched()
	}
	close(asked)
	all.Wait()
	close(heads)
	for err := range heads {
		if err != nil {
			t.Error(err)
		}
	}
	if n := count.n.Load() - before; n != 2 {
		t.Errorf("%d callers took %d statements, want 2", callers, n)
	}
}
