package postgres

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// MigrationSQL returns the SQL that makes the schema and the namespace of a configuration, or brings them up to date from whatever version
// they have: what [Open] does with [Migrate], for those who apply it themselves, and open with [Verify]. The text is the same for the same
// version of the toolkit and the same configuration.
//
// It is to be run as it is, with psql for instance. It is one transaction, which waits for programs that do the same. Run again, it
// changes nothing; it fails, and changes nothing, where Open fails with [ErrForeign], with [ErrNewer] and because of another Ordering.
//
// Of the configuration it takes Schema, Namespace and Ordering. A new namespace is made with [Fence] when Ordering is 0: SQL does not find
// out whether the engine has what that takes, as Open does.
//
// The error is [es.ErrInvalid] when the configuration breaks a rule; it need not say where the database is.
func MigrationSQL(c Config) (string, error) {
	c = c.withDefaults()
	if c.URL == "" && c.Pool == nil {
		c.URL = "postgres:"
	}
	if err := c.validate(); err != nil {
		return "", err
	}
	m := migrationText{schema: c.Schema}
	m.printf("-- Brings schema %s up to version %d, and makes a namespace in it. Where it says #, the number of a namespace comes in.",
		c.Schema, schemaVersion)
	m.printf("BEGIN;")
	m.printf("SELECT pg_advisory_xact_lock(%d);", lockKey("schema", c.Schema))
	m.printf("DO $migration$")
	m.printf("DECLARE")
	m.printf("  at_version integer := 0;")
	m.printf("  space_name CONSTANT text := %s;", sqlLiteral(c.Namespace))
	m.printf("  space_number integer;")
	m.printf("  space_serial boolean;")
	m.printf("BEGIN")
	m.look()
	for version := 1; version <= schemaVersion; version++ {
		if err := m.upgrade(version); err != nil {
			return "", err
		}
	}
	if err := m.space(c.Ordering); err != nil {
		return "", err
	}
	m.printf("END")
	m.printf("$migration$;")
	m.printf("COMMIT;")
	return m.text.String(), nil
}

// migrationText is SQL that is being printed.
type migrationText struct {
	schema string
	text   strings.Builder
}

func (m *migrationText) printf(format string, args ...any) {
	fmt.Fprintf(&m.text, format+"\n", args...)
}

// look finds out what is there: see [DB.version].
func (m *migrationText) look() {
	m.printf("  IF to_regclass('\"%s\".version') IS NOT NULL AND to_regclass('\"%[1]s\".spaces') IS NOT NULL THEN", m.schema)
	m.printf("    SELECT version INTO at_version FROM \"%s\".version;", m.schema)
	m.printf("  ELSIF EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('\"%s\"')) THEN", m.schema)
	m.printf("    RAISE EXCEPTION 'schema \"%s\" has other tables; choose another schema';", m.schema)
	m.printf("  END IF;")
	m.printf("  IF at_version > %d THEN", schemaVersion)
	m.printf("    RAISE EXCEPTION 'schema \"%s\" is at version %%, and this SQL knows versions up to %d', at_version;",
		m.schema, schemaVersion)
	m.printf("  END IF;")
}

// upgrade brings the schema and all of its namespaces to a version from the one before: see [DB.migrate].
func (m *migrationText) upgrade(version int) error {
	m.printf("  IF at_version < %d THEN", version)
	if version == 1 {
		m.printf("    CREATE SCHEMA IF NOT EXISTS \"%s\";", m.schema)
	}
	text, err := migrations.ReadFile(script(version, schemaScript))
	if err != nil {
		return err
	}
	m.execute("    ", names{schema: m.schema}.sql(string(text)), "")
	m.printf("    FOR space_number IN SELECT space FROM \"%s\".spaces ORDER BY space LOOP", m.schema)
	if err := m.upgradeSpace("      ", version); err != nil {
		return err
	}
	m.printf("    END LOOP;")
	m.printf("    UPDATE \"%s\".version SET version = %d;", m.schema, version)
	m.printf("  END IF;")
	return nil
}

// space makes the namespace when it is new: see [DB.findSpace].
func (m *migrationText) space(ordering Ordering) error {
	m.printf("  SELECT space, serial INTO space_number, space_serial FROM \"%s\".spaces WHERE name = space_name;", m.schema)
	if ordering != 0 {
		m.printf("  IF space_serial <> %t THEN", ordering == Serial)
		m.printf("    RAISE EXCEPTION 'namespace %% has another ordering', space_name;")
		m.printf("  END IF;")
	}
	m.printf("  IF space_number IS NULL THEN")
	m.printf("    INSERT INTO \"%s\".spaces (name, incarnation, serial) VALUES (space_name, gen_random_uuid(), %t)",
		m.schema, ordering == Serial)
	m.printf("      RETURNING space INTO space_number;")
	for version := 1; version <= schemaVersion; version++ {
		if err := m.upgradeSpace("    ", version); err != nil {
			return err
		}
	}
	m.printf("  END IF;")
	return nil
}

// upgradeSpace brings the tables of a namespace, by its number in a variable, to a version from the one before: see [upgradeSpace].
func (m *migrationText) upgradeSpace(indent string, version int) error {
	files, err := spaceScripts(version)
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := migrations.ReadFile(file)
		if err != nil {
			return err
		}
		m.execute(indent, names{schema: m.schema}.tables(string(text)), "replace(%s, '#', space_number::text)")
	}
	return nil
}

// execute has statements executed. That they are texts lets them have the numbers of namespaces, and lets each use what those before it
// have made.
func (m *migrationText) execute(indent, statements, numbered string) {
	quoted := "$sql$\n" + strings.TrimSpace(statements) + "\n$sql$"
	if numbered != "" {
		quoted = fmt.Sprintf(numbered, quoted)
	}
	m.printf("%sEXECUTE %s;", indent, quoted)
}

// plain is a text that is the same in every encoding and needs no escapes, not even between dollars.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:-]*$`)

// sqlLiteral returns a text as a literal.
func sqlLiteral(text string) string {
	if plain.MatchString(text) {
		return "'" + text + "'"
	}
	return "convert_from(decode('" + hex.EncodeToString([]byte(text)) + "', 'hex'), 'UTF8')"
}
