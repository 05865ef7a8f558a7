package estest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// balance is a document of the projection that the tests of this file test.
type balance struct {
	Amount int
	At     time.Time
}

// balancesOf makes a projection that keeps the balances of accounts by a function.
func balancesOf(policy projection.Policy, apply func(b *projection.Batch, e any, of *balance) error) func(*memory.Backend, int) (estest.Engine, error) {
	return func(backend *memory.Backend, batch int) (estest.Engine, error) {
		balances := projection.NewDocuments[balance]("balances")
		types := accountTypes()
		return projection.New(projection.Config{
			Name: "balances", Events: backend.Events(), Models: backend.ReadModels(), Types: types, BatchSize: batch, OnError: policy,
		}, projection.OnMessage("", func(ctx context.Context, b *projection.Batch, m *es.Message) error {
			event, err := types.Decode(m)
			if err != nil {
				return err
			}
			return balances.In(b).Update(ctx, strings.TrimPrefix(m.Stream, "account-"), func(of *balance) error {
				of.At = time.Now()
				return apply(b, event, of)
			})
		}))
	}
}

// add is how balances are kept when nothing is wrong: what was withdrawn from nothing fails.
func add(_ *projection.Batch, event any, of *balance) error {
	switch e := event.(type) {
	case deposited:
		of.Amount += e.Amount
	case withdrawn:
		if of.Amount == 0 {
			return errOverdrawn
		}
		of.Amount -= e.Amount
	}
	return nil
}

// pastItsBatch makes a projection whose handler reads what is committed, and not what the events before it in its batch have changed.
func pastItsBatch(backend *memory.Backend, batch int) (estest.Engine, error) {
	committed, balances := es.NewModel[balance](backend.ReadModels(), "balances"), projection.NewDocuments[balance]("balances")
	types := accountTypes()
	return projection.New(projection.Config{
		Name: "balances", Events: backend.Events(), Models: backend.ReadModels(), Types: types, BatchSize: batch,
	}, projection.OnMessage("", func(ctx context.Context, b *projection.Batch, m *es.Message) error {
		account := strings.TrimPrefix(m.Stream, "account-")
		before, err := committed.Load(ctx, account)
		if err != nil && !errors.Is(err, es.ErrNotFound) {
			return err
		}
		event, err := types.Decode(m)
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case deposited:
			before.Value.Amount += e.Amount
		case withdrawn:
			before.Value.Amount -= e.Amount
		}
		return balances.In(b).Put(account, before.Value)
	}))
}

func project(t testing.TB, build func(*memory.Backend, int) (estest.Engine, error)) *estest.Projected[*memory.Backend] {
	t.Helper()
	return estest.Project(t, memory.New, build).Ignoring("balance.At")
}

func amounts(byAccount map[string]int) estest.Expected {
	want := map[string]balance{}
	for account, amount := range byAccount {
		want[account] = balance{Amount: amount}
	}
	return estest.Documents("balances", want)
}

func TestProjectHandlesTheEventsInEveryWay(t *testing.T) {
	t.Parallel()
	batches, closed := []int{}, 0
	open := func() *watchedBackend { return &watchedBackend{Backend: memory.New(), closed: func() { closed++ }} }
	build := func(b *watchedBackend, batch int) (estest.Engine, error) {
		batches = append(batches, batch)
		return balancesOf(projection.Stop, add)(b.Backend, batch)
	}
	checked := 0
	estest.Project(t, open, build).Ignoring("At").
		Given(accountTypes(), estest.In("account-1", deposited{Amount: 5}, deposited{Amount: 1})).
		Given(accountTypes(), estest.In("account-2", deposited{Amount: 3})).
		Then(amounts(map[string]int{"1": 6, "2": 3})).
		ThenThat(func(t testing.TB, b *watchedBackend) {
			checked++
			head, err := b.Events().Head(t.Context())
			if err != nil || head.Position != 3 {
				t.Errorf("the head is %d, %v", head.Position, err)
			}
		})
	if want := []int{1, 3, 3, 3, 1, 3, 3, 3}; !slices.Equal(batches, want) || closed != 6 || checked != 3 {
		t.Errorf("it was made with batches of %v, want %v; %d backends were closed, %d checked", batches, want, closed, checked)
	}
	project(t, balancesOf(projection.Stop, add)).Given(accountTypes(), estest.In("account-1", withdrawn{Amount: 5})).ThenError(errOverdrawn)
	project(t, balancesOf(projection.Stop, add)).Then(amounts(nil))
	project(t, balancesOf(projection.Stop, add)).Given(accountTypes(), estest.In("account-1", deposited{Amount: 5})).
		Then(estest.DocumentsAs(es.JSON{}, "balances", map[string]struct{ Amount int }{"1": {5}}))
}

