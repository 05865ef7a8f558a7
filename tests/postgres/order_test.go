package postgres_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

var (
	seed    = flag.Uint64("seed", 0, "what the tests draw their moments from; 0 takes another one each time")
	lasting = flag.Duration("for", 8*time.Second, "how long TestNoEventIsSkipped writes")
)

// TestNoEventIsSkipped lets several processes append in every way, kills their connections, crashes and restarts the server meanwhile, and
// keeps a transaction of somebody else open all the time. Readers with filters and batches of their own have to see every event that was
// committed, once and in order, and to be close behind.
func TestNoEventIsSkipped(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.leaveOpen()
	readers := h.readers()
	stop := h.startWriters(3, 6)
	h.trouble(*lasting, readers)
	stop()
	truth := h.truth()
	if len(truth) < 100 {
		t.Fatalf("only %d events were committed", len(truth))
	}
	last := truth[len(truth)-1].position
	for _, r := range readers {
		r.end(last)
		r.compare(truth)
	}
	h.compareLag(truth)
}

// hostile is a server that a lot happens to.
type hostile struct {
	*testing.T

	server *pgserver.Server
	url    string
	random *rand.Rand
	again  uint64

	samples []sample
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	t.Logf("to draw the same moments: go test ./tests/postgres -run %s -for %v -seed %d", t.Name(), *lasting, from)
	h := &hostile{T: t, server: pgserver.ForTest(t, pgserver.Config{NoSync: true}), random: rand.New(rand.NewPCG(from, 0)), again: from}
	name, err := h.server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.url = h.server.URL(name)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: h.url})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h.exec("CREATE TABLE elsewhere (n integer)")
	return h
}

func (h *hostile) exec(statement string) {
	h.Helper()
	conn, err := pgx.Connect(h.Context(), h.url)
	if err != nil {
		h.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(h.Context()))
	if _, err := conn.Exec(h.Context(), statement); err != nil {
		h.Fatal(err)
	}
}

// leaveOpen begins a transaction that has written, and reads from the beginning on, and does not end.
func (h *hostile) leaveOpen() {
	h.Helper()
	conn, err := pgx.Connect(h.Context(), h.url)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = conn.Close(context.WithoutCancel(h.Context())) }) // the server has closed it
	for _, statement := range []string{
		"BEGIN ISOLATION LEVEL REPEATABLE READ", "INSERT INTO elsewhere VALUES (0)", "SELECT count(*) FROM eventsourcing.events_1",
	} {
		if _, err := conn.Exec(h.Context(), statement); err != nil {
			h.Fatal(err)
		}
	}
}

func (h *hostile) startWriters(processes, writers int) (stop func()) {
	h.Helper()
	var stops []func()
	for p := range processes {
		w := writing{URL: h.url, Process: p, Writers: writers, Seed: h.again + uint64(p)}
		stops = append(stops, startWriters(h.T, w))
	}
	stop = func() {
		for _, stop := range stops {
			stop()
		}
	}
	h.Cleanup(stop)
	return stop
}

// sample is what could be seen at a moment.
type sample struct {
	highest int64   // position that was visible
	missing []int64 // some positions below it that were not
	behind  int64   // how far the reader of everything was behind
}

