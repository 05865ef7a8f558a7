package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/servicetest"
	"github.com/eventsourcing-go/eventsourcing/examples/internal/store"
)

var (
	kills = flag.Int("kills", 20, "how often programs are killed with kill -9")
	seed  = flag.Uint64("seed", 0, "what the moments are drawn from; 0 takes another one each time")
)

// opened opens a store.
func opened(t *testing.T, where string) es.Backend {
	t.Helper()
	backend, err := store.Open(context.WithoutCancel(t.Context()), where, es.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Close() })
	return backend
}

// do carries a command out, as often as it takes when others are first.
func do[C command](t *testing.T, events es.EventStore, course string, c C) error {
	t.Helper()
	o, err := newOffice(events, newTypes())
	if err != nil {
		return err
	}
	m := es.NewMessage(stream(course), "command", nil)
	for {
		decided, err := deciding[C](o)(t.Context(), c, m)
		if err == nil {
			_, err = events.Append(t.Context(), decided)
		}
		if !errors.Is(err, es.ErrConflict) {
			return err
		}
	}
}

// TestTheLastSeat lets many want it at once: one has it.
func TestTheLastSeat(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		events := opened(t, where).Events()
		if err := do(t, events, "go", OfferCourse{Title: "Go", Seats: 1}); err != nil {
			t.Fatal(err)
		}
		const students = 32
		outcomes := make([]error, students)
		var all sync.WaitGroup
		for i := range students {
			all.Go(func() { outcomes[i] = do(t, events, "go", Enroll{fmt.Sprint("s", i)}) })
		}
		all.Wait()
		in := 0
		for i, err := range outcomes {
			switch {
			case err == nil:
				in++
			case !errors.Is(err, errFull):
				t.Errorf("student %d: %v", i, err)
			}
		}
		if in != 1 {
			t.Errorf("%d students have the one seat", in)
		}
	})
}

// TestAStudentWhoWantsEverything asks for all courses at once, and gets as many as one may take.
func TestAStudentWhoWantsEverything(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		events := opened(t, where).Events()
		const courses = 4 * mostCourses
		outcomes := make([]error, courses)
		for i := range courses {
			if err := do(t, events, fmt.Sprint("c", i), OfferCourse{Title: "Course", Seats: 1}); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for i := range courses {
			all.Go(func() { outcomes[i] = do(t, events, fmt.Sprint("c", i), Enroll{"ann"}) })
		}
		all.Wait()
		in := 0
		for i, err := range outcomes {
			switch {
			case err == nil:
				in++
			case !errors.Is(err, errTooMany):
				t.Errorf("course %d: %v", i, err)
			}
		}
		if in != mostCourses {
			t.Errorf("the student is in %d courses, want %d", in, mostCourses)
		}
	})
}

// TestEnrollmentsThatRace lets clients enroll students in few courses, and take them out again: in one program, and in two that share a store.
func TestEnrollmentsThatRace(t *testing.T) {
	t.Parallel()
	servicetest.ForEachStore(t, func(t *testing.T, where string) {
		s := &semester{T: t, where: where}
		s.audit(program.Kill(t, servicetest.Killing{Setups: s.programs(), Clients: clients, Client: s.client}))
	})
}

// TestEnrollmentsAlthoughProgramsAreKilled does the same while the programs are killed with kill -9. Clients that get no answer send their
// request again, until they know what became of it.
func TestEnrollmentsAlthoughProgramsAreKilled(t *testing.T) {
	t.Parallel()
	servicetest.ForEachDurableStore(t, func(t *testing.T, where string) {
		s := &semester{T: t, where: where}
		s.audit(program.Kill(t, servicetest.Killing{
			Setups: s.programs(), Kills: *kills, Seed: *seed, Clients: clients, Client: s.client,
		}))
	})
}

const (
	clients  = 6
	least    = 30 // requests of each client
	courses  = 5
	seats    = 2
	students = 8 // who want more than there is
)

// semester is clients that enroll students, and what they know of it.
type semester struct {
	*testing.T

	where string

	mu      sync.Mutex
	balance map[[2]string]int // enrollments of a student in a course less the times the student has left it, as acknowledged
	granted int
	refused int
}

// programs are two that share a store, where it can be shared.
func (s *semester) programs() []servicetest.Setup {
	setup := servicetest.Setup{Args: []string{"-store", s.where, "-lease", "300ms"}}
	if s.where == "memory:" {
		return []servicetest.Setup{setup}
	}
	return []servicetest.Setup{setup, setup}
}

// client offers a course, and then enrolls any students in any courses, and lets them leave.
func (s *semester) client(c *servicetest.Client) {
	if c.Number < courses {
		s.settle(c, keyed(fmt.Sprint("offer", c.Number), fmt.Sprint("/courses/c", c.Number), fmt.Sprintf(`{"title":"Course","seats":%d}`, seats)),
			[2]string{}, 0)
	}
	for n := 0; n < least || c.More(); n++ {
		course, student := fmt.Sprint("c", c.Random.IntN(courses)), fmt.Sprint("s", c.Random.IntN(students))
		path, by := "/enrollments", 1
		if c.Random.IntN(3) == 0 {
			path, by = "/leavings", -1
		}
		r := keyed(fmt.Sprint(c.Number, "/", n), "/courses/"+course+path, fmt.Sprintf(`{"student":%q}`, student))
		s.settle(c, r, [2]string{course, student}, by)
	}
}

