package estest_test

import (
	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func dedupeProcessMutants() []mutant[estest.Harness[es.Dedupe]] {
	return apart(dedupeWith(noFault, nil, nil),
		"R6/one_of_many_processes_is_new", "R6/a_killed_process_leaves_a_reservation_that_ends")
}
