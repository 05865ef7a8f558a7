package workloads

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/postgres"
)

const sideBySide = "eventsourcing, side by side"

func postgresOutboxByOne(m *models) measure.Workload {
	p := outboxDatabase{databasePlan: databasePlan{models: m, callers: 1}, manner: inOneUpdate}
	alone := p
	alone.manner = nothing
	return measure.Workload{
		Name:  "postgres-outbox-1",
		Title: "PostgreSQL: append with an outbox entry from one goroutine, in one transaction",
		About: "Each time one goroutine " + aboutEntries + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.open, How: "DB.InTx with Append and Enqueue"},
			{Name: appendAlone, Open: alone.open, How: howAlone},
		},
		Floors: []measure.Floor{
			{Against: appendAlone, Ratio: 0.6, Why: "one statement more in the same round trip; 0.85 is aimed at"},
		},
	}
}

func postgresOutboxBy64(m *models) measure.Workload {
	p := outboxDatabase{databasePlan: databasePlan{models: m, callers: 64}, manner: inOneUpdate}
	alone, two := p, p
	alone.manner, two.manner = nothing, beside
	return measure.Workload{
		Name:  "postgres-outbox-64",
		Title: "PostgreSQL: append with an outbox entry from 64 goroutines, in one transaction",
		About: "Each of 64 goroutines " + aboutEntries + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.open, How: "DB.InTx with Append and Enqueue"},
			{Name: appendAlone, Open: alone.open, How: howAlone},
			{Name: sideBySide, Open: two.open, Aside: true, How: "Append and Enqueue called at the same time, and not all or nothing"},
		},
		Floors: []measure.Floor{
			{Against: appendAlone, Ratio: 0.5, Why: "an entry has as many rows and keys to write as an event; 0.85 is aimed at"},
		},
	}
}

// outboxDatabase is how many goroutines append, and how each has an entry enqueued with it.
type outboxDatabase struct {
	databasePlan

	manner entryManner
}

func (p outboxDatabase) open(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	d, plan, err := p.copied(ctx, s)
	if err != nil {
		return nil, err
	}
	ours, err := openOurDatabase(ctx, d, 1)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	e := &enqueuing{outbox: ours.handles[0].Outbox(), manner: p.manner}
	e.appending = newAppending(&entryDatabase{ourDatabase: ours, manner: p.manner}, p.callers, plan, ownStreams)
	return e, nil
}

// entryDatabase enqueues a message with each append.
type entryDatabase struct {
	*ourDatabase

	manner entryManner
}

func (d *entryDatabase) append(ctx context.Context, a es.Append) (es.Place, error) {
	if d.manner == nothing {
		return d.ourDatabase.append(ctx, a)
	}
	entry := *a.Streams[0].Events[0]
	entry.ID[15] ^= 0xff
	db := d.handles[0]
	if d.manner == beside {
		enqueued := make(chan error, 1)
		go func() { enqueued <- db.Outbox().Enqueue(ctx, &entry) }()
		place, err := d.ourDatabase.append(ctx, a)
		return place, errors.Join(err, <-enqueued)
	}
	var done *es.Outcome
	err := db.InTx(ctx, pgx.TxOptions{}, func(tx *postgres.Tx) error {
		done = tx.Append(a)
		return tx.Enqueue(&entry)
	})
	if err != nil {
		return es.Place{}, err
	}
	return done.Places[0], nil
}
