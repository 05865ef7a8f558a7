package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// migrationSQL returns what is printed for a configuration.
func migrationSQL(t *testing.T, c postgres.Config) string {
	t.Helper()
	text, err := postgres.MigrationSQL(c)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// apply runs SQL of several statements, as psql does.
func apply(t *testing.T, url, text string) error {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	_, applied := c.PgConn().Exec(ctx, text).ReadAll()
	if err := c.Close(ctx); err != nil {
		t.Error(err)
	}
	return applied
}

func mustApply(t *testing.T, url, text string) {
	t.Helper()
	if err := apply(t, url, text); err != nil {
		t.Fatal(err)
	}
}

// openAndClose opens a store, and returns the error.
func openAndClose(t *testing.T, c postgres.Config) error {
	t.Helper()
	db, err := postgres.Open(context.WithoutCancel(t.Context()), c)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	return nil
}

func mustOpen(t *testing.T, c postgres.Config) {
	t.Helper()
	if err := openAndClose(t, c); err != nil {
		t.Fatal(err)
	}
}

// catalog is what there is in a database that belongs to no engine: relations with their kinds and options, columns with their types,
// defaults and collations, indexes, constraints, sequences, and the rows that say what was made.
func catalog(t *testing.T, url string) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	var all strings.Builder
	const ours = "relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)"
	for _, query := range []string{
		"SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'",
		"SELECT oid::regclass::text, relkind::text, relpersistence::text, reloptions::text, relacl::text FROM pg_class WHERE " + ours,
		`SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation::text,
			attidentity::text, attstorage::text, pg_get_expr(adbin, adrelid)
		FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE attnum > 0 AND ` + ours,
		"SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON indexrelid = pg_class.oid WHERE " + ours,
		`SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid)
		FROM pg_constraint JOIN pg_class ON conrelid = pg_class.oid WHERE ` + ours,
		"SELECT seqrelid::regclass::text, seqtypid::regtype::text, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle FROM pg_sequence",
		"SELECT proname, prosrc FROM pg_proc WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
		"SELECT tgrelid::regclass::text, tgname FROM pg_trigger",
		"SELECT version FROM eventsourcing.version",
		"SELECT space, name, serial FROM eventsourcing.spaces",
	} {
		rows, err := c.Query(ctx, query)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprint(values))
		}
		if err := rows.Err(); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		slices.Sort(lines)
		fmt.Fprintf(&all, "%s\n%s\n", query, strings.Join(lines, "\n"))
	}
	return all.String()
}

// TestMigrationSQLMakesWhatOpenMakes applies what is printed, for several namespaces, and compares the databases.
func TestMigrationSQLMakesWhatOpenMakes(t *testing.T) {
	t.Parallel()
	printed, opened := pgserver.Database(t), pgserver.Database(t)
	for _, c := range []postgres.Config{{}, {Namespace: "it's $migration$ ä\\"}, {Namespace: "serial", Ordering: postgres.Serial}} {
		c.URL = printed
		mustApply(t, printed, migrationSQL(t, c))
		c.Migration = postgres.Verify
		mustOpen(t, c)
		c.URL, c.Migration = opened, postgres.Migrate
		mustOpen(t, c)
	}
	want, got := strings.Split(catalog(t, opened), "\n"), strings.Split(catalog(t, printed), "\n")
	if len(want) < 100 { // so much is there at least
		t.Fatalf("the catalog has %d lines only", len(want))
	}
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("opened, there is\n%s\nand printed\n%s", want[i], got[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("the catalogs have %d lines and %d", len(want), len(got))
	}
}

// TestMigrationSQLChangesNothingWhenItIsAppliedAgain applies it twice, and to what Open has made.
func TestMigrationSQLChangesNothingWhenItIsAppliedAgain(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(url string){
		"printed": func(url string) { mustApply(t, url, migrationSQL(t, postgres.Config{})) },
		"opened":  func(url string) { mustOpen(t, postgres.Config{URL: url}) },
	} {
		database := pgserver.Database(t)
		first(database)
		before := catalog(t, database)
		mustApply(t, database, migrationSQL(t, postgres.Config{}))
		if after := catalog(t, database); after != before {
			t.Errorf("%s, and applied again: there was\n%s\nand is\n%s", name, before, after)
		}
	}
}

// TestMigrationSQLFailsWhereOpenFails applies it to schemas that are not to be touched.
func TestMigrationSQLFailsWhereOpenFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare, want string
		config        postgres.Config
	}{
		"foreign": {
			"DROP SCHEMA eventsourcing CASCADE; CREATE SCHEMA eventsourcing; CREATE TABLE eventsourcing.mine ()", "other tables",
			postgres.Config{},
		},
		"newer":  {"UPDATE eventsourcing.version SET version = 1000", "version 1000", postgres.Config{}},
		"serial": {"", "another ordering", postgres.Config{Ordering: postgres.Serial}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgserver.Database(t)
			mustOpen(t, postgres.Config{URL: database, Ordering: postgres.Fence})
			mustApply(t, database, c.prepare)
			if err := apply(t, database, migrationSQL(t, c.config)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one that says %q", err, c.want)
			}
			if c.config.URL = database; openAndClose(t, c.config) == nil {
				t.Error("and Open does not fail")
			}
		})
	}
}

