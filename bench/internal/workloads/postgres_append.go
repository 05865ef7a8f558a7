package workloads

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

const (
	pgbench       = "pgbench"
	oneStatement  = "a single INSERT into the same tables on pgx, prepared, on as many connections as goroutines; nothing is checked"
	howPostgres   = "EventStore.Append of postgres.Open with its defaults"
	aboutDatabase = "Afterwards the database is read: every event is there once, in the order of its goroutine, with the versions of its " +
		"stream."
	emptyDatabase    = "eventsourcing, empty database"
	storedOnPostgres = 1000 // events in a database that is called empty
)

func postgresAppendByOne(m *models) measure.Workload {
	p := databasePlan{models: m, callers: 1}
	return measure.Workload{
		Name:  "postgres-append-1",
		Title: "PostgreSQL: append from one goroutine",
		About: "One goroutine appends single events to 16 streams, each to the version that it expects. " + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howPostgres},
			{Name: bareLoop, Open: p.bare, How: oneStatement},
			{Name: pgbench, Open: p.pgbench, Aside: true, How: howPgbench},
		},
		Floors: []measure.Floor{{Against: bareLoop, Ratio: 0.9, Why: "both wait for one commit; the goal is 0.95"}},
	}
}

func postgresAppend(m *models, callers int, floor float64, goal string) measure.Workload {
	p := databasePlan{models: m, callers: callers}
	return measure.Workload{
		Name:  fmt.Sprintf("postgres-append-%d", callers),
		Title: fmt.Sprintf("PostgreSQL: append from %d goroutines", callers),
		About: fmt.Sprintf("%d goroutines append single events, each to 16 streams of its own and to the version that it expects. ", callers) +
			aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howPostgres},
			{Name: bareLoop, Open: p.bare, How: oneStatement},
			{Name: pgbench, Open: p.pgbench, Aside: true, How: howPgbench},
		},
		Floors: []measure.Floor{
			{Against: bareLoop, Ratio: floor, Why: "appends that wait at the same moment travel together; the goal is " + goal},
		},
	}
}

func postgresAppendInTwo(m *models) measure.Workload {
	p := databasePlan{models: m, callers: 64}
	two := p
	two.handles = 2
	return measure.Workload{
		Name:  "postgres-append-64-two",
		Title: "PostgreSQL: append from 64 goroutines, half of them on a second handle",
		About: "64 goroutines append single events, each to 16 streams of its own and to the version that it expects. Two handles share " +
			"nothing, as those of two processes. " + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: two.ours, How: howPostgres + ", twice"},
			{Name: bareLoop, Open: p.bare, How: oneStatement},
		},
		Floors: []measure.Floor{{Against: bareLoop, Ratio: 1.5, Why: "each handle has half as many to send together"}},
	}
}

// postgresAppendStored compares a database that has many events with one that has none to speak of.
func postgresAppendStored(m *models, callers, stored int) measure.Workload {
	p := databasePlan{models: m, callers: callers, stored: stored, kind: allStreams}
	empty := databasePlan{models: m, callers: callers, kind: allStreams}
	return measure.Workload{
		Name:  fmt.Sprintf("postgres-append-%d-%s", callers, spelled(stored)),
		Title: fmt.Sprintf("PostgreSQL, %s stored events: append from %d goroutines, %s", spelled(stored), callers, brief(allStreams)),
		About: fmt.Sprintf("The database has %s events of 100,000 streams. %d goroutines append single events, each to its share of these "+
			"streams, one after the other, and to the version that it expects. ", spelled(stored), callers) + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howPostgres},
			{Name: bareLoop, Open: p.bare, How: oneStatement},
			{Name: emptyDatabase, Open: empty.ours, Aside: true, How: "the same appends to a database that begins with 1,000 events"},
		},
		Floors: []measure.Floor{{Against: bareLoop, Ratio: 1.5, Why: "both have the same indexes to write"}},
		Long:   stored > million,
	}
}

// databasePlan is who appends to what.
type databasePlan struct {
	models          *models
	callers, stored int // stored 0: an empty database
	handles         int // 0: one
	kind            callerStreams
}

func (p databasePlan) storing(s measure.Stage) storing {
	events := s.Stored(p.stored)
	if p.stored == 0 {
		events = min(storedOnPostgres, s.Million)
	}
	return newStoring(events, storedStreams)
}

func (p databasePlan) copied(ctx context.Context, s measure.Stage) (database, storing, error) {
	plan := p.storing(s)
	d, err := p.models.copied(ctx, s, plan)
	return d, plan, err
}

func (p databasePlan) ours(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, plan, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	ours, err := openOurDatabase(ctx, d, max(p.handles, 1))
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	return newAppending(ours, p.callers, plan, p.kind), nil
}

func (p databasePlan) bare(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, plan, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	bare, err := openBareDatabase(ctx, d, p.callers)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	return newAppending(bare, p.callers, plan, p.kind), nil
}

func (p databasePlan) pgbench(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, plan, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	return newBenching(ctx, d, p.callers, s.Dir, plan.events)
}

// ourDatabase is a database that the toolkit has open, once or several times.
type ourDatabase struct {
	onDatabase

	handles []*postgres.DB
	next    atomic.Int64
}

func openOurDatabase(ctx context.Context, d database, handles int) (*ourDatabase, error) {
	ours := &ourDatabase{onDatabase: onDatabase{d}}
	for range handles {
		db, err := postgres.Open(ctx, postgres.Config{URL: d.url()})
		if err != nil {
			_, closing := ours.close()
			return nil, errors.Join(err, closing)
		}
		ours.handles = append(ours.handles, db)
	}
	return ours, nil
}

func (d *ourDatabase) append(ctx context.Context, a es.Append) (es.Place, error) {
	db := d.handles[0]
	if len(d.handles) > 1 {
		db = d.handles[int(d.next.Add(1))%len(d.handles)]
	}
	done, err := db.Events().Append(ctx, a)
	if err != nil {
		return es.Place{}, err
	}
	return done.Places[0], nil
}

func (d *ourDatabase) read(ctx context.Context, stream string, limit int, see func(data []byte) error) error {
	for m, err := range d.handles[0].Events().Read(ctx, es.Query{Stream: stream, Limit: limit}) {
		if err != nil {
			return err
		}
		if err := see(m.Data); err != nil {
			return err
		}
	}
	return nil
}

func (d *ourDatabase) close() (string, error) {
	var errs []error
	for _, db := range d.handles {
		errs = append(errs, db.Close())
	}
	return d.name, errors.Join(errs...)
}
