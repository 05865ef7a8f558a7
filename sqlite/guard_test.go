package sqlite_test

import (
	"errors"
	"strings"
	"testing"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/sqlite"
)

// newGuardedStore is a store with an event, and a program's own table, view and triggers, some of which reach for what is not theirs.
func newGuardedStore(t *testing.T) *sqlite.DB {
	t.Helper()
	db := newStore(t)
	appendTo(t, db, "order-1", 1)
	update(t, db,
		"CREATE TABLE mine (id INTEGER PRIMARY KEY, n)",
		"INSERT INTO mine (n) VALUES (1)",
		"CREATE TABLE log (n)",
		"CREATE TRIGGER logs AFTER INSERT ON mine BEGIN INSERT INTO log VALUES (new.n); END",
		"CREATE TABLE trap (n)",
		"CREATE TRIGGER trapped AFTER INSERT ON trap BEGIN DELETE FROM es_events_1; END",
		"CREATE VIEW seen AS SELECT name FROM es_events_1",
		"CREATE VIEW trapdoor AS SELECT name FROM es_events_1",
		"CREATE TRIGGER opened INSTEAD OF DELETE ON trapdoor BEGIN DELETE FROM es_events_1 WHERE name = old.name; END",
	)
	return db
}

func TestAProgramsStatementsLeaveTheToolkitsTablesAlone(t *testing.T) {
	t.Parallel()
	db := newGuardedStore(t)
	before := rows(t, db, 2, "SELECT name, sql FROM sqlite_schema")
	for _, statement := range []string{
		"DELETE FROM es_events_1",
		"delete from Es_Events_1 where position = 1",
		`DELETE FROM "es_events_1"`,
		"DELETE FROM [es_events_1]",
		"DELETE FROM `ES_EVENTS_1`",
		"DELETE FROM main.es_events_1",
		"UPDATE es_events_1 SET name = 'Other'",
		"UPDATE OR IGNORE es_state_1 SET runs = 7",
		"UPDATE es_events_1 SET name = m.n FROM mine m",
		"INSERT INTO es_spaces (name, incarnation, created) VALUES ('x', x'00', 0)",
		"REPLACE INTO es_spaces (space, name, incarnation, created) VALUES (1, 'x', x'00', 0)",
		"INSERT INTO es_revision_1 SELECT 2, n FROM mine",
		"INSERT INTO es_revision_1 VALUES (1, 2) ON CONFLICT (one) DO UPDATE SET revision = 0",
		"WITH m AS (SELECT n FROM mine) INSERT INTO es_revision_1 SELECT 2, n FROM m",
		"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 3) DELETE FROM es_events_1 WHERE position IN c",
		"DELETE FROM es_events_1 RETURNING name",
		"EXPLAIN DELETE FROM es_events_1",
		"INSERT INTO trap VALUES (1)",
		"DELETE FROM trapdoor",
		"DROP TABLE es_events_1",
		"DROP TABLE IF EXISTS ES_EVENTS_1",
		"DROP INDEX es_dedupe_1_id",
		"ALTER TABLE es_events_1 RENAME TO events",
		"ALTER TABLE es_events_1 ADD COLUMN mine",
		"ALTER TABLE es_events_1 DROP COLUMN tags",
		"ALTER TABLE es_events_1 RENAME COLUMN tags TO labels",
		"ALTER TABLE mine RENAME TO es_mine",
		`ALTER TABLE mine RENAME TO "Es_mine"`,
		"ALTER TABLE mine RENAME TO[es_mine]",
		"CREATE TABLE es_events_2 (n)",
		"CREATE TABLE ES_mine (n)",
		"CREATE TABLE es_copy AS SELECT * FROM es_events_1",
		"CREATE TEMP TABLE es_events_1 (n)",
		"CREATE VIEW es_view AS SELECT 1",
		"CREATE TEMP VIEW es_events_1 AS SELECT 1",
		"CREATE INDEX mine_id ON es_events_1 (id)",
		"CREATE INDEX es_mine ON mine (n)",
		"CREATE TRIGGER added AFTER INSERT ON es_events_1 BEGIN SELECT 1; END",
		"CREATE TEMP TRIGGER added AFTER INSERT ON es_events_1 BEGIN SELECT 1; END",
		"CREATE TRIGGER es_added AFTER INSERT ON mine BEGIN SELECT 1; END",
		"CREATE VIRTUAL TABLE es_search USING fts5 (text)",
		"ANALYZE",
		"ANALYZE es_events_1",
		"REINDEX es_dedupe_1_id",
		"UPDATE sqlite_dbpage SET data = zeroblob(4096) WHERE pgno = 2",
		"DELETE FROM sqlite_schema WHERE name = 'es_events_1'",
	} {
		err := tryUpdate(t, db, statement)
		if err == nil {
			t.Errorf("%s: it was done", statement)
		}
		if !errors.Is(err, es.ErrInvalid) && !strings.Contains(statement, "sqlite_schema") { // SQLite turns that down by itself
			t.Errorf("%s: %v", statement, err)
		}
	}
	if after := rows(t, db, 2, "SELECT name, sql FROM sqlite_schema"); after != before {
		t.Errorf("the schema has become\n%s\nand was\n%s", after, before)
	}
	appendTo(t, db, "order-1", 2)
	wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2")
}

