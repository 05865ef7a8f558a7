package postgres

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestStatementsOfDedupeAndLeasesFindTheirRows asks PostgreSQL how it runs each statement, with a plan for whatever arguments. None goes
// through a whole table, nor through what a group has handled to find a few messages, though the tables are empty and small when the plans
// are made.
func TestStatementsOfDedupeAndLeasesFindTheirRows(t *testing.T) {
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
	for _, statements := range []any{db.leases.sql, db.dedupe.sql} {
		all := reflect.ValueOf(statements)
		for i := range all.NumField() {
			name, query := all.Type().Name()+"."+all.Type().Field(i).Name, all.Field(i).String()
			plan := genericPlan(t, db, query)
			if wrong := wrongStep(plan); wrong != "" {
				t.Errorf("%s: %s\n%s\n%s", name, wrong, query, plan)
			}
		}
	}
}

// scanOfIndex is a step that goes through an index, with the condition that says from where to where.
var scanOfIndex = regexp.MustCompile(`(?:Scan using|Index Scan on) (\S+).*\n *(.*)`)

// wrongStep returns a step of a plan that takes the longer the more there is in a table.
func wrongStep(plan string) string {
	if step := regexp.MustCompile(".*(Seq Scan|cost=[0-9.]*[0-9]{9}).*").FindString(plan); step != "" { // or one that is forbidden
		return step
	}
	for _, scan := range scanOfIndex.FindAllStringSubmatch(plan, -1) {
		index, condition := scan[1], scan[2]
		if !strings.Contains(condition, "Index Cond") || strings.HasPrefix(index, "dedupe_1_pkey") && !strings.Contains(condition, "(id = ") {
			return scan[0]
		}
	}
	return ""
}

// genericPlan returns how PostgreSQL runs a statement of a pipeline.
func genericPlan(t *testing.T, db *DB, query string) string {
	t.Helper()
	var steps []string
	err := pgx.BeginFunc(t.Context(), db.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), byIndex+", set_config('plan_cache_mode', 'force_generic_plan', true)"); err != nil {
			return err
		}
		prepared, err := tx.Conn().Prepare(t.Context(), "planned", query)
		if err != nil {
			return err
		}
		args := ""
		if n := len(prepared.ParamOIDs); n > 0 {
			args = "(" + strings.Repeat("NULL, ", n-1) + "NULL)"
		}
		rows, err := tx.Query(t.Context(), "EXPLAIN EXECUTE planned"+args, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		if steps, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		return tx.Conn().Deallocate(t.Context(), "planned")
	})
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", query, err))
	}
	return strings.Join(steps, "\n")
}
