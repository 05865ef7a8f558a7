package workloads

import (
	"context"
	"errors"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

const (
	bareSelect   = "bare SELECT"
	bareDecoded  = "bare SELECT, decoded"
	longStream   = 1000 // events of a stream that is read
	howRow       = "every column is copied into a new struct, metadata as the text that it is stored as"
	howDecoded   = "the same, with metadata decoded by encoding/json"
	howOursReads = "EventStore.Read with sqlite.Open's defaults"
)

func sqliteReadForward() measure.Workload {
	p := readPlan{stored: million, perStream: million / storedStreams}
	return measure.Workload{
		Name:  "sqlite-read-forward",
		Title: "SQLite: read all events forward",
		About: "A million events of 100,000 streams are stored. One goroutine reads them from the first one on. " +
			"Each comes once, in order, with its payload.",
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howOursReads},
			{Name: bareSelect, Open: p.bare(asStored), How: "SELECT ... ORDER BY position, stepped through in one snapshot; " + howRow},
			{Name: bareDecoded, Open: p.bare(decoded), Aside: true, How: howDecoded},
		},
		Floors: []measure.Floor{
			{Against: bareSelect, Ratio: 0.7, Why: "we decode metadata, and hold no snapshot while the caller works; the goal is 0.9"},
		},
	}
}

func sqliteReadStream() measure.Workload {
	p := readPlan{stored: 100 * longStream, perStream: longStream, oneStream: true}
	return measure.Workload{
		Name:  "sqlite-read-stream",
		Title: "SQLite: read a stream of 1,000 events",
		About: "100 streams of 1,000 events are stored, an event of each stream in turn, so that no two of a stream stand together. " +
			"One goroutine reads one stream after the other. Each event comes once, in order, with its payload.",
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours, How: howOursReads},
			{Name: bareSelect, Open: p.bare(asStored), How: "SELECT ... WHERE stream = ? ORDER BY version, by an index; " + howRow},
			{Name: bareDecoded, Open: p.bare(decoded), Aside: true, How: howDecoded},
		},
		Floors: []measure.Floor{
			{Against: bareSelect, Ratio: 0.7, Why: "it has an index that we do not pay for with each append; the goal is 0.9"},
		},
	}
}

// readPlan is what is read.
type readPlan struct {
	stored, perStream int
	oneStream         bool // one stream after the other, and not everything
}

func (p readPlan) storing(s measure.Stage) storing {
	events := s.Stored(p.stored)
	if p.oneStream {
		return newStoring(events, max(events/p.perStream, 1))
	}
	return newStoring(events, storedStreams)
}

func (p readPlan) ours(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := p.storing(s)
	f, err := filledOurs(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	return &reading{readPlan: p, plan: plan, read: f.read, close: f.close, discard: discard}, nil
}

func (p readPlan) bare(how bareReading) func(context.Context, measure.Stage) (measure.Setup, error) {
	return func(ctx context.Context, s measure.Stage) (measure.Setup, error) {
		plan := p.storing(s)
		var indexes []string
		if p.oneStream {
			indexes = []string{indexStreams}
		}
		f, err := filledBare(ctx, s, plan, indexes...)
		if err != nil {
			return nil, err
		}
		r, err := newBareReader(f, how)
		if err != nil {
			return nil, errors.Join(err, f.conn.Close())
		}
		return &reading{readPlan: p, plan: plan, read: r.read, close: f.close, discard: discard}, nil
	}
}

// read reads the first events, of a stream or of all.
func (f *ourFile) read(ctx context.Context, stream string, limit int, see func(data []byte) error) error {
	for m, err := range f.db.Events().Read(ctx, es.Query{Stream: stream, Limit: limit}) {
		if err != nil {
			return err
		}
		if err := see(m.Data); err != nil {
			return err
		}
	}
	return nil
}

// reading is a file that is read, round by round.
type reading struct {
	readPlan

	plan storing
	// read reads the first events, of a stream or, when there is no name, of all, and shows their payloads.
	read    func(ctx context.Context, stream string, limit int, see func(data []byte) error) error
	close   func() (path string, err error)
	discard func(path string) error
	next    int // the stream to read
}

// pass is a part of a round: the first events of a stream, or of all.
type pass struct {
	stream        string
	first, stride uint64 // number of the first event, and how far the next is
	events        int
	ledger        *measure.Ledger
}

// Run reads n events, in several passes when there are fewer in a stream or in the file.
func (r *reading) Run(ctx context.Context, n int) (measure.Result, error) {
	passes := r.passes(n)
	var watch measure.Stopwatch
	watch.Start()
	for _, p := range passes {
		err := r.read(ctx, p.stream, p.events, func(data []byte) error {
			number, err := stampedNumber(data)
			if err != nil {
				return err
			}
			p.ledger.Take((number - p.first) / p.stride)
			return nil
		})
		if err != nil {
			return measure.Result{}, err
		}
	}
	watch.Stop()
	var faults measure.Faults
	for _, p := range passes {
		faults = faults.Plus(p.ledger.Close())
	}
	return watch.Result(faults), nil
}

func (r *reading) passes(n int) []pass {
	var passes []pass
	for n > 0 {
		p := pass{stride: 1, events: r.plan.events}
		if r.oneStream {
			stream := r.next % r.plan.streams
			r.next++
			p.stream, p.events = streamName(uint64(stream)), int(r.plan.version(stream)) //nolint:gosec // counts
			p.first, p.stride = uint64(stream), uint64(r.plan.streams)                   //nolint:gosec // counts
		}
		p.events = min(p.events, n)
		p.ledger = measure.NewLedger(p.events, 1)
		passes = append(passes, p)
		n -= p.events
	}
	return passes
}

// Close closes the file.
func (r *reading) Close() error {
	path, err := r.close()
	return errors.Join(err, r.discard(path))
}
