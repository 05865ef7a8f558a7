package oracle_test

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/tests/oracle"
)

const checkTimeout = 30 * time.Second

// during makes an operation that was called at one time and returned at another.
func during(call, ret int64, input, output any) porcupine.Operation {
	return porcupine.Operation{Input: input, Call: call, Output: output, Return: ret}
}

func TestStreamModel(t *testing.T) {
	t.Parallel()
	create := oracle.Append{Stream: "order-7", Expect: es.NoStream, Events: 1}
	read := oracle.Read{Stream: "order-7"}
	done := func(version int64) oracle.Appended { return oracle.Appended{Version: version} }
	conflict := oracle.Appended{Conflict: true}

	tests := []struct {
		name    string
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		{"no operations", nil, porcupine.Ok},
		{
			"one of two racing creators wins",
			[]porcupine.Operation{during(1, 4, create, done(1)), during(2, 3, create, conflict)},
			porcupine.Ok,
		},
		{
			"both racing creators win",
			[]porcupine.Operation{during(1, 4, create, done(1)), during(2, 3, create, done(1))},
			porcupine.Illegal,
		},
		{
			"both racing creators lose",
			[]porcupine.Operation{during(1, 4, create, conflict), during(2, 3, create, conflict)},
			porcupine.Illegal,
		},
		{
			"a read during the append sees it",
			[]porcupine.Operation{during(1, 4, create, done(1)), during(2, 3, read, int64(1))},
			porcupine.Ok,
		},
		{
			"a read during the append does not see it yet",
			[]porcupine.Operation{during(1, 4, create, done(1)), during(2, 3, read, int64(0))},
			porcupine.Ok,
		},
		{
			"a read after the append misses it",
			[]porcupine.Operation{during(1, 2, create, done(1)), during(3, 4, read, int64(0))},
			porcupine.Illegal,
		},
		{
			"a version is skipped",
			[]porcupine.Operation{during(1, 2, create, done(2))},
			porcupine.Illegal,
		},
		{
			"a future version is accepted",
			[]porcupine.Operation{
				during(1, 2, oracle.Append{Stream: "order-7", Expect: es.Exactly(4), Events: 1}, done(5)),
			},
			porcupine.Illegal,
		},
		{
			"streams do not disturb each other",
			[]porcupine.Operation{
				during(1, 2, create, done(1)),
				during(3, 4, oracle.Append{Stream: "order-8", Expect: es.NoStream, Events: 2}, done(2)),
			},
			porcupine.Ok,
		},
		{
			"an operation that the model does not know",
			[]porcupine.Operation{during(1, 2, "delete order-7", done(1))},
			porcupine.Illegal,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := porcupine.CheckOperationsTimeout(oracle.Stream(), tt.history, checkTimeout)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// A correct store that serves one caller at a time is always legal, and one wrong answer of it never is.
func TestStreamModelAgreesWithSequentialStore(t *testing.T) {
	t.Parallel()
	expectation := rapid.Custom(func(t *rapid.T) es.Expectation {
		return rapid.OneOf(
			rapid.SampledFrom([]es.Expectation{es.Any, es.NoStream, es.StreamExists}),
			rapid.Map(rapid.Int64Range(0, 8), es.Exactly),
		).Draw(t, "expectation")
	})
	rapid.Check(t, func(t *rapid.T) {
		versions := map[string]int64{}
		var history []porcupine.Operation
		for i := range rapid.IntRange(1, 20).Draw(t, "operations") {
			call := oracle.Append{
				Stream: rapid.SampledFrom([]string{"order-7", "order-8"}).Draw(t, "stream"),
				Expect: expectation.Draw(t, "expect"),
				Events: rapid.IntRange(0, 3).Draw(t, "events"),
			}
			var result oracle.Appended
			if call.Expect.Holds(versions[call.Stream]) {
				versions[call.Stream] += int64(call.Events)
				result.Version = versions[call.Stream]
			} else {
				result.Conflict = true
			}
			history = append(history, during(int64(2*i), int64(2*i+1), call, result))
		}
		if got := porcupine.CheckOperationsTimeout(oracle.Stream(), history, checkTimeout); got != porcupine.Ok {
			t.Fatalf("correct history: got %s, want %s", got, porcupine.Ok)
		}

		wrong := &history[rapid.IntRange(0, len(history)-1).Draw(t, "wrong operation")]
		answer, _ := wrong.Output.(oracle.Appended)
		answer.Conflict = !answer.Conflict
		wrong.Output = answer
		if got := porcupine.CheckOperationsTimeout(oracle.Stream(), history, checkTimeout); got != porcupine.Illegal {
			t.Fatalf("history with a wrong answer: got %s, want %s", got, porcupine.Illegal)
		}
	})
}
