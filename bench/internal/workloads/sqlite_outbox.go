package workloads

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

const (
	appendAlone  = "eventsourcing, append alone"
	oneUpdate    = "eventsourcing, DB.Update"
	howAlone     = "the same append without an entry for the outbox"
	aboutEntries = "appends an event and enqueues a message with as much in it. Between the rounds the outbox is emptied, and has to have " +
		"had as many messages. "
)

func sqliteOutboxByOne() measure.Workload {
	return measure.Workload{
		Name:  "sqlite-outbox-1",
		Title: "SQLite, synchronous=FULL: append with an outbox entry from one goroutine, in one transaction",
		About: "Each time one goroutine " + aboutEntries + aboutAppends,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: entryPlan{callers: 1, enqueue: inOneUpdate}.open, How: "DB.Update with Append and Enqueue"},
			{Name: appendAlone, Open: entryPlan{callers: 1, enqueue: nothing}.open, How: howAlone},
		},
		Floors: []measure.Floor{
			{Against: appendAlone, Ratio: 0.75, Why: "what is kept at the least: a commit with three or four pages more in it; 0.85 is aimed at"},
		},
	}
}

func sqliteOutboxBy64() measure.Workload {
	return measure.Workload{
		Name:  "sqlite-outbox-64",
		Title: "SQLite, synchronous=FULL: append with an outbox entry from 64 goroutines, side by side",
		About: "Each of 64 goroutines " + aboutEntries + aboutAppends,
		Contenders: []measure.Contender{
			{
				Name: measure.Ours, Open: entryPlan{callers: 64, enqueue: beside}.open,
				How: "Append and Enqueue called at the same time, so that they share a commit with those of the others, and are not all or nothing",
			},
			{Name: appendAlone, Open: entryPlan{callers: 64, enqueue: nothing}.open, How: howAlone},
			{
				Name: oneUpdate, Open: entryPlan{callers: 64, enqueue: inOneUpdate}.open, Aside: true,
				How: "Append and Enqueue in a DB.Update, which has the file for itself, so that each waits for a sync of its own",
			},
		},
		Floors: []measure.Floor{
			{Against: appendAlone, Ratio: 0.4, Why: "what is kept at the least: where syncs are shared, an entry costs what an event does"},
		},
	}
}

// entryPlan is how many goroutines append, and how each has an entry enqueued with it.
type entryPlan struct {
	callers int
	enqueue entryManner
}

type entryManner int

const (
	nothing entryManner = iota
	inOneUpdate
	beside
)

func (p entryPlan) open(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := appendPlan{callers: p.callers}.storing(s)
	f, err := filledOurs(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	e := &enqueuing{outbox: f.db.Outbox(), manner: p.enqueue}
	e.appending = newAppending(&entryFile{ourFile: f, manner: p.enqueue}, p.callers, plan, ownStreams)
	return e, nil
}

// entryFile enqueues a message with each append.
type entryFile struct {
	*ourFile

	manner entryManner
}

func (f *entryFile) append(ctx context.Context, a es.Append) (es.Place, error) {
	if f.manner == nothing {
		return f.ourFile.append(ctx, a)
	}
	entry := *a.Streams[0].Events[0]
	entry.ID[15] ^= 0xff
	if f.manner == inOneUpdate {
		var done es.Appended
		err := f.db.Update(ctx, func(tx *sqlite.Tx) (err error) {
			if done, err = tx.Append(a); err != nil {
				return err
			}
			return tx.Enqueue(&entry)
		})
		if err != nil {
			return es.Place{}, err
		}
		return done.Places[0], nil
	}
	enqueued := make(chan error, 1)
	go func() { enqueued <- f.db.Outbox().Enqueue(ctx, &entry) }()
	place, err := f.ourFile.append(ctx, a)
	return place, errors.Join(err, <-enqueued)
}

// enqueuing empties the outbox after each round.
type enqueuing struct {
	*appending

	outbox es.Outbox
	manner entryManner
}

// Run is a round.
func (e *enqueuing) Run(ctx context.Context, n int) (measure.Result, error) {
	result, err := e.appending.Run(ctx, n)
	if err != nil {
		return result, err
	}
	want := n
	if e.manner == nothing {
		want = 0
	}
	return result, drain(ctx, e.outbox, want)
}

// drain takes everything out of an outbox, which is to be so many messages.
func drain(ctx context.Context, outbox es.Outbox, want int) error {
	entries := make([]es.Entry, 4096)
	drained := 0
	for {
		n, err := outbox.Claim(ctx, entries, es.ClaimOptions{Owner: "bench"})
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if err := outbox.Complete(ctx, entries[:n]); err != nil {
			return err
		}
		drained += n
	}
	if drained != want {
		return fmt.Errorf("the outbox had %d messages where %d were enqueued", drained, want)
	}
	return nil
}
