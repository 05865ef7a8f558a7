package estest

import (
	"testing"
	"time"

	es "github.com/eventsourcing-go/eventsourcing"
)

// RunEventStore holds an event store to its promises, E1 to E13.
//
// A harness may have these methods beside those of [Harness]:
//
//	Limits() es.Limits      // when the store is opened with limits of its own; smaller ones make the suite faster
//	WakeUp() time.Duration  // how long it takes, at the 99th percentile, until a Wait learns of what another handle appended
//
// And a storage may have this one, for what only its own engine can do to a reader of the global order: transactions that draw
// a number and commit late, or roll back, or are left open. It is to make such trouble until the context ends.
//
//	Trouble(ctx context.Context, namespace string) error
func RunEventStore(t *testing.T, h Harness[es.EventStore]) {
	t.Helper()
	run(t, h, EventStoreLines())
}

// EventStoreLines returns the tests of [RunEventStore], one by one.
func EventStoreLines() []Line[Harness[es.EventStore]] {
	var lines []eventLine
	for _, group := range [][]eventLine{
		versionLines(), expectationLines(), raceLines(), repeatLines(), repeatHalfLines(), wholeLines(), conditionLines(),
		decisionLines(), selectionLines(), cursorLines(), orderLines(), waitLines(), positionLines(), durabilityLines(),
		limitLines(), truncateLines(), hiddenLines(), deleteLines(), eraseLines(), closeLines(),
	} {
		lines = append(lines, group...)
	}
	return lines
}

type eventLine = Line[Harness[es.EventStore]]

// need is what a line takes of the implementation.
type need struct {
	what string
	met  func(Capabilities) bool
}

// What lines of the event store may need; the method expressions keep them in step with [Capabilities].
func needHandles() need   { return need{"several handles to one storage", Capabilities.Handles} }
func needDurable() need   { return need{"a storage that survives a crash", Capabilities.Durable} }
func needProcesses() need { return need{"several processes on one storage", Capabilities.Processes} }
func needEdits() need     { return need{"streams that can be edited", Capabilities.Edits} }
func needNoEdits() need {
	return need{"streams that cannot be edited", func(c Capabilities) bool { return !c.Edits() }}
}
func needReopen() need {
	return need{"a storage that can be opened again", func(c Capabilities) bool { return c.Handles() || c.Durable() }}
}

// onEvents makes a line that runs on a store that is new and empty.
func onEvents(id, name string, run func(b *eventBench), needs ...need) eventLine {
	return eventLine{ID: id, Name: id + "/" + name, Run: func(t testing.TB, h Harness[es.EventStore]) {
		t.Helper()
		for _, n := range needs {
			if !n.met(h) {
				t.Skipf("not promised: this takes %s", n.what)
			}
		}
		run(openEvents(t, h))
	}}
}

// limits returns the limits of the store under test.
func (b *eventBench) limits() es.Limits {
	if limited, ok := b.harness.(interface{ Limits() es.Limits }); ok {
		return limited.Limits().WithDefaults()
	}
	return es.Limits{}.WithDefaults()
}

// wakeUp returns how long a Wait may take to learn of another handle's append, and whether the implementation says.
func (b *eventBench) wakeUp() (time.Duration, bool) {
	waking, ok := b.harness.(interface{ WakeUp() time.Duration })
	if !ok {
		return 0, false
	}
	return waking.WakeUp(), true
}
