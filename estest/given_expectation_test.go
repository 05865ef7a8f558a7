package estest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
)

// appendOne is something to do that appends an event of a name to the stream a-1.
func appendOne(name string) func(context.Context, es.EventStore) error {
	return func(ctx context.Context, store es.EventStore) error {
		_, err := store.Append(ctx, es.AppendTo("a-1", es.Any, es.NewMessage("a-1", name, nil)))
		return err
	}
}

func refuse(context.Context, es.EventStore) error { return errNot }

// TestGivenFailsWhenNothingIsExpected holds that a test which cannot fail does not pass.
func TestGivenFailsWhenNothingIsExpected(t *testing.T) {
	t.Parallel()
	open := estest.Given(t, evolveAccount).After(opened{"Ann"}, deposited{Amount: 5})
	tests := map[string]struct {
		test func(t testing.TB)
		want string
	}{
		"of what was decided": {
			func(t testing.TB) { open.For(t).When(withdraw(5)) },
			`
decided 1 event, and the test says nothing about that; end it with Then
  1 estest_test.withdrawn{Amount: 5}`,
		},
		"of a decision that failed": {
			func(t testing.TB) { open.For(t).When(withdraw(6)).Events() },
			`
the decision failed, and the test says nothing about that; end it with ThenError
  error: withdraw 6: overdrawn`,
		},
		"of what was appended": {
			func(t testing.TB) { estest.GivenStored(t, store(t), nil).When(appendOne("A")) },
			`
appended 1 event, and the test says nothing about that; end it with Then
  a-1: 1 estest.unregistered{Name: "A", Schema: 1}`,
		},
		"of what failed": {
			func(t testing.TB) {
				o := estest.GivenStored(t, store(t), nil).When(refuse)
				if len(o.Messages()) != 0 || o.Conflicts() != 0 {
					t.Error("it has appended something")
				}
			},
			`
it failed, and the test says nothing about that; end it with ThenError
  error: not today`,
		},
		"of a step that failed": {
			func(t testing.TB) { estest.GivenStored(t, store(t), nil).When(refuse).When(appendOne("A")).Then() },
			`
it failed, and the test goes on as if it had not; say ThenError before the next step
  error: not today
given no event`,
		},
		"but nil as an error": {
			func(t testing.TB) { open.For(t).When(withdraw(5)).ThenError(nil) },
			`the test wants an error and says nil; Then is for a decision that does not fail`,
		},
		"but nil as an error of a store": {
			func(t testing.TB) { estest.GivenStored(t, store(t), nil).When(appendOne("A")).ThenError(nil) },
			`the test wants an error and says nil; Then is for what does not fail`,
		},
		"of nothing that is done": {
			func(t testing.TB) { estest.GivenStored(t, store(t), nil).When(nil) },
			`estest.GivenStored: When has no function that does something`,
		},
		"of no decision": {
			func(t testing.TB) { open.For(t).When(nil) },
			`estest.Given: When has no function that decides`,
		},
		"through no types": {
			func(t testing.TB) { open.For(t).Through(nil) },
			`estest.Given: Through has no types; give it those that the program stores events with`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustReport(t, tt.want, tt.test)
		})
	}
	for name, test := range map[string]func(t testing.TB){
		"Events": func(t testing.TB) { open.For(t).When(withdraw(5)).Events() },
		"Err":    func(t testing.TB) { _ = open.For(t).When(withdraw(6)).Err() },
		"ThenErrorThat": func(t testing.TB) {
			open.For(t).When(withdraw(6)).ThenErrorThat("an error", func(error) bool { return true })
		},
		"stored Err":  func(t testing.TB) { _ = estest.GivenStored(t, store(t), nil).When(refuse).Err() },
		"OnCondition": func(t testing.TB) { estest.GivenStored(t, store(t), nil).When(appendOne("A")).OnCondition() },
		"Messages":    func(t testing.TB) { estest.GivenStored(t, store(t), nil).When(appendOne("A")).Messages() },
		"a next step": func(t testing.TB) {
			estest.GivenStored(t, store(t), nil).When(appendOne("A")).When(refuse).ThenError(errNot)
		},
		"skipped": func(t testing.TB) {
			open.For(t).When(withdraw(5))
			t.SkipNow()
		},
	} {
		if got := report(t, test); got != "" {
			t.Errorf("%s is not enough: %s", name, got)
		}
	}
}

