package postgres_test

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

var (
	seed    = flag.Uint64("seed", 0, "what the tests draw their moments from; 0 takes another one each time")
	lasting = flag.Duration("for", 8*time.Second, "how long TestNoEventIsSkipped writes")
)

// TestNoEventIsSkipped lets several processes append in every way, kills their connections, crashes and restarts the server meanwhile, and
// keeps a transaction of somebody else open until the crash. Readers with filters and batches of their own, most of them on a way where
// statements and answers are delayed, have to see every event that was committed, once and in order, and to be close behind. In a long run
// readers that make mistakes read as well.
func TestNoEventIsSkipped(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	h.leaveOpen()
	detour, delayed := newDetour(t, h.url, h.again)
	readers := h.readers(delayed)
	controls := h.controls(delayed)
	stop := h.startWriters(3, 6)
	h.trouble(*lasting, readers[:ofEverything])
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
	for _, c := range controls {
		c.end(last)
		c.compare(truth)
	}
	h.compareLag(truth)
	held, split := detour.held.Load(), detour.split.Load()
	t.Logf("on the way to the readers %d pieces were held up, and %d were split", held, split)
	if held < 100 || split < 100 {
		t.Error("that is too few")
	}
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

// leftOpen is what the connection is called of the transaction that is left open. It is not among those that are killed.
const leftOpen = "left open"

// leaveOpen begins a transaction that has written, and reads from the beginning on, and does not end.
func (h *hostile) leaveOpen() {
	h.Helper()
	conn, err := pgx.Connect(h.Context(), h.url)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = conn.Close(context.WithoutCancel(h.Context())) }) // the server has closed it
	for _, statement := range []string{
		"SET application_name = '" + leftOpen + "'",
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
	behind  []int64 // how far each of the readers of everything was behind
}

// trouble makes trouble for a while, and looks at the lag of readers.
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
		err := h.look(conn, readers)
		if err == nil && h.random.IntN(30) == 0 { // one of the connections, of whoever it is
			_, err = conn.Exec(h.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name <> $1 ORDER BY random() LIMIT 1`,
				leftOpen)
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

// look takes a sample of what can be seen, and how far readers have come after that.
func (h *hostile) look(conn *pgx.Conn, readers []*reader) error {
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
	for _, r := range readers {
		s.behind = append(s.behind, max(s.highest-r.reached(), 0))
	}
	h.samples = append(h.samples, s)
	return nil
}

// compareLag looks at how the lag was, and that gaps were there which were filled, and others which were not.
func (h *hostile) compareLag(truth []committed) {
	there := map[int64]bool{}
	for _, c := range truth {
		there[c.position] = true
	}
	filled, skipped := map[int64]bool{}, map[int64]bool{}
	for _, s := range h.samples {
		for _, p := range s.missing {
			if there[p] {
				filled[p] = true
			} else {
				skipped[p] = true
			}
		}
	}
	if len(filled) == 0 || len(skipped) == 0 {
		h.Fatalf("%d samples; of the gaps that were seen %d were filled and %d were not", len(h.samples), len(filled), len(skipped))
	}
	perSecond := int64(float64(len(truth)) / lasting.Seconds())
	h.Logf("%d events, %d a second; of the gaps that were seen %d were filled and %d were not", len(truth), perSecond, len(filled), len(skipped))
	for n, way := range [ofEverything]string{"a straight way", "the detour"} {
		var lags []int64
		for _, s := range h.samples {
			lags = append(lags, s.behind[n])
		}
		slices.Sort(lags)
		median, most := lags[len(lags)/2], lags[len(lags)-1]
		h.Logf("the reader of everything on %s was %d positions behind at the median, %d at the 95th percentile, %d at the most",
			way, median, lags[len(lags)*95/100], most)
		// An append that stays open for 300 ms holds back all that follow it, and there are several a second.
		if median > perSecond {
			h.Errorf("at the median it was %d positions behind, and %d are those of a second", median, perSecond)
		}
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
