package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

type enrolled struct{ Course, Student string }

func (e enrolled) EventTags() []string { return []string{"course:" + e.Course, "student:" + e.Student} }

// school decides about the seats of courses.
type school struct {
	*testing.T

	backend *memory.Backend
	seats   *aggregate.Decision[map[string]int, enrolled]
}

func newSchool(t *testing.T) *school {
	t.Helper()
	backend := memory.New()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	types := es.NewTypes()
	es.Register[enrolled](types, "Enrolled")
	seats, err := aggregate.NewDecision(aggregate.DecisionConfig[map[string]int, enrolled]{
		Events: backend.Events(), Types: types, Attempts: 1000,
		Initial: func() map[string]int { return map[string]int{} },
		Evolve: func(taken map[string]int, e enrolled) map[string]int {
			taken["course "+e.Course]++
			taken["student "+e.Student]++
			return taken
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &school{t, backend, seats}
}

var errFull = errors.New("full")

const capacity, limit = 5, 2

func (s *school) admit(ctx context.Context, course, student string) error {
	e := enrolled{course, student}
	match := []es.Criterion{{Tags: []string{"course:" + course}}, {Tags: []string{"student:" + student}}}
	_, err := s.seats.Decide(ctx, match, func(taken map[string]int) ([]aggregate.Write, error) {
		if taken["course "+course] >= capacity || taken["student "+student] >= limit {
			return nil, errFull
		}
		return []aggregate.Write{aggregate.To("course-"+course, e)}, nil
	})
	return err
}

func TestADecisionOverTagsKeepsItsLimits(t *testing.T) {
	t.Parallel()
	s := newSchool(t)
	var admitted atomic.Int64
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			for course := range 3 {
				switch err := s.admit(t.Context(), fmt.Sprint("c", course), fmt.Sprint("s", i%12)); {
				case err == nil:
					admitted.Add(1)
				case !errors.Is(err, errFull):
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	perCourse, perStudent, events := map[string]int{}, map[string]int{}, int64(0)
	for m, err := range s.backend.Events().Read(t.Context(), es.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		events++
		perCourse[m.Tags[0]]++
		perStudent[m.Tags[1]]++
	}
	for course, n := range perCourse {
		if n != capacity {
			t.Errorf("%s has %d, and was asked for more often than its %d seats", course, n, capacity)
		}
	}
	for student, n := range perStudent {
		if n > limit {
			t.Errorf("%s has %d courses", student, n)
		}
	}
	if events != admitted.Load() {
		t.Errorf("%d were admitted, and %d are there", admitted.Load(), events)
	}
}

func TestADecisionWritesAllOrNothing(t *testing.T) {
	t.Parallel()
	s := newSchool(t)
	ctx := es.WithOrigin(t.Context(), es.Origin{CorrelationID: "c-1", CausationID: "e-1"})
	match := []es.Criterion{{Tags: []string{"course:a"}}}
	both := func(map[string]int) ([]aggregate.Write, error) {
		return []aggregate.Write{
			aggregate.To("course-a", enrolled{"a", "x"}, enrolled{"a", "y"}),
			{Stream: "student-x", Expect: es.NoStream, Events: []any{enrolled{"a", "x"}}},
		}, nil
	}
	done, err := s.seats.Decide(ctx, match, both)
	if err != nil || len(done.Appended.Places) != 3 || done.Checkpoint.Position != 3 || len(done.State) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	for m, err := range s.backend.Events().Read(ctx, es.Query{}) {
		if err != nil || m.CorrelationID != "c-1" || m.CausationID != "e-1" {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if _, err := s.seats.Decide(ctx, match, both); !errors.Is(err, es.ErrConflict) {
		t.Errorf("a stream is not as expected: %v", err)
	}
	none, err := s.seats.Decide(ctx, match, func(map[string]int) ([]aggregate.Write, error) { return nil, nil })
	if err != nil || none.Checkpoint.Position != 0 || none.State["course a"] != 3 {
		t.Errorf("nothing was decided: %+v, %v", none, err)
	}
	a, err := s.seats.Propose(ctx, match, func(map[string]int) ([]aggregate.Write, error) {
		return []aggregate.Write{aggregate.To("course-a", enrolled{"a", "z"})}, nil
	})
	if err != nil || len(a.Unless) != 1 || len(a.Streams) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if head, err := s.backend.Events().Head(ctx); err != nil || head.Position != 3 {
		t.Errorf("there are %d events, %v; want 3", head.Position, err)
	}
}

func TestADecisionCanBeginWithWhatItIsAbout(t *testing.T) {
	t.Parallel()
	s := newSchool(t)
	match := []es.Criterion{{Tags: []string{"course:a"}}}
	begun := 0
	initial := func() map[string]int { begun++; return map[string]int{"course a": 100} }
	for i := range 2 {
		done, err := s.seats.DecideFrom(t.Context(), initial, match, func(map[string]int) ([]aggregate.Write, error) {
			if begun == 1 {
				if err := s.admit(t.Context(), "a", "somebody else"); err != nil {
					return nil, err
				}
			}
			return []aggregate.Write{aggregate.To("course-a", enrolled{"a", "x"})}, nil
		})
		if err != nil || done.State["course a"] != 101+i {
			t.Errorf("%+v, %v", done, err)
		}
	}
	if begun != 3 {
		t.Errorf("it was begun %d times, want 3: once more because somebody else was first", begun)
	}
}

func TestDecisionsThatCannotBe(t *testing.T) {
	t.Parallel()
	s := newSchool(t)
	evolve := func(n int, _ any) int { return n }
	for name, c := range map[string]aggregate.DecisionConfig[int, any]{
		"no Events": {Types: es.NewTypes(), Evolve: evolve},
		"no Types":  {Events: s.backend.Events(), Evolve: evolve},
		"no Evolve": {Events: s.backend.Events(), Types: es.NewTypes()},
		"Attempts":  {Events: s.backend.Events(), Types: es.NewTypes(), Evolve: evolve, Attempts: -1},
		"Unknown":   {Events: s.backend.Events(), Types: es.NewTypes(), Evolve: evolve, Unknown: -1},
	} {
		if _, err := aggregate.NewDecision(c); !errors.Is(err, es.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.seats.Decide(t.Context(), nil, nil); !errors.Is(err, es.ErrInvalid) {
		t.Errorf("without criteria: %v", err)
	}
}
