package postgres

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// scanOfOutbox is a step that reads a table of the outbox, with the line that says from where to where.
var scanOfOutbox = regexp.MustCompile(`Scan (?:using|on) (outbox_\S+).*\n *(.*)`)

// TestStatementsOfTheOutboxFindTheirRows asks PostgreSQL how it runs each statement, with a plan for whatever arguments, made while the
// tables are empty and made when they are not. None goes through a whole table but that which counts, and the one that takes the first of
// those that are new.
func TestStatementsOfTheOutboxFindTheirRows(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), Config{URL: pgserver.Database(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, fill := range []string{
		"SELECT",
		db.sql(`WITH e AS (
		    INSERT INTO @outbox_# (place, enqueued, id, stream, name, schema, time)
		    SELECT n, 1, gen_random_uuid(), 's-' || n % 20, 'N', 1, 1 FROM generate_series(1, 200) n RETURNING place, stream
		  ), n AS (INSERT INTO @outbox_new_# SELECT place, stream, 1 FROM e WHERE place > 150)
		  INSERT INTO @outbox_streams_# (stream, ready) SELECT DISTINCT stream, 1 FROM e`),
		db.sql("ANALYZE @outbox_#, @outbox_new_#, @outbox_streams_#"),
	} {
		if _, err := db.pool.Exec(t.Context(), fill); err != nil {
			t.Fatal(err)
		}
		all := reflect.ValueOf(db.outbox.sql)
		for i := range all.NumField() {
			name, query := all.Type().Field(i).Name, all.Field(i).String()
			if name == "stats" {
				continue
			}
			plan := genericPlan(t, db, query)
			if wrong := wrongOutboxStep(plan); wrong != "" {
				t.Errorf("%s: %s\n%s\n%s", name, wrong, query, plan)
			}
		}
	}
}

func wrongOutboxStep(plan string) string {
	if step := regexp.MustCompile(`.*Seq Scan on outbox.*`).FindString(plan); step != "" {
		return step
	}
	for _, scan := range scanOfOutbox.FindAllStringSubmatch(plan, -1) {
		const takesTheFirst = "outbox_new_1_pkey on outbox_new_1 "
		if !strings.Contains(scan[2], "Cond:") && !strings.Contains(scan[0], takesTheFirst) {
			return scan[0]
		}
	}
	return ""
}
