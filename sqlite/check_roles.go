package sqlite

import (
	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"
)

// rule is something that must hold in a namespace. Its statement gives a row for each case in which it does not, whose columns, as text,
// stand in the places of what.
type rule struct{ where, query, what, remedy string }

// remedyCounter is for numbers that say what can be counted.
const remedyCounter = "run Reindex, which counts it again"

// rules are those of all roles but the event store.
func rules() []rule {
	const parkedStreams = "(SELECT stream, min(place) AS n FROM es_outbox_dead_$ WHERE parked = 1 GROUP BY stream)"
	return []rule{
		{"events", "SELECT n FROM (SELECT count(*) AS n FROM es_state_$) WHERE n <> 1", "es_state_$ has %s rows", remedyRestore},
		{"outbox", "SELECT n FROM (SELECT count(*) AS n FROM es_outbox_state_$) WHERE n <> 1", "es_outbox_state_$ has %s rows", remedyRestore},
		{"read models", "SELECT n FROM (SELECT count(*) AS n FROM es_revision_$) WHERE n <> 1", "es_revision_$ has %s rows", remedyRestore},
		{
			"outbox", "SELECT depth, n FROM es_outbox_state_$, (SELECT count(*) AS n FROM es_outbox_$) WHERE depth <> n",
			"it has %s entries by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT retrying, n FROM es_outbox_state_$, (SELECT count(*) AS n FROM es_outbox_tries_$ WHERE failed = 1) " +
				"WHERE retrying <> n",
			"%s entries have failed before by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT dead, n FROM es_outbox_state_$, (SELECT count(*) AS n FROM es_outbox_dead_$) WHERE dead <> n",
			"it has %s dead letters by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT s.parked, n FROM es_outbox_state_$ s, (SELECT count(*) AS n FROM " + parkedStreams + ") WHERE s.parked <> n",
			"%s streams wait for a dead letter by its counter, and %s by count", remedyCounter,
		},
		{
			"outbox", "SELECT s.place, n FROM es_outbox_state_$ s, (SELECT max(ifnull((SELECT max(place) FROM es_outbox_$), 0), " +
				"ifnull((SELECT max(place) FROM es_outbox_dead_$), 0)) AS n) WHERE s.place < n",
			"the last place that was given is %s, and there is a %s", remedyRestore,
		},
		{
			"outbox", "SELECT s.token, n FROM es_outbox_state_$ s, (SELECT max(ifnull((SELECT max(token) FROM es_outbox_streams_$), 0), " +
				"ifnull((SELECT max(back) FROM es_outbox_tries_$), 0)) AS n) WHERE s.token < n",
			"the last token that was given is %s, and there is a %s", remedyRestore,
		},
		{
			"outbox", "SELECT DISTINCT stream FROM es_outbox_$ WHERE stream NOT IN (SELECT stream FROM es_outbox_streams_$)",
			"stream %q has entries that nobody is given", remedyRestore,
		},
		{
			"outbox", "SELECT entry FROM es_outbox_tries_$ WHERE entry NOT IN (SELECT entry FROM es_outbox_$)",
			"entry %s was tried, and is not there", remedyRestore,
		},
		{
			"outbox", "SELECT s.stream, s.parked, ifnull(d.n, 0) FROM es_outbox_streams_$ s LEFT JOIN " + parkedStreams +
				" d USING (stream) WHERE s.parked <> ifnull(d.n, 0)",
			"stream %q waits for the dead letter at place %s, and the first is at %s", remedyRestore,
		},
		{
			"outbox", "SELECT stream, open, n FROM (SELECT s.stream, s.open, (SELECT count(*) FROM es_outbox_$ o LEFT JOIN es_outbox_tries_$ t " +
				"USING (entry) WHERE o.stream = s.stream AND o.place <= s.last AND ifnull(t.back, 0) <> s.token) AS n " +
				"FROM es_outbox_streams_$ s WHERE s.open > 0) WHERE open <> n",
			"the claim of stream %q has %s entries in hand by its counter, and %s by count", "it ends with the lease of the claim",
		},
		{
			"read models", "SELECT key FROM es_documents_$ WHERE model NOT IN (SELECT model FROM es_models_$)",
			"document %q belongs to no model", remedyRebuild,
		},
		{
			"read models", "SELECT key, d.revision, r.revision FROM es_documents_$ d, es_revision_$ r " +
				"WHERE d.revision > r.revision OR d.revision < 1",
			"document %q has revision %s, and the last that was given is %s", remedyRebuild,
		},
		{
			"dedupe", "SELECT g.name, g.newest, n FROM es_dedupe_groups_$ g JOIN " +
				"(SELECT grp, max(number) AS n FROM es_dedupe_done_$ GROUP BY grp) " +
				"USING (grp) WHERE g.newest < n",
			"the last message that group %q has handled is number %s, and there is a %s", remedyRestore,
		},
		{
			"dedupe", "SELECT DISTINCT grp FROM (SELECT grp FROM es_dedupe_done_$ UNION SELECT grp FROM es_dedupe_reserved_$) " +
				"WHERE grp NOT IN (SELECT grp FROM es_dedupe_groups_$)",
			"there are messages of group %s, and no such group", remedyRestore,
		},
		{
			"dedupe", "SELECT g.name, g.token, n FROM es_dedupe_groups_$ g JOIN (SELECT grp, max(token) AS n FROM (SELECT grp, token " +
				"FROM es_dedupe_done_$ UNION ALL SELECT grp, token FROM es_dedupe_reserved_$) GROUP BY grp) USING (grp) WHERE g.token < n",
			"the last token that was given in group %q is %s, and there is a %s", remedyRestore,
		},
		{
			"leases", "SELECT name, token FROM es_leases_$ WHERE token < 1",
			"lease %q has token %s; they count from 1", remedyRestore,
		},
		{
			"snapshots", "SELECT stream, version FROM es_snapshots_$ WHERE version < 1",
			"a snapshot of stream %q is of version %s; they count from 1", "delete it",
		},
	}
}