// TestMigrationSQLIsStable prints it twice, and prints what cannot be.
func TestMigrationSQLIsStable(t *testing.T) {
	t.Parallel()
	c := postgres.Config{Schema: "mine", Namespace: "shop"}
	text := migrationSQL(t, c)
	if again := migrationSQL(t, c); again != text {
		t.Errorf("it was\n%s\nand then\n%s", text, again)
	}
	for _, part := range []string{`"mine".events_#`, "'shop'", "BEGIN;", "COMMIT;"} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %s in\n%s", part, text)
		}
	}
	for _, c := range []postgres.Config{{Schema: `"; DROP`}, {Namespace: "a\x00"}, {Ordering: 9}} {
		_, err := postgres.MigrationSQL(c)
		wantError(t, fmt.Sprintf("%+v", c), err, es.ErrInvalid)
	}
}

// TestProgramsThatStartTogetherMigrateOnce opens an empty database in several programs at once, some by the printed SQL, for two
// namespaces.
func TestProgramsThatStartTogetherMigrateOnce(t *testing.T) {
	t.Parallel()
	database := pgserver.Database(t)
	var all sync.WaitGroup
	for i := range 8 {
		c := postgres.Config{URL: database, Namespace: []string{"one", "two"}[i%2]}
		text := migrationSQL(t, c)
		all.Go(func() {
			var err error
			if i < 6 {
				err = openAndClose(t, c)
			} else {
				err = apply(t, database, text)
			}
			if err != nil {
				t.Errorf("program %d: %v", i, err)
			}
		})
	}
	all.Wait()
	for _, namespace := range []string{"one", "two"} {
		mustOpen(t, postgres.Config{URL: database, Namespace: namespace, Migration: postgres.Verify})
	}
	if made := catalog(t, database); strings.Count(made, "leases_") == 0 || strings.Contains(made, "leases_3") {
		t.Errorf("there are not two namespaces:\n%s", made)
	}
}

// TestSchemasAndNamespacesAreKeptApart takes the same lease in several of them.
func TestSchemasAndNamespacesAreKeptApart(t *testing.T) {
	t.Parallel()
	test := newDedupeTest(t)
	for _, c := range []postgres.Config{{}, {Namespace: "other"}, {Schema: "another"}, {Schema: "another", Namespace: "other"}} {
		c.URL = test.url
		leases := openDB(t, c).Leases()
		l, err := leases.Acquire(t.Context(), "n", c.Schema+c.Namespace+".", time.Hour)
		test.ok(err)
		if l.Token != 1 {
			t.Errorf("the token is %d, want 1: nobody has taken it in %+v", l.Token, c)
		}
	}
}

// TestAUserWithoutRightsIsForbidden opens a database as somebody who may read it only.
func TestAUserWithoutRightsIsForbidden(t *testing.T) {
	t.Parallel()
	database := pgserver.Database(t)
	user := "nobody_" + strings.ReplaceAll(es.NewID().String(), "-", "")
	run(t, database, "CREATE ROLE "+user+" LOGIN")
	t.Cleanup(func() { mustApply(t, database, "DROP OWNED BY "+user+"; DROP ROLE "+user) })
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(user)
	wantError(t, "open, to make a schema", openAndClose(t, postgres.Config{URL: u.String()}), postgres.ErrForbidden)
	wantError(t, "open, to find none", openAndClose(t, postgres.Config{URL: u.String(), Migration: postgres.Verify}), postgres.ErrOutdated)
	mustOpen(t, postgres.Config{URL: database})
	wantError(t, "open a schema of another user", openAndClose(t, postgres.Config{URL: u.String()}), postgres.ErrForbidden)
}

// TestAPoolOfTheProgramStaysOpen closes a store that was opened with a pool.
func TestAPoolOfTheProgramStaysOpen(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), pgserver.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	mustOpen(t, postgres.Config{Pool: pool})
	if err := pool.Ping(t.Context()); err != nil {
		t.Errorf("after the store was closed: %v", err)
	}
	wantError(t, "a URL and a pool", openAndClose(t, postgres.Config{Pool: pool, URL: "postgres:///x"}), es.ErrInvalid)
	wantError(t, "no URL", openAndClose(t, postgres.Config{URL: "postgres://[::1:x"}), es.ErrInvalid)
	wantError(t, "no direct URL", openAndClose(t, postgres.Config{Pool: pool, DirectURL: "postgres://[::1:x"}), es.ErrInvalid)
	if err := pool.Ping(t.Context()); err != nil {
		t.Errorf("after the store was not opened: %v", err)
	}
}