func TestAProgramsStatementsLeaveTheTransactionAlone(t *testing.T) {
	t.Parallel()
	db := newGuardedStore(t)
	statements := []string{
		"BEGIN", "begin immediate", "COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "/* really */ COMMIT",
		"ATTACH ':memory:' AS other", "DETACH main", "PRAGMA journal_mode=DELETE", "PRAGMA synchronous=OFF",
		"PRAGMA wal_checkpoint", "PRAGMA writable_schema=1", "PRAGMA user_version=7", "PRAGMA application_id=7",
		"PRAGMA query_only=0", "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA secure_delete=ON", "PRAGMA foreign_keys=ON",
	}
	for _, statement := range statements {
		wantError(t, statement, tryUpdate(t, db, statement), es.ErrInvalid)
		err := db.View(t.Context(), func(v *sqlite.View) error { return v.Query(nil, statement) })
		wantError(t, statement+" in a view", err, es.ErrInvalid)
	}
	for _, statement := range []string{"VACUUM", "VACUUM INTO '/nowhere/copy.db'"} {
		if tryUpdate(t, db, statement) == nil {
			t.Errorf("%s: it was done", statement)
		}
	}
	appendTo(t, db, "order-1", 2)
	wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2")
}

// A savepoint that is rolled back would take events with it that the store believes in.
func TestASavepointIsRefusedAndNothingElseIs(t *testing.T) {
	t.Parallel()
	db := newGuardedStore(t)
	must(t, db.Update(t.Context(), func(tx *sqlite.Tx) error {
		wantError(t, "a savepoint", tx.Exec("SAVEPOINT a"), es.ErrInvalid)
		_, err := tx.Append(es.AppendTo("order-1", es.Exactly(1), event("order-1", 2)))
		must(t, err)
		wantError(t, "going back", tx.Exec("ROLLBACK TO a"), es.ErrInvalid)
		return nil
	}))
	appendTo(t, db, "order-1", 3)
	wantHistory(t, db, "order-1 1 Event1", "order-1 2 Event2", "order-1 3 Event3")
}

func TestAViewDoesNotWrite(t *testing.T) {
	t.Parallel()
	db := newGuardedStore(t)
	for _, statement := range []string{
		"INSERT INTO mine (n) VALUES (2)", "UPDATE mine SET n = 3", "DELETE FROM mine", "CREATE TABLE other (n)", "DROP TABLE mine",
		"CREATE TEMP TABLE other (n)", "DELETE FROM es_events_1", "ANALYZE", "WITH m AS (SELECT 1) INSERT INTO mine (n) SELECT * FROM m",
	} {
		err := db.View(t.Context(), func(v *sqlite.View) error { return v.Query(nil, statement) })
		wantError(t, statement, err, es.ErrInvalid)
	}
	wantRows(t, db, 1, "SELECT n FROM mine", "1")
}

// What harms nothing is allowed.
func TestAProgramsOwnTablesAreItsOwn(t *testing.T) {
	t.Parallel()
	db := newGuardedStore(t)
	update(t, db,
		"INSERT INTO mine (n) VALUES (2)",
		"INSERT INTO mine SELECT position + 10, name FROM es_events_1",
		"CREATE INDEX mine_n ON mine (n)",
		"ALTER TABLE mine ADD COLUMN m DEFAULT 'notes_x'",
		"ALTER TABLE log RENAME TO notes_es_log",
		"ANALYZE mine",
		"REINDEX mine_n",
		"CREATE TABLE essay (es_text)",
		"INSERT INTO essay SELECT 'es_events_1'",
		"UPDATE essay SET es_text = 'es_'",
		"PRAGMA table_info(mine)",
		"DROP VIEW seen",
		"CREATE VIRTUAL TABLE search USING fts5 (text)",
		"INSERT INTO search VALUES ('order placed')",
		"CREATE TEMP TABLE scratch AS SELECT * FROM mine", //nolint:unqueryvet // it is about the statement
		"DROP TABLE scratch",
	)
	wantRows(t, db, 1, "SELECT n FROM mine ORDER BY id", "1", "2", "Event1")
	wantRows(t, db, 1, "SELECT n FROM notes_es_log", "2", "Event1")
	wantRows(t, db, 1, "SELECT text FROM search WHERE search MATCH 'placed'", "order placed")
	wantRows(t, db, 1, "SELECT name FROM es_events_1", "Event1")
	wantRows(t, db, 2, "PRAGMA table_info(essay)", "0 es_text")
}
