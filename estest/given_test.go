package estest_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

// account is an aggregate that the tests of this file test.
type account struct {
	owner   string
	balance int
	tags    map[string]int
}

type (
	accountEvent interface{ isAccountEvent() }
	opened       struct{ Owner string }
	deposited    struct {
		Amount int
		At     time.Time
	}
	withdrawn struct {
		ID     uuid.UUID
		Amount int
	}
	labeled struct{ Label string }
)

func (opened) isAccountEvent()    {}
func (deposited) isAccountEvent() {}
func (withdrawn) isAccountEvent() {}
func (labeled) isAccountEvent()   {}

var (
	errOverdrawn = errors.New("overdrawn")
	errNotOpen   = errors.New("not open")
)

func evolveAccount(a account, e accountEvent) account {
	switch e := e.(type) {
	case opened:
		a.owner = e.Owner
	case deposited:
		a.balance += e.Amount
	case withdrawn:
		a.balance -= e.Amount
	case labeled:
		if a.tags == nil {
			a.tags = map[string]int{}
		}
		a.tags[e.Label]++
	}
	return a
}

func withdraw(amount int) func(account) ([]accountEvent, error) {
	return func(a account) ([]accountEvent, error) {
		switch {
		case a.owner == "":
			return nil, errNotOpen
		case a.balance < amount:
			return nil, fmt.Errorf("withdraw %d: %w", amount, errOverdrawn)
		case amount == 0:
			return nil, nil
		}
		return []accountEvent{withdrawn{Amount: amount}}, nil
	}
}

func accountTypes() *es.Types {
	types := es.NewTypes()
	es.Register[opened](types, "Opened")
	es.Register[deposited](types, "Deposited")
	es.Register[withdrawn](types, "Withdrawn")
	es.Register[labeled](types, "Labeled")
	return types
}

// report runs a test with a stand-in, and returns what it fails with; empty when it passes.
func report(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	s := try(t, estest.Line[struct{}]{Run: func(t testing.TB, _ struct{}) { test(t) }}, struct{}{})
	if !s.Failed() {
		return ""
	}
	return s.log()
}

// mustReport fails t unless a test fails with this report.
func mustReport(t *testing.T, want string, test func(t testing.TB)) {
	t.Helper()
	if got := report(t, test); got != strings.TrimSpace(want) {
		t.Errorf("reports\n%s\nwant\n%s", got, strings.TrimSpace(want))
	}
}

func TestGivenWhenThenReadsWellInATable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		given []accountEvent
		when  func(account) ([]accountEvent, error)
		then  []accountEvent
		err   error
	}{
		"enough": {
			given: []accountEvent{opened{"Ann"}, deposited{Amount: 10}},
			when:  withdraw(4),
			then:  []accountEvent{withdrawn{Amount: 4}},
		},
		"all of it": {
			given: []accountEvent{opened{"Ann"}, deposited{Amount: 10}, withdrawn{Amount: 6}},
			when:  withdraw(4),
			then:  []accountEvent{withdrawn{Amount: 4}},
		},
		"nothing": {given: []accountEvent{opened{"Ann"}}, when: withdraw(0)},
		"too much": {
			given: []accountEvent{opened{"Ann"}, deposited{Amount: 10}},
			when:  withdraw(11),
			err:   errOverdrawn,
		},
		"nobody's": {when: withdraw(1), err: errNotOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			estest.Given(t, evolveAccount).After(tt.given...).Through(accountTypes()).When(tt.when).ThenEither(tt.then, tt.err)
		})
	}
}

func TestGivenGoesOnAfterADecision(t *testing.T) {
	t.Parallel()
	past := estest.Given(t, evolveAccount).After(opened{"Ann"}, deposited{Amount: 10})
	past.When(withdraw(6)).Then(withdrawn{Amount: 6}).
		ThenState(account{owner: "Ann", balance: 4}).
		When(withdraw(6)).ThenError(errOverdrawn).
		When(withdraw(4)).Then(withdrawn{Amount: 4}).
		ThenState(account{owner: "Ann"})
	past.ThenState(account{owner: "Ann", balance: 10}) // as it was
	estest.Given(t, evolveAccount).Initially(func() account { return account{owner: "Bob"} }).ThenState(account{owner: "Bob"})

	o := past.When(withdraw(11))
	if len(o.Events()) != 0 || !errors.Is(o.Err(), errOverdrawn) {
		t.Errorf("%v, %v", o.Events(), o.Err())
	}
	past.When(withdraw(11)).ThenErrorThat("an error with the amount", func(err error) bool { return strings.Contains(err.Error(), "11") })
}

