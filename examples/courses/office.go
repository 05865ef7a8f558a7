package main

import (
	"context"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
)

// category is that of the streams of courses. An event stands in the stream of its course, because it must stand somewhere. No decision
// looks at that stream: what is decided from, and guarded, is what the tags select.
const category = "course"

// courseOf returns the ID of the course that a stream belongs to.
func courseOf(stream string) string { return strings.TrimPrefix(stream, category+"-") }

// office decides about commands. What it decides is appended by an [es.CommandHandler], which carries each command out once, and decides
// again when somebody else was first.
type office struct {
	decision *aggregate.Decision[standing, any]
}

// newOffice returns the office that decides from the events of a store.
func newOffice(events es.EventStore, types *es.Types) (*office, error) {
	decision, err := aggregate.NewDecision(aggregate.DecisionConfig[standing, any]{Events: events, Types: types, Evolve: evolve})
	return &office{decision}, err
}

// command is what can be asked of the office.
type command interface {
	// about returns the student that it is about; empty when it is about the course alone.
	about() string
	// valid tells what is wrong with it, whatever has happened.
	valid() error
	// decide returns what happens, or why nothing does.
	decide(s standing) (any, error)
}

// decider decides what a command leads to.
type decider[C any] func(ctx context.Context, c C, m *es.Message) (es.Append, error)

// deciding returns the decider of a command, which is for the course whose stream its message names.
//
// It reads what has happened to the course, and to the student if there is one, decides, and appends on the condition that nothing else
// has happened to either. Two students who want the last seat get in each other's way, and so do two seats for one student. Two students in
// two courses do not.
func deciding[C command](o *office) decider[C] {
	return func(ctx context.Context, c C, m *es.Message) (es.Append, error) {
		course, student := courseOf(m.Stream), c.about()
		between := func() standing { return standing{course: course, student: student} }
		return o.decision.ProposeFrom(ctx, between, matters(course, student), func(s standing) ([]aggregate.Write, error) {
			event, err := c.decide(s)
			if err != nil {
				return nil, err
			}
			return []aggregate.Write{aggregate.To(m.Stream, event)}, nil
		})
	}
}

// matters selects the events that matter to a decision about a course and a student, who may be nobody.
func matters(course, student string) []es.Criterion {
	match := []es.Criterion{{Tags: []string{courseTag(course)}}}
	if student != "" {
		match = append(match, es.Criterion{Tags: []string{studentTag(student)}})
	}
	return match
}
