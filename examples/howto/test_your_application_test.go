package howto_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/aggregate"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
	"github.com/eventsourcing-go/eventsourcing/router"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

type (
	CupFilled  struct{ Ml int }
	CupEmptied struct{ Ml int }
)

type Cup struct{ Ml int }

var errSpilled = errors.New("it would spill")

func evolveCup(c Cup, event any) Cup {
	switch e := event.(type) {
	case CupFilled:
		c.Ml += e.Ml
	case CupEmptied:
		c.Ml -= e.Ml
	}
	return c
}

func fill(ml int) func(c Cup) ([]any, error) {
	return func(c Cup) ([]any, error) {
		if c.Ml+ml > 250 {
			return nil, errSpilled
		}
		return []any{CupFilled{ml}}, nil
	}
}

func newCupTypes() *es.Types {
	types := es.NewTypes()
	es.Register[CupFilled](types, "CupFilled")
	es.Register[CupEmptied](types, "CupEmptied")
	return types
}

func TestFillingACup(t *testing.T) {
	t.Parallel()
	estest.Given(t, evolveCup).
		When(fill(200)).
		Then(CupFilled{200})

	estest.Given(t, evolveCup).
		After(CupFilled{200}, CupEmptied{50}).
		When(fill(101)).
		ThenError(errSpilled)

	estest.Given(t, evolveCup).
		After(CupFilled{200}, CupEmptied{50}).
		ThenState(Cup{Ml: 150})
}

func TestFillingACupStepByStep(t *testing.T) {
	t.Parallel()
	estest.Given(t, evolveCup).
		When(fill(200)).Then(CupFilled{200}).
		When(fill(51)).ThenError(errSpilled).
		When(fill(50)).Then(CupFilled{50}).
		ThenState(Cup{Ml: 250})
}

func TestFillingCupsInATable(t *testing.T) {
	t.Parallel()
	past := estest.Given(t, evolveCup).Through(newCupTypes()).After(CupFilled{200})
	for name, c := range map[string]struct {
		after []any
		when  func(Cup) ([]any, error)
		then  []any
		err   error
	}{
		"to the brim":         {when: fill(50), then: []any{CupFilled{50}}},
		"over the brim":       {when: fill(51), err: errSpilled},
		"what was drunk fits": {after: []any{CupEmptied{1}}, when: fill(51), then: []any{CupFilled{51}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			past.For(t).After(c.after...).When(c.when).ThenEither(c.then, c.err)
		})
	}
}

// enrolling makes what the test calls: the decision, on the store that it is given.
func enrolling(course, student string) func(ctx context.Context, store es.EventStore) error {
	return func(ctx context.Context, store es.EventStore) error {
		seatsOf, err := aggregate.NewDecision(aggregate.DecisionConfig[int, StudentEnrolled]{
			Events: store, Types: newStudentTypes(),
			Evolve: func(taken int, _ StudentEnrolled) int { return taken + 1 },
		})
		if err != nil {
			return err
		}
		_, err = enrollWith(ctx, seatsOf, course, student)
		return err
	}
}

func newStudentTypes() *es.Types {
	types := es.NewTypes()
	es.Register[StudentEnrolled](types, "StudentEnrolled")
	return types
}

func TestEnrolling(t *testing.T) {
	t.Parallel()
	enrolled := func(student string) estest.StreamEvents {
		return estest.In("student-"+student, StudentEnrolled{"go-101", student})
	}
	estest.GivenStored(t, memory.New().Events(), newStudentTypes(), enrolled("Ann")).
		When(enrolling("go-101", "Bob")).
		Then(enrolled("Bob")).
		OnCondition(es.Criterion{Names: []string{"StudentEnrolled"}, Tags: []string{"course:go-101"}}).
		When(enrolling("go-101", "Cid")).
		ThenError(errFull)

	overtaken := estest.GivenStored(t, memory.New().Events(), newStudentTypes(), enrolled("Ann")).
		Meanwhile(enrolled("Bob")). // has the last seat before Cid gets it
		When(enrolling("go-101", "Cid")).
		ThenError(errFull)
	if overtaken.Conflicts() != 1 {
		t.Errorf("%d conflicts, want 1", overtaken.Conflicts())
	}
}

