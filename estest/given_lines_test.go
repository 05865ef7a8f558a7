package estest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
	"github.com/eventsourcing-go/eventsourcing/memory"
	"github.com/eventsourcing-go/eventsourcing/projection"
)

// failVariable lets TestFailing fail.
const failVariable = "ESTEST_FAIL"

// failures are tests that fail in the line that ends with "// name", as the testing package sees it.
func failures() map[string]func(t *testing.T) {
	nothing := func(context.Context, es.EventStore) error { return nil }
	failing := func(context.Context, es.EventStore) error { return errNot }
	append1 := func(ctx context.Context, store es.EventStore) error {
		_, err := store.Append(ctx, es.AppendTo("a-1", es.Any, es.NewMessage("a-1", "A", nil)))
		return err
	}
	bubble := func(test func(t *testing.T)) func(t *testing.T) {
		return func(t *testing.T) { t.Helper(); synctest.Test(t, test) }
	}
	return map[string]func(t *testing.T){
		"Then": func(t *testing.T) {
			estest.Given(t, evolveAccount).
				After(opened{"Ann"}).
				When(withdraw(0)).
				Then(opened{"Bob"}) // Then
		},
		"Then and an error": func(t *testing.T) {
			estest.Given(t, evolveAccount).When(withdraw(1)).Then() // Then and an error
		},
		"ThenError": func(t *testing.T) {
			o := estest.Given(t, evolveAccount).When(withdraw(1))
			o.ThenError(errOverdrawn) // ThenError
		},
		"ThenError nil": func(t *testing.T) {
			o := estest.Given(t, evolveAccount).When(withdraw(1))
			o.ThenError(nil) // ThenError nil
		},
		"ThenEither": func(t *testing.T) {
			o := estest.Given(t, evolveAccount).When(withdraw(1))
			o.ThenEither(nil, errOverdrawn) // ThenEither
		},
		"ThenState": func(t *testing.T) {
			estest.Given(t, evolveAccount).ThenState(account{balance: 1}) // ThenState
		},
		"When": func(t *testing.T) {
			p := estest.Given(t, evolveAccount)
			p.When(nil) // When
		},
		"no Then": func(t *testing.T) {
			p := estest.Given(t, evolveAccount)
			p.When(withdraw(1)) // no Then
		},
		"an event that cannot be stored": func(t *testing.T) {
			p := estest.Given(t, evolveAccount).After(opened{"Ann"}).Through(es.NewTypes())
			p.When(withdraw(0)) // an event that cannot be stored
		},
		"no types": func(t *testing.T) {
			estest.Given(t, evolveAccount).Through(nil) // no types
		},
		"GivenStored": func(t *testing.T) {
			estest.GivenStored(t, store(t), nil, estest.In("a-1", 1)) // GivenStored
		},
		"stored Then": func(t *testing.T) {
			o := estest.GivenStored(t, store(t), nil).When(append1)
			o.Then() // stored Then
		},
		"stored ThenError": func(t *testing.T) {
			o := estest.GivenStored(t, store(t), nil).When(append1)
			o.ThenError(errNot) // stored ThenError
		},
		"stored ThenEither": func(t *testing.T) {
			o := estest.GivenStored(t, store(t), nil).When(append1)
			o.ThenEither(nil, nil) // stored ThenEither
		},
		"OnCondition": func(t *testing.T) {
			o := estest.GivenStored(t, store(t), nil).When(append1)
			o.OnCondition(es.Criterion{Names: []string{"A"}}) // OnCondition
		},
		"stored no Then": func(t *testing.T) {
			p := estest.GivenStored(t, store(t), nil)
			p.When(nothing) // stored no Then
		},
		"a step without a Then": func(t *testing.T) {
			o := estest.GivenStored(t, store(t), nil).When(failing)
			o.When(nothing) // a step without a Then
		},
		"nothing meanwhile": func(t *testing.T) {
			p := estest.GivenStored(t, store(t), nil).Meanwhile(estest.In("b-1"))
			p.When(nothing) // nothing meanwhile
		},
		"Project Then": func(t *testing.T) {
			p := project(t, balancesOf(projection.Stop, add))
			p.Then(amounts(map[string]int{"1": 1})) // Project Then
		},
		"Project ThenThat": func(t *testing.T) {
			p := project(t, balancesOf(projection.Stop, add)).Given(accountTypes(), estest.In("account-1", withdrawn{}))
			p.ThenThat(func(testing.TB, *memory.Backend) {}) // Project ThenThat
		},
		"Project ThenError": func(t *testing.T) {
			p := project(t, balancesOf(projection.Stop, add))
			p.ThenError(errNot) // Project ThenError
		},
		"Project no Then": func(t *testing.T) {
			project(t, balancesOf(projection.Stop, add)) // Project no Then
		},
		"Project close": func(t *testing.T) {
			p := estest.Project(t, func() brokenBackend { return brokenBackend{memory.New()} },
				func(b brokenBackend, batch int) (estest.Engine, error) {
					return balancesOf(projection.Stop, add)(b.Backend, batch)
				})
			p.Then(amounts(nil)) // Project close
		},
		"Await": bubble(func(t *testing.T) {
			var r estest.Recorder
			r.Await(t, 1) // Await
		}),
		"AwaitThat": bubble(func(t *testing.T) {
			var r estest.Recorder
			r.AwaitThat(t, "it", func(estest.Handled) bool { return false }) // AwaitThat
		}),
		"publisher Await": bubble(func(t *testing.T) {
			var p estest.FakePublisher
			p.Await(t, 1) // publisher Await
		}),
		"AwaitSleepers": bubble(func(t *testing.T) {
			estest.NewClock(time.Now()).AwaitSleepers(t, 1) // AwaitSleepers
		}),
		"CheckStoredEvents": func(t *testing.T) {
			estest.CheckStoredEvents(t, accountTypes(), t.TempDir()) // CheckStoredEvents
		},
	}
}

// TestFailing fails on purpose, in a process of its own that TestFailuresNameTheLine starts.
func TestFailing(t *testing.T) {
	t.Parallel()
	if os.Getenv(failVariable) == "" {
		t.Skip("it fails, and is started by TestFailuresNameTheLine")
	}
	for name, test := range failures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func TestFailuresNameTheLine(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("given_lines_test.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for i, line := range strings.Split(string(source), "\n") {
		if _, name, found := strings.Cut(line, " // "); found && !strings.HasSuffix(name, ".") {
			lines[name] = fmt.Sprintf("given_lines_test.go:%d", i+1)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestFailing$")
	child.Env = append(os.Environ(), failVariable+"=1")
	output, err := child.CombinedOutput()
	if err == nil {
		t.Errorf("the tests that fail have passed:\n%s", output)
	}
	reported := map[string]string{}
	pattern := regexp.MustCompile(`(?m)^ +--- FAIL: TestFailing/(.*) \(.*\)\n +(?:--- .*\n +)?(\w+\.go:\d+): `)
	for _, match := range pattern.FindAllStringSubmatch(string(output), -1) {
		reported[strings.ReplaceAll(match[1], "_", " ")] = match[2]
	}
	for name := range failures() {
		if lines[name] == "" || reported[name] != lines[name] {
			t.Errorf("%s: reported at %q, want %q", name, reported[name], lines[name])
		}
	}
	if t.Failed() {
		t.Logf("the output is\n%s", output)
	}
}