// watchedBackend tells when it is closed.
type watchedBackend struct {
	*memory.Backend

	closed func()
}

func (b *watchedBackend) Close() error {
	b.closed()
	return b.Backend.Close()
}

// brokenBackend fails when it is closed.
type brokenBackend struct{ *memory.Backend }

func (b brokenBackend) Close() error { return errors.Join(b.Backend.Close(), errNot) }

// motionless is an engine that gets nowhere.
type motionless struct{ es.Component }

func (motionless) Start(context.Context) error { return nil }
func (motionless) Stop(context.Context) error  { return nil }
func (motionless) Done() <-chan struct{}       { return nil }
func (motionless) Err() error                  { return nil }
func (motionless) Health(context.Context) error {
	return errors.New("the store does not answer")
}

func (motionless) WaitFor(ctx context.Context, _ es.Checkpoint) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestProjectReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	right := balancesOf(projection.Stop, add)
	given := func(t testing.TB, build func(*memory.Backend, int) (estest.Engine, error)) *estest.Projected[*memory.Backend] {
		t.Helper()
		return project(t, build).Given(accountTypes(),
			estest.In("account-1", deposited{Amount: 5}), estest.In("account-2", deposited{Amount: 3}), estest.In("account-1", withdrawn{Amount: 1}))
	}
	wanted := amounts(map[string]int{"1": 4, "2": 3})
	const events = `
given 3 events
  account-1: estest_test.deposited{Amount: 5}
  account-2: estest_test.deposited{Amount: 3}
  account-1: estest_test.withdrawn{Amount: 1}`
	tests := map[string]struct {
		test func(t testing.TB)
		want string
	}{
		"other documents": {
			func(t testing.TB) { given(t, right).Then(wanted, amounts(map[string]int{"1": 5, "3": 3})) },
			`
model "balances" is not as wanted with each event in a commit of its own
  ["1"].Amount: got 4, want 5
  ["2"]: got {Amount: 3, At: TIME}, want nothing
  ["3"]: got nothing, want {Amount: 3}` + events,
		},
		"no documents": {
			func(t testing.TB) {
				given(t, right).Then(estest.Documents("balance", map[string]balance{"1": {Amount: 4}}))
			},
			`
model "balance" is not as wanted with each event in a commit of its own
  ["1"]: got nothing, want {Amount: 4}
  there are no documents at all: is that the name of the model, and has the projection a handler for the events?` + events,
		},
		"a handler that looks past its batch": {
			func(t testing.TB) { given(t, pastItsBatch).Then(wanted) },
			`
model "balances" is not as wanted with all 3 events in one commit, and it is with each event in a commit of its own
  ["1"].Amount: got -1, want 4` + events,
		},
		"a handler with a memory": {
			func(t testing.TB) {
				given(t, func(b *memory.Backend, batch int) (estest.Engine, error) {
					known := 0
					return balancesOf(projection.Stop, func(b *projection.Batch, e any, of *balance) error {
						if _, is := e.(withdrawn); is && known == 0 {
							return nil
						}
						known++
						return add(b, e, of)
					})(b, batch)
				}).Given(accountTypes(), estest.In("account-1", withdrawn{Amount: 1})).
					Then(amounts(map[string]int{"1": 3, "2": 3}))
			},
			`
model "balances" is not as wanted when it is stopped after 2 events and started again, and it is with each event in a commit of its own
  ["1"].Amount: got 5, want 3
given 4 events
  account-1: estest_test.deposited{Amount: 5}
  account-2: estest_test.deposited{Amount: 3}
  account-1: estest_test.withdrawn{Amount: 1}
  account-1: estest_test.withdrawn{Amount: 1}`,
		},
		"an event that was skipped": {
			func(t testing.TB) {
				project(t, balancesOf(projection.Skip, add)).Given(accountTypes(), estest.In("account-1", withdrawn{Amount: 1})).
					Then(amounts(map[string]int{"1": -1}))
			},
			`
model "balances" is not as wanted with each event in a commit of its own
  ["1"]: got nothing, want {Amount: -1}
  there are no documents at all: is that the name of the model, and has the projection a handler for the events?
skipped 1 event, parked no event; what went wrong last: projection "balances": event "Withdrawn" at position 1 (stream "account-1", ` +
				`version 1): overdrawn
given 1 event
  account-1: estest_test.withdrawn{Amount: 1}`,
		},
		"a document of another shape": {
			func(t testing.TB) { given(t, right).Then(estest.Documents("balances", map[string]int{"1": 4})) },
			`
model "balances" is not as wanted with each event in a commit of its own
  document "1" cannot be decoded as int: json: cannot unmarshal object into Go value of type int
  it is "{\"Amount\":4,\"At\":\"TIME\"}"` + events,
		},
		"a name that no model has": {
			func(t testing.TB) { given(t, right).Then(estest.Documents("", map[string]int{})) },
			`
model "" is not as wanted with each event in a commit of its own
  list its documents: invalid model: it is empty; it takes 1 to 255 bytes` + events,
		},
		"a projection that fails": {
			func(t testing.TB) {
				project(t, right).Given(accountTypes(), estest.In("account-1", deposited{}, withdrawn{Amount: 1})).Then(amounts(nil))
			},
			`
the projection failed with each event in a commit of its own
  error: projection "balances": event "Withdrawn" at position 2 (stream "account-1", version 2): overdrawn
given 2 events
  account-1: estest_test.deposited{}
  account-1: estest_test.withdrawn{Amount: 1}`,
		},
		"a projection that fails when it is looked at": {
			func(t testing.TB) {
				project(t, right).Given(accountTypes(), estest.In("account-1", withdrawn{Amount: 1})).ThenThat(func(testing.TB, *memory.Backend) {
					panic("it is not called")
				})
			},
			`
the projection failed with each event in a commit of its own
  error: projection "balances": event "Withdrawn" at position 1 (stream "account-1", version 1): overdrawn
given 1 event
  account-1: estest_test.withdrawn{Amount: 1}`,
		},
		"a projection that does not fail": {
			func(t testing.TB) { given(t, right).ThenError(errOverdrawn) },
			`
the projection did not fail with each event in a commit of its own, want the error "overdrawn"` + events,
		},
		"a projection that fails otherwise": {
			func(t testing.TB) {
				project(t, right).Given(accountTypes(), estest.In("account-1", withdrawn{Amount: 1})).ThenError(errNotOpen)
			},
			`
the projection failed with another error with each event in a commit of its own, want the error "not open"
  error: projection "balances": event "Withdrawn" at position 1 (stream "account-1", version 1): overdrawn
given 1 event
  account-1: estest_test.withdrawn{Amount: 1}`,
		},
		"a look that finds something": {
			func(t testing.TB) {
				looks := 0
				given(t, right).ThenThat(func(t testing.TB, _ *memory.Backend) {
					if looks++; looks == 2 {
						t.Fatal("the table is empty")
					}
				})
			},
			`the table is empty; this is what has come of the events with all 3 events in one commit`,
		},
		"a projection that cannot be made": {
			func(t testing.TB) {
				given(t, func(*memory.Backend, int) (estest.Engine, error) { return nil, errNot }).Then(wanted)
			},
			`estest.Project: make the projection: not today`,
		},
		"a projection that was not made": {
			func(t testing.TB) {
				given(t, func(*memory.Backend, int) (estest.Engine, error) { return nil, nil }).Then(wanted) //nolint:nilnil // what a careless test returns
			},
			`estest.Project: make the projection: it is nil`,
		},
		"batches of another size": {
			func(t testing.TB) {
				given(t, func(b *memory.Backend, _ int) (estest.Engine, error) { return right(b, 10) }).Then(wanted)
			},
			`estest.Project: the projection took several events in one batch, and was to take each in its own; set its BatchSize to what the function gets`,
		},
		"a backend that cannot be closed": {
			func(t testing.TB) {
				estest.Project(t, func() brokenBackend { return brokenBackend{memory.New()} },
					func(b brokenBackend, batch int) (estest.Engine, error) { return right(b.Backend, batch) }).Then(amounts(nil))
			},
			`close the backend: not today`,
		},
		"an event that is not registered": {
			func(t testing.TB) { project(t, right).Given(accountTypes(), estest.In("account-1", 7)).Then(wanted) },
			`estest.Project: event 1 of stream "account-1": unknown type: the Go type int is not registered; call Register for it`,
		},
		"an event without types": {
			func(t testing.TB) { project(t, right).Given(nil, estest.In("account-1", opened{"Ann"})).Then(wanted) },
			`estest.Project: event 1 of stream "account-1": it is of type estest_test.opened, and the test gives no types to store that with`,
		},
		"nothing wanted": {
			func(t testing.TB) { given(t, right).Then() },
			`estest.Project: Then wants nothing, and cannot fail; give it Documents of a model, of which there may be none`,
		},
		"the error nil": {
			func(t testing.TB) { given(t, right).ThenError(nil) },
			`the test wants an error and says nil; Then is for a projection that does not fail`,
		},
		"no Then": {
			func(t testing.TB) { given(t, right) },
			`estest.Project: no event was handled, because the test says nothing about what should come of it; end it with Then`,
		},
		"nothing to make it with": {
			func(t testing.TB) { project(t, nil) },
			`estest.Project: it takes a function that opens a backend, and one that makes the projection`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := withoutTimes(report(t, tt.test)); got != strings.TrimSpace(tt.want) {
				t.Errorf("reports\n%s\nwant\n%s", got, strings.TrimSpace(tt.want))
			}
		})
	}
}

