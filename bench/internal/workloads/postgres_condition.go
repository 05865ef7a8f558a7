package workloads

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

func postgresConditional(m *models) measure.Workload {
	p := conditionalDatabase{models: m, conditionPlan: conditionPlan{stored: million, decide: unlessNewer}}
	few, without, all, read := p, p, p, p
	few.stored = 10_000
	without.decide = always
	all.decide = unlessEver
	read.decide = decideFirst
	return measure.Workload{
		Name:  "postgres-conditional",
		Title: "PostgreSQL, a million stored events: conditional append over two tags from 16 goroutines",
		About: "The database has a million events, each tagged with a course and a student; a course and a student have ten each. 16 " +
			"goroutines append single events for a course and a student, each to the version that it expects of its stream, unless there is " +
			"an event of that course, or of that student, beyond the goroutine's previous one. " + aboutDatabase,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.open, How: howPostgres + ", with a condition of two criteria, a tag each"},
			{Name: unconditional, Open: without.open, How: "the same events without the condition"},
			{Name: fewerStored, Open: few.open, How: "the same on a database with 10,000 events"},
			{Name: wholeLog, Open: all.open, Aside: true, How: "unless there is an event of that student in that course anywhere in the log"},
			{Name: wholeDecision, Open: read.open, Aside: true, How: "es.ReadForDecision of that student and that course before each append"},
		},
		Floors: []measure.Floor{
			{Against: unconditional, Ratio: 0.5, Why: "locks on both tags, and two look-ups in the index of tags; the goal is 0.7"},
			{Against: fewerStored, Ratio: 0.8, Why: "the cost is flat from 10,000 to a million events"},
		},
	}
}

// conditionalDatabase is a conditionPlan on a database.
type conditionalDatabase struct {
	conditionPlan

	models *models
}

func (p conditionalDatabase) open(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := newStoring(s.Stored(p.stored), storedStreams)
	groups := tagged(&plan)
	d, err := p.models.copied(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	ours, err := openOurDatabase(ctx, d, 1)
	if err != nil {
		return nil, errors.Join(err, d.drop())
	}
	return p.appending(ours, ours.handles[0].Events(), plan, groups), nil
}
