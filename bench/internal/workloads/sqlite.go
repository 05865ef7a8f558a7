package workloads

import (
	"time"

	"github.com/eventsourcing-go/eventsourcing/bench/internal/measure"
)

// A disk is noisier than a processor. Besides, every so often a commit has to bring the write-ahead log into the file, and we have to
// bring our index there. So the turns are long enough for some of that, and there are several of them.
const (
	sqliteRounds = 5
	sqliteRound  = 750 * time.Millisecond
)

// onSQLite are the workloads on an SQLite file.
func onSQLite() []measure.Workload {
	all := []measure.Workload{
		sqliteAppendByOne(),
		sqliteAppend(64),
		sqliteAppend(256),
		sqliteAppendStored(64, million, allStreams),
		sqliteAppendStored(256, million, allStreams),
		sqliteAppendStored(64, million, newStreams),
		sqliteAppendStored(64, 10*million, allStreams),
		sqliteAppendStored(256, 10*million, allStreams),
		sqliteReadForward(),
		sqliteReadStream(),
		sqliteConditional(),
		sqliteOutboxByOne(),
		sqliteOutboxBy64(),
		sqliteOutboxToHandler(),
		sqliteVisible(),
		sqliteProject(),
		sqliteLoadAggregate(),
		sqliteUpdateAggregate(),
	}
	for i := range all {
		all[i].Backend = "SQLite"
		all[i].LeastRounds, all[i].LeastRound = sqliteRounds, sqliteRound
	}
	return all
}
