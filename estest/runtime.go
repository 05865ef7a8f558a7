package estest

import (
	"slices"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunRuntime holds a whole backend to what programs on it are promised: by the broker on it (P1 to P7), the router and its middleware
// (R1 to R9), the outbox and its processors (O3 to O8), command and query handlers (J8), and the lifecycle of a program with a web
// server (H1 to H3). Each line builds a program of these parts on the backend, and breaks it where the promise says so: it lets
// calls of the backend fail, loses their answers, and kills the program between two of them.
//
// What the lines say of one role alone is in the suite of that role, and those come first: a backend that fails there fails here in
// ways that are harder to understand.
//
// A harness that is a [PartsHarness] has other parts in the place of those that the toolkit has.
func RunRuntime(t *testing.T, h Harness[es.Backend]) {
	t.Helper()
	run(t, h, RuntimeLines())
}

// RuntimeLines returns the lines of the suite, for those who test the suite itself.
func RuntimeLines() []Line[Harness[es.Backend]] {
	return slices.Concat(
		runtimeBrokerLines(),
		runtimeRouteLines(),
		runtimeOutputLines(),
		runtimeRetryLines(),
		runtimeDeadLetterLines(),
		runtimeReplayLines(),
		runtimeDedupeLines(),
		runtimeStopLines(),
		runtimeMiddlewareLines(),
		runtimeCrashLines(),
		runtimeFailureLines(),
		runtimeProcessorLines(),
		runtimeDrainLines(),
		runtimeCommandLines(),
		runtimeServerLines(),
	)
}

func runtimeLine(name string, run func(t *runtimeTest)) Line[Harness[es.Backend]] {
	id, _, _ := strings.Cut(name, "/")
	return Line[Harness[es.Backend]]{ID: id, Name: name, Run: func(tb testing.TB, h Harness[es.Backend]) {
		tb.Helper()
		t := &runtimeTest{TB: tb, h: h, ctx: patient(tb)}
		if harness, ok := h.(PartsHarness); ok {
			t.parts = harness.Parts(tb)
		}
		t.parts = t.parts.withDefaults()
		run(t)
	}}
}