func TestPlacingAnOrderOnce(t *testing.T) {
	t.Parallel()
	types := newOrderTypes()
	command, err := types.Encode("order-7", PlaceOrder{Total: 42})
	if err != nil {
		t.Fatal(err)
	}
	place := func(ctx context.Context, store es.EventStore) error {
		commands, err := newOrderCommands(store, types)
		if err != nil {
			return err
		}
		_, err = commands.Do(ctx, command)
		return err
	}
	estest.GivenStored(t, memory.New().Events(), types).
		When(place).Then(estest.In("order-7", OrderPlaced{Total: 42})).
		When(place).Then() // the same command again: nothing
}

// Level is a document of the model "levels".
type Level struct {
	Ml    int
	Since time.Time
}

// newLevels makes the projection with its real handlers, and with batches of a size that the test chooses.
func newLevels(backend es.Backend, batch int) (estest.Engine, error) {
	levels := projection.NewDocuments[Level]("levels")
	change := func(ctx context.Context, b *projection.Batch, m *es.Message, ml int) error {
		return levels.In(b).Update(ctx, m.Stream, func(l *Level) error {
			if l.Ml += ml; l.Ml < 0 {
				return errSpilled
			}
			l.Since = m.Recorded
			return nil
		})
	}
	return projection.New(projection.Config{
		Name: "levels", Events: backend.Events(), Models: backend.ReadModels(), Types: newCupTypes(), BatchSize: batch,
	}, projection.On(func(ctx context.Context, b *projection.Batch, e CupFilled, m *es.Message) error {
		return change(ctx, b, m, e.Ml)
	}), projection.On(func(ctx context.Context, b *projection.Batch, e CupEmptied, m *es.Message) error {
		return change(ctx, b, m, -e.Ml)
	}))
}

func openMemory() es.Backend { return memory.New() }

func TestTheLevelsOfCups(t *testing.T) {
	t.Parallel()
	estest.Project(t, openMemory, newLevels).
		Given(newCupTypes(),
			estest.In("cup-1", CupFilled{200}, CupEmptied{50}),
			estest.In("cup-2", CupFilled{100}),
		).
		Ignoring("Since").
		Then(estest.Documents("levels", map[string]Level{"cup-1": {Ml: 150}, "cup-2": {Ml: 100}}))

	estest.Project(t, openMemory, newLevels).
		Given(newCupTypes(), estest.In("cup-1", CupFilled{20}, CupEmptied{50})).
		ThenError(errSpilled)
}

func TestWhoIsTold(t *testing.T) {
	t.Parallel()
	var recorder estest.Recorder
	d := &es.Delivery{Message: es.NewMessage("cup-1", "CupFilled", []byte(`{"Ml":200}`)), Topic: "cup"}
	if _, err := recorder.Handle(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	handled := recorder.Await(t, 1) // waits for it, and not longer
	if handled[0].Name != "CupFilled" {
		t.Errorf("handled %s", handled[0].Name)
	}
}

// askForMore is a handler: who has emptied a cup is asked for more.
func askForMore(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
	if d.Name != "CupEmptied" {
		return nil, es.Skip(nil)
	}
	return []*es.Message{es.NewMessage("guest-1", "MoreOffered", d.Data)}, nil
}

func TestWhoEmptiesACupIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker, err := memory.NewPubSub(memory.PubSubConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer broker.Close()
		var recorder estest.Recorder
		var publisher estest.FakePublisher
		publisher.FailNext(errors.New("the broker is away")) // the first time

		r, err := router.New(router.Config{Subscriber: broker, Emit: router.ToPublisher(&publisher)})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Route("cup", recorder.Middleware(es.HandlerFunc(askForMore)), router.Options{Name: "waiter"}); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		filled := es.NewMessage("cup-1", "CupFilled", []byte(`{"Ml":200}`))
		emptied := es.NewMessage("cup-1", "CupEmptied", []byte(`{"Ml":200}`))
		if err := broker.Publish(t.Context(), es.ToCategory(filled, emptied)...); err != nil {
			t.Fatal(err)
		}

		offered := publisher.Await(t, 1)[0]
		if offered.Topic != "guest" || offered.Message.Name != "MoreOffered" {
			t.Errorf("published %s to %s", offered.Message.Name, offered.Topic)
		}
		skipped := recorder.AwaitThat(t, "a cup that was filled", func(h estest.Handled) bool { return h.Name == "CupFilled" })
		if len(skipped.Outputs) > 0 {
			t.Errorf("returned %d messages", len(skipped.Outputs))
		}
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(publisher.Published()); n != 1 { // now that all has ended there is no more to come
			t.Errorf("published %d messages", n)
		}
	})
}

