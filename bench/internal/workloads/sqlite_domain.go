package workloads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

const (
	oneByOne      = "a transaction for each event"
	fromEvents    = "eventsourcing, without a snapshot"
	appendedAlone = "EventStore.Append"
	noCache       = "eventsourcing, without the cache"
	counters      = 1000   // documents that events are counted in
	longAggregate = 10_000 // events
)

// sqliteProject compares a projection with the obvious loop.
func sqliteProject() measure.Workload {
	p := readPlan{stored: million, perStream: million / storedStreams}
	return measure.Workload{
		Name:  "sqlite-project",
		Title: "SQLite: count events in 1,000 documents",
		About: "A million events are stored. The first of them, as many as there is time for, are counted in 1,000 documents, each with the " +
			"checkpoint in one commit. Every event is counted once.",
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.projected, How: "projection.New with its defaults"},
			{
				Name: oneByOne, Open: p.countedOneByOne,
				How: "each event is read, its document is loaded, changed and committed with the checkpoint",
			},
		},
		Floors: []measure.Floor{{Against: oneByOne, Ratio: 10, Why: "a thousand events share a commit, and a document is written once in it"}},
	}
}

// counter is a document that counts.
type counter struct {
	Events int `json:"events"`
}

func counterOf(m *es.Message) string { return "counter-" + strconv.FormatInt(m.Position%counters, 10) }

// countingFile is a file whose events are counted, each round in a model of its own.
type countingFile struct {
	*ourFile

	rounds int
	// count counts the first n events in a model of this name.
	count func(ctx context.Context, model string, n int64) error
}

func (p readPlan) projected(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	f, err := filledOurs(ctx, s, p.storing(s))
	if err != nil {
		return nil, err
	}
	return &countingFile{ourFile: f, count: func(ctx context.Context, model string, n int64) error {
		documents := projection.NewDocuments[counter](model)
		p, err := projection.New(
			projection.Config{Name: model, Events: first{f.db.Events(), n}, Models: f.db.ReadModels()},
			projection.OnMessage("", func(ctx context.Context, b *projection.Batch, m *es.Message) error {
				return documents.In(b).Update(ctx, counterOf(m), func(c *counter) error {
					c.Events++
					return nil
				})
			}))
		if err != nil {
			return err
		}
		if err := p.Start(ctx); err != nil {
			return err
		}
		return errors.Join(p.WaitFor(ctx, es.Checkpoint{Position: n}), p.Stop(ctx))
	}}, nil
}

// first is a store that ends after so many events.
type first struct {
	es.EventStore

	events int64
}

func (f first) Head(ctx context.Context) (es.Checkpoint, error) {
	head, err := f.EventStore.Head(ctx)
	head.Position = min(head.Position, f.events)
	return head, err
}

func (f first) Wait(ctx context.Context, after es.Checkpoint) (es.Checkpoint, error) {
	if after.Position >= f.events {
		<-ctx.Done()
		return es.Checkpoint{}, ctx.Err()
	}
	head, err := f.EventStore.Wait(ctx, after)
	head.Position = min(head.Position, f.events)
	return head, err
}

func (p readPlan) countedOneByOne(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	f, err := filledOurs(ctx, s, p.storing(s))
	if err != nil {
		return nil, err
	}
	models := f.db.ReadModels()
	return &countingFile{ourFile: f, count: func(ctx context.Context, model string, n int64) error {
		at := es.Progress{}
		for m, err := range f.db.Events().Read(ctx, es.Query{UpTo: n}) {
			if err != nil {
				return err
			}
			docs, err := models.Load(ctx, model, counterOf(m))
			if err != nil {
				return err
			}
			var c counter
			if docs[0].Revision > 0 {
				if err := json.Unmarshal(docs[0].Data, &c); err != nil {
					return err
				}
			}
			c.Events++
			data, err := json.Marshal(c)
			if err != nil {
				return err
			}
			to := es.Progress{Checkpoint: es.Checkpoint{Position: m.Position}}
			err = models.Commit(ctx, es.Commit{
				Writes:   []es.Write{{Model: model, Key: counterOf(m), Data: data, Expect: es.Exactly(docs[0].Revision)}},
				Progress: es.ProgressUpdate{Projection: model, From: at, To: to},
			})
			if err != nil {
				return err
			}
			at = to
		}
		return nil
	}}, nil
}

// Run counts n events, and looks whether each counter has its share.
func (c *countingFile) Run(ctx context.Context, n int) (measure.Result, error) {
	c.rounds++
	model := fmt.Sprintf("model-%d", c.rounds)
	var watch measure.Stopwatch
	watch.Start()
	if err := c.count(ctx, model, int64(n)); err != nil {
		return measure.Result{}, err
	}
	watch.Stop()
	events := 0
	for item, err := range es.NewModel[counter](c.db.ReadModels(), model).All(ctx, "") {
		if err != nil {
			return measure.Result{}, err
		}
		events += item.Value.Events
	}
	if events != n {
		return measure.Result{}, fmt.Errorf("%d events were counted, want %d", events, n)
	}
	return watch.Result(measure.Faults{}), c.db.ReadModels().Drop(ctx, model)
}

// Close closes the file.
func (c *countingFile) Close() error {
	path, err := c.close()
	return errors.Join(err, discard(path))
}

