package main

import (
	"context"
	"errors"
	"net/http"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/eshttp"
)

// api is the office over HTTP.
type api struct {
	office *office
	events es.EventStore
	models es.ReadModels
	// catalog waits for the projection of that name.
	catalog es.Waiter

	mux *http.ServeMux
	err error // the first of those that the endpoints were made with
}

// routes returns the handler of all requests.
func (a *api) routes() (http.Handler, error) {
	a.mux = http.NewServeMux()
	route(a, "POST /courses/{course}", "courses.offer", http.StatusCreated, deciding[OfferCourse](a.office))
	route(a, "POST /courses/{course}/seats", "courses.seats", http.StatusOK, deciding[ChangeSeats](a.office))
	route(a, "POST /courses/{course}/enrollments", "courses.enroll", http.StatusCreated, deciding[Enroll](a.office))
	route(a, "POST /courses/{course}/leavings", "courses.leave", http.StatusOK, deciding[Leave](a.office))

	courses := es.NewModel[courseView](a.models, "courses")
	query(a, "GET /courses", func(ctx context.Context, q pageQuery) (coursePage, error) { return list(ctx, courses, q) })
	query(a, "GET /courses/{course}", func(ctx context.Context, q courseQuery) (courseView, error) {
		item, err := courses.Load(ctx, q.Course)
		return item.Value, err
	})
	students := es.NewModel[studentView](a.models, "students")
	query(a, "GET /students/{student}", func(ctx context.Context, q studentQuery) (studentView, error) {
		item, err := students.Load(ctx, q.Student)
		return item.Value, err
	})
	return eshttp.Correlation(eshttp.Problems(a.mux)), a.err
}

// route adds an endpoint for commands of a type. Each is carried out once: the client sends an Idempotency-Key, and who has no answer sends
// the same request again.
func route[C command](a *api, pattern, name string, status int, decide decider[C]) {
	handler, err := es.NewCommandHandler(es.CommandConfig{
		Name: name, Events: a.events,
		Attempts: 20, // when enrollment opens, everybody wants the same course
	}, es.DecideAs(nil, refusing(decide)))
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	endpoint, err := eshttp.Command(eshttp.CommandConfig[C]{
		Handler: handler, Name: name, Status: status, RequireKey: true,
		Stream: func(r *http.Request, c *C) (string, error) {
			course := r.PathValue("course")
			if err := validID("course", course); err != nil {
				return "", err
			}
			return category + "-" + course, (*c).valid()
		},
	})
	a.err = errors.Join(a.err, err)
	a.mux.Handle(pattern, endpoint)
}

// refusing makes problems of refusals: the request is understood, and is not granted as things are (422).
func refusing[C any](decide decider[C]) decider[C] {
	return func(ctx context.Context, c C, m *es.Message) (es.Append, error) {
		decided, err := decide(ctx, c, m)
		if refused, ok := errors.AsType[refusal](err); ok {
			err = eshttp.Problemf(http.StatusUnprocessableEntity, "%s", refused)
		}
		return decided, err
	}
}

// query adds an endpoint that is only asked, and answers from the catalog.
func query[Q, R any](a *api, pattern string, ask func(context.Context, Q) (R, error)) {
	handler, err := es.NewQueryHandler(es.QueryConfig{Waiter: a.catalog}, ask)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	endpoint, err := eshttp.Query(eshttp.QueryConfig[Q, R]{Handler: handler})
	a.err = errors.Join(a.err, err)
	a.mux.Handle(pattern, endpoint)
}

type courseQuery struct {
	Course string `path:"course"`
}

type studentQuery struct {
	Student string `path:"student"`
}

type pageQuery struct {
	// After is next of the page before.
	After string `query:"after"`
}

type coursePage struct {
	Courses []courseView `json:"courses"`
	Next    string       `json:"next,omitempty"` // there may be more behind it
}

// pageSize is how many courses a page has.
const pageSize = 100

func list(ctx context.Context, courses es.Model[courseView], q pageQuery) (coursePage, error) {
	items, err := courses.List(ctx, "", q.After, pageSize)
	page := coursePage{Courses: []courseView{}}
	for _, item := range items {
		page.Courses = append(page.Courses, item.Value)
	}
	if len(items) == pageSize {
		page.Next = items[pageSize-1].Key
	}
	return page, err
}