// Pot is code that is given its time.
type Pot struct {
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Steep waits until the tea is good, and tells when that was.
func (p Pot) Steep(ctx context.Context) (time.Time, error) {
	if err := p.Sleep(ctx, 4*time.Minute); err != nil {
		return time.Time{}, err
	}
	return p.Now(), nil
}

func TestTeaTakesFourMinutes(t *testing.T) {
	t.Parallel()
	clock := estest.NewClock(time.Date(2030, 5, 6, 16, 0, 0, 0, time.UTC))
	pot := Pot{Now: clock.Now, Sleep: clock.Sleep}
	ready := make(chan time.Time, 1)
	go func() {
		if at, err := pot.Steep(t.Context()); err == nil {
			ready <- at
		}
	}()
	clock.AwaitSleepers(t, 1) // only now it waits for the clock
	clock.Advance(4 * time.Minute)
	if at := <-ready; at.Format(time.TimeOnly) != "16:04:00" {
		t.Errorf("it was ready at %v", at)
	}
}

// backends are what the tests run on: one in memory, and the one that the program uses.
func backends(t *testing.T) map[string]func() es.Backend {
	t.Helper()
	return map[string]func() es.Backend{
		"memory": openMemory,
		"sqlite": func() es.Backend {
			db, err := sqlite.Open(sqlite.Config{Path: filepath.Join(t.TempDir(), "cups.db"), Namespace: "cups"})
			if err != nil {
				t.Fatal(err)
			}
			return db
		},
	}
}

// filling makes what the test calls: an update of the repository, on the store that it is given.
func filling(cup string, ml int) func(ctx context.Context, store es.EventStore) error {
	return func(ctx context.Context, store es.EventStore) error {
		cups, err := aggregate.New(aggregate.Config[Cup, any]{
			Events: store, Types: newCupTypes(), Category: "cup", Evolve: evolveCup,
		})
		if err != nil {
			return err
		}
		_, err = cups.Update(ctx, cup, fill(ml))
		return err
	}
}

func TestCupsOnEveryBackend(t *testing.T) {
	t.Parallel()
	for name, open := range backends(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := open()
			defer backend.Close()
			estest.GivenStored(t, backend.Events(), newCupTypes(), estest.In("cup-1", CupFilled{200})).
				Meanwhile(estest.In("cup-1", CupEmptied{50})).
				When(filling("1", 50)).Then(estest.In("cup-1", CupFilled{50})).
				When(filling("1", 51)).ThenError(errSpilled).
				When(filling("2", 51)).Then(estest.In("cup-2", CupFilled{51}))

			estest.Project(t, open, newLevels).
				Given(newCupTypes(), estest.In("cup-1", CupFilled{200}, CupEmptied{50})).
				Ignoring("Since").
				Then(estest.Documents("levels", map[string]Level{"cup-1": {Ml: 150}}))
		})
	}
}
