package postgres

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/postgres/pgserver"
)

// TestStatementsOfReadModelsAndSnapshotsFindTheirRows asks PostgreSQL how it runs each statement, with a plan that was made while the tables
// were empty, while they were small, and when they are not. None goes through a whole table, nor through a whole model to find some of its
// documents.
func TestStatementsOfReadModelsAndSnapshotsFindTheirRows(t *testing.T) {
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
	const fill = "INSERT INTO @models_# (name) SELECT 'm-' || n FROM generate_series(1, 20) n; " +
		"INSERT INTO @documents_# SELECT m.model, 'k-' || n, 1, '' FROM @models_# m, generate_series(1, 200) n; " +
		"INSERT INTO @progress_# SELECT name, 1, 1, gen_random_uuid(), 1 FROM @models_#; " +
		"INSERT INTO @snapshots_# SELECT 's-' || n, 'S', 1, 1, 1, '', '' FROM generate_series(1, 200) n"
	for _, statement := range []string{"SELECT", fill, "ANALYZE"} {
		conn, err := db.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Conn().PgConn().Exec(t.Context(), db.sql(statement)).ReadAll()
		conn.Release()
		if err != nil {
			t.Fatal(err)
		}
		for _, statements := range []any{db.models.sql, db.snapshots.sql} {
			all := reflect.ValueOf(statements)
			for i := range all.NumField() {
				name, query := all.Type().Field(i).Name, all.Field(i).String()
				plan := planOf(t, db, query)
				if wrong := wrongModelStep(plan, wantedOfDocuments[name]); wrong != "" {
					t.Errorf("%s: %s\n%s\n%s", name, wrong, query, plan)
				}
			}
		}
	}
}

// wantedOfDocuments is from where to where a statement reads a model; others go to a document by its key.
var wantedOfDocuments = map[string]string{
	"list":        "(key > $2) AND (key >= $3) AND (key < $4)",
	"any":         "(model = ",
	"removeSlice": "(key > $2)",
	"removeModel": "(model = ",
}

// scanOfModels is a step that reads a table by an index, with the line that says from where to where.
var scanOfModels = regexp.MustCompile(`(?:Scan using|Index Scan on) (\S+).*\n *(.*)`)

// scanOfSequence is a step that reads a sequence, which has one row, and no index. What is around it has its price.
var scanOfSequence = regexp.MustCompile(`.*Seq Scan on removals_1.*`)

// wrongModelStep returns a step of a plan that takes the longer the more there is in a table.
func wrongModelStep(plan, wanted string) string {
	ruledOut := `.*(Seq Scan|cost=[0-9.]*[0-9]{9}).*`
	if scanOfSequence.MatchString(plan) {
		plan, ruledOut = scanOfSequence.ReplaceAllString(plan, ""), `.*Seq Scan.*`
	}
	if step := regexp.MustCompile(ruledOut).FindString(plan); step != "" {
		return step
	}
	if wanted == "" {
		wanted = "(key = g.key)"
	}
	for _, scan := range scanOfModels.FindAllStringSubmatch(plan, -1) {
		index, condition := scan[1], scan[2]
		if !strings.Contains(condition, "Index Cond") || strings.HasPrefix(index, "documents_1_pkey") && !strings.Contains(condition, wanted) {
			return scan[0]
		}
	}
	return ""
}

// planOf returns how PostgreSQL runs a statement of read models, whatever the arguments are.
func planOf(t *testing.T, db *DB, query string) string {
	t.Helper()
	var steps []string
	err := pgx.BeginFunc(t.Context(), db.pool, func(tx pgx.Tx) error {
		settings := byIndex + onePlan + ", set_config('eventsourcing.removals', '', true), set_config('eventsourcing.created', '{}', true)"
		if strings.Contains(query, "ORDER BY key") || strings.Contains(query, "EXISTS (SELECT FROM "+db.sql("@documents_#")) {
			settings += inOrder
		}
		if _, err := tx.Exec(t.Context(), settings); err != nil {
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
		t.Fatalf("%s: %v", query, err)
	}
	return strings.Join(steps, "\n")
}

func TestBehindAPrefixIsTheFirstTextThatDoesNotBeginWithIt(t *testing.T) {
	t.Parallel()
	const last = string(utf8.MaxRune)
	behindKeys := behindAll("")
	for prefix, want := range map[string]string{
		"a": "b", "order-": "order.", "z\u007f": "z\u0080", "\ud7ff": "\ue000", "a" + last: "b", last: behindKeys, "": behindKeys,
		strings.Repeat(last, 3): behindKeys,
	} {
		if got := behindAll(prefix); got != want {
			t.Errorf("behind all that begins with %q is %.20q, want %.20q", prefix, got, want)
		}
	}
	if longest := strings.Repeat(last, es.MaxKeyBytes/len(last)); behindKeys <= longest {
		t.Error("there is a key behind all keys")
	}
}
