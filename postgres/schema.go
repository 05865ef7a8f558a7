package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
)

//go:embed schema
var migrations embed.FS

// schemaVersion is the version that this program makes and knows.
const schemaVersion = 1

// tableName is a name that stands for one of the toolkit's schema.
var tableName = regexp.MustCompile(`@([a-z_]+)`)

// names says what the names in a statement stand for.
type names struct {
	schema string
	space  int32 // number of the namespace; 0 in statements for the whole schema
}

// sql returns a statement with names as they are in the database: @events_# is "eventsourcing".events_7, and # alone is 7.
func (n names) sql(query string) string {
	return strings.ReplaceAll(n.tables(query), "#", strconv.Itoa(int(n.space)))
}

// tables returns a statement with the schema before names, and # as it is.
func (n names) tables(query string) string {
	return tableName.ReplaceAllString(query, `"`+n.schema+`".$1`)
}

// prepare brings the schema up to date, or looks whether it is, and finds the namespace.
func (db *DB) prepare(ctx context.Context, c *pgx.Conn) error {
	return inTransaction(ctx, c, func(tx pgx.Tx) error {
		// One program at a time; the lock ends with the transaction.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", lockKey("schema", db.config.Schema)); err != nil {
			return err
		}
		version, err := db.version(ctx, tx)
		if err != nil {
			return err
		}
		if version < schemaVersion && db.config.Migration == Verify {
			return fmt.Errorf("%w: it is at version %d, and this program needs %d; apply what MigrationSQL prints, or open with Migrate",
				ErrOutdated, version, schemaVersion)
		}
		if err := db.migrate(ctx, tx, version); err != nil {
			return err
		}
		if err := db.findSpace(ctx, tx); err != nil {
			return err
		}
		return db.checkFence(ctx, tx)
	})
}

// version returns the version of the schema, 0 when there is none.
func (db *DB) version(ctx context.Context, tx pgx.Tx) (version int, err error) {
	var schema, ours bool
	err = tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.version') IS NOT NULL "+
		"AND to_regclass($1 || '.spaces') IS NOT NULL", `"`+db.config.Schema+`"`).Scan(&schema, &ours)
	if err != nil || !schema {
		return 0, err
	}
	if !ours {
		tables := 0
		const count = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1)"
		err := tx.QueryRow(ctx, count, `"`+db.config.Schema+`"`).Scan(&tables)
		if err != nil || tables == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("%w: schema %q has other tables; choose another schema", ErrForeign, db.config.Schema)
	}
	if err := tx.QueryRow(ctx, db.names.sql("SELECT version FROM @version")).Scan(&version); err != nil {
		return 0, err
	}
	if version > schemaVersion {
		return 0, fmt.Errorf("%w: it is at version %d, and this program knows versions up to %d; use a newer program", ErrNewer, version,
			schemaVersion)
	}
	return version, nil
}

// migrate brings the schema up to date from a version.
func (db *DB) migrate(ctx context.Context, tx pgx.Tx, version int) error {
	if version == 0 {
		if _, err := tx.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS "`+db.config.Schema+`"`); err != nil {
			return err
		}
	}
	for ; version < schemaVersion; version++ {
		if err := runScript(ctx, tx, db.names, script(version+1, schemaScript)); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, db.names.sql("SELECT space FROM @spaces ORDER BY space"))
		if err != nil {
			return err
		}
		spaces, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil {
			return err
		}
		for _, space := range spaces {
			if err := upgradeSpace(ctx, tx, names{db.config.Schema, space}, version+1); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, db.names.sql("UPDATE @version SET version = $1"), version+1); err != nil {
			return err
		}
	}
	return nil
}

// findSpace finds the number and the incarnation of the namespace, and makes its tables when it is new.
func (db *DB) findSpace(ctx context.Context, tx pgx.Tx) error {
	err := tx.QueryRow(ctx, db.names.sql("SELECT space, incarnation, serial FROM @spaces WHERE name = $1"), db.config.Namespace).
		Scan(&db.names.space, &db.incarnation, &db.serial)
	if err == nil && db.config.Ordering != 0 && db.serial != (db.config.Ordering == Serial) {
		return es.Invalidf("ordering", "is another one than that of namespace %q; leave it away to take that one", db.config.Namespace)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if db.serial, err = db.mustBeSerial(ctx, tx); err != nil {
		return err
	}
	if db.config.Migration == Verify {
		return fmt.Errorf("%w: there is no namespace %q; apply what MigrationSQL prints, or open with Migrate", ErrOutdated,
			db.config.Namespace)
	}
	db.incarnation = es.NewID()
	err = tx.QueryRow(ctx, db.names.sql("INSERT INTO @spaces (name, incarnation, serial) VALUES ($1, $2, $3) RETURNING space"),
		db.config.Namespace, db.incarnation, db.serial).Scan(&db.names.space)
	if err != nil {
		return err
	}
	for version := 1; version <= schemaVersion; version++ {
		if err := upgradeSpace(ctx, tx, db.names, version); err != nil {
			return err
		}
	}
	return nil
}

// upgradeSpace brings the tables of a namespace to a version from the one before.
func upgradeSpace(ctx context.Context, tx pgx.Tx, n names, version int) error {
	files, err := spaceScripts(version)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := runScript(ctx, tx, n, file); err != nil {
			return err
		}
	}
	return nil
}

// schemaScript is the file of a version that is run once; the others are run for each namespace.
const schemaScript = "schema.sql"

// spaceScripts returns the files of a version that are run for each namespace.
func spaceScripts(version int) ([]string, error) {
	files, err := fs.Glob(migrations, script(version, "*.sql"))
	return slices.DeleteFunc(files, func(file string) bool { return file == script(version, schemaScript) }), err
}

func script(version int, name string) string { return fmt.Sprintf("schema/%d/%s", version, name) }

// runScript runs the statements of a file.
func runScript(ctx context.Context, tx pgx.Tx, n names, name string) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	if _, err := tx.Conn().PgConn().Exec(ctx, n.sql(string(text))).ReadAll(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// inTransaction has do work, all or nothing.
func inTransaction(ctx context.Context, c *pgx.Conn, do func(tx pgx.Tx) error) error {
	return fault(pgx.BeginFunc(ctx, c, do))
}

// lockKey is the key of an advisory lock. Two names may have the same one, and wait for each other then without need.
func lockKey(parts ...string) int64 {
	h := fnv.New64a()
	for _, part := range append([]string{"eventsourcing"}, parts...) {
		_, _ = h.Write(append([]byte(part), 0)) // it never fails
	}
	return int64(h.Sum64()) //nolint:gosec // any number is as good
}

// mustBeSerial tells whether positions of a new namespace are to be given serially: when that is asked for, and when it is left to the
// engine and that lacks what a fence takes (see [fence]).
func (db *DB) mustBeSerial(ctx context.Context, tx pgx.Tx) (bool, error) {
	if db.config.Ordering == Serial {
		return true, nil
	}
	lack, err := db.lackForFence(ctx, tx)
	switch {
	case err != nil:
		return false, err
	case lack == "":
		return false, nil
	case db.config.Ordering == Fence:
		return false, es.Invalidf("ordering", "is Fence, and %s; leave it away, or take Serial", lack)
	}
	db.config.Logger.Info("postgres: appends wait for each other, as the engine has no fence", "namespace", db.config.Namespace,
		"reason", lack)
	return true, nil
}