func TestGivenIgnoresFieldsThatAreNamed(t *testing.T) {
	t.Parallel()
	decide := func(account) ([]accountEvent, error) {
		return []accountEvent{withdrawn{ID: es.NewID(), Amount: 1}, deposited{At: time.Now()}}, nil
	}
	estest.Given(t, evolveAccount).Ignoring("withdrawn.ID", "At").When(decide).Then(withdrawn{Amount: 1}, deposited{})
	if report(t, func(t testing.TB) {
		estest.Given(t, evolveAccount).Ignoring("opened.ID", "At").When(decide).Then(withdrawn{Amount: 1}, deposited{})
	}) == "" {
		t.Error("a field of another type is ignored")
	}
}

func TestGivenClonesTheStateForDecisionsThatChangeIt(t *testing.T) {
	t.Parallel()
	label := func(a account) ([]accountEvent, error) {
		a.tags["new"]++
		return []accountEvent{labeled{"new"}}, nil
	}
	clone := func(a account) account {
		tags := map[string]int{}
		maps.Copy(tags, a.tags)
		a.tags = tags
		return a
	}
	estest.Given(t, evolveAccount).After(labeled{"old"}).Cloning(clone).When(label).Then(labeled{"new"}).
		ThenState(account{tags: map[string]int{"old": 1, "new": 1}})

	mustReport(t, `
the decision changed the state that it was given, which is not its own; return events, or give the aggregate a Clone
  before: estest_test.account{tags: {"old": 1}}
  after:  estest_test.account{tags: {"new": 1, "old": 1}}`, func(t testing.TB) {
		estest.Given(t, evolveAccount).After(labeled{"old"}).When(label)
	})
	mustReport(t, `
the decision changed a clone of the state, and with it the state: they share what the clone should have copied
  before: estest_test.account{tags: {"old": 1}}
  after:  estest_test.account{tags: {"new": 1, "old": 1}}`, func(t testing.TB) {
		estest.Given(t, evolveAccount).After(labeled{"old"}).Cloning(func(a account) account { return a }).When(label)
	})
	mustReport(t, `
the clone of the state is not like it
  owner: got "", want "Ann"
  tags["old"]: got nothing, want 1`, func(t testing.TB) {
		estest.Given(t, evolveAccount).After(opened{"Ann"}, labeled{"old"}).Cloning(func(account) (none account) { return none }).When(label)
	})
}

func TestGivenReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	decide := func(events ...accountEvent) func(account) ([]accountEvent, error) {
		return func(account) ([]accountEvent, error) { return events, nil }
	}
	t.Run("another event", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
decided 2 events, want other ones
  1 unexpected  estest_test.labeled{Label: "hasty"}
  2 differs     estest_test.withdrawn{Amount: 5}
                Amount: got 5, want 6
    missing     estest_test.opened{Owner: "Bob"}
given 2 events
  1 estest_test.opened{Owner: "Ann"}
  2 estest_test.deposited{Amount: 10}
state estest_test.account{owner: "Ann", balance: 10}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).After(opened{"Ann"}, deposited{Amount: 10}).
				When(decide(labeled{"hasty"}, withdrawn{Amount: 5})).
				Then(withdrawn{Amount: 6}, opened{"Bob"})
		})
	})
	t.Run("something instead of nothing", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
decided 1 event, want no event
  1 unexpected  estest_test.opened{Owner: "Ann"}
given no event
state estest_test.account{}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).When(decide(opened{"Ann"})).Then()
		})
	})
	t.Run("an error instead of events", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
the decision failed, want 1 event
  error: withdraw 4: overdrawn
given 1 event
  1 estest_test.opened{Owner: "Ann"}
state estest_test.account{owner: "Ann"}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).After(opened{"Ann"}).When(withdraw(4)).Then(withdrawn{Amount: 4})
		})
	})
	t.Run("events instead of an error", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
decided 1 event, want the error "overdrawn"
  1 estest_test.withdrawn{Amount: 4}
given 2 events
  1 estest_test.opened{Owner: "Ann"}
  2 estest_test.deposited{Amount: 5}
state estest_test.account{owner: "Ann", balance: 5}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).After(opened{"Ann"}, deposited{Amount: 5}).When(withdraw(4)).ThenError(errOverdrawn)
		})
	})
	t.Run("another error", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
the decision failed with another error, want an error of the bank
  error: not open
given no event
state estest_test.account{}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).When(withdraw(4)).ThenErrorThat("an error of the bank", func(error) bool { return false })
		})
	})
	t.Run("an error and events", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
the decision failed as wanted, and decided 1 event besides, which nobody will see
  1 estest_test.opened{Owner: "Ann"}
given no event
state estest_test.account{}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).When(func(account) ([]accountEvent, error) {
				return []accountEvent{opened{"Ann"}}, errNotOpen
			}).ThenError(errNotOpen)
		})
	})
	t.Run("a row that wants both", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `the test wants 1 event and the error "not open"; a decision that fails decides nothing`, func(t testing.TB) {
			estest.Given(t, evolveAccount).When(withdraw(1)).ThenEither([]accountEvent{opened{"Ann"}}, errNotOpen)
		})
	})
	t.Run("another state", func(t *testing.T) {
		t.Parallel()
		mustReport(t, `
the state is not the wanted one
  balance: got 10, want 9
  tags["x"]: got nothing, want 1
given 1 event
  1 estest_test.deposited{Amount: 10}
state estest_test.account{balance: 10}`, func(t testing.TB) {
			estest.Given(t, evolveAccount).After(deposited{Amount: 10}).ThenState(account{balance: 9, tags: map[string]int{"x": 1}})
		})
	})
	t.Run("no evolve", func(t *testing.T) {
		t.Parallel()
		mustReport(t, "estest.Given: evolve is nil; give it the function that makes a state of a state and an event", func(t testing.TB) {
			estest.Given[account, accountEvent](t, nil)
		})
	})
}

