package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// execute runs statements on a connection of their own.
func execute(t *testing.T, where, script string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), where)
	must(t, err)
	_, err = conn.PgConn().Exec(t.Context(), script).ReadAll()
	must(t, errors.Join(err, conn.Close(t.Context())))
}

// TestWithoutAFenceANamespaceIsSerial puts something before what PostgreSQL says of itself and of its locks.
func TestWithoutAFenceANamespaceIsSerial(t *testing.T) {
	t.Parallel()
	for name, shadow := range map[string]string{
		"CockroachDB":       "CREATE FUNCTION other.version() RETURNS text LANGUAGE sql AS $$ SELECT 'CockroachDB CCL v24.1.0' $$",
		"YugabyteDB":        "CREATE FUNCTION other.version() RETURNS text LANGUAGE sql AS $$ SELECT 'PostgreSQL 15.2-YB-2025.1.0.0-b0' $$",
		"an old PostgreSQL": "CREATE FUNCTION other.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT '140000' $$",
		"no locks":          "CREATE VIEW other.pg_locks AS SELECT * FROM pg_catalog.pg_locks WHERE false",
		"no positions in the log": "CREATE FUNCTION other.pg_current_wal_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS $$ BEGIN " +
			"RAISE 'not supported' USING ERRCODE = 'feature_not_supported'; END $$",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgserver.Database(t)
			execute(t, database, "CREATE SCHEMA other; "+shadow+`; DO $do$ BEGIN
				EXECUTE format('ALTER DATABASE %I SET search_path = other, pg_catalog', current_database()); END $do$`)
			if _, err := Open(t.Context(), Config{URL: database, Ordering: Fence}); !errors.Is(err, es.ErrInvalid) {
				t.Errorf("a fence is %v, want ErrInvalid", err)
			}
			db := openTail(t, Config{URL: database})
			if !db.serial {
				t.Fatal("the namespace has a fence")
			}
			_, err := db.events.Append(t.Context(), es.AppendTo("some-1", es.Any, es.NewMessage("some-1", "Happened", nil)))
			must(t, err)
			db.wantHead(t, 1)
			p, err := db.Probe(t.Context())
			if err != nil || p.Ordering != Serial || p.Settled != 1 || p.Last != 1 || p.Lag != 0 {
				t.Errorf("the log is %+v (%v), want that it is serial, and settled at 1", p, err)
			}
		})
	}
}

func TestANamespaceHasAFenceOnPostgreSQL(t *testing.T) {
	t.Parallel()
	for _, ordering := range []Ordering{0, Fence} {
		if db := openTail(t, Config{Ordering: ordering}); db.serial {
			t.Errorf("with ordering %d the namespace is serial", ordering)
		}
	}
	if db := openTail(t, Config{Ordering: Serial}); !db.serial {
		t.Error("the namespace is not serial")
	}
}

func TestASequenceThatIsNotAsItWasMadeIsRefused(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]string{
		"CACHE 1":  "ALTER SEQUENCE eventsourcing.positions_1 CACHE 10",
		"NO CYCLE": "ALTER SEQUENCE eventsourcing.positions_1 CYCLE",
		"setval":   "SELECT setval('eventsourcing.positions_1', 2)",
		"sequence": "DROP SEQUENCE eventsourcing.positions_1",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			where := pgserver.Database(t)
			db := openTail(t, Config{URL: where})
			h := db.hand(t)
			for range 5 {
				h.append()
			}
			h.do(change)
			_, err := Open(t.Context(), Config{URL: where})
			if err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("open: %v; want that it says %q", err, what)
			}
		})
	}
}

func TestAReplicaIsRefused(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("/var/tmp", "replica") //nolint:usetesting // the account of the server gets there
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(folder)) })
	must(t, os.Chmod(folder, 0o755))
	data := filepath.Join(folder, "data.pg")
	s := pgserver.ForTest(t, pgserver.Config{Dir: data, NoSync: true})
	name, err := s.CreateDatabase(t.Context())
	must(t, err)
	primary := openTail(t, Config{URL: s.URL(name)})
	primary.wantHead(t, 0)
	must(t, os.WriteFile(filepath.Join(data, "data", "standby.signal"), nil, 0o644))
	must(t, s.Restart(t.Context()))
	// One that has it open already, and one that opens it.
	for _, db := range []*DB{primary, openTail(t, Config{URL: s.URL(name)})} {
		if _, err := db.events.Head(t.Context()); !errors.Is(err, ErrReadOnly) {
			t.Errorf("the head of a replica is %v, want ErrReadOnly", err)
		}
	}
	// It says so as well when something has led the connection there unnoticed.
	l := &line{db: primary}
	l.conn, err = primary.dial(t.Context(), l.hear)
	must(t, err)
	t.Cleanup(func() { l.close(t.Context()) })
	primary.events.tail.fence.found(7)
	if err := primary.events.tail.round(t.Context(), l); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a look at a replica is %v, want ErrReadOnly", err)
	}
}
