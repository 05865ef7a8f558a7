package postgres

import (
	"fmt"
	"strings"
)

// laneStatement is a statement of the lanes. It is prepared on each connection under its name.
type laneStatement struct{ name, sql string }

// laneStatements are the statements that appends in the lanes are made of. Those of a batch go out together and come back together: with
// the last one the transaction is committed, which they all belong to.
//
// The first of them tries to get the locks, and does not wait for one. The statements after it begin later, so that they see everything
// that those have committed who had the locks before. The word whether there were any that it did not get is passed on by the number of
// the transaction, which has one from then on: it costs nothing in the usual case.
type laneStatements struct {
	lockFew    [maxFewLocks + 1]laneStatement // by the number of locks: the stream, and what is shared; or none
	lock       laneStatement
	conditions laneStatement
	insertOne  laneStatement
	insert     laneStatement
	insertIf   laneStatement // where there are conditions
	existing   laneStatement
	entry      laneStatement // of the outbox
	entries    laneStatement // many
	waiting    laneStatement // which of them are there
}

// maxFewLocks is how many locks an append may take to have a statement of its own.
const maxFewLocks = 8

// givenColumns are the columns of an event as it is given to a statement, with their types.
const (
	givenColumns = "category, id, stream, name, schema, time, correlation, causation, content_type, tags, metadata, data"
	givenScalars = "$%d::text, $%d::uuid, $%d::text, $%d::text, $%d::integer, $%d::bigint, $%d::text, $%d::text, $%d::text, " +
		"$%d::text[], $%d::text, $%d::bytea"
	givenArrays = "$%d::text[], $%d::uuid[], $%d::text[], $%d::text[], $%d::integer[], $%d::bigint[], $%d::text[], $%d::text[], " +
		"$%d::text[], $%d::text[], $%d::text[], $%d::bytea[]"
	givenColumnCount = 12
)

// numbered returns the types of columns with the numbers of the arguments, which begin behind some others.
func numbered(types string, behind int) string {
	numbers := make([]any, givenColumnCount)
	for i := range numbers {
		numbers[i] = behind + 1 + i
	}
	return fmt.Sprintf(types, numbers...)
}

const (
	// allTaken is true as long as all locks were got; see [laneStatements].
	allTaken = "pg_current_xact_id_if_assigned() IS NULL"
	// readsCommitted is true where each statement sees what was committed before it began. A lane has made this the default of its
	// connection, and looks all the same: a pooler may have given it another one.
	readsCommitted = "current_setting('transaction_isolation') = 'read committed'"
	// durable makes the transaction one that is on the disk in the end; see [durably].
	durable = "CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', true) END"
	// asExpected tells whether a stream with the version head, which is NULL when it has none, meets the expectation expect. A stream
	// that was ever deleted is judged elsewhere.
	asExpected = "CASE g.expect WHEN 0 THEN true WHEN -1 THEN g.head IS NULL WHEN -2 THEN g.head IS NOT NULL ELSE g.head = g.expect END " +
		"AND (SELECT true FROM @edits_# d WHERE d.stream = g.stream AND d.deleted <> 0) IS NULL"
	// headOf is the version of a stream, by a subquery that is correlated and ordered: no statistics lead it away from the index.
	headOf = "(SELECT e.version FROM @events_# e WHERE e.stream = u.stream ORDER BY e.version DESC LIMIT 1)"
	// laneResult is what a statement that inserts returns: a row for each event, in the order given.
	laneResult = "SELECT position, version, id FROM inserted"
	tagged     = "tagged AS (INSERT INTO @tags_# (tag, position) SELECT unnest(tags), position FROM inserted) "
)

func newLaneStatements(db *DB) laneStatements {
	s := laneStatements{
		lock: laneStatement{"es_lock", "SELECT CASE WHEN " + readsCommitted + " THEN NULL ELSE pg_current_xact_id()::text END, " + durable +
			" UNION ALL SELECT l.key::text, pg_current_xact_id()::text FROM unnest($1::bigint[]) WITH ORDINALITY AS l (key, number) " +
			"WHERE NOT CASE WHEN l.number <= $2::bigint THEN pg_try_advisory_xact_lock(l.key) ELSE pg_try_advisory_xact_lock_shared(l.key) END"},
		existing: laneStatement{"es_existing", db.sql("SELECT id FROM @events_# WHERE id = ANY ($1::uuid[])")},
		conditions: laneStatement{"es_conditions", db.sql("SELECT set_config('eventsourcing.broken', coalesce((SELECT array_agg(c.number) " +
			"FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[]) AS c (number, criteria, after, seen) " +
			"WHERE " + countMatches("c.criteria", "c.after", "c.seen + 1", "") + " > c.seen " +
			"OR c.seen > 0 AND " + lastHidden + " > c.after), '{}')::text, true)")},
		insertOne: laneStatement{"es_insert_one", insertOne(db)},
		insert:    laneStatement{"es_insert", insertMany(db, "")},
		insertIf: laneStatement{"es_insert_if", insertMany(db, " AND g.append <> ALL "+
			"((SELECT current_setting('eventsourcing.broken'))::integer[])")},
	}
	s.entry, s.entries = insertEntry(db), insertEntries(db)
	s.waiting = laneStatement{"es_waiting", db.sql("SELECT id FROM @outbox_# WHERE id = ANY ($1::uuid[])")}
	for n := range s.lockFew {
		tries := []string{readsCommitted}
		for i := 1; i <= n; i++ {
			try := "pg_try_advisory_xact_lock_shared($%d::bigint)"
			if i == 1 {
				try = "pg_try_advisory_xact_lock($%d::bigint)"
			}
			tries = append(tries, fmt.Sprintf(try, i))
		}
		s.lockFew[n] = laneStatement{fmt.Sprintf("es_lock_%d", n),
			"SELECT CASE WHEN " + strings.Join(tries, " AND ") + " THEN NULL ELSE pg_current_xact_id()::text END, " + durable}
	}
	return s
}