func TestGivenFindsAnUnsteadyState(t *testing.T) {
	t.Parallel()
	const says = "the same events made another state when they were applied again; evolve may use nothing but the state and the event, " +
		"and what makes the initial state makes a new one each time\n"
	times := 0
	mustReport(t, says+"  balance: first 1, then 2", func(t testing.TB) {
		estest.Given(t, func(a account, _ accountEvent) account {
			times++
			a.balance = times
			return a
		}).After(deposited{Amount: 1}).State()
	})
	shared := map[string]int{}
	mustReport(t, says+`  state: first estest_test.account{tags: {"x": 1}}, then estest_test.account{tags: {"x": 2}}`, func(t testing.TB) {
		estest.Given(t, evolveAccount).After(labeled{"x"}).Initially(func() account { return account{tags: shared} }).State()
	})
}

// forgetful loses the second half of what it is given.
type forgetful struct{ es.JSON }

func (f forgetful) Unmarshal(data []byte, v any) error {
	if o, ok := v.(*opened); ok {
		if err := f.JSON.Unmarshal(data, v); err != nil {
			return err
		}
		o.Owner = o.Owner[:len(o.Owner)/2]
		return nil
	}
	return errors.New("no idea")
}

func TestGivenThroughTypesFindsWhatCannotBeStored(t *testing.T) {
	t.Parallel()
	types := es.NewTypes()
	es.Register[opened](types, "Opened", es.WithCodec(forgetful{}), es.WithoutRoundTrip())
	es.Register[deposited](types, "Deposited", es.WithCodec(forgetful{}), es.WithoutRoundTrip())
	mustReport(t, `
estest_test.opened{Owner: "Anna"} does not survive being stored as {"Owner":"Anna"}
  Owner: got "An", want "Anna"`, func(t testing.TB) {
		estest.Given(t, evolveAccount).After(opened{"Anna"}).Through(types).State()
	})
	mustReport(t, `estest_test.labeled{Label: "x"} cannot be stored: unknown type: the Go type estest_test.labeled is not registered; `+
		`call Register for it`, func(t testing.TB) {
		estest.Given(t, evolveAccount).Through(types).When(func(account) ([]accountEvent, error) {
			return []accountEvent{labeled{"x"}}, nil
		})
	})
	if got := report(t, func(t testing.TB) {
		estest.Given(t, evolveAccount).After(deposited{Amount: 1}).Through(types).State()
	}); !strings.HasPrefix(got, "estest_test.deposited{Amount: 1} cannot be read again: decode Deposited") {
		t.Errorf("reports %s", got)
	}
	mustReport(t, `&estest_test.labeled{Label: "x"} comes out of a store as a estest_test.labeled, which is not a *estest_test.labeled`,
		func(t testing.TB) {
			estest.Given(t, func(a account, _ *labeled) account { return a }).After(&labeled{"x"}).Through(accountTypes()).State()
		})
}