// trouble makes trouble for a while, and looks at the lag of the readers.
func (h *hostile) trouble(during time.Duration, readers []*reader) {
	h.Helper()
	end := time.Now().Add(during)
	crash, restart := during/3, 2*during/3
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(h.Context())) // the server may have closed it
		}
	}()
	for began := time.Now(); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		since := time.Since(began)
		switch {
		case since > crash:
			crash = during * 2
			h.must(h.server.Kill())
			h.must(h.server.Restart(h.Context()))
		case since > restart:
			restart = during * 2
			h.must(h.server.Restart(h.Context()))
		}
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(h.Context(), h.url); err != nil {
				h.Fatal(err)
			}
		}
		err := h.look(conn, readers[0])
		if err == nil && h.random.IntN(30) == 0 { // one of the connections, of whoever it is
			_, err = conn.Exec(h.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY random() LIMIT 1`)
		}
		if err != nil && !lost(err) {
			h.Fatal(err)
		}
	}
}

func (h *hostile) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// look takes a sample of what can be seen, and how far a reader has come after that.
func (h *hostile) look(conn *pgx.Conn, r *reader) error {
	var s sample
	positions, err := column(h.Context(), conn, "SELECT position FROM eventsourcing.events_1 ORDER BY position DESC LIMIT 200")
	if err != nil || len(positions) == 0 {
		return err
	}
	s.highest = positions[0]
	for i := 1; i < len(positions); i++ {
		for p := positions[i] + 1; p < positions[i-1]; p++ {
			s.missing = append(s.missing, p)
		}
	}
	s.behind = max(s.highest-r.reached(), 0)
	h.samples = append(h.samples, s)
	return nil
}

// compareLag looks at how the lag was, and that gaps were there which were filled, and others which were not.
func (h *hostile) compareLag(truth []committed) {
	there := map[int64]bool{}
	for _, c := range truth {
		there[c.position] = true
	}
	var lags []int64
	filled, skipped := map[int64]bool{}, map[int64]bool{}
	for _, s := range h.samples {
		lags = append(lags, s.behind)
		for _, p := range s.missing {
			if there[p] {
				filled[p] = true
			} else {
				skipped[p] = true
			}
		}
	}
	slices.Sort(lags)
	if len(lags) == 0 || len(filled) == 0 || len(skipped) == 0 {
		h.Fatalf("%d samples; of the gaps that were seen %d were filled and %d were not", len(lags), len(filled), len(skipped))
	}
	perSecond := float64(len(truth)) / lasting.Seconds()
	median, most := lags[len(lags)/2], lags[len(lags)-1]
	h.Logf("%d events, %.0f a second; the reader of everything was %d positions behind at the median, %d at the 95th percentile, %d at the "+
		"most; of the gaps that were seen %d were filled and %d were not", len(truth), perSecond, median, lags[len(lags)*95/100], most, len(filled),
		len(skipped))
	// An append that stays open for 300 ms holds back all that follow it, and there are several a second.
	if bound := int64(perSecond); median > bound {
		h.Errorf("at the median the reader was %d positions behind; at %.0f events a second %d are a second", median, perSecond, bound)
	}
}

// committed is an event that was committed.
type committed struct {
	position, version      int64
	stream, category, name string
	tags                   []string
}

func (h *hostile) truth() []committed {
	h.Helper()
	conn, err := pgx.Connect(h.Context(), h.url)
	h.must(err)
	defer conn.Close(context.WithoutCancel(h.Context()))
	rows, err := conn.Query(h.Context(), "SELECT position, version, stream, category, name, tags FROM eventsourcing.events_1 ORDER BY position")
	h.must(err)
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c committed, err error) {
		return c, row.Scan(&c.position, &c.version, &c.stream, &c.category, &c.name, &c.tags)
	})
	h.must(err)
	return all
}

// reader is a reader of the global order that keeps a checkpoint.
type reader struct {
	*hostile

	db    *postgres.DB
	query es.Query
	pause time.Duration // between the steps

	stop  context.CancelFunc
	ended chan struct{}
	err   error

	mu       sync.Mutex
	at       es.Checkpoint
	advanced chan struct{}
	seen     []place
	failures int // calls that found no server
}

type place struct {
	position, version int64
	stream            string
}

// readers starts readers, the first of which reads everything.
func (h *hostile) readers() []*reader {
	h.Helper()
	shared := h.open(h.url)
	slow := h.open(h.url)
	var readers []*reader
	for _, r := range []*reader{
		{db: shared},
		{db: shared, query: es.Query{Limit: 1}},
		{db: shared, query: es.Query{Category: "cat1"}},
		{db: shared, query: es.Query{Names: []string{"Name1", "Name3"}, Limit: 7}},
		{db: slow, query: es.Query{Tags: []string{"tag:2"}}, pause: 30 * time.Millisecond},
		{db: slow, query: es.Query{Any: []es.Criterion{{Tags: []string{"tag:1"}}, {Names: []string{"Name0"}}}, Limit: 20}},
		{db: slow, query: es.Query{Limit: 1000}, pause: 100 * time.Millisecond},
	} {
		ctx, stop := context.WithCancel(context.WithoutCancel(h.Context()))
		r.hostile, r.stop, r.ended, r.advanced = h, stop, make(chan struct{}), make(chan struct{})
		go func() {
			defer close(r.ended)
			r.err = r.run(ctx)
		}()
		h.Cleanup(func() {
			stop()
			<-r.ended
		})
		readers = append(readers, r)
	}
	return readers
}

func (h *hostile) open(url string) *postgres.DB {
	h.Helper()
	db, err := postgres.Open(h.Context(), postgres.Config{URL: url})
	h.must(err)
	h.Cleanup(func() {
		if err := db.Close(); err != nil {
			h.Errorf("close: %v", err)
		}
	})
	return db
}

func (r *reader) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.step(ctx)
		switch {
		case errors.Is(err, postgres.ErrUnavailable):
			r.failures++
			<-time.After(5 * time.Millisecond)
		case err != nil && ctx.Err() == nil:
			return err
		}
		if r.pause > 0 {
			<-time.After(r.pause)
		}
	}
	return nil
}

// step waits for what is new and reads some of it.
func (r *reader) step(ctx context.Context) error {
	head, err := r.db.Events().Wait(ctx, r.at)
	if err != nil {
		return err
	}
	q := r.query.Resume(r.at)
	q.UpTo = head.Position
	var seen []place
	for m, err := range r.db.Events().Read(ctx, q) {
		if err != nil {
			return err // what came of it comes again
		}
		seen = append(seen, place{m.Position, m.Version, m.Stream})
	}
	if r.query.Limit > 0 && len(seen) == r.query.Limit {
		head.Position = seen[len(seen)-1].position
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, seen...)
	r.at = head
	close(r.advanced)
	r.advanced = make(chan struct{})
	return nil
}

func (r *reader) reached() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at.Position
}

// end waits until the reader has come to a position, and ends it.
func (r *reader) end(last int64) {
	r.Helper()
	defer func() {
		r.stop()
		<-r.ended
		if r.err != nil {
			r.Errorf("reader of %+v: %v", r.query, r.err)
		}
	}()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		at, advanced := r.at.Position, r.advanced
		r.mu.Unlock()
		if at >= last {
			return
		}
		select {
		case <-advanced:
		case <-r.ended:
			return
		case <-deadline:
			r.Errorf("reader of %+v has come to %d, and the last event is %d", r.query, at, last)
			return
		}
	}
}

// compare fails the test unless the reader has seen what it was to see.
func (r *reader) compare(truth []committed) {
	r.Helper()
	var want []place
	for _, c := range truth {
		if r.query.Matches(&es.Message{Stream: c.stream, Name: c.name, Tags: c.tags}) {
			want = append(want, place{c.position, c.version, c.stream})
		}
	}
	if slices.Equal(r.seen, want) {
		return
	}
	i := 0
	for i < min(len(want), len(r.seen)) && want[i] == r.seen[i] {
		i++
	}
	around := func(all []place) string { return fmt.Sprint(all[max(i-2, 0):min(i+4, len(all))]) }
	r.Errorf("reader of %+v has seen %d events where %d were committed; from the %d. on %s where there are %s", r.query, len(r.seen), len(want), i,
		around(r.seen), around(want))
}
