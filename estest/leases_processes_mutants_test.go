package estest_test

import (
	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/estest"
)

func leasesProcessMutants() []mutant[estest.Harness[es.Leases]] {
	return apart(leasesWith(noFault, nil), "J7/one_of_many_processes_holds_it", "J7/taken_over_after_kill_9")
}
