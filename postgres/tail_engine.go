package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	es "github.com/eventsourcing-go/eventsourcing"
)

// fenceVersion is the oldest version of PostgreSQL that keeps the number of a transaction when it is prepared, 14.1, in the form of
// server_version_num.
const fenceVersion = 140001

// lackForFence returns what the engine lacks for a fence, empty when it has everything. Engines that speak the language of PostgreSQL
// claim its versions too, so that it is tried out.
func (db *DB) lackForFence(ctx context.Context, tx pgx.Tx) (lack string, err error) {
	if lack, err = lackByName(ctx, tx); lack != "" || err != nil {
		return lack, err
	}
	seen := 0
	err = undone(ctx, tx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, db.names.sql("CREATE SEQUENCE @fence_trial CACHE 1")); err != nil {
			return err
		}
		err := undone(ctx, tx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, db.names.sql("SELECT nextval('@fence_trial')"))
			return err
		})
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM ("+holdersOf(db.names.sql("@fence_trial"))+") h").Scan(&seen); err != nil {
			return err
		}
		var s server
		return tx.QueryRow(ctx, "SELECT "+serverColumns).Scan(&s.Started, &s.Timeline)
	})
	if refusal, refused := errors.AsType[*pgconn.PgError](err); refused && kindOf(err) == nil {
		return "the engine does not know what it takes: " + refusal.Message, nil
	}
	if err == nil && seen == 0 {
		lack = "the engine does not show who holds a sequence"
	}
	return lack, err
}

// lackByName returns what the engine lacks by what it says of itself.
func lackByName(ctx context.Context, tx pgx.Tx) (lack string, err error) {
	var name, version string
	number := 0
	err = tx.QueryRow(ctx, "SELECT version(), current_setting('server_version'), current_setting('server_version_num')::integer").
		Scan(&name, &version, &number)
	if err != nil {
		return "", err
	}
	others := []string{"CockroachDB", "-YB-", "Yugabyte", "Redshift", "Greenplum"}
	is := func(other string) bool { return strings.Contains(name, other) }
	switch {
	case !strings.HasPrefix(name, "PostgreSQL "), slices.ContainsFunc(others, is):
		return fmt.Sprintf("the engine is no PostgreSQL but %q", name), nil
	case number < fenceVersion:
		return "it takes PostgreSQL 14.1 or newer, and the server is " + version, nil
	}
	return "", nil
}

// undone does something in a savepoint, and undoes it.
func undone(ctx context.Context, tx pgx.Tx, do func(tx pgx.Tx) error) error {
	inner, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	return errors.Join(do(inner), inner.Rollback(ctx))
}

// holdersOf is the statement for the transactions that hold a sequence from which they have drawn.
func holdersOf(sequence string) string {
	return "SELECT DISTINCT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND relation = '" + sequence + "'::regclass " +
		"AND mode = 'RowExclusiveLock' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
}

// checkFence looks whether the fence of a namespace stands, when it is opened.
func (db *DB) checkFence(ctx context.Context, tx pgx.Tx) error {
	if db.serial {
		return nil
	}
	lack, err := lackByName(ctx, tx)
	if err != nil {
		return err
	}
	if lack != "" {
		return es.Invalidf("ordering", "of namespace %q is Fence, and %s", db.config.Namespace, lack)
	}
	var cache, step, given, last int64
	var cycles bool
	err = tx.QueryRow(ctx, db.sql("SELECT seqcache, seqincrement, seqcycle, "+
		"(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM @positions_#), (SELECT coalesce(max(position), 0) FROM @events_#) "+
		"FROM pg_sequence WHERE seqrelid = '@positions_#'::regclass")).Scan(&cache, &step, &cycles, &given, &last)
	name := db.sql("@positions_#")
	refusal, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, pgx.ErrNoRows), refused && refusal.Code == "42P01": // undefined_table
		return es.Invalidf("database", "has no sequence %s, from which positions are drawn", name)
	case err != nil:
		return err
	case cache != 1 || step != 1 || cycles:
		return es.Invalidf("database", "has a sequence %[1]s that gives positions in another order than that in which they are drawn; "+
			"ALTER SEQUENCE %[1]s INCREMENT 1 CACHE 1 NO CYCLE", name)
	case given < last:
		return es.Invalidf("database", "has an event at position %[2]d, and the sequence %[1]s has given out those up to %[3]d only, "+
			"as after a restore in which it was left out; SELECT setval('%[1]s', %[2]d)", name, last, given)
	}
	return nil
}