// TestGivenTestsOfOnePastAreTheirOwn holds that what is wrong in a subtest fails the subtest.
func TestGivenTestsOfOnePastAreTheirOwn(t *testing.T) {
	t.Parallel()
	past := estest.Given(t, evolveAccount).After(opened{"Ann"}, deposited{Amount: 10})
	for amount := range 10 {
		t.Run(strconv.Itoa(amount), func(t *testing.T) {
			t.Parallel()
			mustReport(t, fmt.Sprintf(`
decided 1 event, want another one
  1 differs     estest_test.withdrawn{Amount: %d}
                Amount: got %d, want 11
given 2 events
  1 estest_test.opened{Owner: "Ann"}
  2 estest_test.deposited{Amount: 10}
state estest_test.account{owner: "Ann", balance: 10}`, amount+1, amount+1), func(t testing.TB) {
				past.For(t).When(withdraw(amount + 1)).Then(withdrawn{Amount: 11})
			})
			past.For(t).After(withdrawn{Amount: amount}).ThenState(account{owner: "Ann", balance: 10 - amount})
		})
	}
}

// redacted keeps something from who reads logs.
type redacted string

func (redacted) MarshalText() ([]byte, error) { return []byte("***"), nil }

type vault struct{ secrets []redacted }

func TestGivenSeesWhatTypesDoNotShow(t *testing.T) {
	t.Parallel()
	evolve := func(_ vault, e any) vault {
		s, _ := e.(redacted)
		return vault{[]redacted{s}}
	}
	mustReport(t, `
the decision changed the state that it was given, which is not its own; return events, or give the aggregate a Clone
  before: estest_test.vault{secrets: ["a"]}
  after:  estest_test.vault{secrets: ["b"]}`, func(t testing.TB) {
		estest.Given(t, evolve).After(redacted("a")).When(func(v vault) ([]any, error) {
			v.secrets[0] = "b"
			return nil, nil
		})
	})
	mustReport(t, `
the state is not the wanted one
  secrets[0]: got "a", want "b"
given 1 event
  1 ***
state estest_test.vault{secrets: [***]}`, func(t testing.TB) {
		estest.Given(t, evolve).After(redacted("a")).ThenState(vault{[]redacted{"b"}})
	})
	shared := []redacted{"a"}
	mustReport(t, `
the same events made another state when they were applied again; evolve may use nothing but the state and the event, `+
		`and what makes the initial state makes a new one each time
  state: first estest_test.vault{secrets: ["aa"]}, then estest_test.vault{secrets: ["aaa"]}`, func(t testing.TB) {
		estest.Given(t, func(v vault, _ any) vault {
			v.secrets[0] += "a"
			return v
		}).Initially(func() vault { return vault{shared} }).After(1).State()
	})
}

func TestGivenTellsErrorsOfTheSameTextApart(t *testing.T) {
	t.Parallel()
	mustReport(t, `
the decision failed with another error, want the error "not open"
  error: not open
  it has the same text, and is not that error nor wraps it: is it made anew each time, or formatted with %v instead of %w?
given no event
state estest_test.account{}`, func(t testing.TB) {
		estest.Given(t, evolveAccount).When(func(account) ([]accountEvent, error) { return nil, errors.New("not open") }).ThenError(errNotOpen)
	})
}

