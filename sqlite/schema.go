package sqlite

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	lite "zombiezen.com/go/sqlite"

	es "github.com/eventsourcing-go/eventsourcing"
)

const (
	// applicationID stands in the header of the file, at byte 68, and says that it is one of ours: "esgo".
	applicationID = 0x6573676f
	// schemaVersion is the schema that this version of the toolkit writes. It stands in the header as the user version.
	schemaVersion = 1
	// wakeUpSlack is how much longer than the poll interval it takes to learn of what another process has written.
	wakeUpSlack = 5 * time.Millisecond
)

// migrations has a folder for each version of the schema. In it, file.sql is what is done once, and the other files are done for
// each namespace, whose number stands where they have a $.
//
//go:embed schema
var migrations embed.FS

// spaced puts the number of a namespace in the place of each $.
func spaced(query string, space int64) string {
	return strings.ReplaceAll(query, "$", strconv.FormatInt(space, 10))
}

// prepare makes sure that the file is ours, brings its schema up to date, and finds the namespace. It writes nothing to a file
// that is not ours.
func (db *DB) prepare(c *conn) error {
	t := db.writer.turn
	if err := t.acquire(db.config.BusyTimeout); err != nil { // to begin with the log, too, takes the file for oneself
		return err
	}
	defer t.release()
	version, err := identify(c)
	if err != nil {
		return err
	}
	if version == 0 { // the header of a new file is written with the first table
		if err := c.pragma("PRAGMA page_size=4096"); err != nil {
			return err
		}
	}
	for _, setting := range []string{
		"PRAGMA journal_mode=WAL",
		"PRAGMA synchronous=FULL",
		"PRAGMA wal_autocheckpoint=0", // the writer does it
		"PRAGMA foreign_keys=OFF",
		pageCache,
	} {
		if err := c.pragma(setting); err != nil {
			return err
		}
	}
	if err := bringIn(c); err != nil {
		return err
	}
	err = inTransaction(c, func() error {
		if err := migrate(c); err != nil {
			return err
		}
		if err := db.noticeLosses(c); err != nil {
			return err
		}
		return db.findSpace(c)
	})
	if err != nil {
		return err
	}
	return c.pragma("PRAGMA synchronous=" + db.config.Synchronous.String())
}

// identify returns the version of the schema, 0 for a file that is new.
func identify(c *conn) (int64, error) {
	id, err := c.number("PRAGMA application_id")
	if err != nil {
		return 0, err
	}
	version, err := c.number("PRAGMA user_version")
	if err != nil {
		return 0, err
	}
	tables, err := c.number("SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, err
	}
	switch {
	case id == 0 && version == 0 && tables == 0:
		return 0, nil
	case id != applicationID:
		return 0, fmt.Errorf("%w: it is an SQLite file of another program (application ID %#x); choose another path", ErrForeign, id)
	case version > schemaVersion:
		return 0, fmt.Errorf("%w: it is at version %d, and this program knows versions up to %d; use a newer program",
			ErrNewer, version, schemaVersion)
	}
	return version, nil
}

// migrate brings the schema of a file up to date.
func migrate(c *conn) error {
	version, err := identify(c)
	if err != nil {
		return err
	}
	for ; version < schemaVersion; version++ {
		if err := runScript(c, script(version+1, "file.sql"), 0); err != nil {
			return err
		}
		spaces, err := spaceNumbers(c)
		if err != nil {
			return err
		}
		for _, space := range spaces {
			if err := upgradeSpace(c, version+1, space); err != nil {
				return err
			}
		}
		if err := c.pragma(fmt.Sprintf("PRAGMA user_version=%d", version+1)); err != nil {
			return err
		}
	}
	return c.pragma(fmt.Sprintf("PRAGMA application_id=%d", applicationID))
}

func spaceNumbers(c *conn) ([]int64, error) {
	var spaces []int64
	err := c.query(func(stmt *lite.Stmt) error {
		spaces = append(spaces, stmt.ColumnInt64(0))
		return nil
	}, "SELECT space FROM es_spaces ORDER BY space")
	return spaces, err
}

// findSpace finds the number and the incarnation of the namespace, and makes its tables when it is new.
func (db *DB) findSpace(c *conn) error {
	find := func() error {
		return c.query(func(stmt *lite.Stmt) error {
			db.space = stmt.ColumnInt64(0)
			id, err := uuid.FromBytes(columnBytes(stmt, 1))
			if err != nil {
				return fmt.Errorf("%w: namespace %q has an incarnation that is no UUID", ErrCorrupt, db.config.Namespace)
			}
			db.incarnation = id
			return nil
		}, "SELECT space, incarnation FROM es_spaces WHERE name = ?", db.config.Namespace)
	}
	if err := find(); err != nil || db.space != 0 {
		return err
	}
	incarnation := es.NewID()
	err := c.query(nil, "INSERT INTO es_spaces (name, incarnation, created) VALUES (?, ?, ?)",
		db.config.Namespace, incarnation[:], time.Now().UnixMicro())
	if err != nil {
		return err
	}
	if err := find(); err != nil {
		return err
	}
	for version := int64(1); version <= schemaVersion; version++ {
		if err := upgradeSpace(c, version, db.space); err != nil {
			return err
		}
	}
	return nil
}

// upgradeSpace brings the tables of a namespace to a version from the one before.
func upgradeSpace(c *conn, version, space int64) error {
	files, err := fs.Glob(migrations, script(version, "*.sql"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if file == script(version, "file.sql") {
			continue
		}
		if err := runScript(c, file, space); err != nil {
			return err
		}
	}
	return nil
}

func script(version int64, name string) string { return fmt.Sprintf("schema/%d/%s", version, name) }

// runScript runs the statements of a file, which ends each by a semicolon at the end of a line. Comments begin with two hyphens.
func runScript(c *conn, name string, space int64) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	var statements strings.Builder
	for line := range strings.Lines(spaced(string(text), space)) {
		code, _, _ := strings.Cut(line, "--")
		statements.WriteString(strings.TrimSpace(code) + "\n")
	}
	for _, statement := range strings.SplitAfter(statements.String(), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := c.pragma(statement); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// inTransaction has do write, all or nothing.
func inTransaction(c *conn, do func() error) error {
	if err := c.query(nil, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		err = c.query(nil, "COMMIT")
	}
	if err != nil && !c.AutocommitEnabled() {
		err = errors.Join(err, c.query(nil, "ROLLBACK"))
	}
	return err
}
