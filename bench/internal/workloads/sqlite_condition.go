package workloads

import (
	"context"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

const (
	unconditional   = "eventsourcing, no condition"
	fewerStored     = "eventsourcing, 10,000 stored"
	wholeLog        = "eventsourcing, over the whole log"
	wholeDecision   = "eventsourcing, with the read"
	eventsPerTag    = 10
	conditionals    = 16 // goroutines
	howConditionals = "EventStore.Append with the defaults of sqlite.Open, "
)

func sqliteConditional() measure.Workload {
	p := conditionPlan{stored: million, decide: unlessNewer}
	few, without, all, read := p, p, p, p
	few.stored = 10_000
	without.decide = always
	all.decide = unlessEver
	read.decide = decideFirst
	return measure.Workload{
		Name:  "sqlite-conditional",
		Title: "SQLite, synchronous=FULL, a million stored events: conditional append over two tags from 16 goroutines",
		About: "The file has a million events, each tagged with a course and a student; a course and a student have ten each. 16 goroutines " +
			"append single events for a course and a student, each to the version that it expects of its stream, unless there is an event of " +
			"that course, or of that student, beyond the goroutine's previous one. " + aboutAppends,
		Contenders: []measure.Contender{
			{Name: measure.Ours, Open: p.open, How: howConditionals + "with a condition of two criteria, a tag each"},
			{Name: unconditional, Open: without.open, How: "the same events without the condition"},
			{Name: fewerStored, Open: few.open, How: "the same on a file with 10,000 events"},
			{Name: wholeLog, Open: all.open, Aside: true, How: "unless there is an event of that student in that course anywhere in the log"},
			{Name: wholeDecision, Open: read.open, Aside: true, How: "es.ReadForDecision of that student and that course before each append"},
		},
		Floors: []measure.Floor{
			{Against: unconditional, Ratio: 0.5, Why: "two look-ups in the index of tags; the goal is 0.7"},
			{Against: fewerStored, Ratio: 0.8, Why: "the cost is flat from 10,000 to a million events"},
		},
	}
}

// conditionPlan is how many events are stored, and under which condition others are appended.
type conditionPlan struct {
	stored int
	decide func(*enrollment) error
}

func (p conditionPlan) open(ctx context.Context, s measure.Stage) (measure.Setup, error) {
	plan := newStoring(s.Stored(p.stored), storedStreams)
	groups := tagged(&plan)
	f, err := filledOurs(ctx, s, plan)
	if err != nil {
		return nil, err
	}
	return p.appending(f, f.db.Events(), plan, groups), nil
}

// tagged gives tags to what is stored, and returns how many groups of them there are.
func tagged(plan *storing) (groups int) {
	groups = max(plan.events/eventsPerTag/conditionals, 1)
	plan.tags = func(i int) []string { return storedTags(i, groups) }
	return groups
}

// appending are the goroutines that append under the condition.
func (p conditionPlan) appending(f eventFile, events es.EventStore, plan storing, groups int) *appending {
	a := newAppending(f, conditionals, plan, ownStreams)
	for i, c := range a.callers {
		c.position = int64(plan.events)
		c.message.Tags = make([]string, 2)
		e := &enrollment{caller: c, events: events, number: i, groups: groups}
		c.decide = func(ctx context.Context) error {
			e.next(ctx)
			return p.decide(e)
		}
	}
	return a
}

// storedTags are those of the i-th stored event. Courses and students are in 16 classes, one for each goroutine. What is stored ties the
// courses of a class to students of the next one, so that a goroutine brings what was not there.
func storedTags(i, groups int) []string {
	course := i % (groups * conditionals)
	student := (i+1)%conditionals + conditionals*((7*i+13*(i/groups))%groups)
	return []string{courseTag(course), studentTag(student)}
}

func courseTag(i int) string  { return "course:" + streamName(uint64(i))[len(topic)+1:] }  //nolint:gosec // a count
func studentTag(i int) string { return "student:" + streamName(uint64(i))[len(topic)+1:] } //nolint:gosec // a count

// enrollment is what a goroutine decides: a student takes a seat in a course.
type enrollment struct {
	*caller

	ctx    context.Context //nolint:containedctx // that of the decision under way
	events es.EventStore
	number int // of the goroutine
	groups int
	made   int
}

// next chooses a course and a student who is not in it.
func (e *enrollment) next(ctx context.Context) {
	course, student := e.made%e.groups, (7*e.made+13*(e.made/e.groups))%e.groups
	e.ctx = ctx
	e.made++
	e.message.Tags[0] = courseTag(e.number + conditionals*course)
	e.message.Tags[1] = studentTag(e.number + conditionals*student)
}

// either is what matters: everything about the course, or about the student.
func (e *enrollment) either() []es.Criterion {
	return []es.Criterion{{Tags: e.message.Tags[:1]}, {Tags: e.message.Tags[1:]}}
}

func always(e *enrollment) error {
	e.append.Unless = nil
	return nil
}

func unlessNewer(e *enrollment) error {
	e.append.Unless = []es.Condition{{Match: e.either(), After: e.position}}
	return nil
}

func unlessEver(e *enrollment) error {
	e.append.Unless = []es.Condition{{Match: []es.Criterion{{Tags: e.message.Tags}}}}
	return nil
}

func decideFirst(e *enrollment) error {
	unchanged, err := es.ReadForDecision(e.ctx, e.events, e.either(), func(*es.Message) error { return nil })
	e.append.Unless = []es.Condition{unchanged}
	return err
}
