package estest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

type (
	courseOpened struct{ Seats int }
	enrolled     struct{ Course, Student string }
)

func (e enrolled) EventTags() []string { return []string{"student:" + e.Student, "course:" + e.Course} }

var errFull = errors.New("the course is full")

func courseTypes() *es.Types {
	types := es.NewTypes()
	es.Register[courseOpened](types, "CourseOpened")
	es.Register[enrolled](types, "Enrolled")
	return types
}

// enroll is a decision over tags, with as many attempts as are told.
func enroll(attempts int, course, student string) func(ctx context.Context, store es.EventStore) error {
	types := courseTypes()
	match := []es.Criterion{{Names: []string{"CourseOpened", "Enrolled"}, Tags: []string{"course:" + course}}}
	return func(ctx context.Context, store es.EventStore) (err error) {
		for range attempts {
			seats := 0
			var condition es.Condition
			condition, err = es.ReadForDecision(ctx, store, match, func(m *es.Message) error {
				v, err := types.Decode(m)
				if c, ok := v.(courseOpened); ok {
					seats += c.Seats
				} else {
					seats--
				}
				return err
			})
			if err != nil {
				return err
			}
			if seats == 0 {
				return errFull
			}
			a, err := types.AppendTo("student-"+student, es.Any, enrolled{Course: course, Student: student})
			if err != nil {
				return err
			}
			a.Unless = []es.Condition{condition}
			if _, err = store.Append(ctx, a); !errors.Is(err, es.ErrConflict) {
				return err
			}
		}
		return es.ErrConflict
	}
}

func store(t testing.TB) es.EventStore {
	t.Helper()
	b := memory.New()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b.Events()
}

func twoSeats(course string) estest.StreamEvents {
	return estest.In("course-"+course, courseOpened{Seats: 2}).Tagged("course:" + course)
}

func TestGivenStoredTestsADecisionOverTags(t *testing.T) {
	t.Parallel()
	ann, bob := enrolled{"go", "ann"}, enrolled{"go", "bob"}
	criterion := es.Criterion{Tags: []string{"course:go"}, Names: []string{"Enrolled", "CourseOpened"}}
	o := estest.GivenStored(t, store(t), courseTypes(), twoSeats("go")).
		When(enroll(1, "go", "ann")).Then(estest.In("student-ann", ann)).OnCondition(criterion).
		When(enroll(1, "go", "bob")).ThenEither([]estest.StreamEvents{estest.In("student-bob", &bob)}, nil).
		When(enroll(1, "go", "eve")).ThenError(errFull).ThenEither(nil, errFull)
	if len(o.Messages()) != 0 || !errors.Is(o.Err(), errFull) || o.Conflicts() != 0 {
		t.Errorf("%v, %v, %d", o.Messages(), o.Err(), o.Conflicts())
	}
	message := es.NewMessage("", "Enrolled", []byte(`{"Student":"bob","Course":"go"}`))
	o = estest.GivenStored(t, store(t), courseTypes(), twoSeats("go")).When(enroll(1, "go", "bob")).
		Then(estest.In("student-bob", message).Tagged("course:go", "student:bob"))
	if m := o.Messages()[0]; m.Version != 1 || m.Position == 0 || m.Name != "Enrolled" {
		t.Errorf("%+v", m)
	}
}

func TestGivenStoredLetsADecisionBeOvertaken(t *testing.T) {
	t.Parallel()
	bob := estest.In("student-bob", enrolled{"go", "bob"})
	past := func() *estest.StoredPast {
		return estest.GivenStored(t, store(t), courseTypes(), twoSeats("go")).Meanwhile(bob)
	}
	o := past().When(enroll(2, "go", "ann")).Then(estest.In("student-ann", enrolled{"go", "ann"}))
	if o.Conflicts() != 1 {
		t.Errorf("%d conflicts", o.Conflicts())
	}
	past().When(enroll(1, "go", "ann")).ThenError(es.ErrConflict)
	past().Meanwhile(estest.In("student-eve", enrolled{"go", "eve"})).When(enroll(2, "go", "ann")).ThenError(errFull)
	mustReport(t, `
nothing happened meanwhile, because it ended without an append; its error: <nil>
given 1 event
  course-go: estest_test.courseOpened{Seats: 2}
meanwhile 1 event
  student-bob: estest_test.enrolled{Course: "go", Student: "bob"}`, func(t testing.TB) {
		estest.GivenStored(t, store(t), courseTypes(), twoSeats("go")).Meanwhile(bob).
			When(func(context.Context, es.EventStore) error { return nil })
	})
}

func TestGivenStoredTestsACommandHandler(t *testing.T) {
	t.Parallel()
	command := es.NewMessage("student-ann", "Enroll", nil)
	do := func(ctx context.Context, store es.EventStore) error {
		h, err := es.NewCommandHandler(es.CommandConfig{Name: "enroll", Events: store}, func(context.Context, *es.Message) (es.Append, error) {
			return courseTypes().AppendTo("student-ann", es.Any, enrolled{"go", "ann"})
		})
		if err != nil {
			return err
		}
		_, err = h.Do(ctx, command)
		return err
	}
	estest.GivenStored(t, store(t), courseTypes()).
		When(do).Then(estest.In("student-ann", enrolled{"go", "ann"})).OnCondition().
		When(do).Then() // once
}

func TestGivenStoredCountsNothingThatWasThere(t *testing.T) {
	t.Parallel()
	m := es.NewMessage("a-1", "A", nil)
	twice := func(ctx context.Context, store es.EventStore) error {
		for range 2 {
			for _, o := range store.AppendEach(ctx, []es.Append{es.AppendTo("a-1", es.Any, m)}) {
				if o.Err != nil {
					return o.Err
				}
			}
		}
		return nil
	}
	other := es.NewMessage("", "A", nil) // with another ID
	estest.GivenStored(t, store(t), nil).When(twice).Then(estest.In("a-1", other)).When(twice).Then()
}

func TestGivenStoredReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const given = `
given 1 event
  course-go: estest_test.courseOpened{Seats: 2}`
	raw := func(stream, name string, tags ...string) *es.Message {
		m := es.NewMessage(stream, name, []byte(`"data"`))
		m.Tags = tags
		return m
	}
	appending := func(a es.Append) func(context.Context, es.EventStore) error {
		return func(ctx context.Context, store es.EventStore) error {
			_, err := store.Append(ctx, a)
			return err
		}
	}
	tests := map[string]struct {
		when func(context.Context, es.EventStore) error
		then func(*estest.StoredOutcome)
		want string
	}{
		"other events": {
			when: appending(es.Append{Streams: []es.StreamAppend{
				{Stream: "b-1", Events: []*es.Message{raw("b-1", "B", "t")}},
				{Stream: "a-1", Events: []*es.Message{raw("a-1", "A", "t")}},
			}}),
			then: func(o *estest.StoredOutcome) {
				o.Then(estest.In("b-1", raw("", "B", "t")), estest.In("a-1", enrolled{Course: "go"}), estest.In("c-1", courseOpened{}))
			},
			want: `
what was appended is not what is wanted
  stream "a-1": 1 event, want another one
    1 unexpected  estest.unregistered{Name: "A", Schema: 1, Data: "\"data\""}
      missing     estest_test.enrolled{Course: "go"}
  stream "c-1": no event, want 1 event
      missing     estest_test.courseOpened{}`,
		},
		"other tags": {
			when: appending(es.AppendTo("a-1", es.Any, raw("a-1", "A", "y", "x"))),
			then: func(o *estest.StoredOutcome) { o.Then(estest.In("a-1", raw("", "A", "x")).Tagged("z")) },
			want: `
what was appended is not what is wanted
  stream "a-1": event 1, A, is tagged ["x" "y"], want ["x" "z"]`,
		},
		"an error": {
			when: func(context.Context, es.EventStore) error { return errFull },
			then: func(o *estest.StoredOutcome) { o.Then() },
			want: `
it failed, want no event and no error
  error: the course is full`,
		},
		"no error": {
			when: enroll(1, "go", "ann"),
			then: func(o *estest.StoredOutcome) { o.ThenError(errFull) },
			want: `
appended 1 event, want the error "the course is full"
  student-ann: 1 estest_test.enrolled{Course: "go", Student: "ann"}`,
		},
		"another error": {
			when: func(context.Context, es.EventStore) error { return errNotOpen },
			then: func(o *estest.StoredOutcome) { o.ThenError(errFull) },
			want: `
it failed with another error, want the error "the course is full"
  error: not open`,
		},
		"an error, too late": {
			when: func(ctx context.Context, store es.EventStore) error {
				return errors.Join(enroll(1, "go", "ann")(ctx, store), errFull)
			},
			then: func(o *estest.StoredOutcome) { o.ThenError(errFull) },
			want: `
it failed as wanted, and appended 1 event
  student-ann: 1 estest_test.enrolled{Course: "go", Student: "ann"}`,
		},
		"another condition": {
			when: enroll(1, "go", "ann"),
			then: func(o *estest.StoredOutcome) {
				o.OnCondition(es.Criterion{Tags: []string{"course:go"}, Names: []string{"Enrolled"}}, es.Criterion{})
			},
			want: `
the condition of the append is another one
  unexpected  names ["CourseOpened" "Enrolled"], tags ["course:go"]
  missing     names ["Enrolled"], tags ["course:go"]
  missing     names [], tags []`,
		},
		"no condition": {
			when: appending(es.AppendTo("a-1", es.Any, raw("a-1", "A"))),
			then: func(o *estest.StoredOutcome) { o.OnCondition(es.Criterion{Names: []string{"A"}}) },
			want: `
the condition of the append is another one
  missing     names ["A"], tags []`,
		},
		"no append to have a condition": {
			when: func(context.Context, es.EventStore) error { return nil },
			then: func(o *estest.StoredOutcome) { o.OnCondition() },
			want: `nothing was appended, want a condition`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustReport(t, tt.want+given, func(t testing.TB) {
				tt.then(estest.GivenStored(t, store(t), courseTypes(), twoSeats("go")).When(tt.when))
			})
		})
	}
	mustReport(t, `estest.GivenStored: event 1 of stream "a-1": unknown type: the Go type string is not registered; call Register for it`,
		func(t testing.TB) { estest.GivenStored(t, store(t), courseTypes(), estest.In("a-1", "what?")) })
}

func TestGivenStoredNotesTheAppendsOfManyGoroutines(t *testing.T) {
	t.Parallel()
	const n = 50
	o := estest.GivenStored(t, store(t), nil).When(func(ctx context.Context, store es.EventStore) error {
		errs := make(chan error)
		for range n {
			go func() {
				_, err := store.Append(ctx, es.AppendTo("a-1", es.Any, es.NewMessage("a-1", "A", nil)))
				errs <- err
			}()
		}
		var all error
		for range n {
			all = errors.Join(all, <-errs)
		}
		return all
	})
	messages := o.Messages()
	if len(messages) != n || o.Err() != nil || !slices.IsSortedFunc(messages, func(a, b *es.Message) int { return int(a.Version - b.Version) }) {
		t.Errorf("%d messages, %v", len(messages), o.Err())
	}
}
