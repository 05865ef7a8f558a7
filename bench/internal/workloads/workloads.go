// Package workloads is what is measured: each file has the workloads of one part of the toolkit, done by us, by peers and by bare
// loops.
//
// To add one, write a function that returns a [measure.Workload] and put it into [All]. A contender prepares what it needs outside
// of its stopwatch, does all n messages inside, and lets a [measure.Ledger] see each message where it is handled.
package workloads

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// All returns all workloads, in the order of the report.
func All() []measure.Workload {
	return append([]measure.Workload{
		publishToOne(1),
		publishToOne(256),
		publishToTen(),
		routerAlone(),
		routerChain(),
		appendBy64(),
		logMemory(),
		wholeWay(),
	}, append(onSQLite(), onPostgres()...)...)
}

// Find returns the workloads with the given names, separated by commas, in the order of the report; all for no name.
func Find(names string) ([]measure.Workload, error) {
	all := All()
	if names == "" {
		return all, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var found []measure.Workload
	for _, w := range all {
		if wanted[w.Name] {
			found = append(found, w)
			delete(wanted, w.Name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("there is no workload %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return found, nil
}

// Names returns the names of all workloads.
func Names() []string {
	all := All()
	names := make([]string, len(all))
	for i, w := range all {
		names[i] = w.Name
	}
	return names
}

// The names of the other contenders.
const (
	watermillInOrder = "Watermill"
	watermillAsIs    = "Watermill, not waiting"
)

// errUnanswered is for a contender that took all messages and did not acknowledge all of them.
var errUnanswered = errors.New("messages were handled and are not acknowledged")