// settle sends a request until its outcome is known, and notes what has come of it.
func (s *semester) settle(c *servicetest.Client, r servicetest.Request, seat [2]string, by int) {
	answer, err := c.Settle(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	refusals := []string{string(errFull), string(errTooMany), string(errEnrolled), string(errNotIn)}
	switch {
	case err != nil:
		s.Errorf("%s: %v", r.Path, err)
	case answer.Status == http.StatusCreated, answer.Status == http.StatusOK:
		if s.balance == nil {
			s.balance = map[[2]string]int{}
		}
		s.balance[seat] += by
		s.granted++
	case answer.Status == http.StatusNotFound, answer.Status == http.StatusUnprocessableEntity &&
		slices.ContainsFunc(refusals, func(refusal string) bool { return strings.Contains(answer.Body, refusal) }):
		s.refused++
	default:
		s.Errorf("%s %s: %d %s", r.Path, r.Body, answer.Status, answer.Body)
	}
}

// audit looks at what the programs show and at what is stored: all of it is what was acknowledged, and no rule was ever broken.
func (s *semester) audit(services []*servicetest.Service) {
	s.Helper()
	if s.Failed() {
		return
	}
	want := map[string][]string{}
	for seat, n := range s.balance {
		if n == 1 && seat[0] != "" {
			want[seat[0]] = append(want[seat[0]], seat[1])
		} else if n != 0 {
			s.Errorf("of %v was acknowledged %d times more that the student enrolled than that the student left", seat, n)
		}
	}
	last := services[0].Ask(http.StatusCreated, keyed("last", "/courses/last", `{"title":"Last","seats":1}`))
	for _, service := range services {
		var page coursePage
		service.Ask(http.StatusOK, servicetest.Get("/courses").With(after(last)...)).Decode(s.T, &page)
		taken := map[string][]string{}
		for _, c := range page.Courses {
			slices.Sort(want[c.ID])
			if !slices.Equal(c.Students, want[c.ID]) || len(c.Students) > c.Seats {
				s.Errorf("listed is %+v, and acknowledged was %v", c, want[c.ID])
			}
			for _, student := range c.Students {
				taken[student] = append(taken[student], c.ID)
			}
		}
		for student, courses := range taken {
			var v studentView
			service.Ask(http.StatusOK, servicetest.Get("/students/"+student).With(after(last)...)).Decode(s.T, &v)
			if !slices.Equal(v.Courses, courses) || len(courses) > mostCourses {
				s.Errorf("listed is %+v, and the courses have %v", v, courses)
			}
		}
	}
	for _, service := range services {
		service.Stop()
	}
	if s.where != "memory:" {
		s.auditStore(want)
	}
	s.Logf("%d requests were granted, and %d were refused", s.granted, s.refused)
}

// auditStore looks at the events, and at each moment between them.
func (s *semester) auditStore(want map[string][]string) {
	s.Helper()
	types := newTypes()
	in, takes := map[string][]string{}, map[string]int{}
	for m, err := range opened(s.T, s.where).Events().Read(context.WithoutCancel(s.Context()), es.Query{Category: category}) {
		if err != nil {
			s.Fatal(err)
		}
		e, err := types.Decode(m)
		if err != nil {
			s.Fatal(err)
		}
		switch e := e.(type) {
		case StudentEnrolled:
			if slices.Contains(in[e.Course], e.Student) {
				s.Errorf("at position %d %s is enrolled in %s twice", m.Position, e.Student, e.Course)
			}
			in[e.Course] = with(in[e.Course], e.Student)
			takes[e.Student]++
		case StudentLeft:
			if !slices.Contains(in[e.Course], e.Student) {
				s.Errorf("at position %d %s leaves %s without having been there", m.Position, e.Student, e.Course)
			}
			in[e.Course] = without(in[e.Course], e.Student)
			takes[e.Student]--
		}
		for course, all := range in {
			if len(all) > seats {
				s.Errorf("at position %d the course %s with %d seats has %v", m.Position, course, seats, all)
			}
		}
		for student, n := range takes {
			if n > mostCourses {
				s.Errorf("at position %d %s takes %d courses", m.Position, student, n)
			}
		}
	}
	maps.DeleteFunc(in, func(_ string, all []string) bool { return len(all) == 0 })
	if len(in) != len(want) {
		s.Errorf("stored is %v, and acknowledged was %v", in, want)
	}
	for course, all := range want {
		if !slices.Equal(in[course], all) {
			s.Errorf("stored is %v for %s, and acknowledged was %v", in[course], course, all)
		}
	}
}
