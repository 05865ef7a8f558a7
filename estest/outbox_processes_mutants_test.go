package estest_test

import "github.com/eventsourcing-go/eventsourcing/estest"

// processesApart is a harness that says its storage is for several processes, where each of them has a memory of its own; see
// TestMain.
type processesApart[R any] struct{ estest.Harness[R] }

func (processesApart[R]) Processes() bool { return true }

// apart makes a mutant of each line about processes: nothing is shared between them. Mutants that share it wrongly stand
// where there is something to share by, in the tests of a backend that several processes can open.
func apart[R any](h estest.Harness[R], lines ...string) []mutant[estest.Harness[R]] {
	var mutants []mutant[estest.Harness[R]]
	for _, line := range lines {
		mutants = append(mutants, mutant[estest.Harness[R]]{line, "shares nothing between processes", processesApart[R]{h}})
	}
	return mutants
}

func (h *outboxHunt) processes() {
	none := func() func(m *outboxMutant) { return nil }
	h.mutants = append(h.mutants, apart(outboxWith(noFault, none),
		"O2/processes_do_each_entry_once", "O2/a_killed_process_loses_nothing", "O1/enqueued_survives_kill_9")...)
}
