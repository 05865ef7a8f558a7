package howto_test

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

func Example_decideOverTags() {
	run(decideOverTags)
	// Output:
	// Ann: <nil>
	// Bob: <nil>
	// Cid: the course is full
}

const seats = 2

var errFull = errors.New("the course is full")

// enroll gives a student a seat in a course, if there is one. Each student has a stream, and no stream has them all.
func enroll(ctx context.Context, store es.EventStore, course, student string) error {
	match := []es.Criterion{{Names: []string{"StudentEnrolled"}, Tags: []string{"course:" + course}}}

	taken := 0
	unchanged, err := es.ReadForDecision(ctx, store, match, func(*es.Message) error {
		taken++
		return nil
	})
	if err != nil {
		return err
	}
	if taken >= seats {
		return errFull
	}

	enrolled := es.NewMessage("student-"+student, "StudentEnrolled", []byte(`{}`))
	enrolled.Tags = []string{"course:" + course, "student:" + student}
	decision := es.AppendTo(enrolled.Stream, es.Any, enrolled)
	decision.Unless = []es.Condition{unchanged}
	_, err = store.Append(ctx, decision)
	return err
}

func decideOverTags(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()

	for _, student := range []string{"Ann", "Bob", "Cid"} {
		err := enroll(ctx, backend.Events(), "go-101", student)
		for errors.Is(err, es.ErrConflict) { // somebody enrolled meanwhile: read again, decide again
			err = enroll(ctx, backend.Events(), "go-101", student)
		}
		fmt.Printf("%s: %v\n", student, err)
	}
	return nil
}

func Example_decideOverTagsWithGoTypes() {
	run(decideWithGoTypes)
	// Output:
	// Ann: 0 seats were taken, <nil>
	// Bob: 1 seats were taken, <nil>
	// Cid: 2 seats were taken, the course is full
}

// StudentEnrolled is in the stream of its student, and is found by its course.
type StudentEnrolled struct{ Course, Student string }

// EventTags implements es.Tagged.
func (e StudentEnrolled) EventTags() []string {
	return []string{"course:" + e.Course, "student:" + e.Student}
}

func decideWithGoTypes(ctx context.Context) error {
	backend := memory.New()
	defer backend.Close()
	types := es.NewTypes()
	es.Register[StudentEnrolled](types, "StudentEnrolled")
	seatsOf, err := aggregate.NewDecision(aggregate.DecisionConfig[int, StudentEnrolled]{
		Events: backend.Events(), Types: types,
		Evolve: func(taken int, _ StudentEnrolled) int { return taken + 1 },
	})
	if err != nil {
		return err
	}
	for _, student := range []string{"Ann", "Bob", "Cid"} {
		taken, err := enrollWith(ctx, seatsOf, "go-101", student)
		fmt.Printf("%s: %d seats were taken, %v\n", student, taken, err)
	}
	return nil
}

func enrollWith(
	ctx context.Context, seatsOf *aggregate.Decision[int, StudentEnrolled], course, student string,
) (taken int, err error) {
	match := []es.Criterion{{Names: []string{"StudentEnrolled"}, Tags: []string{"course:" + course}}}
	done, err := seatsOf.Decide(ctx, match, func(taken int) ([]aggregate.Write, error) {
		if taken >= seats {
			return nil, errFull
		}
		return []aggregate.Write{aggregate.To("student-"+student, StudentEnrolled{course, student})}, nil
	})
	return done.State, err
}
