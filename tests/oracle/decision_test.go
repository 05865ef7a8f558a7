package oracle_test

import (
	"testing"

	"github.com/anishathalye/porcupine"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/tests/oracle"
)

func TestDecisionModel(t *testing.T) {
	t.Parallel()
	a, b := []es.Criterion{{Tags: []string{"a"}}}, []es.Criterion{{Tags: []string{"b"}}}
	either := []es.Criterion{{Tags: []string{"a"}}, {Tags: []string{"b"}}}
	done, conflict := oracle.Decided{}, oracle.Decided{Conflict: true}
	tag := func(match []es.Criterion, seen int, tags ...string) oracle.Decide {
		return oracle.Decide{Match: match, Seen: seen, Tags: tags}
	}
	tests := []struct {
		name    string
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		{
			"one of two that have seen the same wins",
			[]porcupine.Operation{during(1, 4, tag(a, 0, "a"), done), during(2, 3, tag(a, 0, "a"), conflict)},
			porcupine.Ok,
		},
		{
			"both of two that have seen the same win",
			[]porcupine.Operation{during(1, 4, tag(a, 0, "a"), done), during(2, 3, tag(a, 0, "a"), done)},
			porcupine.Illegal,
		},
		{
			"two over different tags win",
			[]porcupine.Operation{during(1, 4, tag(a, 0, "a"), done), during(2, 3, tag(b, 0, "b"), done)},
			porcupine.Ok,
		},
		{
			"one over different tags loses",
			[]porcupine.Operation{during(1, 2, tag(a, 0, "a"), done), during(3, 4, tag(b, 0, "b"), conflict)},
			porcupine.Illegal,
		},
		{
			"an append without a condition is not seen",
			[]porcupine.Operation{during(1, 2, tag(nil, 0, "a", "b"), done), during(3, 4, tag(either, 0), done)},
			porcupine.Illegal,
		},
		{
			"an event that meets both criteria counts once",
			[]porcupine.Operation{during(1, 2, tag(nil, 0, "a", "b"), done), during(3, 4, oracle.Count{Match: either}, 1)},
			porcupine.Ok,
		},
		{
			"a count misses what was appended before",
			[]porcupine.Operation{during(1, 2, tag(nil, 0, "b"), done), during(3, 4, oracle.Count{Match: either}, 0)},
			porcupine.Illegal,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := porcupine.CheckOperationsTimeout(oracle.Decisions(), test.history, checkTimeout); got != test.want {
				t.Errorf("the history is %s, want %s", got, test.want)
			}
		})
	}
}
