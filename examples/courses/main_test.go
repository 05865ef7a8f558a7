package main

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/eshttp"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
)

var program servicetest.Program

func TestMain(m *testing.M) { os.Exit(servicetest.Run(m, &program)) }

// keyed is a request with an Idempotency-Key of its own.
func keyed(key, path, body string) servicetest.Request {
	return servicetest.Post(path, body).With("Idempotency-Key", key)
}

// started starts the program on a store.
func started(t *testing.T, where string) *servicetest.Service {
	t.Helper()
	s := program.Launch(t, servicetest.Setup{Args: []string{"-store", where, "-lease", "500ms"}})
	s.AwaitListening()
	return s
}

// after returns the position of an answer, for the request that is to see what came of it.
func after(a servicetest.Answer) []string {
	return []string{eshttp.PositionName, a.Header.Get(eshttp.PositionName)}
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %s, want %s", what, got, want)
	}
}

func TestACourseFromTheFirstSeatToTheLast(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		s := started(t, where)
		want(t, "at first", s.Ask(http.StatusOK, servicetest.Get("/courses")).Body, `{"courses":[]}`)
		s.Ask(http.StatusCreated, keyed("1", "/courses/go-101", `{"title":"Go","seats":1}`))
		first := s.Ask(http.StatusCreated, keyed("2", "/courses/go-101/enrollments", `{"student":"ann"}`))
		again := s.Ask(http.StatusCreated, keyed("2", "/courses/go-101/enrollments", `{"student":"ann"}`))
		if again.Body != first.Body || again.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("the first answer is %s, and the second is %s %v", first.Body, again.Body, again.Header)
		}
		s.Ask(http.StatusUnprocessableEntity, keyed("3", "/courses/go-101/enrollments", `{"student":"bob"}`))
		s.Ask(http.StatusOK, keyed("4", "/courses/go-101/seats", `{"seats":2}`))
		bob := s.Ask(http.StatusCreated, keyed("3", "/courses/go-101/enrollments", `{"student":"bob"}`)) // it was not granted, and now it is
		const course = `{"id":"go-101","title":"Go","seats":2,"students":["ann","bob"]}`
		want(t, "the course", s.Ask(http.StatusOK, servicetest.Get("/courses/go-101").With(after(bob)...)).Body, course)
		want(t, "all courses", s.Ask(http.StatusOK, servicetest.Get("/courses").With(after(bob)...)).Body, `{"courses":[`+course+`]}`)
		left := s.Ask(http.StatusOK, keyed("5", "/courses/go-101/leavings", `{"student":"ann"}`))
		want(t, "ann", s.Ask(http.StatusOK, servicetest.Get("/students/ann").With(after(left)...)).Body, `{"id":"ann","courses":[]}`)
		want(t, "bob", s.Ask(http.StatusOK, servicetest.Get("/students/bob")).Body, `{"id":"bob","courses":["go-101"]}`)
	})
}

func TestWhatIsNotGrantedSaysWhy(t *testing.T) {
	t.Parallel()
	s := started(t, "memory:")
	for i, c := range []struct {
		path, body string
		status     int
		detail     string
	}{
		{"/courses/go", `{"title":"Go","seats":1}`, http.StatusCreated, ""},
		{"/courses/go", `{"title":"Go","seats":1}`, http.StatusUnprocessableEntity, "offered already"},
		{"/courses/rust", `{"title":"","seats":1}`, http.StatusUnprocessableEntity, "title"},
		{"/courses/rust", `{"title":"Rust"}`, http.StatusUnprocessableEntity, "seats"},
		{"/courses/rust", `{"title":"Rust","seats":"1"}`, http.StatusUnprocessableEntity, "seats"},
		{"/courses/r%2F", `{"title":"Rust","seats":1}`, http.StatusUnprocessableEntity, "course"},
		{"/courses/rust/enrollments", `{"student":"ann"}`, http.StatusNotFound, "not there"},
		{"/courses/rust/seats", `{"seats":1}`, http.StatusNotFound, "not there"},
		{"/courses/go/enrollments", `{"student":"a/b"}`, http.StatusUnprocessableEntity, "student"},
		{"/courses/go/enrollments", `{}`, http.StatusUnprocessableEntity, "student"},
		{"/courses/go/enrollments", `{"student":"ann"}`, http.StatusCreated, ""},
		{"/courses/go/enrollments", `{"student":"ann"}`, http.StatusUnprocessableEntity, "enrolled already"},
		{"/courses/go/enrollments", `{"student":"bob"}`, http.StatusUnprocessableEntity, "no seat"},
		{"/courses/go/leavings", `{"student":"bob"}`, http.StatusUnprocessableEntity, "not enrolled"},
	} {
		answer := s.Ask(c.status, keyed(strconv.Itoa(i), c.path, c.body))
		if c.detail != "" && (answer.Header.Get("Content-Type") != eshttp.ContentTypeProblem || !strings.Contains(answer.Body, c.detail)) {
			t.Errorf("%s %s: %s %s, want %q in it", c.path, c.body, answer.Header.Get("Content-Type"), answer.Body, c.detail)
		}
	}
	s.Ask(http.StatusBadRequest, servicetest.Post("/courses/c", `{"title":"C","seats":1}`)) // without a key
	s.Ask(http.StatusNotFound, servicetest.Get("/courses/rust"))
	s.Ask(http.StatusNotFound, servicetest.Get("/students/bob"))
	s.Ask(http.StatusOK, servicetest.Get("/readyz"))
	s.Ask(http.StatusOK, servicetest.Get("/livez"))
}