func TestProjectReportsAProjectionThatGetsNowhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		mustReport(t, `
the projection failed with each event in a commit of its own
  error: it did not come to position 1: context deadline exceeded
the store does not answer
given 1 event
  account-1: estest_test.opened{Owner: "Ann"}`, func(t testing.TB) {
			estest.Project(t, memory.New, func(*memory.Backend, int) (estest.Engine, error) { return motionless{}, nil }).
				Given(accountTypes(), estest.In("account-1", opened{"Ann"})).Then(amounts(nil))
		})
	})
}

// withoutTimes replaces the times of a report, which are those of the run.
func withoutTimes(text string) string {
	var words []string
	for word := range strings.SplitSeq(text, " ") {
		if at := strings.Index(word, "20"); at >= 0 {
			if end := strings.IndexByte(word[at:], 'Z'); end > 0 {
				if _, err := time.Parse(time.RFC3339Nano, word[at:at+end+1]); err == nil {
					word = word[:at] + "TIME" + word[at+end+1:]
				}
			}
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestProjectSaysMuchShort(t *testing.T) {
	t.Parallel()
	var many []any
	for range 30 {
		many = append(many, deposited{Amount: 1})
	}
	got := report(t, func(t testing.TB) {
		project(t, balancesOf(projection.Stop, add)).Given(accountTypes(), estest.In("account-1", many...)).Then(amounts(map[string]int{"1": 31}))
	})
	want := fmt.Sprintf("given 30 events\n%s  and 10 more", strings.Repeat("  account-1: estest_test.deposited{Amount: 1}\n", 20))
	if !strings.HasSuffix(got, want) {
		t.Errorf("reports\n%s\nwant at its end\n%s", got, want)
	}
}
