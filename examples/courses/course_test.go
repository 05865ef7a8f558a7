package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// stream is that of a course.
func stream(course string) string { return category + "-" + course }

// asked makes the call that a test makes: a command for a course, carried out.
func asked[C command](course string, c C) func(context.Context, es.EventStore) error {
	return func(ctx context.Context, events es.EventStore) error {
		o, err := newOffice(events, newTypes())
		if err != nil {
			return err
		}
		decided, err := deciding[C](o)(ctx, c, es.NewMessage(stream(course), "command", nil))
		if err != nil {
			return err
		}
		_, err = events.Append(ctx, decided)
		return err
	}
}

func TestWhatTheOfficeDecides(t *testing.T) {
	t.Parallel()
	offered := func(course string, seats int) estest.StreamEvents {
		return estest.In(stream(course), CourseOffered{Course: course, Title: "Title", Seats: seats})
	}
	enrolled := func(course, student string) estest.StreamEvents {
		return estest.In(stream(course), StudentEnrolled{Course: course, Student: student})
	}
	left := func(course, student string) estest.StreamEvents {
		return estest.In(stream(course), StudentLeft{Course: course, Student: student})
	}
	busy := []estest.StreamEvents{
		offered("a", 9), offered("b", 9), offered("c", 9), offered("go", 9), enrolled("a", "ann"), enrolled("b", "ann"), enrolled("c", "ann"),
	}
	for name, c := range map[string]struct {
		given []estest.StreamEvents
		when  func(context.Context, es.EventStore) error
		then  []estest.StreamEvents
		err   error
	}{
		"a course is offered": {nil, asked("go", OfferCourse{Title: "Title", Seats: 2}), []estest.StreamEvents{offered("go", 2)}, nil},
		"a course is offered once": {
			[]estest.StreamEvents{offered("go", 1)}, asked("go", OfferCourse{Title: "Title", Seats: 2}), nil, errOffered,
		},
		"the seats are changed": {
			[]estest.StreamEvents{offered("go", 1)}, asked("go", ChangeSeats{Seats: 2}),
			[]estest.StreamEvents{estest.In(stream("go"), SeatsChanged{Course: "go", Seats: 2})}, nil,
		},
		"those of no course are not":    {nil, asked("go", ChangeSeats{Seats: 2}), nil, es.ErrNotFound},
		"a student enrolls":             {[]estest.StreamEvents{offered("go", 1)}, asked("go", Enroll{"ann"}), []estest.StreamEvents{enrolled("go", "ann")}, nil},
		"in no course that is not":      {[]estest.StreamEvents{offered("go", 1)}, asked("rust", Enroll{"ann"}), nil, es.ErrNotFound},
		"a student enrolls once":        {[]estest.StreamEvents{offered("go", 2), enrolled("go", "ann")}, asked("go", Enroll{"ann"}), nil, errEnrolled},
		"the last seat is the last one": {[]estest.StreamEvents{offered("go", 1), enrolled("go", "ann")}, asked("go", Enroll{"bob"}), nil, errFull},
		"a seat that was left is free": {
			[]estest.StreamEvents{offered("go", 1), enrolled("go", "ann"), left("go", "ann")}, asked("go", Enroll{"bob"}),
			[]estest.StreamEvents{enrolled("go", "bob")}, nil,
		},
		"three courses are enough":     {busy, asked("go", Enroll{"ann"}), nil, errTooMany},
		"and are no matter to another": {busy, asked("go", Enroll{"bob"}), []estest.StreamEvents{enrolled("go", "bob")}, nil},
		"who leaves one may take another": {
			append(slices.Clip(busy), left("a", "ann")), asked("go", Enroll{"ann"}), []estest.StreamEvents{enrolled("go", "ann")}, nil,
		},
		"who is in leaves":    {[]estest.StreamEvents{offered("go", 1), enrolled("go", "ann")}, asked("go", Leave{"ann"}), []estest.StreamEvents{left("go", "ann")}, nil},
		"who is not in stays": {[]estest.StreamEvents{offered("go", 1), enrolled("go", "ann")}, asked("go", Leave{"bob"}), nil, errNotIn},
		"who has left is not in": {
			[]estest.StreamEvents{offered("go", 1), enrolled("go", "ann"), left("go", "ann")}, asked("go", Leave{"ann"}), nil, errNotIn,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			estest.GivenStored(t, memory.New().Events(), newTypes(), c.given...).When(c.when).ThenEither(c.then, c.err)
		})
	}
}

