package workloads

import (
	"context"
	"errors"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// The other contenders of the workloads on files.
const (
	bareLoop    = "bare INSERT"
	bareCommits = "bare group commit"
	plainSchema = "plain schema"
	oursEmpty   = "eventsourcing, empty file"
)

// emptyEvents are in a file that is called empty: as many as it takes for the write-ahead log to have the size that it keeps.
const emptyEvents = 50_000

const howBare = "a table of the same columns without any index, WAL, synchronous=FULL, on the same driver; "

func sqliteAppendByOne() measure.Workload {
	p := appendPlan{callers: 1, kind: ownStreams}
	return measure.Workload{
		Name:  "sqlite-append-1",
		Title: "SQLite, synchronous=FULL: append from one goroutine",
		About: "One goroutine appends single events to 16 streams, each to the version that it expects. " + aboutAppends,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours(), How: "EventStore.Append of sqlite.Open with its defaults"},
			{Name: bareLoop, Open: p.bare, How: howBare + "BEGIN IMMEDIATE, one INSERT and COMMIT, prepared; nothing is checked"},
		},
		Floors: []measure.Floor{
			{Against: bareLoop, Ratio: 0.8, Why: "both wait for one sync; the goal is 0.95"},
		},
	}
}

const aboutAppends = "Afterwards the file is read: every event is there once, in the order of its goroutine, with the versions of its " +
	"stream. We check the expectation and every ID besides, and can find the event by its stream, category, name and tags."

func sqliteAppend(callers int) measure.Workload {
	p := appendPlan{callers: callers, kind: ownStreams}
	return measure.Workload{
		Name:  fmt.Sprintf("sqlite-append-%d", callers),
		Title: fmt.Sprintf("SQLite, synchronous=FULL: append from %d goroutines", callers),
		About: fmt.Sprintf("%d goroutines append single events, each to 16 streams of its own and to the version that it expects. ", callers) +
			aboutAppends,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours(), How: "EventStore.Append of sqlite.Open with its defaults"},
			{Name: bareCommits, Open: p.bareGroup, How: howBare + howGroup},
			{Name: plainSchema, Open: p.plain, Aside: true, How: howPlain},
		},
		Floors: []measure.Floor{
			{Against: bareCommits, Ratio: 0.7, Why: "which finds nothing again but by position, and checks nothing; the goal is 0.8"},
		},
	}
}

const (
	howGroup = "a goroutine that commits all inserts that wait in one transaction, and answers each by a channel; nothing is checked"
	howPlain = "the bare group commit with UNIQUE (stream, version) and UNIQUE (id), and a look at the stream's version before each insert"
)

// sqliteAppendStored compares a file that has many events with one that has none to speak of.
func sqliteAppendStored(callers, stored int, kind callerStreams) measure.Workload {
	p := appendPlan{callers: callers, stored: stored, kind: kind}
	empty := appendPlan{callers: callers, kind: kind}
	name, to := "", "each to its share of these streams, one after the other, and to the version that it expects"
	if kind == newStreams {
		name, to = "-new", "each of which begins a stream"
	}
	w := measure.Workload{
		Name:  fmt.Sprintf("sqlite-append-%d-%s%s", callers, spelled(stored), name),
		Title: fmt.Sprintf("SQLite, synchronous=FULL, %s stored events: append from %d goroutines, %s", spelled(stored), callers, brief(kind)),
		About: fmt.Sprintf("The file has %s events of 100,000 streams. %d goroutines append single events, %s. ",
			spelled(stored), callers, to) + aboutAppends,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.ours(), How: "EventStore.Append of sqlite.Open with its defaults"},
			{Name: oursEmpty, Open: empty.ours(), How: "the same appends to a file that begins with 50,000 events"},
		},
		Floors: []measure.Floor{
			{Against: oursEmpty, Ratio: 0.8, Why: "an append costs the same however many events there are; the goal is 0.9"},
		},
		Long: stored > million,
	}
	if !w.Long { // it would take a plain schema a quarter of an hour to get there
		w.Contenders = append(w.Contenders,
			measure.Contender{Name: bareCommits, Open: p.bareGroup, Aside: true, How: howBare + howGroup},
			measure.Contender{Name: plainSchema, Open: p.plain, Aside: true, How: howPlain + "; the goal is 4 times its rate"})
	}
	return w
}

func spelled(stored int) string {
	if stored > million {
		return "ten-million"
	}
	return "million"
}

func brief(kind callerStreams) string {
	if kind == newStreams {
		return "each to a new stream"
	}
	return "to any of 100,000 streams"
}

// appendPlan is who appends to what.
type appendPlan struct {
	callers, stored int // stored 0: an empty file
	kind            callerStreams
}

func (p appendPlan) storing(s measure.Stage) storing {
	events := s.Stored(p.stored)
	if p.stored == 0 {
		events = min(emptyEvents, s.Million)
	}
	return newStoring(events, storedStreams)
}

// ours appends to a file of ours.
func (p appendPlan) ours() func(context.Context, measure.Stage) (measure.Setup, error) {
	return func(ctx context.Context, s measure.Stage) (measure.Setup, error) {
		plan := p.storing(s)
		f, err := filledOurs(ctx, s, plan)
		if err != nil {
			return nil, err
		}
		return newAppending(f, p.callers, plan, p.kind), nil
	}
}

func (p appendPlan) bare(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := p.storing(s)
	f, err := filledBare(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	return newAppending(f, p.callers, plan, p.kind), nil
}

func (p appendPlan) bareGroup(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := p.storing(s)
	f, err := filledBare(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	return newAppending(newBareGroup(f, nil), p.callers, plan, p.kind), nil
}

func (p appendPlan) plain(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := p.storing(s)
	f, err := filledBare(ctx, s, plan, indexStreams, indexIDs)
	if err != nil {
		return nil, err
	}
	version, err := f.conn.Prepare("SELECT max(version) FROM es_events_1 WHERE stream = ?")
	if err != nil {
		return nil, errors.Join(err, f.conn.Close())
	}
	return newAppending(newBareGroup(f, version), p.callers, plan, p.kind), nil
}