// roles looks at all roles but the event store.
func (k *checker) roles() error {
	for _, r := range rules() {
		err := k.part(r.where, remedyRestore, func() error {
			return k.query(func(stmt *lite.Stmt) error {
				values := make([]any, stmt.ColumnCount())
				for i := range values {
					values[i] = stmt.ColumnText(i)
				}
				k.problemf(r.where, r.remedy, k.sql(r.what), values...)
				return nil
			}, k.sql(r.query))
		})
		if err != nil {
			return err
		}
	}
	if err := k.part("checkpoints", remedyRestore, k.checkpoints); err != nil {
		return err
	}
	for _, count := range []struct {
		into  *int64
		table string
	}{
		{&k.here.Outbox, "es_outbox_$"},
		{&k.here.Dead, "es_outbox_dead_$"},
		{&k.here.Documents, "es_documents_$"},
		{&k.here.Checkpoints, "es_progress_$"},
		{&k.here.Handled, "es_dedupe_done_$"},
		{&k.here.Snapshots, "es_snapshots_$"},
		{&k.here.Leases, "es_leases_$"},
	} {
		n, err := k.number(k.sql("SELECT count(*) FROM " + count.table))
		if err != nil {
			return err
		}
		*count.into = n
	}
	return nil
}

// checkpoints looks at the checkpoints of projections. Those of other stores, and those without an incarnation, nobody here can judge.
func (k *checker) checkpoints() error {
	return k.query(func(stmt *lite.Stmt) error {
		projection, position := stmt.ColumnText(0), stmt.ColumnInt64(2)
		incarnation, err := uuid.FromBytes(columnBytes(stmt, 1))
		switch {
		case err != nil:
			k.problemf("checkpoints", remedyRebuild, "that of projection %q has an incarnation that is no UUID", projection)
		case position < 0:
			k.problemf("checkpoints", remedyRebuild, "that of projection %q is at position %d", projection, position)
		case incarnation == k.here.Head.Incarnation && position > k.here.Head.Position:
			k.problemf("checkpoints", remedyRebuild, "that of projection %q is at position %d, and the last one is %d", projection, position,
				k.here.Head.Position)
		}
		return nil
	}, k.sql("SELECT projection, incarnation, position FROM es_progress_$"))
}