// TestGivenStoredSeesWhatGoesPastItsStore holds that a test which wants no event fails when some are appended to the store itself.
func TestGivenStoredSeesWhatGoesPastItsStore(t *testing.T) {
	t.Parallel()
	past := func(backend es.EventStore) func(context.Context, es.EventStore) error {
		return func(ctx context.Context, _ es.EventStore) error { return appendOne("A")(ctx, backend) }
	}
	mustReport(t, `
what was appended is not what is wanted
  stream "a-1": 1 event, want no event
    1 unexpected  estest.unregistered{Name: "A", Schema: 1}
given no event`, func(t testing.TB) {
		events := store(t)
		estest.GivenStored(t, events, nil).When(past(events)).Then()
	})
	mustReport(t, `
something was appended to the store itself, and its condition is not known; append to the store that When gives
  a-1: 1 estest.unregistered{Name: "A", Schema: 1}
given no event`, func(t testing.TB) {
		events := store(t)
		estest.GivenStored(t, events, nil).When(past(events)).OnCondition()
	})
	mustReport(t, `
it failed, want 1 event and no error
  error: not today
  a-1: 1 estest.unregistered{Name: "A", Schema: 1}
given no event`, func(t testing.TB) {
		estest.GivenStored(t, store(t), nil).When(func(ctx context.Context, store es.EventStore) error {
			return errors.Join(appendOne("A")(ctx, store), errNot)
		}).Then(estest.In("a-1", es.NewMessage("", "A", nil)))
	})
	events := store(t)
	given := estest.In("b-1", es.NewMessage("", "B", nil))
	both := func(ctx context.Context, store es.EventStore) error {
		return errors.Join(appendOne("A")(ctx, store), past(events)(ctx, store))
	}
	a := es.NewMessage("", "A", nil)
	estest.GivenStored(t, events, nil, given).Meanwhile(given).When(both).Then(estest.In("a-1", a, a)).
		When(past(events)).Then(estest.In("a-1", a))
	backend := memory.New()
	estest.GivenStored(t, backend.Events(), nil).
		When(func(ctx context.Context, store es.EventStore) error {
			return errors.Join(appendOne("A")(ctx, store), backend.Close())
		}).
		Then(estest.In("a-1", a))
}

type renamed struct{ Seats int }

// TestGivenStoredSeesAnOldNameAndSchema holds that what an upcaster reads as the wanted event is not taken for it.
func TestGivenStoredSeesAnOldNameAndSchema(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[renamed](types, "Renamed", es.WithSchema(2))
	es.Upcast(types, "CourseOpened", 1, es.RenameEvent("Renamed", 2))
	mustReport(t, `
what was appended is not what is wanted
  stream "a-1": event 1 is stored as CourseOpened (schema 1), want Renamed (schema 2)
given no event`, func(t testing.TB) {
		estest.GivenStored(t, store(t), types).When(func(ctx context.Context, store es.EventStore) error {
			_, err := store.Append(ctx, es.AppendTo("a-1", es.Any, es.NewMessage("a-1", "CourseOpened", []byte(`{"Seats":2}`))))
			return err
		}).Then(estest.In("a-1", renamed{2}))
	})
}

func TestGivenStoredTakesNoEventThatCannotBeStored(t *testing.T) {
	t.Parallel()
	var none *es.Message
	for want, event := range map[string]any{
		`estest.GivenStored: event 1 of stream "a-1": the message is nil`:                                                               none,
		`estest.GivenStored: event 1 of stream "a-1": it is of type int, and the test gives no types to store that with`:                1,
		`estest.GivenStored: event 1 of stream "a-1": it is of type estest_test.opened, and the test gives no types to store that with`: opened{},
	} {
		mustReport(t, want, func(t testing.TB) { estest.GivenStored(t, store(t), nil, estest.In("a-1", event)) })
	}
	mustReport(t, `estest: what is wanted: event 1 of stream "a-1": the message is nil`, func(t testing.TB) {
		estest.GivenStored(t, store(t), nil).When(appendOne("A")).Then(estest.In("a-1", none))
	})
}

// TestThePastIsSharedByParallelTests holds that what is derived of one past does not write to it; the race detector looks on.
func TestThePastIsSharedByParallelTests(t *testing.T) {
	t.Parallel()
	events := slices.Grow([]accountEvent{opened{"Ann"}}, 10)
	past := estest.Given(t, evolveAccount).After(events...).Ignoring("At")
	stored := estest.In("a-1", es.NewMessage("", "A", nil)).Tagged("x")
	documents := amounts(map[string]int{"1": 1})
	p := project(t, balancesOf(0, add)).Given(accountTypes(), estest.In("account-1", deposited{Amount: 1}))
	p.Then(documents)
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			past.For(t).After(deposited{Amount: i + 1}).Ignoring("ID").When(withdraw(i + 1)).Then(withdrawn{Amount: i + 1}).
				ThenState(account{owner: "Ann"})
			estest.GivenStored(t, store(t), nil, stored.Tagged(strconv.Itoa(i))).When(appendOne("A")).Then(estest.In("a-1", es.NewMessage("", "A", nil)))
			project(t, balancesOf(0, add)).Given(accountTypes(), estest.In("account-1", deposited{Amount: 1})).Then(documents)
		})
	}
}
