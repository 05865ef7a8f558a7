package main

import (
	"context"
	"slices"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// courseView is a course as it is listed.
type courseView struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Seats    int      `json:"seats"`
	Students []string `json:"students"` // in the order of their IDs
}

// studentView is what a student takes.
type studentView struct {
	ID      string   `json:"id"`
	Courses []string `json:"courses"` // in the order of their IDs
}

// newCatalog returns the projection that keeps both: they change in one commit, and so never contradict each other.
func newCatalog(c projection.Config) (*projection.Projection, error) {
	courses, students := projection.NewDocuments[courseView]("courses"), projection.NewDocuments[studentView]("students")
	seat := func(
		ctx context.Context, b *projection.Batch, course, student string, change func(ids []string, id string) []string,
	) error {
		err := courses.In(b).Update(ctx, course, func(v *courseView) error {
			v.Students = change(v.Students, student)
			return nil
		})
		if err != nil {
			return err
		}
		return students.In(b).Update(ctx, student, func(v *studentView) error {
			v.ID, v.Courses = student, change(v.Courses, course)
			return nil
		})
	}
	c.Name, c.Writes = "catalog", []string{"courses", "students"}
	return projection.New(c,
		projection.On(func(_ context.Context, b *projection.Batch, e CourseOffered, _ *es.Message) error {
			return courses.In(b).Put(e.Course, courseView{ID: e.Course, Title: e.Title, Seats: e.Seats, Students: []string{}})
		}),
		projection.On(func(ctx context.Context, b *projection.Batch, e SeatsChanged, _ *es.Message) error {
			return courses.In(b).Update(ctx, e.Course, func(v *courseView) error {
				v.Seats = e.Seats
				return nil
			})
		}),
		projection.On(func(ctx context.Context, b *projection.Batch, e StudentEnrolled, _ *es.Message) error {
			return seat(ctx, b, e.Course, e.Student, with)
		}),
		projection.On(func(ctx context.Context, b *projection.Batch, e StudentLeft, _ *es.Message) error {
			return seat(ctx, b, e.Course, e.Student, without)
		}),
	)
}

// with adds an ID to a sorted list.
func with(ids []string, id string) []string {
	at, _ := slices.BinarySearch(ids, id)
	return slices.Insert(ids, at, id)
}

// without removes an ID from a sorted list.
func without(ids []string, id string) []string {
	if at, there := slices.BinarySearch(ids, id); there {
		return slices.Delete(ids, at, at+1)
	}
	return ids
}
