package main

import (
	"regexp"

	es "github.com/eventsourcing-go/eventsourcing"
)

// The domain: what happens to courses and those who take them. Nothing here knows where events are kept or who asks.

// mostCourses is how many courses a student may take at a time.
const mostCourses = 3

// CourseOffered is the first event of every course.
type CourseOffered struct {
	Course string `json:"course"`
	Title  string `json:"title"`
	Seats  int    `json:"seats"`
}

// SeatsChanged is another number of seats. It may be lower than that of the students who have one: they keep it.
type SeatsChanged struct {
	Course string `json:"course"`
	Seats  int    `json:"seats"`
}

// StudentEnrolled has happened to a course and to a student alike.
type StudentEnrolled struct {
	Course  string `json:"course"`
	Student string `json:"student"`
}

// StudentLeft takes a [StudentEnrolled] back.
type StudentLeft struct {
	Course  string `json:"course"`
	Student string `json:"student"`
}

func courseTag(course string) string   { return "course:" + course }
func studentTag(student string) string { return "student:" + student }

// EventTags returns what decisions find the event by.
func (e CourseOffered) EventTags() []string { return []string{courseTag(e.Course)} }

// EventTags returns what decisions find the event by.
func (e SeatsChanged) EventTags() []string { return []string{courseTag(e.Course)} }

// EventTags returns what decisions find the event by: those about the course and those about the student.
func (e StudentEnrolled) EventTags() []string {
	return []string{courseTag(e.Course), studentTag(e.Student)}
}

// EventTags returns what decisions find the event by: those about the course and those about the student.
func (e StudentLeft) EventTags() []string {
	return []string{courseTag(e.Course), studentTag(e.Student)}
}

// newTypes returns the names of the events on the wire.
func newTypes() *es.Types {
	types := es.NewTypes()
	es.Register[CourseOffered](types, "CourseOffered")
	es.Register[SeatsChanged](types, "SeatsChanged")
	es.Register[StudentEnrolled](types, "StudentEnrolled")
	es.Register[StudentLeft](types, "StudentLeft")
	return types
}

// standing is how things stand between a course and a student: all that a decision about the two needs, and nothing that is kept.
type standing struct {
	course, student string // whom it is about; without a student it is about the course alone

	offered  bool
	seats    int
	taken    int  // by anybody
	courses  int  // of the student, this one or others
	enrolled bool // the student, in the course
}

// evolve applies an event, which is about the course, or about the student, or about both.
func evolve(s standing, e any) standing {
	switch e := e.(type) {
	case CourseOffered:
		s.offered, s.seats = true, e.Seats
	case SeatsChanged:
		s.seats = e.Seats
	case StudentEnrolled:
		s.enroll(e.Course, e.Student, 1)
	case StudentLeft:
		s.enroll(e.Course, e.Student, -1)
	}
	return s
}

func (s *standing) enroll(course, student string, by int) {
	if course == s.course {
		s.taken += by
	}
	if student == s.student {
		s.courses += by
	}
	if course == s.course && student == s.student {
		s.enrolled = by > 0
	}
}

// refusal is why something is not granted. The request is in order, and may be granted another time.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	errOffered  refusal = "the course is offered already; choose another ID"
	errFull     refusal = "the course has no seat left"
	errTooMany  refusal = "the student takes as many courses as one may"
	errEnrolled refusal = "the student is enrolled already"
	errNotIn    refusal = "the student is not enrolled"
)

// OfferCourse asks for a new course.
type OfferCourse struct {
	Title string `json:"title"`
	Seats int    `json:"seats"`
}

func (OfferCourse) about() string { return "" }

func (c OfferCourse) valid() error {
	if c.Title == "" {
		return es.Invalidf("title", "is empty; it takes a few words")
	}
	return validSeats(c.Seats)
}

func (c OfferCourse) decide(s standing) (any, error) {
	if s.offered {
		return nil, errOffered
	}
	return CourseOffered{Course: s.course, Title: c.Title, Seats: c.Seats}, nil
}

// ChangeSeats asks for another number of seats.
type ChangeSeats struct {
	Seats int `json:"seats"`
}

func (ChangeSeats) about() string { return "" }

func (c ChangeSeats) valid() error { return validSeats(c.Seats) }

func (c ChangeSeats) decide(s standing) (any, error) {
	if !s.offered {
		return nil, es.ErrNotFound
	}
	return SeatsChanged{Course: s.course, Seats: c.Seats}, nil
}

// Enroll asks for a seat in a course.
type Enroll struct {
	Student string `json:"student"`
}

func (c Enroll) about() string { return c.Student }

func (c Enroll) valid() error { return validID("student", c.Student) }

func (Enroll) decide(s standing) (any, error) {
	switch {
	case !s.offered:
		return nil, es.ErrNotFound
	case s.enrolled:
		return nil, errEnrolled
	case s.taken >= s.seats:
		return nil, errFull
	case s.courses >= mostCourses:
		return nil, errTooMany
	}
	return StudentEnrolled{Course: s.course, Student: s.student}, nil
}

// Leave gives a seat back.
type Leave struct {
	Student string `json:"student"`
}

func (c Leave) about() string { return c.Student }

func (c Leave) valid() error { return validID("student", c.Student) }

func (Leave) decide(s standing) (any, error) {
	if !s.enrolled {
		return nil, errNotIn
	}
	return StudentLeft{Course: s.course, Student: s.student}, nil
}

// mostSeats is that of the largest hall.
const mostSeats = 10_000

func validSeats(seats int) error {
	if seats < 1 || seats > mostSeats {
		return es.Invalidf("seats", "are %d; it takes 1 to %d", seats, mostSeats)
	}
	return nil
}

// validIDs are those that fit into paths, tags and keys as they are.
var validIDs = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// validID tells what is wrong with the ID of a course or a student.
func validID(kind, id string) error {
	if !validIDs.MatchString(id) {
		return es.Invalidf(kind, "is %.70q; it takes an ID of 1 to 64 letters, digits, \"-\" and \"_\"", id)
	}
	return nil
}
