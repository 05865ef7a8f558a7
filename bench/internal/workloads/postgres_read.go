package workloads

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

const (
	bareScan    = "bare scan"
	copyTo      = "COPY TO"
	howScan     = "one SELECT on pgx, each row scanned into a new struct with all columns, metadata as the text that it is stored as"
	howPgReads  = "EventStore.Read with postgres.Open's defaults"
	aboutPgRead = "Each comes once, in order, with its payload."
)

func postgresReadForward(m *models) measure.Workload {
	p := readDatabase{models: m, readPlan: readPlan{stored: million, perStream: million / storedStreams}}
	return measure.Workload{
		Name:  "postgres-read-forward",
		Title: "PostgreSQL: read all events forward",
		About: "A million events of 100,000 streams are stored. One goroutine reads them from the first one on. " + aboutPgRead,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howPgReads},
			{Name: bareScan, Open: p.bare((*bareDatabase).read), How: howScan},
			{
				Name: copyTo, Open: p.bare((*bareDatabase).copyOut), Aside: true,
				How: "COPY of the same columns in the binary format, of which nothing but the payload is looked at",
			},
		},
		Floors: []measure.Floor{{Against: bareScan, Ratio: 0.7, Why: "we decode metadata, and hold neither a connection nor a snapshot " +
			"while the caller works; the goal is 0.7 of COPY"}},
	}
}

func postgresReadStream(m *models) measure.Workload {
	p := readDatabase{models: m, readPlan: readPlan{stored: 100 * longStream, perStream: longStream, oneStream: true}}
	return measure.Workload{
		Name:  "postgres-read-stream",
		Title: "PostgreSQL: read a stream of 1,000 events",
		About: "100 streams of 1,000 events are stored, an event of each stream in turn, so that no two of a stream stand together. " +
			"One goroutine reads one stream after the other. " + aboutPgRead,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howPgReads},
			{Name: bareScan, Open: p.bare((*bareDatabase).read), How: howScan},
		},
		Floors: []measure.Floor{{Against: bareScan, Ratio: 0.7, Why: "the same by pages"}},
	}
}

// readDatabase is what is read of a database.
type readDatabase struct {
	readPlan

	models *models
}

func (p readDatabase) ours(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := p.storing(s)
	d, err := p.models.copied(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	ours, err := openOurDatabase(ctx, d, 1)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	return p.reading(plan, d, ours.read, ours.close), nil
}

func (p readDatabase) bare(read func(*bareDatabase, context.Context, string, int, func([]byte) error) error) openSetup {
	return func(ctx context.Context, s measure.Stage) (measure.Setup, error) {
		plan := p.storing(s)
		d, err := p.models.copied(ctx, s, plan)
		if err != nil {
			return nil, err
		}
		bare, err := openBareDatabase(ctx, d, 1)
		if err != nil {
			return nil, errors.Join(err, d.drop())
		}
		reads := func(ctx context.Context, stream string, limit int, see func(data []byte) error) error {
			return read(bare, ctx, stream, limit, see)
		}
		return p.reading(plan, d, reads, bare.close), nil
	}
}

func (p readDatabase) reading(plan storing, d database, read readFunc, closing func() (string, error)) *reading {
	return &reading{readPlan: p.readPlan, plan: plan, read: read, close: closing, discard: func(string) error { return d.drop() }}
}

// openSetup is [measure.Contender].Open.
type openSetup = func(ctx context.Context, s measure.Stage) (measure.Setup, error)

// readFunc reads the first events, of a stream or, when there is no name, of all, and shows their payloads.
type readFunc = func(ctx context.Context, stream string, limit int, see func(data []byte) error) error