// of returns a list of columns as those of a table.
func of(table, columns string) string {
	return table + "." + strings.ReplaceAll(columns, ", ", ", "+table+".")
}

// insertOne inserts one event.
func insertOne(db *DB) string {
	return db.sql("WITH inserted AS (INSERT INTO @events_# (position, recorded, version, " + givenColumns + ") " +
		"SELECT nextval('@positions_#'), " + now + ", coalesce(g.head, 0) + 1, " + numbered(givenScalars, 1) +
		" FROM (SELECT u.stream, " + headOf + " AS head, $1::bigint AS expect FROM (SELECT $4::text AS stream) u OFFSET 0) g " +
		"WHERE " + allTaken + " AND " + asExpected + " RETURNING position, version, id, tags), " + tagged + laneResult)
}

// insertMany inserts the events of many appends. Each event has the expectation of its append, and all those of one append, which is to
// one stream, see the same head of it: they are inserted all or not at all. They are sorted, so that all heads are known before the first
// is inserted: else each search for the head would have to pass what was inserted before, which it does not see.
func insertMany(db *DB, condition string) string {
	arguments := "append, expect, step, " + givenColumns
	given := "SELECT " + of("g", arguments+", head") + " FROM (SELECT " + of("u", arguments) + ", " + headOf + " AS head " +
		"FROM unnest($1::integer[], $2::bigint[], $3::bigint[], " + numbered(givenArrays, 3) + ") AS u (" + arguments + ") OFFSET 0) g " +
		"WHERE " + allTaken + " AND " + asExpected + condition
	columns := "coalesce(g.head, 0) + g.step, " + strings.Replace(of("g", givenColumns), "g.tags", "g.tags::text[]", 1)
	into := "inserted AS (INSERT INTO @events_# (position, recorded, version, " + givenColumns + ") "
	returning := " RETURNING position, version, id, tags), " + tagged + laneResult
	given += " ORDER BY append, step"
	if !db.serial {
		return db.sql("WITH " + into + "SELECT nextval('@positions_#'), " + now + ", " + columns + " FROM (" + given + ") g" + returning)
	}
	return db.sql("WITH given AS MATERIALIZED (SELECT " + of("g", arguments+", head") + ", row_number() OVER () AS number " +
		"FROM (" + given + ") g), " +
		"drawn AS (UPDATE @state_# SET head = head + (SELECT count(*) FROM given) WHERE EXISTS (SELECT FROM given) " +
		"RETURNING head - (SELECT count(*) FROM given) AS before), " +
		into + "SELECT (SELECT before FROM drawn) + g.number, " + now + ", " + columns + " FROM given g" + returning)
}

// insertEntry adds one entry to the outbox, as insertEntries does.
func insertEntry(db *DB) laneStatement {
	const fits = "($1::uuid IS NULL OR (SELECT e.xmin FROM @events_# e WHERE e.id = $1::uuid) = pg_current_xact_id()::xid)"
	return laneStatement{"es_entry", db.sql("WITH added AS (INSERT INTO @outbox_# (place, enqueued, " + messageColumns + ") " +
		"SELECT nextval('@outbox_places_#'), " + now + ", " + of("g", messageColumns) +
		" FROM (SELECT " + numbered(givenScalars, 1) + ") AS g (" + givenColumns + ") WHERE " + fits +
		" ON CONFLICT (id) DO NOTHING RETURNING place, stream, enqueued), " +
		"noted AS (INSERT INTO @outbox_new_# (place, stream, enqueued) SELECT place, stream, enqueued FROM added) " +
		"SELECT 1 / ((SELECT count(*) FROM added) = coalesce(" + fits + ", false)::integer)::integer")}
}

// insertEntries adds entries to the outbox, as the statements of [outboxSQL] do: in the order of their IDs, with places in the order that
// the numbers tell. One that goes with an event is added if this transaction has inserted the event. What is there already, which is told
// by a division by zero, undoes the batch.
func insertEntries(db *DB) laneStatement {
	return laneStatement{"es_entries", db.sql("WITH places AS MATERIALIZED (SELECT ARRAY (SELECT nextval('@outbox_places_#') " +
		"FROM generate_series(1, cardinality($1::integer[]))) AS drawn), " +
		"given AS MATERIALIZED (SELECT g.number, " + of("g", messageColumns) + " FROM unnest($1::integer[], $2::uuid[], " +
		numbered(givenArrays, 2) + ") AS g (number, event, " + givenColumns + ") WHERE g.event IS NULL " +
		"OR (SELECT e.xmin FROM @events_# e WHERE e.id = g.event) = pg_current_xact_id()::xid), " +
		"added AS (INSERT INTO @outbox_# (place, enqueued, " + messageColumns + ") SELECT p.drawn[g.number], " + once + ", " +
		strings.Replace(of("g", messageColumns), "g.tags", "g.tags::text[]", 1) + " FROM given g, places p " +
		"ON CONFLICT (id) DO NOTHING RETURNING place, stream, enqueued), " +
		"noted AS (INSERT INTO @outbox_new_# (place, stream, enqueued) SELECT place, stream, enqueued FROM added) " +
		"SELECT 1 / ((SELECT count(*) FROM added) = (SELECT count(*) FROM given))::integer")}
}
