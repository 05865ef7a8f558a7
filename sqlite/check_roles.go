package sqlite

import (
	"slices"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"
)

// rule is something that must hold in a namespace. Its statement gives a row for each case in which it does not, whose columns, as text,
// stand in the places of what.
type rule struct{ where, query, what, remedy string }

// remedyCounter is for numbers that say what can be counted.
const remedyCounter = "run Reindex, which counts it again"

// rules are those of all roles but the event store and the outbox.
func rules() []rule {
	return []rule{
		ownRow("events", "es_state_$"),
		ownRow("read models", "es_revision_$"),
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

// ownRow is the rule for a table of one row, which says whose it is: nothing else would tell of a page of another table in its place.
// SQLite leaves out constraints of this kind on a connection that only reads.
func ownRow(where, table string) rule {
	return rule{
		where,
		"SELECT n FROM (SELECT count(*) AS n, sum(one = 1 AND name = '" + table + "') AS own FROM " + table + ") WHERE n <> 1 OR own <> 1",
		table + " has %s rows, and should have one of its own", remedyRestore,
	}
}

// roles looks at all roles but the event store.
func (k *checker) roles() error {
	for _, r := range slices.Concat(rules(), outboxRules()) {
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
