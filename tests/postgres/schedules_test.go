package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// patience is how long a test waits for what must happen.
const patience = time.Minute

// TestSchedules lets transactions draw positions and commit in orders that each way to read but one misses an event in.
func TestSchedules(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		schedule func(s *stage)
		misses   []string // the ways that miss an event
		where    func(t *testing.T, s *stage)
	}{
		"the second commits first":         {outOfOrder, []string{"naive"}, aDatabase},
		"the first to write draws last":    {drawnAgainstTheOrderOfIDs, []string{"naive", "filtered"}, aServer},
		"the middle of a gap shows up":     {middleFirst, []string{"naive", "eager"}, aDatabase},
		"the server restarts":              {restarted, []string{"silent"}, aServer},
		"all of a gap is rolled back":      {rolledBack, nil, aDatabase},
		"a prepared transaction goes last": {preparedLast, []string{"naive"}, aDatabase},
	} {
		for way, open := range map[string]func(context.Context, string) (feed, error){
			"toolkit": openToolkit, "naive": openNaive, "filtered": openFiltered, "eager": openEager, "silent": openSilent,
		} {
			if way != "toolkit" && !slices.Contains(test.misses, way) {
				continue // it may do well here, or wait for something else
			}
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, test.where, open)
				test.schedule(s)
				if missed := s.missed(); (len(missed) > 0) != (way != "toolkit") {
					t.Errorf("it misses %v", missed)
				}
			})
		}
	}
}

// stage is a database and a reader.
type stage struct {
	*testing.T

	server *pgserver.Server // nil: others use it as well
	url    string
	feed   feed
	seen   []int64
	actors int
}

// aDatabase is one of a server that others use as well.
func aDatabase(t *testing.T, s *stage) {
	t.Helper()
	s.url = pgserver.Database(t)
}

// aServer has no other users, whose transactions would hold back those who go by the IDs of transactions.
func aServer(t *testing.T, s *stage) {
	t.Helper()
	s.server = pgserver.ForTest(t, pgserver.Config{NoSync: true})
	name, err := s.server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.url = s.server.URL(name)
}

func newStage(t *testing.T, where func(*testing.T, *stage), open func(context.Context, string) (feed, error)) *stage {
	t.Helper()
	s := &stage{T: t}
	where(t, s)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if s.feed, err = open(t.Context(), s.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.feed.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// look lets the reader look several times.
func (s *stage) look() {
	s.Helper()
	for range 5 {
		positions, err := s.feed.more(s.Context())
		if err != nil && !errors.Is(err, postgres.ErrUnavailable) { // the server may have been restarted
			s.Fatalf("read: %v", err)
		}
		s.seen = append(s.seen, positions...)
	}
}

// missed lets the reader read to the end, and returns the positions that it has not seen.
func (s *stage) missed() []int64 {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(s.Context()))
	all, err := column(s.Context(), conn, "SELECT position FROM eventsourcing.events_1 ORDER BY position")
	if err != nil {
		s.Fatal(err)
	}
	last := all[len(all)-1]
	for deadline := time.Now().Add(patience); !slices.Contains(s.seen, last) && time.Now().Before(deadline); {
		s.look()
	}
	if !slices.IsSorted(s.seen) || len(slices.Compact(slices.Clone(s.seen))) != len(s.seen) {
		s.Errorf("it has seen %v", s.seen)
	}
	return slices.DeleteFunc(all, func(p int64) bool { return slices.Contains(s.seen, p) })
}

// actor is a transaction.
type actor struct {
	*stage

	conn    *pgx.Conn
	stream  string
	version int
}

// begin begins a transaction.
func (s *stage) begin() *actor {
	s.Helper()
	conn, err := pgx.Connect(s.Context(), s.url)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.Context())) }) // the server may have closed it
	s.actors++
	a := &actor{stage: s, conn: conn, stream: fmt.Sprintf("order-%d", s.actors)}
	a.do("BEGIN")
	return a
}

func (a *actor) do(statement string, arguments ...any) {
	a.Helper()
	if _, err := a.conn.Exec(a.Context(), statement, arguments...); err != nil {
		a.Fatalf("%s: %v", statement, err)
	}
}

// writeElsewhere gives the transaction an ID.
func (a *actor) writeElsewhere() { a.do("CREATE TEMPORARY TABLE elsewhere (n integer) ON COMMIT DROP") }

// draw draws a position for an event, and inserts it.
func (a *actor) draw() {
	a.Helper()
	a.version++
	a.do(insertion, a.version, es.NewID(), a.stream, "order", "OrderPlaced", []string{})
}

func (a *actor) commit() { a.do("COMMIT") }

// insertion inserts an event.
const insertion = `INSERT INTO eventsourcing.events_1 (position, version, id, stream, category, name, schema, time, recorded, tags)
	VALUES (nextval('eventsourcing.positions_1'), $1, $2, $3, $4, $5, 1, 1, 1, nullif($6::text[], '{}'))`

func outOfOrder(s *stage) {
	a, b := s.begin(), s.begin()
	a.draw()
	b.draw()
	b.commit()
	s.look()
	a.commit()
}

// The ID of the transaction that draws first is larger than that of the one that draws second.
func drawnAgainstTheOrderOfIDs(s *stage) {
	a, b := s.begin(), s.begin()
	a.writeElsewhere()
	b.writeElsewhere()
	b.draw()
	a.draw()
	a.commit()
	s.look()
	b.commit()
}

func middleFirst(s *stage) {
	a, b, c := s.begin(), s.begin(), s.begin()
	for _, x := range []*actor{a, b, c} {
		x.draw()
	}
	last := s.begin()
	last.draw()
	last.commit()
	s.look()
	b.commit()
	s.look()
	a.commit()
	c.commit()
}

func restarted(s *stage) {
	a, b := s.begin(), s.begin()
	a.draw()
	a.do("PREPARE TRANSACTION 'first'")
	b.draw()
	b.commit()
	s.look()
	if err := s.server.Restart(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.look()
	c := s.begin()
	c.do("ROLLBACK")
	c.do("COMMIT PREPARED 'first'")
}

func rolledBack(s *stage) {
	a, b, c := s.begin(), s.begin(), s.begin()
	a.draw()
	a.do("SAVEPOINT before")
	a.draw()
	b.draw()
	c.draw()
	c.commit()
	s.look()
	a.do("ROLLBACK TO before")
	a.version--
	b.do("ROLLBACK")
	s.look()
	a.commit()
}

func preparedLast(s *stage) {
	name := es.NewID().String() // others on the server prepare theirs meanwhile
	a, b := s.begin(), s.begin()
	a.draw()
	b.draw()
	a.do("PREPARE TRANSACTION '" + name + "'")
	b.commit()
	s.look()
	a.do("COMMIT PREPARED '" + name + "'")
}
