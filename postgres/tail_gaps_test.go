package postgres_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestManyGapsThatFillAtOnceAreRead lets one transaction fill more gaps than a look looks into, between the events of another one that was
// committed before.
func TestManyGapsThatFillAtOnceAreRead(t *testing.T) {
	t.Parallel()
	const gaps = 700
	ctx, url := t.Context(), pgserver.Database(t)
	db := openDB(t, postgres.Config{URL: url})
	read := func() (events int) { // those that are settled, of which none is left out
		t.Helper()
		for m, err := range db.Events().Read(ctx, es.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			if events++; m.Position != int64(events) {
				t.Fatalf("the event at position %d comes as the %d. one", m.Position, events)
			}
		}
		return events
	}
	read() // somebody wants events: the end of the log is kept in memory from now on
	slow, fast := beginDrawing(t, url, "slow"), beginDrawing(t, url, "fast")
	for n := range gaps {
		slow.draw(n)
		fast.draw(n)
	}
	fast.end("COMMIT")
	if events := read(); events != 0 {
		t.Fatalf("%d events are read that stand behind open ones", events)
	}
	slow.end("COMMIT")
	for events := 0; events != 2*gaps; { // it is settled in steps
		events = read()
	}
}

// drawing is a transaction that appends by hand.
type drawing struct {
	testing.TB
	*pgx.Conn

	stream string
}

func beginDrawing(t testing.TB, url, stream string) *drawing {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	d := &drawing{t, conn, stream}
	d.end("BEGIN")
	return d
}

func (d *drawing) draw(n int) {
	d.Helper()
	_, err := d.Exec(d.Context(), "INSERT INTO eventsourcing.events_1 (position, version, id, stream, category, name, schema, time, recorded) "+
		"VALUES (nextval('eventsourcing.positions_1'), 1, $1, $2, 'drawn', 'Drawn', 1, 1, 1)", es.NewID(), fmt.Sprintf("drawn-%s_%d", d.stream, n))
	if err != nil {
		d.Fatal(err)
	}
}

func (d *drawing) end(statement string) {
	d.Helper()
	if _, err := d.Exec(d.Context(), statement); err != nil {
		d.Fatal(err)
	}
}