// TestADecisionThatIsOvertaken lets somebody else be first between what a decision reads and what it appends.
func TestADecisionThatIsOvertaken(t *testing.T) {
	t.Parallel()
	offered := []estest.StreamEvents{
		estest.In(stream("go"), CourseOffered{Course: "go", Seats: 1}), estest.In(stream("rust"), CourseOffered{Course: "rust", Seats: 1}),
	}
	for name, c := range map[string]struct {
		meanwhile StudentEnrolled
		err       error
	}{
		"by another student in the course":         {StudentEnrolled{Course: "go", Student: "bob"}, es.ErrConflict},
		"by the student in another course":         {StudentEnrolled{Course: "rust", Student: "ann"}, es.ErrConflict},
		"not by another student in another course": {StudentEnrolled{Course: "rust", Student: "bob"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			done := estest.GivenStored(t, memory.New().Events(), newTypes(), offered...).
				Meanwhile(estest.In(stream(c.meanwhile.Course), c.meanwhile)).
				When(asked("go", Enroll{"ann"}))
			if c.err != nil {
				done.ThenError(c.err)
				return
			}
			done.Then(estest.In(stream("go"), StudentEnrolled{Course: "go", Student: "ann"}))
		})
	}
}

func TestWhatTheCatalogShows(t *testing.T) {
	t.Parallel()
	estest.Project(t, memory.New, func(b *memory.Backend, batch int) (estest.Engine, error) {
		return newCatalog(projection.Config{Events: b.Events(), Models: b.ReadModels(), Types: newTypes(), Category: category, BatchSize: batch})
	}).Given(newTypes(),
		estest.In(stream("go"), CourseOffered{Course: "go", Title: "Go", Seats: 2}),
		estest.In(stream("go"), StudentEnrolled{Course: "go", Student: "bob"}, StudentEnrolled{Course: "go", Student: "ann"}),
		estest.In(stream("go"), SeatsChanged{Course: "go", Seats: 3}),
		estest.In(stream("rust"), CourseOffered{Course: "rust", Title: "Rust", Seats: 1}),
		estest.In(stream("rust"), StudentEnrolled{Course: "rust", Student: "bob"}, StudentLeft{Course: "rust", Student: "bob"}),
	).Then(
		estest.Documents("courses", map[string]courseView{
			"go":   {ID: "go", Title: "Go", Seats: 3, Students: []string{"ann", "bob"}},
			"rust": {ID: "rust", Title: "Rust", Seats: 1, Students: []string{}},
		}),
		estest.Documents("students", map[string]studentView{
			"ann": {ID: "ann", Courses: []string{"go"}},
			"bob": {ID: "bob", Courses: []string{"go"}},
		}),
	)
}

func TestWhatIsAskedForIsValid(t *testing.T) {
	t.Parallel()
	for _, c := range []command{
		OfferCourse{Title: "", Seats: 1}, OfferCourse{Title: "Go"}, OfferCourse{Title: "Go", Seats: mostSeats + 1},
		ChangeSeats{}, ChangeSeats{Seats: -1}, Enroll{}, Enroll{"a/b"}, Enroll{strings.Repeat("x", 65)}, Leave{"a b"},
	} {
		if err := c.valid(); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%#v: %v", c, err)
		}
	}
	for _, c := range []command{OfferCourse{Title: "Go", Seats: mostSeats}, ChangeSeats{Seats: 1}, Enroll{"Ann-7_x"}, Leave{strings.Repeat("x", 64)}} {
		if err := c.valid(); err != nil {
			t.Errorf("%#v: %v", c, err)
		}
	}
}