// sqliteLoadAggregate compares loading with a snapshot and without.
func sqliteLoadAggregate() measure.Workload {
	return measure.Workload{
		Name:  "sqlite-aggregate-load",
		Title: "SQLite: load an aggregate of 10,000 events",
		About: "An aggregate has 10,000 events, the last ten of which have come after the snapshot. It is loaded 50 times in a round, and " +
			"has to be right.",
		Messages: 50,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: loadingAggregate(true), How: "aggregate.Repository.Load with Snapshots, and no cache"},
			{Name: fromEvents, Open: loadingAggregate(false), How: "the same without Snapshots"},
		},
		Floors: []measure.Floor{{Against: fromEvents, Ratio: 50, Why: "a snapshot and eleven events are read, not 10,000"}},
	}
}

// tally is the state of an aggregate, and added its event.
type (
	tally struct{ Sum int }
	added struct{ N int }
)

func tallies(f *ourFile, c aggregate.Config[tally, added]) (*aggregate.Repository[tally, added], error) {
	types := es.NewTypes()
	es.Register[added](types, "Added")
	c.Events, c.Types, c.Category = f.db.Events(), types, "tally"
	c.Evolve = func(t tally, e added) tally { return tally{t.Sum + e.N} }
	return aggregate.New(c)
}

// onAggregates is a file with aggregates.
type onAggregates struct {
	*ourFile

	run func(ctx context.Context, n int) error
}

// Run does something n times.
func (a *onAggregates) Run(ctx context.Context, n int) (measure.Result, error) {
	var watch measure.Stopwatch
	watch.Start()
	if err := a.run(ctx, n); err != nil {
		return measure.Result{}, err
	}
	watch.Stop()
	return watch.Result(measure.Faults{}), nil
}

// Close closes the file.
func (a *onAggregates) Close() error {
	path, err := a.close()
	return errors.Join(err, discard(path))
}

func loadingAggregate(snapshot bool) func(context.Context, measure.Stage) (measure.Setup, error) {
	return func(ctx context.Context, s measure.Stage) (measure.Setup, error) {
		f, err := filledOurs(ctx, s, newStoring(0, 1))
		if err != nil {
			return nil, err
		}
		var c aggregate.Config[tally, added]
		if snapshot {
			c.Snapshots = f.db.Snapshots()
			c.SnapshotWhen = func(at aggregate.SnapshotChance) bool { return at.Version == longAggregate-10 }
		}
		r, err := tallies(f, c)
		if err != nil {
			return nil, err
		}
		for _, events := range []int{longAggregate - 10, 10} {
			for ; events > 0; events -= min(events, 1000) {
				some := make([]added, min(events, 1000))
				for i := range some {
					some[i] = added{1}
				}
				if _, err := r.Update(ctx, "1", func(tally) ([]added, error) { return some, nil }); err != nil {
					return nil, err
				}
			}
		}
		return &onAggregates{f, func(ctx context.Context, n int) error {
			for range n {
				if at, err := r.Load(ctx, "1"); err != nil || at.State.Sum != longAggregate {
					return fmt.Errorf("it is %+v: %w", at, err)
				}
			}
			return nil
		}}, nil
	}
}

// sqliteUpdateAggregate compares an update with an append.
func sqliteUpdateAggregate() measure.Workload {
	return measure.Workload{
		Name:  "sqlite-aggregate-update",
		Title: "SQLite, synchronous=FULL: update an aggregate that nobody else updates",
		About: "One goroutine updates an aggregate with one event at a time. Afterwards its state has all of them.",
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: updatingAggregate(true), How: "aggregate.Repository.Update with Snapshots every 100 events, and a cache"},
			{Name: appendedAlone, Open: appendingToAggregate, How: "the same events, encoded and appended at the version that is expected"},
			{
				Name: noCache, Open: updatingAggregate(false), Aside: true,
				How: "the same without a cache: a snapshot and what came after it are read",
			},
		},
		Floors: []measure.Floor{{Against: appendedAlone, Ratio: 0.7, Why: "one append, and a look for what others have appended"}},
	}
}

func updatingAggregate(cached bool) func(context.Context, measure.Stage) (measure.Setup, error) {
	return func(ctx context.Context, s measure.Stage) (measure.Setup, error) {
		f, err := filledOurs(ctx, s, newStoring(0, 1))
		if err != nil {
			return nil, err
		}
		c := aggregate.Config[tally, added]{Snapshots: f.db.Snapshots(), SnapshotEvery: 100}
		if cached {
			c.CacheSize = 16
		}
		r, err := tallies(f, c)
		if err != nil {
			return nil, err
		}
		sum, event := 0, []added{{1}}
		return &onAggregates{f, func(ctx context.Context, n int) error {
			for range n {
				sum++
				at, err := r.Update(ctx, "1", func(tally) ([]added, error) { return event, nil })
				if err != nil || at.State.Sum != sum {
					return fmt.Errorf("it is %+v, want the sum %d: %w", at, sum, err)
				}
			}
			return nil
		}}, nil
	}
}

func appendingToAggregate(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	f, err := filledOurs(ctx, s, newStoring(0, 1))
	if err != nil {
		return nil, err
	}
	types := es.NewTypes()
	es.Register[added](types, "Added")
	version := int64(0)
	return &onAggregates{f, func(ctx context.Context, n int) error {
		for range n {
			a, err := types.AppendTo("tally-1", es.Exactly(version), added{1})
			if err != nil {
				return err
			}
			done, err := f.db.Events().Append(ctx, a)
			if err != nil {
				return err
			}
			version = done.Places[0].Version
		}
		return nil
	}}, nil
}
